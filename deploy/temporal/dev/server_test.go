package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.temporal.io/api/enums/v1"
	"go.temporal.io/api/operatorservice/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	sdklog "go.temporal.io/sdk/log"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"
	"golang.org/x/sys/unix"
)

// patience is how long a test waits for what must come; a busy computer is slow.
const patience = 60 * time.Second

// TestMain makes the test binary a server when asked to be one: the tests
// start the same main as users do, and may kill it.
func TestMain(m *testing.M) {
	if os.Getenv("BE_THE_SERVER") == "1" {
		main()
		return
	}
	os.Exit(m.Run())
}

// A process is a server that a test started.
type process struct {
	t       *testing.T
	cmd     *exec.Cmd
	line    string // the one it prints
	address string
	exited  chan struct{}
	stderr  strings.Builder
}

var listening = regexp.MustCompile(`^temporal is listening on (\S+?)(?:, web UI on (http://\S+))?$`)

// launch starts a server and returns when it says that it listens.
func launch(t *testing.T, args ...string) *process {
	t.Helper()
	p := begin(t, args...)
	if m := listening.FindStringSubmatch(p.line); m != nil {
		p.address = m[1]
		return p
	}
	p.wait()
	t.Fatalf("server printed %q and %q", p.line, p.stderr.String())
	return nil
}

func begin(t *testing.T, args ...string) *process {
	t.Helper()
	p := &process{t: t, exited: make(chan struct{})}
	p.cmd = exec.Command(os.Args[0], args...)
	p.cmd.Env = append(os.Environ(), "BE_THE_SERVER=1")
	p.cmd.Stderr = &p.stderr
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	first := make(chan string, 1)
	go func() {
		lines := bufio.NewScanner(out)
		if lines.Scan() {
			first <- lines.Text()
		}
		close(first)
		for lines.Scan() {
		}
		_ = p.cmd.Wait()
		close(p.exited)
	}()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		p.wait()
	})
	select {
	case p.line = <-first:
	case <-time.After(patience):
		t.Fatal("server does not say anything")
	}
	return p
}

func (p *process) wait() {
	p.t.Helper()
	select {
	case <-p.exited:
	case <-time.After(patience):
		p.t.Fatal("server does not end")
	}
}

func (p *process) kill() {
	p.t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGKILL); err != nil {
		p.t.Fatal(err)
	}
	p.wait()
}

type quiet struct{}

func (quiet) Debug(string, ...any) {}
func (quiet) Info(string, ...any)  {}
func (quiet) Warn(string, ...any)  {}
func (quiet) Error(string, ...any) {}

var _ sdklog.Logger = quiet{}

