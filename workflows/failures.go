package workflows

import (
	"errors"
	"strings"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/temporal"

	"github.com/bakehouse-farm/bakehouse"
)

// first returns the first error that is one, preferring what went wrong over
// what was cancelled because of it.
func first(errs ...error) error {
	var cancelled error
	for _, err := range errs {
		switch {
		case err == nil:
		case temporal.IsCanceledError(err):
			cancelled = err
		default:
			return err
		}
	}
	return cancelled
}

// cause is the text of a failure without Temporal's wrapping.
func cause(err error) string {
	var app *temporal.ApplicationError
	var timeout *temporal.TimeoutError
	switch {
	case temporal.IsCanceledError(err):
		return "build was cancelled"
	case errors.As(err, &app):
		return app.Message()
	case errors.As(err, &timeout):
		text := "step did not end in time (" + strings.ToLower(timeout.TimeoutType().String()) + ")"
		if last := timeout.Unwrap(); last != nil {
			text += ": " + cause(last)
		}
		return text
	}
	return err.Error()
}

// kind is the kind of a failure.
func kind(err error) bakehouse.Kind {
	var app *temporal.ApplicationError
	var timeout *temporal.TimeoutError
	switch {
	case errors.As(err, &app):
		return bakehouse.Kind(app.Type())
	case errors.As(err, &timeout) && timeout.TimeoutType() != enumspb.TIMEOUT_TYPE_HEARTBEAT:
		return bakehouse.Timeout
	}
	return bakehouse.Trouble
}
