package faults

import (
	"cmp"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/bakehouse-farm/bakehouse"
)

// A Kind says what goes wrong.
type Kind string

// Kinds that refuse a request before it takes effect, with EC2's errors.
const (
	Throttle     Kind = "throttle"     // RequestLimitExceeded, 503
	Internal     Kind = "internal"     // InternalError, 500
	Unavailable  Kind = "unavailable"  // Unavailable, 503
	Expired      Kind = "expired"      // RequestExpired, 400; with Code also ExpiredToken (403) or AuthFailure (401)
	Unauthorized Kind = "unauthorized" // UnauthorizedOperation, 403
	Capacity     Kind = "capacity"     // RunInstances: InsufficientInstanceCapacity, 503
)

// Kinds that concern the connection.
const (
	Slow    Kind = "slow"     // the answer comes Delay after the request took effect
	Reset   Kind = "reset"    // the connection is reset before the request takes effect
	Lost    Kind = "lost"     // the request takes effect, the connection is reset instead of an answer
	Lost500 Kind = "lost-500" // the request takes effect, InternalError is answered
)

// Kinds of eventual consistency. They end when localcloud is restarted.
const (
	// Unseen: for Delay after its creation a resource does not exist for the
	// requests that are hit.
	Unseen Kind = "unseen"
	// Stale: for Delay after a change, or its creation, a request that is hit
	// shows a resource as it was before.
	Stale Kind = "stale"
)

// Kinds that let a request succeed whose outcome then fails.
const (
	Die    Kind = "die"    // RunInstances: pending for Delay, then terminated, never running
	Fail   Kind = "fail"   // an image, copy or snapshot: pending for Delay, then failed
	Linger Kind = "linger" // an image, copy or snapshot: pending for Delay, then as usual
)

// MaxLag is the longest that Unseen and Stale can last.
const MaxLag = 15 * time.Minute

// A trait is what is to be known of a kind.
type trait struct {
	kind     Kind
	actions  []string // those that it can hit; empty: any, of any API
	defaults []string // those that it hits when the rule names none
	code     string   // of the error, or of the state reason
	message  string
	delay    bool // it is nothing without a delay
}

func traits() []trait {
	makes := []string{"CreateImage", "CopyImage", "RegisterImage", "CreateSnapshot", "CopySnapshot"}
	return []trait{
		{kind: Throttle, code: "RequestLimitExceeded", message: "Request limit exceeded."},
		{kind: Internal, code: "InternalError", message: "An internal error has occurred"},
		{kind: Unavailable, code: "Unavailable", message: "The server is overloaded and can't handle the request."},
		{kind: Expired, code: "RequestExpired", message: "Request has expired."},
		{kind: Unauthorized, code: "UnauthorizedOperation", message: "You are not authorized to perform this operation."},
		{
			kind: Capacity, actions: []string{"RunInstances"}, code: "InsufficientInstanceCapacity",
			message: "We currently do not have sufficient capacity in the Availability Zone you requested. Our system will be working on provisioning additional capacity.",
		},
		{kind: Slow, delay: true},
		{kind: Reset},
		{kind: Lost},
		{kind: Lost500, code: "InternalError", message: "An internal error has occurred"},
		{kind: Unseen, defaults: []string{"Describe*", "Modify*", "CreateTags"}, delay: true},
		{kind: Stale, actions: []string{"Describe*"}, delay: true},
		{
			kind: Die, actions: []string{"RunInstances"}, code: "Server.InsufficientInstanceCapacity",
			message: "There is not enough capacity to fulfill your instance request.",
		},
		{kind: Fail, actions: makes, code: "Server.InternalError", message: "Internal error"},
		{kind: Linger, actions: makes, delay: true},
	}
}

// Kinds lists all kinds.
func Kinds() []Kind {
	var list []Kind
	for _, t := range traits() {
		list = append(list, t.kind)
	}
	return list
}

func (k Kind) trait() (trait, bool) {
	for _, t := range traits() {
		if t.kind == k {
			return t, true
		}
	}
	return trait{}, false
}

// ends tells whether nothing else can happen to a request once this does.
func (k Kind) ends() bool {
	switch k {
	case Slow, Unseen, Stale, Die, Fail, Linger:
		return false
	}
	return true
}

// Refuses tells whether the kind keeps a request from taking effect and answers
// an error.
func (k Kind) Refuses() bool {
	switch k {
	case Throttle, Internal, Unavailable, Expired, Unauthorized, Capacity:
		return true
	}
	return false
}

