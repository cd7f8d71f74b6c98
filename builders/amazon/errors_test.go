package amazon

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/bakehouse-farm/bakehouse"
)

func TestKinds(t *testing.T) {
	tests := []struct {
		err  error
		want bakehouse.Kind
	}{
		{apiError("UnauthorizedOperation", ""), bakehouse.Denied},
		{apiError("AuthFailure", ""), bakehouse.Denied},
		{apiError("InvalidClientTokenId", ""), bakehouse.Denied},
		{apiError("InvalidParameterValue", "instance_type"), bakehouse.Invalid},
		{apiError("InvalidParameterCombination", ""), bakehouse.Invalid},
		{apiError("InvalidAMIID.Malformed", ""), bakehouse.Invalid},
		{apiError("MissingParameter", ""), bakehouse.Invalid},
		{apiError("UnsupportedOperation", ""), bakehouse.Invalid},
		{apiError("InvalidParameterValue", "Instance is not in state 'stopped'"), bakehouse.Trouble},
		{apiError("InvalidAMIID.NotFound", ""), bakehouse.NotFound},
		{apiError("InvalidKeyPair.NotFound", ""), bakehouse.NotFound},
		{apiError("NoSuchEntity", ""), bakehouse.NotFound},
		{apiError("InvalidAMIName.Duplicate", ""), bakehouse.Conflict},
		{apiError("RequestLimitExceeded", ""), bakehouse.Trouble},
		{apiError("InsufficientInstanceCapacity", ""), bakehouse.Trouble},
		{apiError("VcpuLimitExceeded", ""), bakehouse.Trouble},
		{apiError("InstanceLimitExceeded", ""), bakehouse.Trouble},
		{apiError("ResourceLimitExceeded", ""), bakehouse.Trouble},
		{apiError("InternalError", ""), bakehouse.Trouble},
		{apiError("Unavailable", ""), bakehouse.Trouble},
		{apiError("RequestExpired", ""), bakehouse.Trouble},
		{apiError("ExpiredToken", ""), bakehouse.Trouble},
		{apiError("DependencyViolation", ""), bakehouse.Trouble},
		{syscall.ECONNREFUSED, bakehouse.Trouble},
		{bakehouse.Errorf(bakehouse.Lost, "gone"), bakehouse.Lost},
	}
	for _, tt := range tests {
		err := failed(t.Context(), fmt.Errorf("operation: %w", tt.err), "try %d", 1)
		if got := bakehouse.KindOf(err); got != tt.want {
			t.Errorf("%v: %s, want %s", tt.err, got, tt.want)
		}
		if !errors.Is(err, tt.err) {
			t.Errorf("%v: the cause is not in the error", tt.err)
		}
	}
	if failed(t.Context(), nil, "nothing") != nil {
		t.Error("no error became one")
	}
}

// An ended context speaks for itself.
func TestFailedOnEndedContext(t *testing.T) {
	ctx, stop := context.WithCancelCause(t.Context())
	stop(bakehouse.ErrStop)
	if err := failed(ctx, fmt.Errorf("operation: %w", ctx.Err()), "launch"); err != bakehouse.ErrStop {
		t.Errorf("%v, want the cause as it is", err)
	}
}

// Where nobody answers the SDK does not insist: the workflow does.
func TestUnreachable(t *testing.T) {
	for err, want := range map[error]aws.Ternary{
		&net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}:             aws.FalseTernary,
		&net.DNSError{Err: "no such host", Name: "x", IsNotFound: true}: aws.FalseTernary,
		&net.DNSError{Err: "server misbehaving", Name: "x"}:             aws.UnknownTernary,
		&net.OpError{Op: "read", Err: syscall.ECONNRESET}:               aws.UnknownTernary,
		apiError("RequestLimitExceeded", ""):                            aws.UnknownTernary,
	} {
		if got := unreachable(fmt.Errorf("send: %w", err)); got != want {
			t.Errorf("%v: %v, want %v", err, got, want)
		}
	}
}

func TestNobodyListens(t *testing.T) {
	e := NewEBS(Config{})
	b := testBuild(t, map[string]any{
		"custom_endpoint_ec2": fmt.Sprintf("http://127.0.0.1:%d", freePort(t)), "access_key": "a", "secret_key": "b",
		"skip_credential_validation": true,
	})
	_, err := e.Resolve(t.Context(), b)
	if !errors.Is(err, syscall.ECONNREFUSED) || bakehouse.KindOf(err) != bakehouse.Trouble {
		t.Errorf("%v (%s), want trouble: connection refused", err, bakehouse.KindOf(err))
	}
}
