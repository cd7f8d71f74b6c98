package activities

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"go.temporal.io/sdk/activity"

	"github.com/bakehouse-farm/bakehouse"
	"github.com/bakehouse-farm/bakehouse/builders"
	"github.com/bakehouse-farm/bakehouse/communicator"
	"github.com/bakehouse-farm/bakehouse/postprocessors"
	"github.com/bakehouse-farm/bakehouse/provisioners"
	"github.com/bakehouse-farm/bakehouse/template"
	"github.com/bakehouse-farm/bakehouse/timeline"
)

// Say puts lines into the log of a step.
func (a *Activities) Say(ctx context.Context, s Step, lines []string) error {
	ctx, end, err := a.begin(ctx, s)
	if err != nil {
		return err
	}
	for _, line := range lines {
		bakehouse.LogOf(ctx).Say(line)
	}
	return end(nil)
}

// Provisioning asks for one try of one provisioner.
type Provisioning struct {
	Step        Step                        `json:"of"`
	Resolved    builders.Resolved           `json:"resolved"`
	Login       Login                       `json:"login"`
	Provisioner template.PlannedProvisioner `json:"provisioner"`
}

// Provision runs one provisioner, or follows it where it is.
func (a *Activities) Provision(ctx context.Context, p Provisioning) ([]bakehouse.Output, error) {
	scheduled := activity.GetInfo(ctx).ScheduledTime
	ctx, end, err := a.begin(ctx, p.Step)
	if err != nil {
		return nil, err
	}
	var out []bakehouse.Output
	err = a.guard(ctx, p.Step, p.Login.Machine, func(ctx context.Context) error {
		out, err = a.provision(ctx, p, scheduled)
		return err
	})
	return out, end(err)
}

func (a *Activities) provision(ctx context.Context, p Provisioning, scheduled time.Time) ([]bakehouse.Output, error) {
	b, _, err := a.build(ctx, p.Step)
	if err != nil {
		return nil, err
	}
	provisioner, ok := a.Provisioners[p.Provisioner.Type]
	if !ok {
		return nil, bakehouse.Errorf(bakehouse.Invalid, "this agent has no provisioner %q", p.Provisioner.Type)
	}
	l, err := a.load(ctx, p.Step.Plan.Files)
	if err != nil {
		return nil, err
	}
	plan, err := a.plan(ctx, p.Step.Plan.Digest)
	if err != nil {
		return nil, err
	}
	machine, target, err := a.dial(ctx, p.Step, p.Login)
	if err != nil {
		return nil, err
	}
	defer machine.Close()
	var secrets []string
	settings, diags := l.template.Asking(ctx, func(s string) { secrets = append(secrets, s) }).
		Provisioner(plan.Scope, plan.Builds[p.Step.Plan.Index], p.Provisioner, facts(b, p.Resolved, p.Login, target))
	hide(ctx, secrets)
	if diags.HasErrors() {
		return nil, failedPlan(diags, l.template)
	}
	output, ok := bakehouse.LogOf(ctx).(provisioners.Output)
	if !ok {
		return nil, errors.New("log of the step keeps no output")
	}
	ctx, cancel := limit(ctx, time.Duration(p.Provisioner.Timeout), scheduled)
	defer cancel()
	var outputs []bakehouse.Output
	err = provisioner.Provision(ctx, provisioners.Work{
		Build: b, ID: p.Step.Key, Settings: settings, Files: l.files,
		Machine: machine, User: target.Settings.SSHUsername,
		Env:    environment(b, p.Step),
		Output: output,
		Download: func(ctx context.Context, path string, fetch func(string) error) error {
			got, err := a.download(ctx, path, fetch)
			outputs = append(outputs, got...)
			return err
		},
	})
	if errors.Is(context.Cause(ctx), errTimeout) {
		return nil, bakehouse.Errorf(bakehouse.Timeout, "provisioner did not end within %s", time.Duration(p.Provisioner.Timeout))
	}
	return outputs, err
}

// errTimeout stops what runs on the machine, as a cancellation does.
var errTimeout = fmt.Errorf("time limit of the provisioner has passed: %w", bakehouse.ErrStop)

// limit ends ctx when the provisioner's own time-out, counted from when the
// step was first asked for, has passed.
func limit(ctx context.Context, timeout time.Duration, since time.Time) (context.Context, context.CancelFunc) {
	if timeout == 0 {
		return context.WithCancel(ctx)
	}
	return context.WithDeadlineCause(ctx, since.Add(timeout), errTimeout)
}

