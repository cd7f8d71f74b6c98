package localcloud

import (
	"context"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/bakehouse-farm/bakehouse"
	"github.com/bakehouse-farm/bakehouse/localcloud/faults"
	"github.com/bakehouse-farm/bakehouse/localcloud/record"
	"github.com/bakehouse-farm/bakehouse/localcloud/state"
	"github.com/bakehouse-farm/bakehouse/localcloud/wire"
)

// TagBuild is the tag by which requests and resources belong to a build.
const TagBuild = bakehouse.TagBuild

// Faults returns the rules by which the cloud misbehaves. They are kept with
// its state, and changed while it runs.
func (l *Cloud) Faults() *faults.Set { return l.faults }

// A request is one request of any API on its way: what goes on record of it,
// and the faults that hit it.
type request struct {
	cloud *Cloud
	entry record.Entry
	hits  []faults.Rule
	told  bool // it is on record
}

// answer does what is asked for and returns what sends the answer.
func (q *request) answer(w http.ResponseWriter, r *http.Request) (func(http.ResponseWriter) error, error) {
	// A browser that a web page has talked into calling us says where from.
	if r.Header.Get("Origin") != "" {
		return nil, wire.Errorf("AuthFailure", "localcloud does not answer web pages")
	}
	scope, err := wire.ScopeOf(r)
	if err != nil {
		return nil, err
	}
	q.entry.API, q.entry.Region, q.entry.AccessKey = scope.API, scope.Region, scope.AccessKey
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	if err := r.ParseForm(); err != nil {
		return nil, wire.Errorf("MalformedQueryString", "The request is not form-encoded: %v", err)
	}
	if len(r.Form) > maxParameters {
		return nil, wire.Errorf("InvalidParameterValue", "The request has more than %d parameters", maxParameters)
	}
	name := r.Form.Get("Action")
	if name == "" {
		return nil, wire.Errorf("MissingAction", "The request must contain the parameter Action")
	}
	q.describe(name, r.Form)
	if err := q.meetFaults(); err != nil {
		return nil, err
	}
	switch scope.API {
	case "ec2":
		out, err := q.cloud.ec2(q, name, scope.Region, r.Form)
		return func(w http.ResponseWriter) error { return wire.Answer(w, name, q.entry.Request, out) }, err
	case "sts":
		out, err := q.cloud.sts(name)
		return func(w http.ResponseWriter) error {
			return wire.AnswerQuery(w, wire.STS, name, q.entry.Request, out)
		}, err
	case "iam":
		out, err := q.cloud.iam(q, name, scope.Region, r.Form)
		return func(w http.ResponseWriter) error {
			return wire.AnswerQuery(w, wire.IAM, name, q.entry.Request, out)
		}, err
	}
	return nil, wire.Errorf("UnsupportedOperation", "localcloud answers ec2, sts and iam, not %s", scope.API)
}

var memberNumber = regexp.MustCompile(`(\.[0-9]+)+$`)

// describe notes for the record what a request is about.
func (q *request) describe(action string, form url.Values) {
	e := &q.entry
	e.Action, e.Token, e.DryRun = action, form.Get("ClientToken"), strings.EqualFold(form.Get("DryRun"), "true")
	for k := range form {
		v := form.Get(k)
		if v == "" || len(v) > 255 {
			continue
		}
		last := memberNumber.ReplaceAllString(k, "")
		last = last[strings.LastIndexByte(last, '.')+1:]
		switch {
		case strings.HasPrefix(k, "Filter."):
			if last == "Value" {
				e.Names = append(e.Names, v)
			}
			if last == "Name" && v == "tag:"+TagBuild {
				e.Builds = append(e.Builds, under(form, strings.TrimSuffix(k, "Name")+"Value.")...)
			}
		case last == "Key" && v == TagBuild:
			e.Builds = append(e.Builds, form.Get(strings.TrimSuffix(k, "Key")+"Value"))
		case strings.HasSuffix(last, "Name"), strings.HasSuffix(last, "Id"), last == "ClientToken":
			e.Names = append(e.Names, v)
		}
	}
	slices.Sort(e.Names)
	e.Names = slices.Compact(e.Names)
	_ = q.cloud.store.View(func(t *state.Tx) error { // what the state cannot tell, perform will say
		for _, n := range e.Names {
			if b := t.TagsOf(e.Region, n)[TagBuild]; b != "" {
				e.Builds = append(e.Builds, b)
			}
		}
		name := form.Get("KeyName")
		if name == "" {
			return nil
		}
		for _, k := range state.List[state.KeyPair](t, e.Region) {
			if b := k.Tags[TagBuild]; k.Name == name && b != "" {
				e.Builds = append(e.Builds, b)
			}
		}
		return nil
	})
	slices.Sort(e.Builds)
	e.Builds = slices.Compact(e.Builds)
}

// under returns the values of the parameters that begin with prefix.
func under(form url.Values, prefix string) []string {
	var list []string
	for k := range form {
		if strings.HasPrefix(k, prefix) {
			list = append(list, form.Get(k))
		}
	}
	return list
}

