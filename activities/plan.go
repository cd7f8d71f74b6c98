package activities

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"

	"github.com/bakehouse-farm/bakehouse"
	"github.com/bakehouse-farm/bakehouse/agent/buildlog"
	"github.com/bakehouse-farm/bakehouse/agent/bundle"
	"github.com/bakehouse-farm/bakehouse/agent/secret"
	"github.com/bakehouse-farm/bakehouse/builders"
	"github.com/bakehouse-farm/bakehouse/template"
)

// PlanFailed is the kind of the failure of a template that cannot be
// evaluated. Its message is the rendered diagnostics.
const PlanFailed bakehouse.Kind = "plan-failed"

// loaded is a template on this agent.
type loaded struct {
	template *template.Template
	files    bakehouse.Files
}

// plan is a plan as the steps need it.
type plan struct {
	*template.Plan
	secrets []string
	masker  *secret.Masker
}

// Plan evaluates the template, once for all that follows.
func (a *Activities) Plan(ctx context.Context, in PlanInput) (out Planned, err error) {
	ctx, end, err := a.begin(ctx, in.Step)
	if err != nil {
		return Planned{}, err
	}
	out, err = a.makePlan(ctx, in)
	err = end(err)
	if log, ok := bakehouse.LogOf(ctx).(*buildlog.Step); ok {
		last := log.End()
		out.Log = &last
	}
	return out, err
}

func (a *Activities) makePlan(ctx context.Context, in PlanInput) (Planned, error) {
	l, err := a.load(ctx, in.Step.Plan.Files)
	if err != nil {
		return Planned{}, err
	}
	raw, err := a.Bundles.Get(ctx, bundle.Digest(in.Submission.Values))
	if err != nil {
		return Planned{}, fmt.Errorf("read variables: %w", err)
	}
	var values template.Values
	if err := json.Unmarshal(raw, &values); err != nil {
		return Planned{}, bakehouse.Errorf(bakehouse.Invalid, "read variables: %w", err)
	}
	p, diags := l.template.Plan(ctx, values,
		template.Selection{Only: in.Submission.Only, Except: in.Submission.Except},
		template.Pinned{Time: in.Time, Seed: in.Run, RunUUID: in.RunUUID, Version: template.PackerVersion})
	if diags.HasErrors() {
		return Planned{}, failedPlan(diags, l.template)
	}
	blob, err := json.Marshal(p)
	if err != nil {
		return Planned{}, fmt.Errorf("write plan: %w", err)
	}
	digest, err := a.Bundles.Put(ctx, blob)
	if err != nil {
		return Planned{}, fmt.Errorf("store plan: %w", err)
	}
	out := Planned{Digest: string(digest)}
	for _, b := range p.Builds {
		outline, err := a.outline(b)
		if err != nil {
			return Planned{}, err
		}
		out.Builds = append(out.Builds, outline)
	}
	return out, nil
}

// failedPlan turns diagnostics into a failure, shown as they are. It is final,
// unless it was the world that did not answer a data source.
func failedPlan(diags hcl.Diagnostics, t *template.Template) error {
	if err := template.Failure(diags); !bakehouse.KindOf(err).Final() {
		return err
	}
	var text strings.Builder
	template.WriteDiagnostics(&text, diags, t, false, 100)
	return bakehouse.Errorf(PlanFailed, "%s", strings.TrimRight(text.String(), "\n"))
}