// A Rule says what goes wrong with which requests. All that is set must apply.
type Rule struct {
	// ID names the rule; given by Set.Add when it is empty.
	ID   string `json:"id"`
	Kind Kind   `json:"kind"`
	// Actions are patterns, as path.Match has them: "Run*", "CreateImage". Empty:
	// all that the kind is for.
	Actions []string `json:"actions,omitempty"`
	// Regions are patterns, likewise. Empty: all.
	Regions []string `json:"regions,omitempty"`
	// Build lets the rule hit only requests about a build: one whose id is the
	// value of the build tag in the request or on a resource that it names, or
	// occurs in a name or the ClientToken of the request. Empty: all requests.
	Build string `json:"build,omitempty"`
	// AccessKey is a pattern of access keys. Empty: all.
	AccessKey string `json:"access_key,omitempty"`
	// Skip is how many requests it lets pass first, of those that it is about.
	Skip int `json:"skip,omitempty"`
	// Count is how many requests it hits before it rests. Zero: without end.
	Count int `json:"count,omitempty"`
	// Probability is that of each request to be hit. Zero means 1.
	Probability float64 `json:"probability,omitempty"`
	// Seed determines which ones those are. Zero is a seed, too.
	Seed uint64 `json:"seed,omitempty"`
	// From and Until bound the time in which it hits. Zero: no bound.
	From  time.Time `json:"from,omitzero"`
	Until time.Time `json:"until,omitzero"`
	// Delay is what the kind says of it. Zero is fine for some kinds.
	Delay time.Duration `json:"delay,omitempty"` // nanoseconds
	// Resources limits Unseen and Stale to kinds of resources, as EC2's tags name
	// them: instance, image, snapshot, key-pair, security-group, volume …; "tags"
	// means the tags of all. Empty: all kinds, tags included.
	Resources []string `json:"resources,omitempty"`
	// Code and Message replace the error, or the state reason, of the kind.
	Code    string `json:"code,omitempty"`
	Message string `json:"message,omitempty"`
}

// normal checks the rule and returns it with the defaults of its kind.
func (r Rule) normal() (Rule, error) {
	t, ok := r.Kind.trait()
	if !ok {
		var names []string
		for _, k := range Kinds() {
			names = append(names, string(k))
		}
		return r, bakehouse.Errorf(bakehouse.Invalid, "fault: there is no kind %q: choose one of %s", r.Kind, strings.Join(names, ", "))
	}
	bad := func(format string, args ...any) (Rule, error) {
		return r, bakehouse.Errorf(bakehouse.Invalid, "fault %s: %s", r.Kind, fmt.Sprintf(format, args...))
	}
	for _, p := range slices.Concat(r.Actions, r.Regions, []string{r.AccessKey}) {
		if _, err := path.Match(p, ""); err != nil {
			return bad("pattern %q: %v", p, err)
		}
	}
	if r.Probability < 0 || r.Probability > 1 {
		return bad("probability %g is not between 0 and 1", r.Probability)
	}
	if r.Skip < 0 || r.Count < 0 || r.Delay < 0 {
		return bad("skip, count and delay cannot be negative")
	}
	if t.delay && r.Delay == 0 {
		return bad("it needs a delay")
	}
	if (r.Kind == Unseen || r.Kind == Stale) && r.Delay > MaxLag {
		return bad("it lasts %s at most", MaxLag)
	}
	if !r.From.IsZero() && !r.Until.IsZero() && !r.From.Before(r.Until) {
		return bad("it ends at %s, before it begins", r.Until.Format(time.RFC3339))
	}
	if len(r.Resources) > 0 && r.Kind != Unseen && r.Kind != Stale {
		return bad("it is not about resources")
	}
	if len(r.Actions) == 0 {
		r.Actions = t.defaults
	}
	if len(r.Actions) == 0 {
		r.Actions = t.actions
	}
	if len(t.actions) > 0 {
		for _, a := range r.Actions {
			if !overlap(a, t.actions) {
				return bad("it cannot hit %s, only %s", a, strings.Join(t.actions, ", "))
			}
		}
	}
	if r.Code == "" {
		r.Code = t.code
	}
	if r.Message == "" {
		r.Message = cmp.Or(messageOf(r.Code), t.message)
	}
	return r, nil
}

// messageOf returns what AWS says with a code that a rule may have in place of
// its kind's.
func messageOf(code string) string {
	switch code {
	case "AuthFailure":
		return "AWS was not able to validate the provided access credentials"
	case "ExpiredToken":
		return "The security token included in the request is expired"
	}
	return ""
}

// overlap tells whether a pattern can mean anything that one of the others
// does. Patterns here are names with a star at the end, or nearly so.
func overlap(p string, others []string) bool {
	stem := func(s string) (string, bool) {
		n := strings.IndexAny(s, "*?[\\")
		if n < 0 {
			return s, false
		}
		return s[:n], true
	}
	a, open := stem(p)
	return slices.ContainsFunc(others, func(o string) bool {
		b, wide := stem(o)
		switch {
		case open && wide:
			return strings.HasPrefix(a, b) || strings.HasPrefix(b, a)
		case open:
			ok, _ := path.Match(p, o)
			return ok
		case wide:
			return strings.HasPrefix(a, b)
		}
		return a == b
	})
}

func matches(patterns []string, s string) bool {
	return len(patterns) == 0 || slices.ContainsFunc(patterns, func(p string) bool {
		ok, err := path.Match(p, s)
		return ok && err == nil
	})
}

// A Call is what rules can know of a request.
type Call struct {
	Action, Region, AccessKey string
	// Builds are the ids of the builds that it is about.
	Builds []string
	// Names are the names, ids and the token that it gives.
	Names []string
	Time  time.Time
}

// about tells whether the rule is about such a call.
func (r Rule) about(c Call) bool {
	if !matches(r.Actions, c.Action) || !matches(r.Regions, c.Region) {
		return false
	}
	if r.AccessKey != "" && !matches([]string{r.AccessKey}, c.AccessKey) {
		return false
	}
	if !r.From.IsZero() && c.Time.Before(r.From) || !r.Until.IsZero() && !c.Time.Before(r.Until) {
		return false
	}
	return r.Build == "" || slices.Contains(c.Builds, r.Build) ||
		slices.ContainsFunc(c.Names, func(n string) bool { return strings.Contains(n, r.Build) })
}
