package localcloud

import (
	"encoding/json"
	"slices"
	"sync"
	"time"

	"github.com/bakehouse-farm/bakehouse/localcloud/faults"
	"github.com/bakehouse-farm/bakehouse/localcloud/state"
)

// A past remembers for a while what resources were before they were changed. It
// is what eventual consistency shows.
type past struct {
	mu       sync.Mutex
	versions map[string][]version // by kind, region and id; the oldest first
	pruned   time.Time
}

// A version is what a resource was until a moment; nil: it was not there.
type version struct {
	until time.Time
	value []byte
}

// maxVersions bounds what is remembered of one resource.
const maxVersions = 64

func newPast() *past { return &past{versions: map[string][]version{}} }

func (p *past) note(changes []state.Change, now time.Time) {
	if len(changes) == 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range changes {
		key := c.Kind + "/" + c.Region + "/" + c.ID
		list := append(p.versions[key], version{now, c.Before})
		p.versions[key] = list[max(0, len(list)-maxVersions):]
	}
	if now.Sub(p.pruned) < time.Minute {
		return
	}
	p.pruned = now
	for key, list := range p.versions {
		list = slices.DeleteFunc(list, func(v version) bool { return now.Sub(v.until) > faults.MaxLag })
		if len(list) == 0 {
			delete(p.versions, key)
			continue
		}
		p.versions[key] = list
	}
}

// at returns what a resource was at a moment; ok is false when it has not
// changed since.
func (p *past) at(kind, region, id string, when time.Time) (value []byte, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, v := range p.versions[kind+"/"+region+"/"+id] {
		if v.until.After(when) {
			return v.value, true
		}
	}
	return nil, false
}

// A sight is how one request sees resources: as they are, or as the rules of
// eventual consistency that hit it say.
type sight struct {
	past   *past
	now    time.Time
	rules  []faults.Rule
	misled map[string]bool // rules that made a difference
}

func newSight(l *Cloud, hits []faults.Rule) *sight {
	s := &sight{past: l.past, now: time.Now(), misled: map[string]bool{}}
	for _, h := range hits {
		if h.Kind == faults.Unseen || h.Kind == faults.Stale {
			s.rules = append(s.rules, h)
		}
	}
	return s
}

func (s *sight) blurred() bool { return s != nil && len(s.rules) > 0 }

// hides tells whether a resource is too new to be seen.
func (s *sight) hides(kind, region, id string) bool {
	if !s.blurred() {
		return false
	}
	for _, r := range s.rules {
		if r.Kind != faults.Unseen || !concerns(r, kind) {
			continue
		}
		if old, ok := s.past.at(kind, region, id, s.now.Add(-r.Delay)); ok && old == nil {
			s.misled[r.ID] = true
			return true
		}
	}
	return false
}

// lens shows a resource as it was.
func (s *sight) lens(kind, region, id string, v []byte) []byte {
	if !slices.Contains(state.ResourceKinds(), kind) {
		return v
	}
	for _, r := range s.rules {
		old, ok := s.past.at(kind, region, id, s.now.Add(-r.Delay))
		if !ok {
			continue
		}
		switch {
		case concerns(r, kind) && (old == nil || r.Kind == faults.Stale):
			s.misled[r.ID] = true
			if v = old; v == nil {
				return nil
			}
		case concerns(r, "tags"):
			if with, changed := retag(v, old); changed {
				s.misled[r.ID] = true
				v = with
			}
		}
	}
	return v
}

func concerns(r faults.Rule, kind string) bool {
	return len(r.Resources) == 0 || slices.Contains(r.Resources, kind)
}

// retag gives a record the tags that it once had.
func retag(v, old []byte) (with []byte, changed bool) {
	fields, before := map[string]json.RawMessage{}, map[string]json.RawMessage{}
	if json.Unmarshal(v, &fields) != nil || old != nil && json.Unmarshal(old, &before) != nil {
		return v, false
	}
	tags := before["Tags"]
	if tags == nil {
		tags = json.RawMessage("null")
	}
	if string(tags) == string(fields["Tags"]) {
		return v, false
	}
	fields["Tags"] = tags
	with, err := json.Marshal(fields)
	return with, err == nil
}