// environment is what every command of the build gets.
func environment(b bakehouse.Build, s Step) map[string]string {
	return map[string]string{
		"TRACEPARENT":         timeline.TraceContext(s.Plan.Trace.Run, s.Plan.Trace.Parent, b.ID, s.Key),
		"PACKER_BUILD_NAME":   b.Source,
		"PACKER_BUILDER_TYPE": b.Type,
	}
}

// sshPort is the port of a target's SSH server.
func sshPort(t communicator.Target) int { return cmp.Or(t.Settings.SSHPort, 22) }

// facts are the members of build.* once there is a machine (packer.md §2.7).
func facts(b bakehouse.Build, r builders.Resolved, l Login, t communicator.Target) map[string]string {
	typ := t.Settings.Communicator
	if typ == "" {
		typ = "ssh"
	}
	out := map[string]string{
		"name": b.Source, "ID": l.Machine.ID, "Host": t.Host, "Port": strconv.Itoa(sshPort(t)),
		"User": t.Settings.SSHUsername, "Password": t.Settings.SSHPassword, "ConnType": typ,
		"PackerRunUUID": b.RunUUID, "PackerHTTPIP": "", "PackerHTTPPort": "", "PackerHTTPAddr": "",
		"SSHPublicKey": l.Key.Public, "SSHPrivateKey": l.Key.Private,
		"WinRMPassword": t.Settings.WinRMPassword,
	}
	for k, v := range r.Generated {
		out[k] = v
	}
	return out
}

// download keeps what a provisioner fetched until submit puts it at path.
func (a *Activities) download(ctx context.Context, path string, fetch func(string) error) ([]bakehouse.Output, error) {
	dir, err := os.MkdirTemp(a.Cache, "download-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	local := filepath.Join(dir, "file")
	if err := fetch(local); err != nil {
		return nil, err
	}
	var outputs []bakehouse.Output
	err = filepath.WalkDir(local, func(name string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		digest, err := a.Bundles.Put(ctx, data)
		if err != nil {
			return err
		}
		outputs = append(outputs, bakehouse.Output{
			Path: path + strings.TrimPrefix(name, local), Kind: "file", Blob: string(digest),
		})
		return nil
	})
	return outputs, err
}

// PostProcessing asks for one post-processor.
type PostProcessing struct {
	Step          Step                          `json:"of"`
	Resolved      builders.Resolved             `json:"resolved"`
	Login         Login                         `json:"login"`
	PostProcessor template.PlannedPostProcessor `json:"post_processor"`
	Artifact      bakehouse.Artifact            `json:"artifact"`
	Time          int64                         `json:"time"` // Unix seconds
}

// PostProcess runs one post-processor.
func (a *Activities) PostProcess(ctx context.Context, p PostProcessing) (postprocessors.Result, error) {
	ctx, end, err := a.begin(ctx, p.Step)
	if err != nil {
		return postprocessors.Result{}, err
	}
	out, err := a.postProcess(ctx, p)
	return out, end(err)
}

func (a *Activities) postProcess(ctx context.Context, p PostProcessing) (out postprocessors.Result, err error) {
	b, _, err := a.build(ctx, p.Step)
	if err != nil {
		return out, err
	}
	process, ok := a.PostProcessors[p.PostProcessor.Type]
	if !ok {
		return out, bakehouse.Errorf(bakehouse.Invalid, "this agent has no post-processor %q", p.PostProcessor.Type)
	}
	l, err := a.load(ctx, p.Step.Plan.Files)
	if err != nil {
		return out, err
	}
	line := fmt.Sprintf("Running post-processor: %s (type %s)", p.PostProcessor.Name, p.PostProcessor.Type)
	if l.template.Legacy() {
		line = "Running post-processor: " + cmp.Or(p.PostProcessor.Name, p.PostProcessor.Type)
	}
	bakehouse.LogOf(ctx).Say(line)
	plan, err := a.plan(ctx, p.Step.Plan.Digest)
	if err != nil {
		return out, err
	}
	target, err := a.target(ctx, p.Step, p.Login)
	if err != nil {
		return out, err
	}
	var secrets []string
	settings, diags := l.template.Asking(ctx, func(s string) { secrets = append(secrets, s) }).
		PostProcessor(plan.Scope, plan.Builds[p.Step.Plan.Index], p.PostProcessor, facts(b, p.Resolved, p.Login, target))
	hide(ctx, secrets)
	if diags.HasErrors() {
		return out, failedPlan(diags, l.template)
	}
	return process.Process(ctx, postprocessors.Work{
		Build: b, Settings: json.RawMessage(settings), Files: l.files, Artifact: p.Artifact, Time: p.Time,
	})
}
