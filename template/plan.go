package template

import (
	"context"
	"encoding/json"
	"sort"
	"strings"

	"github.com/hashicorp/hcl/v2"

	"github.com/bakehouse-farm/bakehouse"
)

// Plan evaluates everything for real: data sources are read, functions ask their
// servers, and locals and sources are evaluated once. What it returns is frozen:
// the same plan is carried out however often the build is interrupted. Made
// again from the same values and the same Pinned, and with the same answers of
// the data sources and servers, it is the same plan.
//
// Failure tells from the diagnostics whether another try could succeed.
func (t *Template) Plan(ctx context.Context, v Values, sel Selection, pin Pinned) (*Plan, hcl.Diagnostics) {
	if pin.Time.IsZero() || pin.Seed == "" {
		return nil, hcl.Diagnostics{failure("Plan is not pinned", "A plan needs a time and a seed.")}
	}
	e := t.evaluation(v, pin)
	e.within(ctx)
	e.building = true
	diags := e.valuate()
	if diags.HasErrors() { // what depends on it would only repeat it
		return nil, e.polish(diags)
	}
	outlines, more := e.outlines()
	diags = append(diags, more...)
	list, except, more := e.choose(outlines, sel)
	diags = append(diags, more...)
	if len(list) == 0 && !diags.HasErrors() {
		diags = append(diags, t.nothing())
	}
	plan := &Plan{}
	for _, c := range list {
		b, more := e.planBuild(c, except)
		diags = append(diags, more...)
		plan.Builds = append(plan.Builds, b)
	}
	diags = append(diags, e.reportGaps()...)
	e.forget()
	plan.Scope = e.scope
	if !diags.HasErrors() {
		diags = append(diags, e.interrupted()...)
	}
	if diags = e.polish(diags); diags.HasErrors() {
		return nil, diags
	}
	for s := range e.secrets {
		plan.Hidden = append(plan.Hidden, s)
	}
	sort.Strings(plan.Hidden)
	return plan, diags
}

func (e *evaluation) planBuild(c chosen, except *matcher) (PlannedBuild, hcl.Diagnostics) {
	b := PlannedBuild{
		Name: c.name, Type: c.use.source.typ, Source: c.use.source.name,
		Block: c.outline.index, Use: c.use.index,
	}
	args, diags := e.sourceArguments(c)
	if args != nil && !diags.HasErrors() && !e.lacking(c.name) {
		settings, more := settled(args)
		diags = append(diags, more...)
		b.Settings = settings
	}
	key := c.use.key(e.t.legacy)
	b.Provisioners = c.provisioners(e.t.legacy)
	if p := c.outline.cleanup; p != nil && p.appliesTo(key) {
		planned := p.provisioner()
		b.ErrorCleanup = &planned
	}
	for _, chain := range c.outline.chains {
		var planned []PlannedPostProcessor
		for _, p := range sequence(chain, key, except) {
			planned = append(planned, PlannedPostProcessor{Index: p.index, Type: p.typ, Name: p.name, KeepInputArtifact: p.keep})
		}
		if planned != nil {
			b.PostProcessors = append(b.PostProcessors, planned)
		}
	}
	// What is wrong with a provisioner shall be known before a machine is started
	// for it; and what it makes of secrets is secret from now on.
	for _, p := range e.parts(c, except) {
		_, more := e.partArguments(p, c, nil)
		diags = append(diags, more...)
	}
	return b, diags
}

func (p *part) provisioner() PlannedProvisioner {
	return PlannedProvisioner{
		Index: p.index[0], Type: p.typ, Name: p.name,
		PauseBefore: p.pauseBefore, Timeout: p.timeout,
		MaxRetries: p.maxRetries, ContinueOnError: p.continueOnError,
	}
}

