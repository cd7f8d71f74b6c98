//go:build e2e

package e2e

import (
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// A span is what a collector knows of one.
type span struct {
	trace, id, parent, name, service string
	failed                           bool
	begin, end                       uint64
}

// A collector receives traces as OTLP over HTTP and keeps them.
type collector struct {
	*httptest.Server
	mu    sync.Mutex
	spans []span
}

func newCollector(t *testing.T) *collector {
	t.Helper()
	c := &collector{}
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err == nil && r.URL.Path != "/v1/traces" {
			err = fmt.Errorf("path %s", r.URL.Path)
		}
		// An export request has the shape of TracesData.
		var data tracepb.TracesData
		if err == nil {
			err = proto.Unmarshal(body, &data)
		}
		if err != nil {
			t.Errorf("what was sent is no trace: %v", err)
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		c.keep(&data)
		w.Header().Set("Content-Type", "application/x-protobuf")
	}))
	t.Cleanup(c.Close)
	return c
}

func (c *collector) keep(data *tracepb.TracesData) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range data.GetResourceSpans() {
		service := ""
		for _, a := range r.GetResource().GetAttributes() {
			if a.GetKey() == "service.name" {
				service = a.GetValue().GetStringValue()
			}
		}
		for _, s := range r.GetScopeSpans() {
			for _, p := range s.GetSpans() {
				c.spans = append(c.spans, span{
					trace: hex.EncodeToString(p.GetTraceId()), id: hex.EncodeToString(p.GetSpanId()),
					parent: hex.EncodeToString(p.GetParentSpanId()), name: p.GetName(), service: service,
					failed: p.GetStatus().GetCode() == tracepb.Status_STATUS_CODE_ERROR,
					begin:  p.GetStartTimeUnixNano(), end: p.GetEndTimeUnixNano(),
				})
			}
		}
	}
}

// of returns what one service sent. What was sent twice is one span, as it has
// one id.
func (c *collector) of(service string) []span {
	c.mu.Lock()
	defer c.mu.Unlock()
	seen := map[string]bool{}
	var out []span
	for _, s := range c.spans {
		if s.service == service && !seen[s.id] {
			seen[s.id] = true
			out = append(out, s)
		}
	}
	return out
}

// identities are the spans without their times, in an order of their own.
func identities(spans []span) []string {
	var out []string
	for _, s := range spans {
		out = append(out, fmt.Sprintf("%s/%s<%s %s failed=%v", s.trace, s.id, s.parent, s.name, s.failed))
	}
	slices.Sort(out)
	return out
}

// one returns the span with a name.
func one(t *testing.T, spans []span, name string) span {
	t.Helper()
	var found []span
	for _, s := range spans {
		if s.name == name {
			found = append(found, s)
		}
	}
	if len(found) != 1 {
		t.Fatalf("%d spans %q, want one, in:\n%s", len(found), name, strings.Join(identities(spans), "\n"))
	}
	return found[0]
}

// sendTo makes the programs that are started from here on send traces to c;
// nil to nobody.
func sendTo(t *testing.T, c *collector) {
	t.Helper()
	for _, v := range os.Environ() {
		if name, _, _ := strings.Cut(v, "="); strings.HasPrefix(name, "OTEL_") || name == "TRACEPARENT" {
			t.Setenv(name, "") // so that it comes back
			os.Unsetenv(name)
		}
	}
	if c != nil {
		t.Setenv("OTEL_TRACES_EXPORTER", "otlp")
		t.Setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
		t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", c.URL)
	}
}

var submissionLine = regexp.MustCompile(`Started submission (\S+) in pool`)

// submission is the ID that submit printed.
func submission(t *testing.T, r *run) string {
	t.Helper()
	m := submissionLine.FindStringSubmatch(r.out.String())
	if m == nil {
		t.Fatalf("no submission in:\n%s", r.out)
	}
	return m[1]
}

