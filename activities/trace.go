package activities

import "context"

// Traces sends traces of submissions.
type Traces interface {
	// Send sends the trace of a submission once it is over. It does not wait for
	// that, and tells nobody but the agent's log when it fails: no build waits
	// for a collector.
	Send(submission, run string)
}

// SendTrace has the trace of a submission sent that is about to end.
func (a *Activities) SendTrace(_ context.Context, submission, run string) error {
	if a.Traces != nil {
		a.Traces.Send(submission, run)
	}
	return nil
}
