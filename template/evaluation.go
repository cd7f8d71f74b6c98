package template

import (
	"context"
	"errors"
	"maps"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/ext/dynblock"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"

	fn "github.com/bakehouse-farm/bakehouse/template/function"
	"github.com/bakehouse-farm/bakehouse/template/interpolate"
	"github.com/bakehouse-farm/bakehouse/template/known"
	"github.com/bakehouse-farm/bakehouse/template/limit"
	"github.com/bakehouse-farm/bakehouse/template/schema"
)

// An evaluation is a template with values: what its expressions mean.
type evaluation struct {
	t     *Template
	scope Scope
	// ctx is set when data sources are really read and servers are really asked;
	// nil when what they say stays unknown.
	ctx context.Context
	// trouble is the first server that did not answer; nil when all did.
	trouble error
	// secrets are the sensitive strings that have been seen so far.
	secrets map[string]bool
	// budget is what the evaluation may do.
	budget *limit.Budget
	// reads is told the names of local files that functions read; may be nil.
	reads func(name string)

	env   fn.Env
	fixed map[string]cty.Value // made by roots
	base  *hcl.EvalContext     // made by root, when locals and data are evaluated
	all   map[string]function.Function
	// user are the variables of a legacy template, rendered; unknown those of them
	// that depend on what a server will be asked for, guarded those that hold
	// something sensitive.
	user      map[string]string
	unknown   map[string]bool
	guarded   map[string]bool
	userDiags hcl.Diagnostics

	// building tells that what the farm cannot run is an error, not a warning.
	building bool
	// known are the components that are known only, gaps those that are used.
	known map[known.Ref]*definition
	gaps  []*gap
	// mute are the data sources that the farm cannot ask, by their nodes in graph.
	mute  map[string]*component
	graph *graph // made by valuate
}

// evaluation begins one with the values of the variables. A variable whose
// value could not be found out is unknown, so that only its own error is shown.
func (t *Template) evaluation(v Values, pin Pinned) *evaluation {
	vars := make(map[string]cty.Value, len(t.variables))
	for _, decl := range t.variables {
		value, ok := v.vars[decl.name]
		if !ok {
			value = cty.DynamicVal
			if decl.typ != cty.NilType {
				value = cty.UnknownVal(decl.typ)
			}
		}
		vars[decl.name] = value
	}
	if t.legacy { // what nobody has declared may be given all the same
		for name, value := range v.vars {
			vars[name] = value
		}
	}
	return t.resume(Scope{vars: vars, env: v.env, raw: v.raw, pin: pin, locals: map[string]cty.Value{}, data: map[string]cty.Value{}})
}

// resume begins an evaluation with a scope that is complete already.
func (t *Template) resume(s Scope) *evaluation {
	e := &evaluation{t: t, scope: s, secrets: map[string]bool{}, budget: limit.New()}
	for name, v := range s.vars {
		if !s.raw[name] {
			e.notice(v)
		}
	}
	e.env = fn.Env{
		Files: t.files, Base: t.base, Time: s.pin.Time, Seed: s.pin.Seed,
		Reads: func(name string) {
			if e.reads != nil {
				e.reads(name)
			}
		},
		Marked: e.notice,
		Ask:    e.askValue,
		Budget: e.budget,
	}
	e.all = fn.All(e.env)
	// Others may evaluate with the same scope at the same time.
	e.scope.answers = maps.Clone(s.answers)
	if t.legacy {
		e.userDiags = e.renderUser()
	}
	return e
}

// within lets the evaluation ask data sources and servers until ctx ends.
func (e *evaluation) within(ctx context.Context) {
	e.ctx = ctx
	e.budget.Until(ctx)
	if e.t.legacy {
		e.userDiags = e.renderUser()
	}
}

// notice remembers the sensitive strings in v.
func (e *evaluation) notice(v cty.Value) {
	schema.Strings(v, func(s string, marked bool) {
		if marked && s != "" {
			e.secrets[s] = true
		}
	})
}

