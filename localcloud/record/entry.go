package record

import (
	"path"
	"slices"
	"strings"
	"time"

	"github.com/bakehouse-farm/bakehouse/localcloud/state"
)

// Who something was done for.
const (
	API      = "api"      // a request of EC2, STS or IAM
	Operator = "operator" // the localcloud command, or another client of its control socket
	Itself   = "itself"   // nobody: an instance has booted, an image is available …
)

// An Entry is one line of the record. Fields that do not apply are empty.
type Entry struct {
	// Seq numbers entries in the order in which they took effect, from 1,
	// without gaps as long as nothing is taken back.
	Seq  uint64    `json:"seq"`
	Time time.Time `json:"time"` // when it was asked for; UTC
	By   string    `json:"by"`
	// Action is EC2's name of a request's action, or what the operator did.
	Action    string `json:"action,omitempty"`
	API       string `json:"api,omitempty"` // ec2, sts, iam
	Region    string `json:"region,omitempty"`
	AccessKey string `json:"access_key,omitempty"`
	Request   string `json:"request,omitempty"` // the request id that the answer has
	Token     string `json:"token,omitempty"`   // ClientToken
	DryRun    bool   `json:"dry_run,omitempty"`
	// Names are the names and ids that the request gives, in no order.
	Names []string `json:"names,omitempty"`
	// Builds are the builds that the request is about: by the tags in it, and by
	// those of the resources that it names.
	Builds []string `json:"builds,omitempty"`
	// Changes are what it did to resources. Empty: it took no effect.
	Changes []state.Change `json:"changes,omitempty"`
	// Code and Message are the error that was answered.
	Code    string `json:"code,omitempty"`
	Message string `json:"message,omitempty"`
	// Faults are the rules that hit the request, with their kinds.
	Faults []Fault `json:"faults,omitempty"`
	// Answer is what became of the answer: empty when it was sent, "cut" when the
	// connection was broken off instead, "500" when an error was sent in place of
	// it. Changes tell whether the request took effect all the same.
	Answer string `json:"answer,omitempty"`
	// Undone is set on entries that take back the one with the same number.
	Undone bool `json:"undone,omitempty"`
}

// A Fault is a rule that hit a request.
type Fault struct {
	Rule string `json:"rule"`
	Kind string `json:"kind"`
}

// A Filter selects entries; those that pass have all that is set.
type Filter struct {
	After  uint64    // only those with a higher number
	Since  time.Time // not before
	Until  time.Time // before
	By     string    // API, Operator or Itself
	Action string    // a pattern as path.Match has it: "Run*"
	Region string
	// Resource is an id or a name that the request gave, or that was changed.
	Resource string
	// Build is a build that the request is about, or a tag value of what changed.
	Build string
	Token string
	// Fault is the id or the kind of a rule that hit; "*" means any.
	Fault string
	// Code is an error's code; "*" means any.
	Code    string
	Effects bool // only what changed anything
	// Last keeps only that many of the newest. Zero: all.
	Last int
}

// Pass tells whether an entry is selected; it does not look at Last.
func (f Filter) Pass(e Entry) bool {
	switch {
	case e.Seq <= f.After,
		!f.Since.IsZero() && e.Time.Before(f.Since),
		!f.Until.IsZero() && !e.Time.Before(f.Until),
		f.By != "" && e.By != f.By,
		f.Region != "" && !e.in(f.Region),
		f.Resource != "" && !e.names(f.Resource),
		f.Build != "" && !e.of(f.Build),
		f.Token != "" && e.Token != f.Token,
		f.Fault != "" && !e.hit(f.Fault),
		f.Code == "*" && e.Code == "",
		f.Code != "" && f.Code != "*" && e.Code != f.Code,
		f.Effects && len(e.Changes) == 0:
		return false
	}
	if f.Action == "" {
		return true
	}
	ok, err := path.Match(f.Action, e.Action)
	return ok && err == nil
}

func (e Entry) in(region string) bool {
	return e.Region == region || slices.ContainsFunc(e.Changes, func(c state.Change) bool { return c.Region == region })
}

func (e Entry) names(what string) bool {
	return slices.Contains(e.Names, what) || slices.ContainsFunc(e.Changes, func(c state.Change) bool {
		return c.ID == what || c.Name == what || c.Of == what
	})
}

func (e Entry) of(build string) bool {
	if slices.Contains(e.Builds, build) {
		return true
	}
	return slices.ContainsFunc(e.Changes, func(c state.Change) bool {
		for _, v := range c.Tags {
			if v == build {
				return true
			}
		}
		return false
	})
}

func (e Entry) hit(fault string) bool {
	return slices.ContainsFunc(e.Faults, func(f Fault) bool { return fault == "*" || f.Rule == fault || f.Kind == fault })
}

// Fault names, joined, for people.
func (e Entry) FaultText() string {
	var list []string
	for _, f := range e.Faults {
		list = append(list, f.Rule+" ("+f.Kind+")")
	}
	return strings.Join(list, ", ")
}