func dial(t *testing.T, address string) client.Client {
	t.Helper()
	c, err := client.Dial(client.Options{HostPort: address, Logger: quiet{}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func work(t *testing.T, c client.Client, queue string, o worker.Options, wf, act any) {
	t.Helper()
	w := worker.New(c, queue, o)
	if wf != nil {
		w.RegisterWorkflowWithOptions(wf, workflow.RegisterOptions{Name: "wf"})
	}
	if act != nil {
		w.RegisterActivityWithOptions(act, activity.RegisterOptions{Name: "act"})
	}
	if err := w.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Stop)
}

func free(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// What was acknowledged survives kill -9: the workflow goes on where it was.
func TestAWorkflowSurvivesTheServer(t *testing.T) {
	state, address := t.TempDir(), free(t)
	p := launch(t, "-state", state, "-listen", address, "-no-ui")
	c := dial(t, address)
	var mu sync.Mutex
	ran := map[string]int{}
	act := func(_ context.Context, step string) error {
		mu.Lock()
		defer mu.Unlock()
		ran[step]++
		return nil
	}
	wf := func(ctx workflow.Context) (string, error) {
		ctx = workflow.WithActivityOptions(ctx, workflow.ActivityOptions{StartToCloseTimeout: time.Minute})
		if err := workflow.ExecuteActivity(ctx, "act", "first").Get(ctx, nil); err != nil {
			return "", err
		}
		workflow.GetSignalChannel(ctx, "go on").Receive(ctx, nil)
		return "done", workflow.ExecuteActivity(ctx, "act", "second").Get(ctx, nil)
	}
	work(t, c, "q", worker.Options{}, wf, act)
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	run, err := c.ExecuteWorkflow(ctx, client.StartWorkflowOptions{
		ID: "survivor", TaskQueue: "q",
		TypedSearchAttributes: temporal.NewSearchAttributes(
			temporal.NewSearchAttributeKeyKeyword("BakehouseTemplate").ValueSet("web")),
	}, "wf")
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, func() error {
		mu.Lock()
		defer mu.Unlock()
		if ran["first"] == 0 {
			return errors.New("the first activity has not run")
		}
		return nil
	})
	// The agent's answer must have been acknowledged, too.
	eventually(t, func() error {
		d, err := c.DescribeWorkflowExecution(ctx, "survivor", "")
		if err == nil && len(d.PendingActivities) > 0 {
			err = errors.New("the activity is pending")
		}
		return err
	})
	p.kill()
	launch(t, "-state", state, "-listen", address, "-no-ui")
	eventually(t, func() error { return c.SignalWorkflow(ctx, "survivor", run.GetRunID(), "go on", nil) })
	var got string
	if err := run.Get(ctx, &got); err != nil || got != "done" {
		t.Fatalf("got %q, %v", got, err)
	}
	mu.Lock()
	defer mu.Unlock()
	if ran["first"] != 1 || ran["second"] != 1 {
		t.Errorf("activities ran: %v", ran)
	}
	eventually(t, func() error {
		list, err := c.ListWorkflow(ctx, &workflowservice.ListWorkflowExecutionsRequest{Query: `BakehouseTemplate = "web"`})
		if err == nil && len(list.Executions) != 1 {
			err = fmt.Errorf("%d workflows found by search attribute", len(list.Executions))
		}
		return err
	})
}

func eventually(t *testing.T, check func() error) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// Retention and search attributes are right for a new database, for one that
// is started again, and for one that somebody set otherwise.
func TestNamespace(t *testing.T) {
	state := t.TempDir()
	check := func(p *process) {
		t.Helper()
		c := dial(t, p.address)
		d, err := c.WorkflowService().DescribeNamespace(t.Context(), &workflowservice.DescribeNamespaceRequest{Namespace: "default"})
		if err != nil {
			t.Fatal(err)
		}
		if got := d.Config.WorkflowExecutionRetentionTtl.AsDuration(); got != 720*time.Hour {
			t.Errorf("retention is %v", got)
		}
		a, err := c.OperatorService().ListSearchAttributes(t.Context(), &operatorservice.ListSearchAttributesRequest{Namespace: "default"})
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{
			"BakehouseTemplate", "BakehousePool", "BakehouseSource", "BakehouseState", "BakehouseSubmission",
		} {
			if a.CustomAttributes[name] != enums.INDEXED_VALUE_TYPE_KEYWORD {
				t.Errorf("search attribute %s has type %v", name, a.CustomAttributes[name])
			}
		}
	}
	p := launch(t, "-state", state, "-listen", "127.0.0.1:0", "-no-ui")
	check(p)
	c := dial(t, p.address)
	update := &workflowservice.UpdateNamespaceRequest{Namespace: "default"}
	d, err := c.WorkflowService().DescribeNamespace(t.Context(), &workflowservice.DescribeNamespaceRequest{Namespace: "default"})
	if err != nil {
		t.Fatal(err)
	}
	update.Config = d.Config
	update.Config.WorkflowExecutionRetentionTtl.Seconds = 24 * 3600
	if _, err := c.WorkflowService().UpdateNamespace(t.Context(), update); err != nil {
		t.Fatal(err)
	}
	if _, err := c.OperatorService().RemoveSearchAttributes(t.Context(), &operatorservice.RemoveSearchAttributesRequest{
		Namespace: "default", SearchAttributes: []string{"BakehousePool"},
	}); err != nil {
		t.Fatal(err)
	}
	p.kill()
	check(launch(t, "-state", state, "-listen", "127.0.0.1:0", "-no-ui"))
}

// A team with a long queue does not hold up another one.
func TestTeamsAreServedInTurn(t *testing.T) {
	p := launch(t, "-state", t.TempDir(), "-listen", "127.0.0.1:0", "-no-ui")
	c := dial(t, p.address)
	wf := func(ctx workflow.Context) error {
		add := func(team string, n int) (out []workflow.Future) {
			for range n {
				ctx := workflow.WithActivityOptions(ctx, workflow.ActivityOptions{
					TaskQueue: "pool", StartToCloseTimeout: time.Minute,
					Priority: temporal.Priority{FairnessKey: team},
				})
				out = append(out, workflow.ExecuteActivity(ctx, "act", team))
			}
			return out
		}
		all := add("A", 40)
		// A must be queued before b comes, or the order shows nothing.
		if err := workflow.Sleep(ctx, 2*time.Second); err != nil {
			return err
		}
		for _, f := range append(all, add("b", 5)...) {
			if err := f.Get(ctx, nil); err != nil {
				return err
			}
		}
		return nil
	}
	work(t, c, "q", worker.Options{}, wf, nil)
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	run, err := c.ExecuteWorkflow(ctx, client.StartWorkflowOptions{ID: "fair", TaskQueue: "q"}, "wf")
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, func() error { // all are waiting
		d, err := c.DescribeWorkflowExecution(ctx, "fair", "")
		if err == nil && len(d.PendingActivities) != 45 {
			err = fmt.Errorf("%d activities wait", len(d.PendingActivities))
		}
		return err
	})
	var mu sync.Mutex
	var order strings.Builder
	act := func(_ context.Context, team string) error {
		mu.Lock()
		defer mu.Unlock()
		order.WriteString(team)
		return nil
	}
	work(t, c, "pool", worker.Options{
		MaxConcurrentActivityExecutionSize: 1, MaxConcurrentActivityTaskPollers: 1, DisableWorkflowWorker: true,
	}, nil, act)
	if err := run.Get(ctx, nil); err != nil {
		t.Fatal(err)
	}
	got := order.String()
	if last := strings.LastIndexByte(got, 'b'); last < 0 || last > 25 {
		t.Errorf("b had to wait for A: %s", got)
	}
}

func TestASecondServerIsRefused(t *testing.T) {
	state := t.TempDir()
	p := launch(t, "-state", state, "-listen", "127.0.0.1:0", "-no-ui")
	refused(t, []string{"-state", state, "-listen", "127.0.0.1:0", "-no-ui"},
		state, "in use by another server", fmt.Sprintf("process %d", p.cmd.Process.Pid))
	// The first is none the worse for it, and a killed one leaves no lock.
	dial(t, p.address)
	p.kill()
	launch(t, "-state", state, "-listen", "127.0.0.1:0", "-no-ui")
}

// refused checks that a server ends with exit status 1 and one line on
// standard error that holds all of want.
func refused(t *testing.T, args []string, want ...string) {
	t.Helper()
	p := begin(t, args...)
	p.wait()
	got := strings.TrimSpace(p.stderr.String())
	if code := p.cmd.ProcessState.ExitCode(); code != 1 || p.line != "" || strings.Contains(got, "\n") {
		t.Errorf("exit %d, printed %q and %q", code, p.line, got)
	}
	for _, w := range want {
		if !strings.Contains(got, w) {
			t.Errorf("%q is not in %q", w, got)
		}
	}
}

func TestWhatCannotWorkIsSaidInOneLine(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	tests := map[string]struct {
		args []string
		want []string
	}{
		"port in use":      {[]string{"-state", dir, "-listen", taken.Addr().String()}, []string{"-listen " + taken.Addr().String(), "address already in use"}},
		"UI port in use":   {[]string{"-state", dir, "-listen", "127.0.0.1:0", "-ui", taken.Addr().String()}, []string{"-ui " + taken.Addr().String(), "address already in use"}},
		"no port":          {[]string{"-state", dir, "-listen", "127.0.0.1"}, []string{"ADDRESS:PORT"}},
		"no address":       {[]string{"-state", dir, "-listen", "farm.invalid:1"}, []string{"not an IP address"}},
		"state is a file":  {[]string{"-state", file, "-listen", "127.0.0.1:0", "-no-ui"}, []string{file, "not a directory"}},
		"state in a file":  {[]string{"-state", file + "/x", "-listen", "127.0.0.1:0", "-no-ui"}, []string{file, "not a directory"}},
		"state with query": {[]string{"-state", dir + "/a?b", "-listen", "127.0.0.1:0", "-no-ui"}, []string{"must not contain"}},
		"log level":        {[]string{"-state", dir, "-listen", "127.0.0.1:0", "-no-ui", "-log-level", "loud"}, []string{"loud"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) { refused(t, tt.args, tt.want...) })
	}
}

func TestStateFoldersThatCannotBeWritten(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("mounting needs root")
	}
	for name, tt := range map[string]struct {
		options string
		flags   uintptr
		want    string
	}{
		"full":      {"size=1m", 0, "the disk is full"},
		"read-only": {"", unix.MS_RDONLY, "read-only file system"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := unix.Mount("tmpfs", dir, "tmpfs", tt.flags, tt.options); err != nil {
				t.Skipf("mount: %v", err)
			}
			t.Cleanup(func() {
				if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
					t.Error(err)
				}
			})
			refused(t, []string{"-state", dir, "-listen", "127.0.0.1:0", "-no-ui"}, dir, tt.want)
		})
	}
}

