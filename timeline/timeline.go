// Package timeline shows where the time of a submission went. It reads only
// what is durable, the history in Temporal, so that it draws a build that runs,
// that was interrupted or that ended long ago, with no agent alive.
package timeline

import (
	"time"

	"github.com/bakehouse-farm/bakehouse"
)

// A Timeline is what happened, as far as it is known at the time of Read.
type Timeline struct {
	// ID is the workflow ID that was asked for, of a submission or of a build.
	ID string `json:"id"`
	// Title is the template's short name.
	Title string `json:"title"`
	// Submission is the ID of the submission, Run the ID of its first run, from
	// which all span IDs derive.
	Submission string `json:"submission"`
	Run        string `json:"run"`
	// TraceParent is the W3C trace context that came with the submission; may be
	// empty.
	TraceParent string `json:"traceparent,omitempty"`
	// Pool is where the submission's steps run.
	Pool string `json:"pool,omitempty"`
	// Now is when the timeline was read: what has not ended is drawn up to here.
	Now time.Time `json:"now"`
	// Root is the submission, or the build when only that was asked for.
	Root *Span `json:"root"`
}

// Kind says what a Span stands for.
type Kind string

// The kinds of span.
const (
	Submission Kind = "submission"
	Build      Kind = "build"
	Step       Kind = "step"
	// Pause is time that the template asked to let pass.
	Pause Kind = "pause"
)

// Outcome says how a span ended, in the words of OpenTelemetry's conventions
// for CI/CD.
type Outcome string

// The outcomes. Failure means that the template or a script said no, Error that
// the farm had trouble. What has not ended has none of them.
const (
	Running   Outcome = ""
	Success   Outcome = "success"
	Failure   Outcome = "failure"
	Error     Outcome = "error"
	TimedOut  Outcome = "timeout"
	Cancelled Outcome = "cancellation"
)

// A Span is something that took time.
type Span struct {
	Kind Kind `json:"kind"`
	// Name is the template's title, the build's name or the step without its
	// number: "provision-1-shell".
	Name string `json:"name"`
	// Build is the build that the span belongs to (the submission's ID for the
	// plan); empty for a submission.
	Build bakehouse.BuildID `json:"build,omitempty"`
	// Step is the key of the step: "07-provision-1-shell".
	Step string `json:"step,omitempty"`
	// Scheduled is when it was asked for.
	Scheduled time.Time `json:"scheduled"`
	// Started is when the last attempt began; zero while it waits for an agent.
	Started time.Time `json:"started,omitzero"`
	// Ended is zero while it is not over.
	Ended time.Time `json:"ended,omitzero"`
	// Attempts is how often a step was begun, as far as history has it; 0 while
	// it waits for its first agent, and for submissions and builds.
	Attempts int `json:"attempts,omitempty"`
	// Waiting tells that no agent has it now.
	Waiting bool `json:"waiting,omitempty"`
	// Worker is the agent of the last attempt.
	Worker string `json:"worker,omitempty"`
	// Outcome is how it ended. Reason is the failure's text; that of a step that
	// runs again or was begun again is why its last attempt ended.
	Outcome Outcome `json:"outcome,omitempty"`
	Reason  string  `json:"reason,omitempty"`
	// Children are in the order in which they were asked for.
	Children []*Span `json:"children,omitempty"`
}

// Wait returns how long a step waited for an agent. When it was begun more than
// once, history does not tell when the first attempt began: then Wait is 0 and
// Earlier holds the time.
func (s *Span) Wait(now time.Time) time.Duration {
	switch {
	case s.Started.IsZero():
		return s.end(now).Sub(s.Scheduled)
	case s.Attempts > 1:
		return 0
	}
	return s.Started.Sub(s.Scheduled)
}

// Earlier returns the time from asking for a step to its last attempt, in which
// attempts were made that did not end it and agents were away.
func (s *Span) Earlier() time.Duration {
	if s.Attempts <= 1 || s.Started.IsZero() {
		return 0
	}
	return s.Started.Sub(s.Scheduled)
}

// Took returns the time from asking for s to its end, or to now.
func (s *Span) Took(now time.Time) time.Duration { return s.end(now).Sub(s.Scheduled) }

func (s *Span) end(now time.Time) time.Time {
	if s.Ended.IsZero() {
		return now
	}
	return s.Ended
}

// All calls visit with s and each span below it, parents first, until visit
// returns false.
func (s *Span) All(visit func(s *Span, depth int) bool) { s.all(visit, 0) }

func (s *Span) all(visit func(*Span, int) bool, depth int) bool {
	if !visit(s, depth) {
		return false
	}
	for _, c := range s.Children {
		if !c.all(visit, depth+1) {
			return false
		}
	}
	return true
}

// Longest returns the step that took longest, or nil when there is none.
func (t *Timeline) Longest() *Span {
	var longest *Span
	t.Root.All(func(s *Span, _ int) bool {
		if s.Kind == Step && (longest == nil || s.Took(t.Now) > longest.Took(t.Now)) {
			longest = s
		}
		return true
	})
	return longest
}
