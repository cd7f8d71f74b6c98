package farm

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"time"

	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"

	"github.com/bakehouse-farm/bakehouse"
	"github.com/bakehouse-farm/bakehouse/agent/buildlog"
	"github.com/bakehouse-farm/bakehouse/agent/secret"
)

// keptSuffix ends the ID of the workflow that keeps a failed build.
const keptSuffix = ".kept"

// What one can ask of a build (workflows/park.go).
const (
	askStatus  = "status"
	askResolve = "resolve"
	askPause   = "pause"
	askExecute = "execute"
	askAdmit   = "admit"
	askDismiss = "dismiss"
)

// BuildID returns the ID of the build that a workflow is, or keeps.
func BuildID(workflow string) bakehouse.BuildID {
	return bakehouse.BuildID(strings.TrimSuffix(workflow, keptSuffix))
}

// ErrEnded tells that a build can be asked nothing any more.
var ErrEnded = errors.New("build has ended")

// Living returns the ID of the workflow that a build is now: its own, or the
// one that keeps what it had made when it failed. The error is ErrEnded when
// there is neither.
func (f *Farm) Living(ctx context.Context, build string) (string, error) {
	for _, id := range []string{build, build + keptSuffix} {
		d, err := f.client.DescribeWorkflowExecution(ctx, id, "")
		var unknown *serviceerror.NotFound
		if errors.As(err, &unknown) {
			continue
		}
		if err != nil {
			return "", fmt.Errorf("look up %s: %w", id, err)
		}
		if entry(d.GetWorkflowExecutionInfo()).Running() {
			return id, nil
		}
	}
	return "", fmt.Errorf("%w: %s", ErrEnded, build)
}

// Status asks a living workflow how far its build has come. An agent of its
// pool answers.
func (f *Farm) Status(ctx context.Context, id string) (bakehouse.Status, error) {
	var s bakehouse.Status
	v, err := f.client.QueryWorkflow(ctx, id, "", askStatus)
	if err != nil {
		return s, fmt.Errorf("ask %s how it is: %w", id, err)
	}
	return s, v.Get(&s)
}

// Resolve tells a parked build what to do.
func (f *Farm) Resolve(ctx context.Context, id string, d bakehouse.Decision) error {
	return f.update(ctx, id, "", askResolve, nil, d)
}

// Pause asks a build to park before its next step.
func (f *Farm) Pause(ctx context.Context, id string) error {
	return f.update(ctx, id, "", askPause, nil)
}

// Execute runs a command on the machine of a build, and returns its exit
// status when it has ended. name tells the command from others; asking again
// with the same name asks for the same command.
func (f *Farm) Execute(ctx context.Context, id, name, line string) (int, error) {
	var exit int
	err := f.update(ctx, id, "exec-"+name, askExecute, &exit, map[string]string{"line": line, "name": name})
	return exit, err
}

// A Door is what ssh needs to log in to the machine of a build.
type Door struct {
	Host    string `json:"host"`
	Port    int    `json:"port"`
	User    string `json:"user"`
	HostKey string `json:"host_key"`
	// Machine and Region are where the platform knows the machine; they may be
	// empty. Via is how the build itself reaches it: "session-manager", or
	// nothing when it dials Host.
	Machine string `json:"machine"`
	Region  string `json:"region"`
	Via     string `json:"via"`
}

// Admit lets the holder of a key log in to the machine of a build.
func (f *Farm) Admit(ctx context.Context, id, name, public string) (Door, error) {
	var door Door
	err := f.update(ctx, id, "admit-"+name, askAdmit, &door, map[string]string{"name": name, "public": public})
	return door, err
}

// Dismiss takes that key off the machine.
func (f *Farm) Dismiss(ctx context.Context, id, name string) error {
	return f.update(ctx, id, "dismiss-"+name, askDismiss, nil, map[string]string{"name": name})
}

