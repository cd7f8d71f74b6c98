package workflows

import (
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"
)

// HeartbeatTimeout is how long an agent may be silent before its steps are
// given to another. It bounds the stall after a crash.
const HeartbeatTimeout = 10 * time.Second

// patience retries what the farm had trouble with, quickly at first: a step
// that an agent let go of should not wait for long.
var patience = temporal.RetryPolicy{
	InitialInterval:    500 * time.Millisecond,
	BackoffCoefficient: 2,
	MaximumInterval:    30 * time.Second,
}

// asks is for a step that asks the platform for something and does not wait
// for it. Half an hour of trouble is more than a throttled account or a server
// that is being replaced needs; then the user should know.
func asks(ctx workflow.Context) workflow.Context {
	return options(ctx, 5*time.Minute, 30*time.Minute)
}

// waits is for a step that waits for the platform. How long it may is the
// user's to say (aws_polling, ssh_timeout): these limits only end what nobody
// follows any more.
func waits(ctx workflow.Context) workflow.Context {
	return options(ctx, 24*time.Hour, 48*time.Hour)
}

// works is for a provisioner, which takes as long as it takes.
func works(ctx workflow.Context) workflow.Context {
	return options(ctx, 30*24*time.Hour, 30*24*time.Hour)
}

// gives back is for the release of what a build holds. What cannot be removed
// in this time is left, reported, for a sweep to find.
func givesBack(ctx workflow.Context) workflow.Context {
	return options(ctx, 30*time.Minute, time.Hour)
}

func options(ctx workflow.Context, oneTry, inAll time.Duration) workflow.Context {
	policy := patience
	return workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
		StartToCloseTimeout:    oneTry,
		ScheduleToCloseTimeout: inAll,
		HeartbeatTimeout:       HeartbeatTimeout,
		WaitForCancellation:    true,
		RetryPolicy:            &policy,
	})
}
