package localcloud

import (
	"cmp"
	"slices"
	"time"

	"github.com/bakehouse-farm/bakehouse/localcloud/record"
	"github.com/bakehouse-farm/bakehouse/localcloud/state"
)

// A Resource is something that exists in a region, or an instance that existed.
type Resource struct {
	state.Summary
	// Given is set on what nobody has made: default networks and groups, and the
	// images that are there from the start or by import.
	Given bool `json:"given,omitempty"`
	// Gone is set on terminated instances that the API does not show any more.
	Gone bool `json:"gone,omitempty"`
	// History is what became of it, as far as the record goes back; the oldest
	// first.
	History []Moment `json:"history,omitempty"`
}

// A Moment is when a resource entered a state.
type Moment struct {
	Time   time.Time `json:"time"`
	State  string    `json:"state,omitempty"`
	Reason string    `json:"reason,omitempty"`
	// Action and Request are what brought it about, if it was a request.
	Action  string `json:"action,omitempty"`
	Request string `json:"request,omitempty"`
}

// A Search selects resources; those that are found have all that is set.
type Search struct {
	Region string            // empty: all
	Tags   map[string]string // the value "*" means any
	// Given includes what nobody has made.
	Given bool
	// Gone includes terminated instances that the API does not show any more, as
	// far as the record goes back.
	Gone bool
}

func (s Search) finds(r Resource) bool {
	if s.Region != "" && r.Region != s.Region || r.Given && !s.Given {
		return false
	}
	for k, v := range s.Tags {
		if have, ok := r.Tags[k]; !ok || v != "*" && have != v {
			return false
		}
	}
	return true
}

// Census lists the resources that exist now, by region, kind and id, with what
// became of them. It sees what is, whatever rules of faults say.
func (l *Cloud) Census(s Search) ([]Resource, error) {
	var list []Resource
	err := l.store.View(func(t *state.Tx) error {
		given := l.given(t)
		for _, r := range t.Summaries("*") {
			list = append(list, Resource{Summary: r, Given: given[r.Region+"/"+r.ID]})
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	at := map[string]int{}
	for n, r := range list {
		at[r.Kind+"/"+r.Region+"/"+r.ID] = n
	}
	instance := (*state.Instance)(nil).Kind()
	err = l.journal.Read(record.Filter{Effects: true}, func(e record.Entry) bool {
		for _, c := range e.Changes {
			key := c.Kind + "/" + c.Region + "/" + c.ID
			n, ok := at[key]
			if !ok {
				if !s.Gone || c.Kind != instance {
					continue
				}
				n = len(list)
				at[key] = n
				list = append(list, Resource{Gone: true})
			}
			r := &list[n]
			if r.Gone {
				r.Summary = c.Summary
			}
			if c.Op != state.Deleted {
				r.lived(e, c)
			}
		}
		return true
	})
	if err != nil {
		return nil, err
	}
	list = slices.DeleteFunc(list, func(r Resource) bool { return !s.finds(r) })
	slices.SortStableFunc(list, func(a, b Resource) int {
		return cmp.Or(cmp.Compare(a.Region, b.Region), cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.ID, b.ID))
	})
	return list, nil
}

// lived adds a change to a resource's history, if it led to another state.
func (r *Resource) lived(e record.Entry, c state.Change) {
	m := Moment{Time: e.Time, State: c.State, Reason: c.Reason}
	if e.By == record.API {
		m.Action, m.Request = e.Action, e.Request
	}
	if n := len(r.History); n > 0 && c.Op == state.Changed && r.History[n-1].State == m.State {
		return
	}
	r.History = append(r.History, m)
}

// given returns the resources, as region/id, that nobody has made.
func (l *Cloud) given(t *state.Tx) map[string]bool {
	given := map[string]bool{}
	defaults := map[string]bool{}
	for _, v := range state.List[state.VPC](t, "*") {
		given[v.Region+"/"+v.ID] = v.Default
		defaults[v.ID] = v.Default
	}
	for _, s := range state.List[state.Subnet](t, "*") {
		given[s.Region+"/"+s.ID] = s.Default
	}
	for _, g := range state.List[state.SecurityGroup](t, "*") {
		given[g.Region+"/"+g.ID] = g.Name == "default" && defaults[g.VPC]
	}
	// Publishers' images, and those that stand in for them.
	for _, i := range state.List[state.Image](t, "*") {
		given[i.Region+"/"+i.ID] = i.Owner != l.account
	}
	for _, s := range state.List[state.Snapshot](t, "*") {
		given[s.Region+"/"+s.ID] = s.Owner != l.account
	}
	for _, r := range state.List[state.Region](t, "") {
		for _, b := range state.List[state.Base](t, "") {
			i, s := l.image(r.Name, b)
			given[r.Name+"/"+i.ID], given[r.Name+"/"+s.ID] = true, true
		}
	}
	return given
}
