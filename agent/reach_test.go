package agent

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.temporal.io/api/operatorservice/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/log"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/bakehouse-farm/bakehouse"
)

// A frontend is as much of a Temporal server as an agent talks to before it
// polls. The first answers are failures.
type frontend struct {
	workflowservice.UnimplementedWorkflowServiceServer
	operatorservice.UnimplementedOperatorServiceServer
	fail  func(nth int32) error // nil: none
	asked atomic.Int32
}

func (f *frontend) GetSystemInfo(context.Context, *workflowservice.GetSystemInfoRequest) (*workflowservice.GetSystemInfoResponse, error) {
	if f.fail != nil {
		if err := f.fail(f.asked.Add(1)); err != nil {
			return nil, err
		}
	}
	return &workflowservice.GetSystemInfoResponse{}, nil
}

func (f *frontend) ListSearchAttributes(_ context.Context, r *operatorservice.ListSearchAttributesRequest) (*operatorservice.ListSearchAttributesResponse, error) {
	if r.Namespace != "default" {
		return nil, status.Errorf(codes.NotFound, "Namespace %s is not found.", r.Namespace)
	}
	return &operatorservice.ListSearchAttributesResponse{}, nil
}

func (f *frontend) AddSearchAttributes(context.Context, *operatorservice.AddSearchAttributesRequest) (*operatorservice.AddSearchAttributesResponse, error) {
	return &operatorservice.AddSearchAttributesResponse{}, nil
}

// serve listens at an address until the test ends.
func (f *frontend) serve(t *testing.T, address string) string {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer()
	workflowservice.RegisterWorkflowServiceServer(s, f)
	operatorservice.RegisterOperatorServiceServer(s, f)
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Serve(l) }()
	t.Cleanup(func() { s.Stop(); <-done })
	return l.Addr().String()
}

// A said is what was logged.
type said struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *said) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *said) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func (s *said) log() *slog.Logger { return slog.New(slog.NewTextHandler(s, nil)) }

func quiet(o client.Options) client.Options {
	o.Logger = log.NewStructuredLogger(slog.New(slog.DiscardHandler))
	return o
}

// nobody is an address at which nobody listens.
func nobody(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// An agent that is started before its server waits, says so once, and goes on
// when the server is there, and ready.
func TestReachWaits(t *testing.T) {
	where := nobody(t)
	var out said
	got := make(chan error, 1)
	go func() {
		farm, err := reach(t.Context(), quiet(client.Options{HostPort: where}), out.log())
		if err == nil {
			farm.Close()
		}
		got <- err
	}()
	for deadline := time.Now().Add(time.Minute); !strings.Contains(out.String(), "waiting for the server at "+where); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("nothing is said: %s", out.String())
		}
	}
	f := &frontend{fail: func(nth int32) error {
		if nth < 3 {
			return status.Error(codes.Unavailable, "shard status unknown")
		}
		return nil
	}}
	f.serve(t, where)
	if err := <-got; err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(out.String(), "waiting for the server"); n != 1 {
		t.Errorf("said %d times that it waits:\n%s", n, out.String())
	}
	for _, want := range []string{"connection refused", "the server at " + where + " answers"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("log lacks %q:\n%s", want, out.String())
		}
	}
}

// Who is told to stop while waiting stops at once.
func TestReachEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	var out said
	got := make(chan error, 1)
	go func() {
		_, err := reach(ctx, quiet(client.Options{HostPort: nobody(t)}), out.log())
		got <- err
	}()
	cancel()
	if err := <-got; !errors.Is(err, context.Canceled) || stopped(ctx, err) != nil {
		t.Errorf("ended with %v", err)
	}
}

// What waiting does not mend ends the agent at once, and says what is wrong.
func TestReachRefused(t *testing.T) {
	answer := func(c codes.Code) func(int32) error {
		return func(int32) error { return status.Error(c, "the server's reason") }
	}
	there := (&frontend{}).serve(t, "127.0.0.1:0")
	tests := []struct {
		name    string
		fail    func(int32) error
		options client.Options
		kind    bakehouse.Kind
		want    string
	}{
		{"no port", nil, client.Options{HostPort: "rubbish"}, bakehouse.Invalid, "not of the form host:port"},
		{"no number", nil, client.Options{HostPort: "farm:none-such"}, bakehouse.Invalid, `"none-such" is no port`},
		{"namespace", nil, client.Options{HostPort: there, Namespace: "other"}, bakehouse.NotFound, "TEMPORAL_NAMESPACE"},
		{"unauthenticated", answer(codes.Unauthenticated), client.Options{}, bakehouse.Denied, "the server's reason"},
		{"denied", answer(codes.PermissionDenied), client.Options{}, bakehouse.Denied, "refuses this agent"},
		{"no TLS there", nil, client.Options{HostPort: there, ConnectionOptions: client.ConnectionOptions{TLS: &tls.Config{MinVersion: tls.VersionTLS12}}}, bakehouse.Denied, "TEMPORAL_TLS_"},
		{"not Temporal", answer(codes.InvalidArgument), client.Options{}, bakehouse.Invalid, "the server's reason"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.options.HostPort == "" {
				tt.options.HostPort = (&frontend{fail: tt.fail}).serve(t, "127.0.0.1:0")
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			var out said
			_, err := reach(ctx, quiet(tt.options), out.log())
			if err == nil || bakehouse.KindOf(err) != tt.kind || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("kind %s: %v\n%s", bakehouse.KindOf(err), err, out.String())
			}
		})
	}
}