func TestADatabaseOfAnotherVersionIsRefused(t *testing.T) {
	state := t.TempDir()
	args := []string{"-state", state, "-listen", "127.0.0.1:0", "-no-ui"}
	launch(t, args...).kill()
	note := filepath.Join(state, versionName)
	if err := os.WriteFile(note, []byte("temporal 1.20.0\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	refused(t, args, state, "made by temporal 1.20.0", version)
	if err := os.Remove(note); err != nil {
		t.Fatal(err)
	}
	refused(t, args, state, "unknown version")
	// Killed while it made the database: there is none, only half of one.
	for _, end := range []string{"-wal", "-shm"} {
		if err := os.Remove(filepath.Join(state, databaseName) + end); err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
	}
	if err := os.Rename(filepath.Join(state, databaseName), filepath.Join(state, databaseName+".new")); err != nil {
		t.Fatal(err)
	}
	launch(t, args...)
}

func TestStopping(t *testing.T) {
	p := launch(t, "-state", t.TempDir(), "-listen", "127.0.0.1:0", "-ui", "127.0.0.1:0")
	url := listening.FindStringSubmatch(p.line)[2]
	for _, path := range []string{"/", "/api/v1/namespaces/default"} {
		resp, err := http.Get(url + path)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Errorf("%s: %s", path, resp.Status)
		}
	}
	// A poll that hangs must not hold it up.
	work(t, dial(t, p.address), "q", worker.Options{}, nil, func(context.Context) error { return nil })
	begin := time.Now()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	p.wait()
	took := time.Since(begin)
	t.Logf("stopped in %v", took)
	// Promised are 2 s; a computer that does other things as well gets more.
	if took > 10*time.Second {
		t.Errorf("stopping took %v", took)
	}
	if code := p.cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("exit status %d, %s", code, p.stderr.String())
	}
}