// A trace begins with the caller and holds everything: builds, steps, and what
// the steps asked of AWS, also when nobody looked on to the end. Whoever sends
// it sends the same.
func TestTraceFromCallerToAWS(t *testing.T) {
	f := newFarm(t)
	if out, err := exec.Command(bin(t, "submit"), "key", filepath.Join(f.dir, "key")).CombinedOutput(); err != nil {
		t.Fatalf("submit key: %v\n%s", err, out)
	}
	ofAgent, ofSubmit := newCollector(t), newCollector(t)
	sendTo(t, ofAgent)
	agent := f.agent("traced", "agent")

	const (
		callersTrace = "4bf92f3577b34da6a3ce929d0e0e4736"
		callersSpan  = "00f067aa0ba902b7"
	)
	template := source("traced", `ami_regions = ["us-west-2"]`) + `
build {
  sources = ["source.amazon-ebs.traced"]
  provisioner "shell" { inline = ["echo traced by $TRACEPARENT"] }
  %s
}`
	dir := write(t, map[string]string{
		"traced.pkr.hcl": fmt.Sprintf(template, ""),
		"failed.pkr.hcl": fmt.Sprintf(template, `provisioner "shell" { inline = ["exit 3"] }`),
	})
	sendTo(t, ofSubmit)
	t.Setenv("TRACEPARENT", "00-"+callersTrace+"-"+callersSpan+"-01")
	r := f.submit(dir, "build", "-pool", "traced", "traced.pkr.hcl")
	if err := r.Wait(); err != nil {
		t.Fatalf("%v\n%s", err, r.out)
	}

	// What submit sent is whole when it has ended.
	steps := ofSubmit.of("bakehouse")
	t.Run("steps", func(t *testing.T) {
		top, build := span{}, span{}
		for _, s := range steps {
			switch {
			case s.trace != callersTrace:
				t.Errorf("%s is in trace %s, not in the caller's", s.name, s.trace)
			case s.parent == callersSpan:
				top = s
			case s.name == "BUILD amazon-ebs.traced":
				build = s
			}
		}
		if top.name != "BUILD traced" || build.parent != top.id || top.id == "" {
			t.Fatalf("not caller, submission, build:\n%s", strings.Join(identities(steps), "\n"))
		}
		if s := one(t, steps, "plan"); s.parent != top.id {
			t.Errorf("plan is not below its submission: %+v", s)
		}
		for _, name := range []string{
			"resolve", "keypair", "securitygroup", "launch", "await-machine", "connect", "provision-1-shell", "tidy", "stop",
			"capture", "await-image", "copy-us-west-2", "await-copy-us-west-2", "finish-us-east-1", "finish-us-west-2", "artifact", "release",
		} {
			s := one(t, steps, name)
			if s.parent != build.id {
				t.Errorf("%s is not below its build: %+v", name, s)
			}
			if s.begin < build.begin || s.end > build.end || s.end < s.begin {
				t.Errorf("%s lies outside of its build", name)
			}
		}
	})
	t.Run("provisioner", func(t *testing.T) {
		want := "traced by 00-" + callersTrace + "-" + one(t, steps, "provision-1-shell").id + "-01"
		if !strings.Contains(r.out.String(), want) {
			t.Errorf("the provisioner was not told %q:\n%s", want, r.out)
		}
	})
	t.Run("exported again", func(t *testing.T) {
		again := newCollector(t)
		sendTo(t, again)
		r := f.submit(dir, "timeline", "-export", submission(t, r))
		if err := r.Wait(); err != nil {
			t.Fatalf("%v\n%s", err, r.out)
		}
		if diff := cmp.Diff(identities(steps), identities(again.of("bakehouse"))); diff != "" {
			t.Errorf("(-first +again):\n%s", diff)
		}
	})
	t.Run("sent by an agent", func(t *testing.T) {
		eventually(t, "the agent has sent the steps", func() bool { return len(ofAgent.of("bakehouse")) >= len(steps) })
		if diff := cmp.Diff(identities(steps), identities(ofAgent.of("bakehouse"))); diff != "" {
			t.Errorf("(-submit +agent):\n%s", diff)
		}
	})

	// From here on submit is told nothing of traces: what arrives is the agent's.
	before := len(ofAgent.of("bakehouse"))
	sendTo(t, nil)
	t.Run("detached, failing", func(t *testing.T) {
		r := f.submit(dir, "build", "-pool", "traced", "-detach", "failed.pkr.hcl")
		if err := r.Wait(); err != nil {
			t.Fatalf("%v\n%s", err, r.out)
		}
		var sent []span
		eventually(t, "the agent has sent the trace", func() bool {
			sent = ofAgent.of("bakehouse")[before:]
			return len(sent) > 0
		})
		if s := one(t, sent, "BUILD failed"); !s.failed || s.parent != "" {
			t.Errorf("submission: %+v", s)
		}
		if s := one(t, sent, "provision-2-shell"); !s.failed {
			t.Errorf("script that failed: %+v", s)
		}
		if s := one(t, sent, "release"); s.failed {
			t.Errorf("release: %+v", s)
		}
		if sent[0].trace == callersTrace {
			t.Error("a submission without a caller is in the trace of one")
		}
	})
	t.Run("cancelled, submit killed", func(t *testing.T) {
		before := len(ofAgent.of("bakehouse"))
		dir := write(t, counted(600))
		r := f.submit(dir, "build", "-pool", "traced", "kill.pkr.hcl")
		eventually(t, "script is running", func() bool { return strings.Contains(r.out.String(), "line 3 of the script") })
		_ = r.Process.Kill()
		_ = r.Wait()
		cancel := f.submit(dir, "cancel", submission(t, r))
		if err := cancel.Wait(); err != nil {
			t.Fatalf("%v\n%s", err, cancel.out)
		}
		var sent []span
		eventually(t, "the agent has sent the trace", func() bool {
			sent = ofAgent.of("bakehouse")[before:]
			return len(sent) > 0
		})
		one(t, sent, "BUILD kill")
		one(t, sent, "release")
	})
	t.Run("caller keeps no trace", func(t *testing.T) {
		before := len(ofAgent.of("bakehouse"))
		sendTo(t, ofSubmit)
		sent := len(ofSubmit.of("bakehouse"))
		t.Setenv("TRACEPARENT", "00-"+callersTrace+"-"+callersSpan+"-00")
		r := f.submit(dir, "build", "-pool", "traced", "-id", "unsampled", "traced.pkr.hcl")
		if err := r.Wait(); err != nil {
			t.Fatalf("%v\n%s", err, r.out)
		}
		if n := len(ofSubmit.of("bakehouse")) - sent; n > 0 {
			t.Errorf("submit sent %d spans of a trace that is not sampled", n)
		}
		stop(t, agent) // it ends when it has sent what it wants to
		if n := len(ofAgent.of("bakehouse")) - before; n > 0 {
			t.Errorf("the agent sent %d spans of a trace that is not sampled", n)
		}
	})

	// The agent has sent everything, as it has ended.
	t.Run("calls to AWS", func(t *testing.T) {
		byID := map[string]span{}
		for _, s := range ofAgent.of("bakehouse") {
			byID[s.id] = s
		}
		under := map[string]bool{}
		for _, s := range ofAgent.of("bakehouse-agent") {
			above, ok := byID[s.parent]
			if !ok || above.trace != s.trace {
				t.Errorf("%s is below no step: %+v", s.name, s)
				continue
			}
			if s.begin < above.begin || s.begin > above.end {
				t.Errorf("%s begins outside of %s", s.name, above.name)
			}
			if s.trace == callersTrace {
				under[above.name+": "+s.name] = true
			}
		}
		for _, want := range []string{
			"keypair: EC2.ImportKeyPair", "securitygroup: EC2.CreateSecurityGroup", "launch: EC2.RunInstances", "stop: EC2.StopInstances",
			"capture: EC2.CreateImage", "copy-us-west-2: EC2.CopyImage", "release: EC2.TerminateInstances",
		} {
			if !under[want] {
				t.Errorf("no span %q; there are %v", want, under)
			}
		}
	})
}

// A collector that is away fails no build, and it is said that it is.
func TestCollectorAway(t *testing.T) {
	f := newFarm(t)
	if out, err := exec.Command(bin(t, "submit"), "key", filepath.Join(f.dir, "key")).CombinedOutput(); err != nil {
		t.Fatalf("submit key: %v\n%s", err, out)
	}
	sendTo(t, &collector{Server: &httptest.Server{URL: "http://" + freePort(t)}})
	f.agent("away", "agent")
	dir := write(t, map[string]string{"away.pkr.hcl": source("away", "") + "build {\n  sources = [\"source.amazon-ebs.away\"]\n}\n"})
	r := f.submit(dir, "build", "-pool", "away", "away.pkr.hcl")
	if err := r.Wait(); err != nil {
		t.Errorf("%v\n%s", err, r.out)
	}
	if !strings.Contains(r.out.String(), "The trace was not sent: ") {
		t.Errorf("submit does not say that the trace was not sent:\n%s", r.out)
	}
	f.waitFor("agent", "trace was not sent")
}

// stop tells a process to stop and waits until it has.
func stop(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("%s: %v", filepath.Base(cmd.Path), err)
	}
}
