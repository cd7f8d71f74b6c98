package template

import (
	"encoding/json"
	"errors"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"
	ctyjson "github.com/zclconf/go-cty/cty/json"

	"github.com/bakehouse-farm/bakehouse"
	"github.com/bakehouse-farm/bakehouse/datasources"
	"github.com/bakehouse-farm/bakehouse/template/interpolate"
	"github.com/bakehouse-farm/bakehouse/template/known"
	"github.com/bakehouse-farm/bakehouse/template/schema"
)

// A graph evaluates locals and data sources, each after what it refers to.
type graph struct {
	*evaluation
	locals map[string]*local
	data   map[string]*component
	// state of a node: absent, then under way, then done.
	state map[string]nodeState
	// sees are the nodes that a node refers to, when it is done.
	sees map[string]map[string]bool
	// way is how the walk has come to where it is.
	way   []string
	diags hcl.Diagnostics
}

type nodeState int

const (
	underWay nodeState = iota + 1
	done
)

// valuate evaluates all locals and data sources into the scope.
func (e *evaluation) valuate() hcl.Diagnostics {
	g := &graph{
		evaluation: e, locals: map[string]*local{}, data: map[string]*component{},
		state: map[string]nodeState{}, sees: map[string]map[string]bool{},
	}
	e.graph, e.mute = g, map[string]*component{}
	for _, l := range e.t.locals {
		g.locals[l.name] = l
	}
	for _, d := range e.t.data {
		g.data[d.ref()] = d
	}
	for _, l := range e.t.locals {
		g.visit("local." + l.name)
	}
	for _, d := range e.t.data {
		g.visit("data." + d.ref())
	}
	return append(e.userDiags, g.diags...)
}

func (g *graph) visit(node string) {
	if g.state[node] == done {
		return
	}
	l := g.locals[strings.TrimPrefix(node, "local.")]
	d := g.data[strings.TrimPrefix(node, "data.")]
	var refs []hcl.Traversal
	var def *definition
	if l != nil && strings.HasPrefix(node, "local.") {
		d = nil
		refs = l.expr.Variables()
	} else if d != nil {
		l = nil
		// A nil of one interface is not a nil of the other.
		var source bakehouse.Component
		if have, ok := g.t.cat.DataSources[d.typ]; ok {
			source = have
		}
		var bad *hcl.Diagnostic
		if def, bad = g.define(known.DataSource, d.typ, d.typeAt, source, names(g.t.cat.DataSources)); bad != nil {
			g.diags = append(g.diags, bad)
		} else if def.schema != nil {
			refs = def.schema.Variables(d.body)
		}
	}
	at := g.where(l, d)
	if g.state[node] == underWay {
		i := 0
		for g.way[i] != node {
			i++
		}
		g.diags = append(g.diags, failureAt(at, "Cycle between locals and data sources",
			"These refer to each other in a circle: %s.", strings.Join(append(g.way[i:len(g.way):len(g.way)], node), " → ")))
		return
	}
	g.state[node] = underWay
	g.way = append(g.way, node)
	sees := map[string]bool{}
	for _, ref := range refs {
		for _, n := range g.nodes(ref) {
			if forAll(ref) && g.state[n] == underWay {
				continue // who asks for all there is gets what there is
			}
			sees[n] = true
			g.visit(n)
		}
	}
	g.way = g.way[:len(g.way)-1]
	g.state[node] = done
	g.sees[node] = sees

	ctx := g.context(sees)
	if l != nil {
		g.scope.locals[l.name] = g.local(l, g.at(ctx, node))
		return
	}
	g.scope.data[d.ref()] = g.read(d, def, ctx)
}

func (g *graph) where(l *local, d *component) hcl.Range {
	if l != nil {
		return l.at
	}
	return d.block
}

// nodes are what a reference needs: one node, or all of a kind, also the one
// that refers to them.
func (g *graph) nodes(ref hcl.Traversal) []string {
	var needed []string
	switch ref.RootName() {
	case "local":
		if name, ok := attrStep(ref, 1); ok {
			if _, exists := g.locals[name]; exists {
				return []string{"local." + name}
			}
			return nil
		}
		for _, l := range g.t.locals {
			needed = append(needed, "local."+l.name)
		}
	case "data":
		typ, typed := attrStep(ref, 1)
		name, named := attrStep(ref, 2)
		for _, d := range g.t.data {
			if (!typed || d.typ == typ) && (!named || d.name == name) {
				needed = append(needed, "data."+d.ref())
			}
		}
	}
	return needed
}

// forAll tells whether a reference is for all of a kind: local, data.TYPE.
func forAll(ref hcl.Traversal) bool {
	if ref.RootName() == "local" {
		_, one := attrStep(ref, 1)
		return !one
	}
	_, one := attrStep(ref, 2)
	return !one
}

