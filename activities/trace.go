package activities

import (
	"context"

	"github.com/bakehouse-farm/bakehouse"
)

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

// LogEnd tells where the log of a build ends now, for the result of the build to
// keep.
func (a *Activities) LogEnd(ctx context.Context, id bakehouse.BuildID) (bakehouse.LogEnd, error) {
	end, err := a.Logs.End(ctx, id)
	return end, verdict(ctx, err)
}
