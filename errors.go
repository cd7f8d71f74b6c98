package bakehouse

import (
	"context"
	"errors"
	"fmt"
)

// A Kind says what a failure means for the build: whether another try could
// end differently, and whom to tell.
type Kind string

// The kinds of failure.
const (
	// Trouble is the farm's own: agent lost, throttled, no capacity, network.
	// It is retried until the user's own timeouts. Errors without a kind are
	// Trouble.
	Trouble Kind = "trouble"
	// Invalid: the template or a value in it is wrong.
	Invalid Kind = "invalid"
	// Denied: the credentials do not allow it.
	Denied Kind = "denied"
	// NotFound: something the template names does not exist.
	NotFound Kind = "not-found"
	// Conflict: the name is taken by something that is not ours.
	Conflict Kind = "conflict"
	// Script: a provisioner said no.
	Script Kind = "script"
	// Timeout: a limit that the user set, or Packer's default for it, has passed.
	Timeout Kind = "timeout"
	// Lost: what ran on the machine is gone and cannot be followed.
	Lost Kind = "lost"
	// Gone: the machine itself is gone (a spot interruption, a failing host, no
	// capacity after all). The same work could be done again on another one.
	Gone Kind = "machine-gone"
	// Breakpoint: a provisioner asks for the build to be parked here. Nothing
	// went wrong.
	Breakpoint Kind = "breakpoint"
	// Failed: the platform says that the thing we wait for has failed for good.
	Failed Kind = "failed"
)

// Final tells whether trying again is pointless.
func (k Kind) Final() bool { return k != Trouble && k != "" }

// An Error is a failure whose meaning is known.
type Error struct {
	Kind Kind
	Err  error
}

func (e *Error) Error() string { return e.Err.Error() }

// Unwrap returns the error that e classifies.
func (e *Error) Unwrap() error { return e.Err }

// Errorf is fmt.Errorf with a kind.
func Errorf(k Kind, format string, args ...any) error {
	return &Error{Kind: k, Err: fmt.Errorf(format, args...)}
}

// KindOf returns the kind of the outermost Error in err's tree, or Trouble.
func KindOf(err error) Kind {
	var e *Error
	if errors.As(err, &e) {
		return e.Kind
	}
	return Trouble
}

// ErrStop is the cause of a context that ends because the user wants the build
// to end. Only then may what runs on the machine be stopped; a context that
// ends for any other reason (the agent drains, the farm cannot be reached)
// means: let go, leave it running, another agent will follow it.
var ErrStop = errors.New("build is being cancelled")

// Stopping tells whether ctx has ended because the user cancelled the build.
func Stopping(ctx context.Context) bool {
	return ctx.Err() != nil && errors.Is(context.Cause(ctx), ErrStop)
}