// roots are the variables that every expression sees besides locals and data.
func (e *evaluation) roots() map[string]cty.Value {
	if e.fixed == nil {
		e.fixed = e.makeRoots()
	}
	return maps.Clone(e.fixed)
}

func (e *evaluation) makeRoots() map[string]cty.Value {
	roots := map[string]cty.Value{
		"var": cty.ObjectVal(e.scope.vars),
		"path": cty.ObjectVal(map[string]cty.Value{
			"cwd":  cty.StringVal(e.t.files.Cwd),
			"root": cty.StringVal(e.t.base),
		}),
		"packer": cty.ObjectVal(map[string]cty.Value{
			"version": cty.StringVal(e.scope.pin.version()),
			// Without HCP Packer there is neither.
			"iterationID":        cty.StringVal(""),
			"versionFingerprint": cty.StringVal(""),
		}),
	}
	limit.Put(roots, e.budget)
	return roots
}

// expand is a body whose dynamic blocks are blocks.
func (e *evaluation) expand(body hcl.Body, ctx *hcl.EvalContext) hcl.Body {
	return dynblock.Expand(body, ctx, dynblock.OptCheckForEach(e.budget.Expand))
}

// root is the context of everything that may see all locals and data.
func (e *evaluation) root() *hcl.EvalContext {
	if e.base == nil {
		vars := e.roots()
		vars["local"] = cty.ObjectVal(e.scope.locals)
		vars["data"] = e.dataObject(func(string) bool { return true })
		e.base = &hcl.EvalContext{Variables: vars, Functions: e.all}
	}
	return e.base
}

// dataObject is the data sources that want names, as expressions see them.
func (e *evaluation) dataObject(want func(ref string) bool) cty.Value {
	types := map[string]map[string]cty.Value{}
	for _, d := range e.t.data {
		v, ok := e.scope.data[d.ref()]
		if !ok || !want(d.ref()) {
			continue
		}
		if types[d.typ] == nil {
			types[d.typ] = map[string]cty.Value{}
		}
		types[d.typ][d.name] = v
	}
	obj := map[string]cty.Value{}
	for typ, names := range types {
		obj[typ] = cty.ObjectVal(names)
	}
	return cty.ObjectVal(obj)
}

// at is ctx for the expression at a site: random values differ between sites.
func (e *evaluation) at(ctx *hcl.EvalContext, site string) *hcl.EvalContext {
	child := ctx.NewChild()
	child.Functions = e.env.Random(site)
	return child
}

// reading reads a component's block whose expressions see ctx.
func (e *evaluation) reading(ctx *hcl.EvalContext, site string) schema.Reading {
	return schema.Reading{
		Context: func(arg string) *hcl.EvalContext { return e.at(ctx, site+"."+arg) },
		Weak:    e.t.legacy,
	}
}

// render returns what renders the {{ }} in the strings of a block.
func (e *evaluation) render(site string, c interpolate.Context) func(arg, s string, late bool) (string, error) {
	c.Time = e.scope.pin.Time
	c.Version = e.scope.pin.version()
	c.Dir = e.t.files.Cwd
	c.User, c.Unknown, c.Lenient = e.user, e.unknown, true
	if e.t.legacy {
		c.TemplateDir = e.t.files.Abs(e.t.base)
	}
	c.Spend = e.budget.Spend
	var secret bool   // something sensitive was used
	var hide []string // what it was
	c.Used = func(name string) {
		if e.guarded[name] {
			secret, hide = true, append(hide, e.user[name])
		}
	}
	return func(arg, s string, late bool) (string, error) {
		secret, hide = false, nil
		if late {
			if err := c.Check(s); err != nil {
				return "", err
			}
			s, err := e.insertUser(s, c.Used)
			if secret {
				e.secret(s)
			}
			return s, err
		}
		c.Seed = e.scope.pin.Seed + "\x00{{}}" + site + "." + arg
		s, err := interpolate.Render(s, c)
		if errors.Is(err, interpolate.ErrUnknown) {
			return "", schema.ErrUnknown
		}
		if err != nil {
			return "", fn.Discreet(err, hide)
		}
		if secret {
			e.secret(s)
		}
		return s, nil
	}
}