// meetFaults finds the faults that hit the request, and returns the error of
// one that keeps it from taking effect.
func (q *request) meetFaults() error {
	var err error
	e := &q.entry
	q.hits, err = q.cloud.faults.Match(faults.Call{
		Action: e.Action, Region: e.Region, AccessKey: e.AccessKey, Builds: e.Builds, Names: e.Names, Time: e.Time,
	})
	if err != nil {
		return err
	}
	for _, h := range q.hits {
		e.Faults = append(e.Faults, record.Fault{Rule: h.ID, Kind: string(h.Kind)})
		switch {
		case h.Kind == faults.Reset, h.Kind == faults.Lost:
			e.Answer = "cut"
		case h.Kind == faults.Lost500:
			e.Answer = "500"
		}
	}
	for _, h := range q.hits {
		if h.Kind.Refuses() || h.Kind == faults.Reset {
			q.spare(nil, true) // the others have nothing to hit
		}
		switch {
		case h.Kind.Refuses():
			return &wire.Error{Code: h.Code, Message: h.Message}
		case h.Kind == faults.Reset:
			return &wire.Error{Code: "ConnectionReset", Message: "nobody is answered this: the connection is reset"}
		}
	}
	return nil
}

// write changes the state for the request and puts both on record.
func (q *request) write(f func(*state.Tx) error) error {
	var err error
	q.told, err = q.cloud.tell(&q.entry, f)
	return err
}

// finish puts the request on record, unless it is there already.
func (q *request) finish(e *wire.Error) {
	if q.told {
		return
	}
	if e != nil {
		q.entry.Code, q.entry.Message = e.Code, e.Message
	}
	q.cloud.note(q.entry)
}

// spare takes back hits that had nothing to hit: of eventual consistency when
// all was seen as it is, or nothing (nil), of an outcome when nothing was begun.
func (q *request) spare(s *sight, failed bool) {
	for _, h := range q.hits {
		switch h.Kind {
		case faults.Unseen, faults.Stale:
			if s == nil || !s.misled[h.ID] {
				q.drop(h.ID)
			}
		case faults.Die, faults.Fail, faults.Linger:
			if failed {
				q.drop(h.ID)
			}
		}
	}
}

func (q *request) drop(rule string) {
	if err := q.cloud.faults.Spare(rule); err != nil {
		q.cloud.log.Error("count of a fault is wrong", "fault", rule, "error", err)
	}
	q.entry.Faults = slices.DeleteFunc(q.entry.Faults, func(f record.Fault) bool { return f.Rule == rule })
}

// wait passes the time that a slow answer takes.
func (q *request) wait(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	case <-q.cloud.ctx.Done():
	}
}

// abort resets the connection of a request, as a broken network does.
func abort(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler) // the server closes it, then
	}
	if t, ok := conn.(*net.TCPConn); ok {
		_ = t.SetLinger(0) // a reset, not an orderly end
	}
	_ = conn.Close()
}

// doom makes what the call has begun end as the faults that hit it say.
func (c *call) doom(q *request) error {
	if !c.Writable() {
		return nil
	}
	made := map[string][]string{}
	for _, h := range c.Changes() {
		if h.Op == state.Created {
			made[h.Kind] = append(made[h.Kind], h.ID)
		}
	}
	for _, h := range q.hits {
		end := &state.Doom{At: c.now.Add(h.Delay), Reason: state.Reason{Code: h.Code, Message: h.Code + ": " + h.Message}}
		hit := false
		switch h.Kind {
		case faults.Die:
			for _, id := range made[(*state.Instance)(nil).Kind()] {
				i := state.Get[state.Instance](c.Tx, c.region, id)
				i.Doom, hit = end, true
				state.Put(c.Tx, i)
			}
		case faults.Fail, faults.Linger:
			hit = c.doomImages(made, h, end)
		default:
			continue
		}
		if !hit {
			q.drop(h.ID)
		}
	}
	return nil
}

// doomImages dooms, or delays, the images that a call has begun, or else the
// snapshots.
func (c *call) doomImages(made map[string][]string, h faults.Rule, end *state.Doom) bool {
	seal := func(before *time.Time, doom **state.Doom) {
		if h.Kind == faults.Linger {
			*before = end.At
		} else {
			*doom = end
		}
	}
	images := made[(*state.Image)(nil).Kind()]
	for _, id := range images {
		i := state.Get[state.Image](c.Tx, c.region, id)
		seal(&i.NotBefore, &i.Doom)
		state.Put(c.Tx, i)
	}
	if len(images) > 0 {
		return true
	}
	snapshots := made[(*state.Snapshot)(nil).Kind()]
	for _, id := range snapshots {
		s := state.Get[state.Snapshot](c.Tx, c.region, id)
		seal(&s.NotBefore, &s.Doom)
		state.Put(c.Tx, s)
	}
	return len(snapshots) > 0
}