// update asks something of a build and waits for the answer, while the server
// is away, too: asked again under the same ID, it is the same request. What the
// build refuses is returned in its words.
func (f *Farm) update(ctx context.Context, id, updateID, name string, answer any, args ...any) error {
	if updateID == "" {
		updateID = rand.Text()
	}
	begun := time.Now()
	for {
		h, err := f.client.UpdateWorkflow(ctx, client.UpdateWorkflowOptions{
			WorkflowID: id, UpdateID: updateID, UpdateName: name, Args: args, WaitForStage: client.WorkflowUpdateStageCompleted,
		})
		if err == nil {
			err = h.Get(ctx, answer)
		}
		var app *temporal.ApplicationError
		var gone *serviceerror.NotFound
		switch {
		case err == nil:
			return nil
		case errors.As(err, &app):
			return errors.New(app.Message())
		case errors.As(err, &gone):
			return fmt.Errorf("%w: %s", ErrEnded, id)
		case ctx.Err() != nil || !passing(err) || time.Since(begun) > outage:
			return fmt.Errorf("%s %s: %w", name, id, err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
}

// outage is how long one waits for a server that does not answer: longer than
// it takes to be started anew.
const outage = 10 * time.Minute

// FollowBuild shows what a build says, from since on, until it has ended or has
// parked. It returns the result, or the state in which it waits.
func (f *Farm) FollowBuild(ctx context.Context, b bakehouse.Build, id string, since time.Time, v Viewer) (bakehouse.Result, *bakehouse.Parked, error) {
	logs, err := f.Logs(ctx)
	if err != nil {
		return bakehouse.Result{}, nil, err
	}
	t := &tail{build: b, ended: make(chan struct{}), done: make(chan struct{})}
	go func() {
		defer close(t.done)
		t.run(ctx, logs, after{v, since})
	}()
	defer func() {
		t.end(nil)
		<-t.done
	}()
	run := f.client.GetWorkflow(ctx, id, "")
	for {
		wait, cancel := context.WithTimeout(ctx, 2*time.Second)
		res, err := f.ended(wait, run)
		cancel()
		switch {
		case ctx.Err() != nil:
			return bakehouse.Result{}, nil, context.Cause(ctx)
		case err == nil:
			return completed(res, b), nil, nil
		case !errors.Is(err, errNotEnded) && !passing(err):
			return bakehouse.Result{}, nil, err
		}
		if s, err := f.Status(ctx, id); err == nil && s.Parked != nil && s.Parked.Since.After(since) {
			return bakehouse.Result{}, s.Parked, nil
		}
	}
}

// errNotEnded tells that a build goes on.
var errNotEnded = errors.New("build has not ended")

// ended waits for the end of a build, until ctx ends. That the build failed is
// in the result; an error tells of trouble with the farm.
func (f *Farm) ended(ctx context.Context, run client.WorkflowRun) (bakehouse.Result, error) {
	var res bakehouse.Result
	err := run.Get(ctx, &res)
	var ended *temporal.WorkflowExecutionError
	var app *temporal.ApplicationError
	var cancelled *temporal.CanceledError
	switch {
	case err == nil:
		return res, nil
	case ctx.Err() != nil:
		return res, errNotEnded
	case !errors.As(err, &ended):
		return res, err
	case errors.As(err, &app) && app.HasDetails() && app.Details(&res) == nil:
		return res, nil
	case errors.As(err, &cancelled) && cancelled.HasDetails() && cancelled.Details(&res) == nil:
		return res, nil
	}
	res.Error = ended.Error()
	return res, nil
}

// FollowStep hands lines of the steps whose names end in suffix to show, until
// ctx ends; then those that are left.
func (f *Farm) FollowStep(ctx context.Context, b bakehouse.BuildID, suffix string, show func(buildlog.Line)) error {
	logs, err := f.Logs(ctx)
	if err != nil {
		return err
	}
	for line, err := range logs.Follow(ctx, b, 300*time.Millisecond) {
		if err == nil && strings.HasSuffix(line.Step, suffix) {
			show(line)
		}
	}
	return nil
}

// after shows only what was said since a time.
type after struct {
	Viewer
	since time.Time
}

// Line implements Viewer.
func (a after) Line(b bakehouse.Build, l buildlog.Line) {
	if !l.Time.Before(a.since) {
		a.Viewer.Line(b, l)
	}
}

// BuildOf returns the build that a workflow was started with.
func (f *Farm) BuildOf(ctx context.Context, id string) (bakehouse.Build, error) {
	first, err := f.first(ctx, id, "")
	if err != nil {
		return bakehouse.Build{}, err
	}
	var request struct {
		Build bakehouse.Build `json:"build"`
	}
	r := reader{f.data, secret.FailureConverter(f.keys)}
	err = r.payload(first.GetWorkflowExecutionStartedEventAttributes().GetInput(), &request)
	return request.Build, err
}

// Waiting returns the builds that wait for somebody, newest first.
func (f *Farm) Waiting(ctx context.Context, pool string, limit int) ([]Entry, error) {
	query := "WorkflowType = 'Build' AND ExecutionStatus = 'Running' AND BakehouseState = 'parked'"
	if pool != "" {
		query += " AND TaskQueue = " + quote(pool)
	}
	found, err := f.search(ctx, query, limit)
	var invalid *serviceerror.InvalidArgument
	if errors.As(err, &invalid) {
		return nil, nil // no agent has registered the attribute yet: no build has ever parked
	}
	if err != nil {
		return nil, fmt.Errorf("list waiting builds: %w", err)
	}
	return found, nil
}
