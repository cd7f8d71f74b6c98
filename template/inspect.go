package template

import (
	"cmp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/zclconf/go-cty/cty"
)

// A Named is something with a name and a value, as Show shows it.
type Named struct{ Name, Value string }

// An Inspection is what an HCL template holds, as far as that can be told
// without the network. Nothing in it has been checked.
type Inspection struct {
	// Variables and Locals are sorted by name. What is sensitive in them is Hidden.
	Variables, Locals []Named
	// Builds are the build blocks, in the order of the template.
	Builds []InspectedBuild
}

// An InspectedBuild is one build block.
type InspectedBuild struct {
	// Name and Description may be empty.
	Name, Description string
	// Sources are those that the block names, "amazon-ebs.web", whether or not
	// they are there.
	Sources []string
	// Provisioners are their types, each followed by a dot and its name if it has one.
	Provisioners []string
	// PostProcessors are the sequences, written as Provisioners are.
	PostProcessors [][]string
}

// Legacy tells whether this is a JSON template of the older kind.
func (t *Template) Legacy() bool { return t.legacy }

// Inspect tells what is in an HCL template. Variables without a value, and what
// depends on data sources, are Unknown, and so are locals that are wrong: Check
// tells why.
func (t *Template) Inspect(v Values, pin Pinned) Inspection {
	e := t.evaluation(v, pin)
	_ = e.valuate()
	var in Inspection
	in.Variables, in.Locals = e.named()
	outlines, _ := e.outlines()
	for _, o := range outlines {
		b := InspectedBuild{Name: e.conceal(o.name), Description: e.conceal(o.description), Sources: o.mentions}
		for _, p := range o.provisioners {
			b.Provisioners = append(b.Provisioners, e.title(p))
		}
		for _, chain := range o.chains {
			var titles []string
			for _, p := range chain {
				titles = append(titles, e.title(p))
			}
			b.PostProcessors = append(b.PostProcessors, titles)
		}
		in.Builds = append(in.Builds, b)
	}
	return in
}

func (e *evaluation) title(p *part) string {
	if p.name == "" {
		return p.typ
	}
	return p.typ + "." + e.conceal(p.name)
}

// conceal takes secrets out of a text, as scrub does.
func (e *evaluation) conceal(s string) string {
	for secret := range e.secrets {
		if utf8.RuneCountInString(secret) >= 4 {
			s = strings.ReplaceAll(s, secret, Hidden)
		}
	}
	return s
}

// named are the variables and the locals.
func (e *evaluation) named() (variables, locals []Named) {
	for name, v := range e.scope.vars {
		variables = append(variables, Named{name, Show(v)})
	}
	for name, v := range e.scope.locals {
		locals = append(locals, Named{name, Show(v)})
	}
	byName := func(a, b Named) int { return cmp.Compare(a.Name, b.Name) }
	slices.SortFunc(variables, byName)
	slices.SortFunc(locals, byName)
	return variables, locals
}

// A LegacyInspection is what a JSON template of the older kind holds, as it is
// written there: no {{ }} is rendered.
type LegacyInspection struct {
	// Description may be empty.
	Description string
	// Required are the names of the variables that have no default, and Optional
	// the other variables with theirs. Both are sorted; what is sensitive is
	// Hidden.
	Required []string
	Optional []Named
	// Builders are the names of the builders, each with its type; sorted.
	Builders []Named
	// Provisioners are their types, in the order of the template.
	Provisioners []string
}

// InspectLegacy tells what is in a JSON template of the older kind.
func (t *Template) InspectLegacy() LegacyInspection {
	in := LegacyInspection{Description: t.description}
	for _, v := range t.variables {
		if v.def == nil {
			in.Required = append(in.Required, v.name)
			continue
		}
		value, _ := text(v.def)
		if v.sensitive {
			value = Hidden
		}
		in.Optional = append(in.Optional, Named{v.name, value})
	}
	for _, c := range t.sources {
		in.Builders = append(in.Builders, Named{c.name, c.typ})
	}
	for _, b := range t.builds {
		for _, p := range b.legacy.provisioners {
			in.Provisioners = append(in.Provisioners, p.typ)
		}
	}
	byName := func(a, b Named) int { return cmp.Compare(a.Name, b.Name) }
	slices.Sort(in.Required)
	slices.SortFunc(in.Optional, byName)
	slices.SortFunc(in.Builders, byName)
	return in
}

// user are the variables of a legacy template as {{user}} gives them, sorted.
func (e *evaluation) userValues() []Named {
	var list []Named
	for name, value := range e.user {
		if e.unknown[name] {
			value = Unknown
		}
		list = append(list, Named{name, value})
	}
	slices.SortFunc(list, func(a, b Named) int { return cmp.Compare(a.Name, b.Name) })
	return list
}

// masked is a scope in which Hidden stands for each sensitive variable of a
// legacy template, so that nothing made from it can show more.
func (t *Template) masked(v Values) Values {
	out := Values{vars: map[string]cty.Value{}, env: v.env, raw: map[string]bool{}}
	for name, value := range v.vars {
		out.vars[name], out.raw[name] = value, v.raw[name]
		if value.IsMarked() {
			out.vars[name], out.raw[name] = cty.StringVal(Hidden), false
		}
	}
	return out
}
