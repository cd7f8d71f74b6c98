package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"time"

	"go.temporal.io/sdk/client"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/bakehouse-farm/bakehouse"
)

const (
	firstWait = 100 * time.Millisecond // before what was away is asked again
	longWait  = 5 * time.Second        // the wait grows up to it
	remind    = time.Minute            // how often it is said again that it is away
	oneDial   = 10 * time.Second       // how long one try may take
)

// reach connects to the farm and makes sure that builds can begin there. While
// the server is away it waits, as agents are often started together with it,
// or before. What waiting does not mend is an error at once.
func reach(ctx context.Context, o client.Options, log *slog.Logger) (client.Client, error) {
	where := cmp.Or(o.HostPort, client.DefaultHostPort)
	if err := address(where); err != nil {
		return nil, bakehouse.Errorf(bakehouse.Invalid, "address %q of the Temporal server (-address or TEMPORAL_ADDRESS): %w", where, err)
	}
	var farm client.Client
	err := persist(ctx, log, "the server at "+where, func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, oneDial)
		defer cancel()
		c, err := client.DialContext(ctx, o)
		if err != nil {
			return refused(fmt.Errorf("connect to the Temporal server at %s (name another with -address or TEMPORAL_ADDRESS): %w", where, err))
		}
		if err := register(ctx, c, o.Namespace); err != nil {
			c.Close()
			return refused(err)
		}
		farm = c
		return nil
	})
	return farm, err
}

// persist calls try until it succeeds, fails for good, or ctx ends; then the
// error is ctx's. It says once what is waited for and why, again when that
// changes or a minute has passed, and that the waiting has ended.
func persist(ctx context.Context, log *slog.Logger, what string, try func(context.Context) error) error {
	var said time.Time
	var waited string
	for wait := firstWait; ; wait = min(2*wait, longWait) {
		err := try(ctx)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err == nil {
			if waited != "" {
				log.Info(what + " answers")
			}
			return nil
		}
		if bakehouse.KindOf(err).Final() {
			return err
		}
		if why := plain(err); waited == "" || time.Since(said) >= remind {
			log.Warn("waiting for " + what + ": " + why)
			said, waited = time.Now(), why
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(wait):
		}
	}
}

// plain says why something did not answer, without the layers of gRPC that
// repeat it.
func plain(err error) string {
	text := err.Error()
	if i := strings.LastIndex(text, "dial tcp"); i >= 0 {
		text = strings.TrimRight(text[i:], `"`)
	}
	return text
}

// address says what is wrong with one; gRPC would look for the port 443 of any
// word. A target with a scheme (dns:///farm:7233) is gRPC's to read. A name
// that nobody knows may be known when the network is there.
func address(hostPort string) error {
	if strings.Contains(hostPort, ":///") {
		return nil
	}
	host, port, err := net.SplitHostPort(hostPort)
	if err != nil || host == "" && port == "" {
		return errors.New("it is not of the form host:port")
	}
	if _, err := net.LookupPort("tcp", port); err != nil {
		return fmt.Errorf("%q is no port", port)
	}
	return nil
}

// refused gives what the server said its meaning: final, unless it says that
// it is away or not ready.
func refused(err error) error {
	text := err.Error()
	switch code(err) {
	case codes.Unauthenticated, codes.PermissionDenied:
		return bakehouse.Errorf(bakehouse.Denied, "the Temporal server refuses this agent (TEMPORAL_API_KEY, TEMPORAL_TLS_*): %w", err)
	case codes.NotFound:
		return bakehouse.Errorf(bakehouse.NotFound, "%w (name another namespace with TEMPORAL_NAMESPACE)", err)
	case codes.OK: // it was never sent
		if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
			return err
		}
		return bakehouse.Errorf(bakehouse.Invalid, "%w", err)
	case codes.InvalidArgument, codes.Unimplemented, codes.FailedPrecondition:
		return bakehouse.Errorf(bakehouse.Invalid, "%w", err)
	}
	// gRPC takes a certificate that one side does not accept for a server that is
	// away, and tells the difference only in its text.
	if strings.Contains(text, "x509: ") || strings.Contains(text, "tls: ") {
		return bakehouse.Errorf(bakehouse.Denied, "no secure connection (TEMPORAL_TLS_*): %w", err)
	}
	return err
}

// code is what the server answered; OK when err is none of its answers.
func code(err error) codes.Code {
	var temporal interface{ Status() *status.Status }
	if errors.As(err, &temporal) {
		return temporal.Status().Code()
	}
	var other interface{ GRPCStatus() *status.Status }
	if errors.As(err, &other) {
		return other.GRPCStatus().Code()
	}
	return codes.OK
}
