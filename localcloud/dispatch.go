package localcloud

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/bakehouse-farm/bakehouse/localcloud/faults"
	"github.com/bakehouse-farm/bakehouse/localcloud/record"
	"github.com/bakehouse-farm/bakehouse/localcloud/state"
	"github.com/bakehouse-farm/bakehouse/localcloud/wire"
)

// A call is one request while its action works on it: a transaction, and what
// the action may need to know.
type call struct {
	*state.Tx
	cloud  *Cloud
	action string
	region string
	now    time.Time
	form   url.Values
	sight  *sight
	after  []func() // once the transaction is on disk
}

// later has f run when what the call did is on disk, and only then.
func (c *call) later(f func()) { c.after = append(c.after, f) }

// An action answers one kind of request, in one transaction.
type action struct {
	writes bool
	run    func(*call) (any, error)
}

// reads and writes make actions of functions on decoded parameters.
func reads[In, Out any](f func(*call, *In) (*Out, error)) action  { return typed(false, f) }
func writes[In, Out any](f func(*call, *In) (*Out, error)) action { return typed(true, f) }

func typed[In, Out any](writes bool, f func(*call, *In) (*Out, error)) action {
	return action{writes: writes, run: func(c *call) (any, error) {
		in := new(In)
		unknown, err := wire.Decode(c.form, in)
		if err != nil {
			return nil, err
		}
		for _, k := range unknown {
			if !harmless(c.action, k, c.form.Get(k)) {
				return nil, wire.Errorf("UnsupportedOperation", "localcloud does not have the parameter %s (%s) of %s, and leaving it out would change the result", k, c.form.Get(k), c.action)
			}
		}
		out, err := f(c, in)
		if err != nil {
			return nil, err
		}
		return out, nil
	}}
}

// errWrite is what a reading action returns when the answer has to be made first.
var errWrite = errors.New("answer needs a writing transaction")

// done answers actions that return nothing but that they succeeded.
type done struct {
	Return bool `xml:"return"`
}

// maxForm bounds a request. EC2's own limit is in this order; user data alone
// may take 16 KiB.
const maxForm = 1 << 20

// maxParameters bounds the work that one request can make.
const maxParameters = 5000

// serve answers one request of any API.
func (l *Cloud) serve(w http.ResponseWriter, r *http.Request) {
	q := &request{cloud: l, entry: record.Entry{Time: time.Now().UTC(), By: record.API, API: "ec2", Request: uuid.NewString()}}
	answer, err := q.answer(w, r)
	var e *wire.Error
	if err != nil && !errors.As(err, &e) {
		l.log.Error("request failed", "action", q.entry.Action, "request", q.entry.Request, "error", err)
		e = &wire.Error{Code: "InternalError", Message: fmt.Sprintf("localcloud: %v", err)}
	}
	q.finish(e)
	for _, h := range q.hits {
		switch h.Kind {
		case faults.Slow:
			q.wait(r.Context(), h.Delay)
		case faults.Reset, faults.Lost:
			abort(w)
			return
		case faults.Lost500:
			e = &wire.Error{Code: h.Code, Message: h.Message}
		}
	}
	if e == nil {
		if err = answer(w); err == nil {
			return
		}
		l.log.Error("answer failed", "action", q.entry.Action, "request", q.entry.Request, "error", err)
		e = &wire.Error{Code: "InternalError", Message: fmt.Sprintf("localcloud: %v", err)}
	} else if e.Code != "DryRunOperation" {
		l.log.Info("request refused", "action", q.entry.Action, "code", e.Code, "message", e.Message)
	}
	e.Write(w, q.entry.API, q.entry.Request)
}

// ec2 does an EC2 action.
func (l *Cloud) ec2(q *request, name, region string, form url.Values) (any, error) {
	a, ok := l.actions[name]
	if !ok {
		return nil, wire.Errorf("UnsupportedOperation", "localcloud does not have the action %s", name)
	}
	return l.perform(q, a, name, region, form)
}

// perform does an action.
func (l *Cloud) perform(q *request, a action, name, region string, form url.Values) (any, error) {
	if err := l.setUp(region); err != nil {
		return nil, err
	}
	dry := strings.EqualFold(form.Get("DryRun"), "true")
	c := &call{cloud: l, action: name, region: region, form: form, now: time.Now().UTC(), sight: newSight(l, q.hits)}
	var out any
	work := func(t *state.Tx) (err error) {
		c.Tx, c.after = t, nil
		if !t.Writable() && c.sight.blurred() {
			t.Look(c.sight.lens)
		}
		out, err = a.run(c)
		if err == nil && dry {
			// Failing takes back what the action did, all of it.
			return wire.Errorf("DryRunOperation", "Request would have succeeded, but DryRun flag is set.")
		}
		if err == nil {
			err = c.doom(q)
		}
		return err
	}
	err := errWrite
	if !a.writes {
		err = l.store.View(work)
	}
	if errors.Is(err, errWrite) {
		err = q.write(work)
	}
	q.spare(c.sight, err != nil)
	if err != nil {
		return nil, err
	}
	for _, f := range c.after {
		f()
	}
	return out, nil
}