func (a *Activities) outline(b template.PlannedBuild) (PlannedBuild, error) {
	builder, ok := a.Builders[b.Type]
	if !ok {
		return PlannedBuild{}, bakehouse.Errorf(bakehouse.Invalid, "%s: this agent has no builder %q", b.Name, b.Type)
	}
	comm, err := builder.Communicator(b.Settings)
	if err != nil {
		return PlannedBuild{}, fmt.Errorf("%s: %w", b.Name, err)
	}
	_, launches := builder.(builders.Launcher)
	_, captures := builder.(builders.Capturer)
	_, replaces := builder.(builders.Watcher)
	_, checkpoints := builder.(builders.Checkpointer)
	return PlannedBuild{
		Name: b.Name, Type: b.Type, Source: b.Source,
		Launches: launches, Captures: captures, Connects: comm.Communicator != "none",
		Replaces: replaces, Checkpoints: checkpoints,
		PauseBeforeConnecting: time.Duration(comm.PauseBeforeConnecting),
		ClearKeys:             comm.SSHClearAuthorizedKeys,
		Provisioners:          b.Provisioners, ErrorCleanup: b.ErrorCleanup, PostProcessors: b.PostProcessors,
	}, nil
}

// load returns the template of a submission, unpacked and parsed on this agent.
// Its files stay while the step that asks runs (see use); what was removed
// before is unpacked again.
func (a *Activities) load(ctx context.Context, ref FilesRef) (*loaded, error) {
	key := strings.Join([]string{ref.Bundle, ref.Cwd, ref.Home, ref.Template}, "\x00")
	l, err := a.templates.get(key, func() (*loaded, error) {
		root, err := a.Bundles.Unpack(ctx, bundle.Digest(ref.Bundle), a.Cache)
		if err != nil {
			return nil, err
		}
		files := bakehouse.Files{Root: root, Cwd: ref.Cwd, Home: ref.Home}
		t, diags := template.Load(ref.Template, files, a.Template)
		if diags.HasErrors() {
			return nil, failedPlan(diags, t)
		}
		return &loaded{t, files}, nil
	})
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(l.files.Root); errors.Is(err, fs.ErrNotExist) {
		// The same files at the same place: the template is as it was.
		if _, err := a.Bundles.Unpack(ctx, bundle.Digest(ref.Bundle), a.Cache); err != nil {
			return nil, err
		}
	}
	return l, nil
}

// plan returns the plan that a step belongs to.
func (a *Activities) plan(ctx context.Context, digest string) (*plan, error) {
	return a.plans.get(digest, func() (*plan, error) {
		raw, err := a.Bundles.Get(ctx, bundle.Digest(digest))
		if err != nil {
			return nil, fmt.Errorf("read plan: %w", err)
		}
		p := new(template.Plan)
		if err := json.Unmarshal(raw, p); err != nil {
			return nil, bakehouse.Errorf(bakehouse.Invalid, "read plan: %w", err)
		}
		secrets := p.Secrets()
		return &plan{Plan: p, secrets: secrets, masker: secret.NewMasker(secrets)}, nil
	})
}

// veil returns what keeps the secrets of a plan out of the log of a step. While
// the plan is being made there is none: what that says holds no values.
func (a *Activities) veil(ctx context.Context, digest string) (*veil, error) {
	if digest == "" {
		return new(veil), nil
	}
	p, err := a.plan(ctx, digest)
	if err != nil {
		return nil, err
	}
	return &veil{secrets: p.secrets, masker: p.masker}, nil
}

// build returns the build of a step with its settings, and its builder.
func (a *Activities) build(ctx context.Context, s Step) (bakehouse.Build, builders.Builder, error) {
	p, err := a.plan(ctx, s.Plan.Digest)
	if err != nil {
		return bakehouse.Build{}, nil, err
	}
	if s.Plan.Index < 0 || s.Plan.Index >= len(p.Builds) {
		return bakehouse.Build{}, nil, bakehouse.Errorf(bakehouse.Invalid, "plan has no build %d", s.Plan.Index)
	}
	builder, ok := a.Builders[s.Build.Type]
	if !ok {
		return bakehouse.Build{}, nil, bakehouse.Errorf(bakehouse.Invalid, "this agent has no builder %q", s.Build.Type)
	}
	l, err := a.load(ctx, s.Plan.Files)
	if err != nil {
		return bakehouse.Build{}, nil, err
	}
	b := s.Build
	b.Settings, b.Files = p.Builds[s.Plan.Index].Settings, l.files
	return b, builder, nil
}