// Provisioner evaluates one provisioner block when it runs: again from the
// files, with the frozen scope and what is known of the machine by now. Members
// of build that every builder has and that are not given are empty, but for
// name, which is the source's, and PackerRunUUID, which is the pinned one. A
// function that asks a server gets the answer that the plan got; see Asking. It
// may be called by several goroutines at once.
func (t *Template) Provisioner(s Scope, b PlannedBuild, p PlannedProvisioner, build map[string]string) (json.RawMessage, hcl.Diagnostics) {
	return t.late(s, b, build, func(o *outline) *part {
		if p.Index == -1 {
			return o.cleanup
		}
		if p.Index >= 0 && p.Index < len(o.provisioners) {
			return o.provisioners[p.Index]
		}
		return nil
	}, p.Type)
}

// PostProcessor evaluates one post-processor block when it runs, as Provisioner
// does a provisioner.
func (t *Template) PostProcessor(s Scope, b PlannedBuild, p PlannedPostProcessor, build map[string]string) (json.RawMessage, hcl.Diagnostics) {
	return t.late(s, b, build, func(o *outline) *part {
		if i, j := p.Index[0], p.Index[1]; i >= 0 && i < len(o.chains) && j >= 0 && j < len(o.chains[i]) {
			return o.chains[i][j]
		}
		return nil
	}, p.Type)
}

// Asking returns t for evaluating blocks within ctx. A function that asks a
// server, and whose arguments are not known before the block runs, then asks
// it; without Asking its value stays unknown, which is an error. Every sensitive
// string that Provisioner and PostProcessor come across they tell hide before
// they return; it may be nil.
func (t *Template) Asking(ctx context.Context, hide func(secret string)) *Template {
	asking := *t
	asking.ctx, asking.hide = ctx, hide
	return &asking
}

func (t *Template) late(s Scope, b PlannedBuild, build map[string]string, find func(*outline) *part, typ string) (json.RawMessage, hcl.Diagnostics) {
	e := t.resume(s)
	if t.ctx != nil {
		e.within(t.ctx)
	}
	if t.hide != nil {
		defer func() {
			for s := range e.secrets {
				t.hide(s)
			}
		}()
	}
	changed := hcl.Diagnostics{failure("The template has changed",
		"Build %s was planned from another version of the template: %s is not where it was.", b.Name, typ)}
	outlines, diags := e.outlines()
	if diags.HasErrors() {
		return nil, e.polish(diags)
	}
	if b.Block >= len(outlines) || b.Use >= len(outlines[b.Block].uses) {
		return nil, changed
	}
	o := outlines[b.Block]
	p := find(o)
	if p == nil || p.typ != typ {
		return nil, changed
	}
	u := o.uses[b.Use]
	args, diags := e.partArguments(p, chosen{o, u, o.shown(u, t.legacy)}, orEmpty(build))
	if diags.HasErrors() {
		return nil, e.polish(diags)
	}
	settings, more := settled(args)
	if !more.HasErrors() {
		more = append(more, e.interrupted()...)
	}
	return settings, e.polish(append(diags, more...))
}

// Failure is the error that diagnostics amount to; nil when they hold no error.
// It is of kind Trouble when all that failed is a data source or a function that
// asks a server, in a way that another try could mend, and otherwise of the kind
// that is final.
func Failure(diags hcl.Diagnostics) error {
	if !diags.HasErrors() {
		return nil
	}
	kind := bakehouse.Trouble
	var first *hcl.Diagnostic
	for _, d := range diags {
		if d.Severity != hcl.DiagError {
			continue
		}
		cause := causeOf(d)
		if cause == nil {
			return bakehouse.Errorf(bakehouse.Invalid, "%w", d)
		}
		if first == nil {
			first = d
		}
		if k := bakehouse.KindOf(cause); k.Final() {
			kind = k
		}
	}
	return &bakehouse.Error{Kind: kind, Err: &reported{first, causeOf(first)}}
}

// reported is a cause in the words of its diagnostic, from which secrets have been
// taken; the cause itself may repeat what it was asked for.
type reported struct {
	diagnostic *hcl.Diagnostic
	cause      error
}

func (r *reported) Error() string {
	return r.diagnostic.Summary + ": " + strings.TrimSuffix(r.diagnostic.Detail, ".")
}

func (r *reported) Unwrap() error { return r.cause }