// context holds what an expression refers to; making it hold everything each
// time would take quadratic time.
func (g *graph) context(sees map[string]bool) *hcl.EvalContext {
	vars := g.roots()
	locals := map[string]cty.Value{}
	for node := range sees {
		if name, ok := strings.CutPrefix(node, "local."); ok {
			locals[name] = g.scope.locals[name]
			if locals[name] == cty.NilVal { // part of a cycle
				locals[name] = cty.DynamicVal
			}
		}
	}
	vars["local"] = cty.ObjectVal(locals)
	vars["data"] = g.dataObject(func(ref string) bool { return sees["data."+ref] })
	return &hcl.EvalContext{Variables: vars, Functions: g.all}
}

func (g *graph) local(l *local, ctx *hcl.EvalContext) cty.Value {
	v, diags := l.expr.Value(ctx)
	g.diags = append(g.diags, diags...)
	if diags.HasErrors() {
		return cty.DynamicVal
	}
	if err := g.budget.Weigh(v); err != nil {
		g.diags = append(g.diags, failureAt(l.at, "Template goes beyond a limit", "The value of local.%s: %s.", l.name, err))
		return cty.DynamicVal
	}
	if l.sensitive {
		v = v.Mark(sensitive)
	}
	g.notice(v)
	return v
}

// read evaluates a data source, and asks it when this is for real.
func (g *graph) read(d *component, def *definition, ctx *hcl.EvalContext) cty.Value {
	if def == nil {
		return cty.DynamicVal
	}
	site := "data." + d.ref()
	if def.known != nil {
		g.lacks(def, d.typeAt, "")
		g.mute[site] = d
	}
	if def.schema == nil {
		return cty.DynamicVal
	}
	args, diags := def.schema.Decode(g.expand(d.body, ctx), g.reading(ctx, site))
	args.Range = d.block
	diags = def.dated(diags)
	diags = append(diags, args.Render(g.render(site, interpolate.Context{BuildType: d.typ}))...)
	diags = append(diags, args.Missing()...)
	diags = append(diags, g.findings(def, args)...)
	args.Secrets(g.secret)
	g.diags = append(g.diags, diags...)
	if def.known != nil {
		if out := def.known.Outputs(); out != nil {
			return cty.UnknownVal(out.Object())
		}
		return cty.DynamicVal
	}
	source := g.t.cat.DataSources[d.typ]
	typ, marks, err := outputs(source)
	if err != nil {
		g.diags = append(g.diags, failureAt(d.typeAt, "Data source "+d.typ+" is broken", "%s.", err))
		return cty.DynamicVal
	}
	if g.ctx == nil || diags.HasErrors() {
		return cty.UnknownVal(typ)
	}
	settings, unknown, err := args.JSON()
	if err == nil && len(unknown) > 0 {
		err = errors.New("arguments are not known: " + strings.Join(unknown, ", "))
	}
	var answer json.RawMessage
	if err == nil {
		answer, err = source.Read(g.ctx, settings, g.t.files)
	}
	var v cty.Value
	if err == nil {
		v, err = ctyjson.Unmarshal(answer, typ)
	}
	if err != nil {
		d := failureAt(d.block, "Datasource."+d.typ+" failed", "%s", err)
		d.Extra = err
		g.diags = append(g.diags, d)
		return cty.UnknownVal(typ)
	}
	v = v.MarkWithPaths(marks)
	g.notice(v)
	return v
}

func (e *evaluation) secret(s string) {
	if s != "" {
		e.secrets[s] = true
	}
}

// outputs is the type of what a data source answers, and what of it is secret.
func outputs(source datasources.DataSource) (cty.Type, []cty.PathValueMarks, error) {
	s, err := schema.Of(source.Outputs())
	if err != nil {
		return cty.NilType, nil, err
	}
	var marks []cty.PathValueMarks
	for _, f := range s.Fields {
		if f.Secret {
			marks = append(marks, cty.PathValueMarks{Path: cty.GetAttrPath(f.Name), Marks: cty.NewValueMarks(sensitive)})
		}
	}
	return s.Object(), marks, nil
}

// findings lets a component look at its settings, and says where in the template
// its findings are.
func (e *evaluation) findings(c checker, args *schema.Arguments) hcl.Diagnostics {
	settings, unknown, err := args.JSON()
	if err != nil {
		return hcl.Diagnostics{failureAt(args.Range, "Settings cannot be checked", "%s.", err)}
	}
	var diags hcl.Diagnostics
	for _, f := range c.Check(settings, unknown, e.t.files) {
		d := failureAt(args.Where(f.Field), f.Message, "%s", f.Hint)
		if f.Warning || f.NotYet && !e.building {
			d.Severity = hcl.DiagWarning
		}
		diags = append(diags, d)
	}
	return diags
}
