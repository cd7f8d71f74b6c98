package template

import (
	"encoding/json"
	"fmt"
	"slices"
	"sort"
	"strings"

	"github.com/hashicorp/hcl/v2"

	"github.com/bakehouse-farm/bakehouse"
	"github.com/bakehouse-farm/bakehouse/template/known"
	"github.com/bakehouse-farm/bakehouse/template/schema"
)

// A definition is what the type of a component stands for: something that this
// farm runs, or something that is merely known, so that it can be checked.
type definition struct {
	// schema is nil when the arguments are not known.
	schema *schema.Schema
	checker
	// known is nil when the farm runs it.
	known *known.Component
}

// A checker looks at settings; see bakehouse.Component.
type checker interface {
	Check(settings json.RawMessage, unknown []string, files bakehouse.Files) []bakehouse.Finding
}

// A gap is a component that this farm cannot run.
type gap struct {
	kind known.Kind
	typ  string
	asOf string
	// at is where it is first used.
	at hcl.Range
	// builds are those that need it, in order.
	builds []string
}

// define returns what the type of a component stands for. farm is what the farm
// has of that type. A type that nobody knows is an error.
func (e *evaluation) define(kind known.Kind, typ string, at hcl.Range, farm bakehouse.Component, have []string) (*definition, *hcl.Diagnostic) {
	if farm != nil {
		s, err := e.t.schemaOf(farm)
		if err != nil {
			return nil, failureAt(at, string(kind)+" "+typ+" is broken", "%s.", err)
		}
		return &definition{schema: s, checker: farm}, nil
	}
	ref := known.Ref{Kind: kind, Type: typ}
	if d, ok := e.known[ref]; ok {
		return d, nil
	}
	c, ok := known.Lookup(kind, typ)
	if !ok {
		return nil, unknownType(kind, typ, at, have)
	}
	d := &definition{schema: c.Schema(), checker: c, known: c}
	if e.known == nil {
		e.known = map[known.Ref]*definition{}
	}
	e.known[ref] = d
	return d, nil
}

// unknownType says that a component does not exist anywhere.
func unknownType(kind known.Kind, typ string, at hcl.Range, have []string) *hcl.Diagnostic {
	what := string(kind)
	if kind == known.Builder {
		what = "source"
	}
	d := failureAt(at, "Unknown "+what+" type \""+typ+"\"", "There is no %s of that type.", what)
	if near := schema.Nearest(typ, append(have, known.Types(kind)...)); near != "" {
		d.Detail += " Did you mean \"" + near + "\"?"
	}
	return d
}

// lacks remembers that a build needs what the farm cannot run. build is empty
// when none does.
func (e *evaluation) lacks(d *definition, at hcl.Range, build string) {
	if d.known == nil {
		return
	}
	var g *gap
	for _, one := range e.gaps {
		if one.kind == d.known.Kind && one.typ == d.known.Type {
			g = one
		}
	}
	if g == nil {
		g = &gap{kind: d.known.Kind, typ: d.known.Type, asOf: d.known.AsOf, at: at}
		e.gaps = append(e.gaps, g)
	}
	if n := len(g.builds); build != "" && (n == 0 || g.builds[n-1] != build) {
		g.builds = append(g.builds, build)
	}
}

// lacking tells whether a build needs what the farm cannot run.
func (e *evaluation) lacking(build string) bool {
	return slices.ContainsFunc(e.gaps, func(g *gap) bool { return slices.Contains(g.builds, build) })
}

// reportGaps says once for each type that the farm cannot run it. That is an
// error when the template is to be built, and a warning when it is checked.
func (e *evaluation) reportGaps() hcl.Diagnostics {
	var diags hcl.Diagnostics
	for _, g := range e.gaps {
		what := string(g.kind)
		if g.kind == known.Builder {
			what = "source"
		}
		d := failureAt(g.at, "This farm cannot run "+what+" type \""+g.typ+"\" yet", "")
		checked := "Its arguments were checked."
		switch {
		case g.asOf == "":
			checked = "Its arguments were not checked: Bakehouse knows that it exists, and no more."
		case strings.HasSuffix(g.asOf, " 1.6.6"):
			checked = "Its arguments were checked as of " + g.asOf + "."
		}
		switch {
		case len(g.builds) == 0: // a data source that no selected build asks
			d.Severity = hcl.DiagWarning
			d.Detail = checked + " No selected build needs it."
		case e.building:
			d.Detail = "It is needed by " + enumerate(g.builds) + ". Leave out what needs it with -only or -except."
		default:
			d.Severity = hcl.DiagWarning
			d.Detail = checked + " A farm refuses builds that need it: " + enumerate(g.builds) + "."
		}
		diags = append(diags, d)
	}
	return diags
}

// enumerate lists the first few names.
func enumerate(names []string) string {
	const most = 5
	if n := len(names); n > most {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), n-most)
	}
	return strings.Join(names, ", ")
}

// dated says as of when the arguments of a component are known, where one was
// found that it does not have: a newer plugin may have it.
func (d *definition) dated(diags hcl.Diagnostics) hcl.Diagnostics {
	if d.known == nil || d.known.Plugin == "" {
		return diags
	}
	for _, one := range diags {
		switch one.Summary {
		case "Unsupported argument", "Unsupported block type", "Extraneous JSON object property":
			one.Detail += fmt.Sprintf(" Bakehouse knows %s's arguments as of %s; newer ones are not known here.", d.known.Type, d.known.AsOf)
		}
	}
	return diags
}

// needs finds the data sources that this farm cannot ask and that references
// lead to, and remembers that the build needs them.
func (e *evaluation) needs(refs []hcl.Traversal, build string) {
	if len(e.mute) == 0 || e.graph == nil {
		return
	}
	seen := map[string]bool{}
	var visit func(node string)
	visit = func(node string) {
		if seen[node] {
			return
		}
		seen[node] = true
		if c, ok := e.mute[node]; ok {
			if d, _ := e.define(known.DataSource, c.typ, c.typeAt, nil, nil); d != nil {
				e.lacks(d, c.typeAt, build)
			}
		}
		for next := range e.graph.sees[node] {
			visit(next)
		}
	}
	for _, ref := range refs {
		for _, node := range e.graph.nodes(ref) {
			visit(node)
		}
	}
}

// forget takes out of the scope what depends on data sources that were not
// asked: no selected build needs it, and what is not known cannot be frozen.
func (e *evaluation) forget() {
	if len(e.mute) == 0 {
		return
	}
	reaches := map[string]bool{}
	var visit func(node string) bool
	visit = func(node string) bool {
		if r, ok := reaches[node]; ok {
			return r
		}
		_, reaches[node] = e.mute[node]
		for next := range e.graph.sees[node] {
			if visit(next) {
				reaches[node] = true
			}
		}
		return reaches[node]
	}
	for name := range e.scope.locals {
		if visit("local." + name) {
			delete(e.scope.locals, name)
		}
	}
	for ref := range e.scope.data {
		if visit("data." + ref) {
			delete(e.scope.data, ref)
		}
	}
}

func names[V any](m map[string]V) []string {
	list := make([]string, 0, len(m))
	for name := range m {
		list = append(list, name)
	}
	sort.Strings(list)
	return list
}
