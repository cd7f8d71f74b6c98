package template

import (
	"strconv"
	"strings"

	"github.com/gobwas/glob"
	"github.com/hashicorp/hcl/v2"

	"github.com/bakehouse-farm/bakehouse/template/limit"
)

// A chosen is a build that the selection leaves.
type chosen struct {
	outline *outline
	use     use
	name    BuildName
}

// A matcher matches names by the patterns of a Selection.
type matcher struct {
	patterns []string
	globs    []*glob.Pattern // nil in a legacy template, where patterns are names
	hits     []int
}

func (t *Template) matcher(flag string, patterns []string) (*matcher, hcl.Diagnostics) {
	m := &matcher{patterns: patterns, hits: make([]int, len(patterns))}
	if t.legacy {
		return m, nil
	}
	var diags hcl.Diagnostics
	for _, p := range patterns {
		g, err := glob.Compile(p) // a dot is a character like any other
		if err != nil {
			diags = append(diags, failure("Invalid -"+flag+" pattern "+p, "%s.", err))
			g = glob.MustCompile(glob.QuoteMeta(p))
		}
		m.globs = append(m.globs, g)
	}
	return m, diags
}

func (m *matcher) match(name string) bool {
	found := false
	for i, p := range m.patterns {
		if m.globs != nil && m.globs[i].Match(name) || m.globs == nil && p == name {
			m.hits[i]++
			found = true
		}
	}
	return found
}

// choose applies a selection to the build blocks. That nothing is left is no
// error here.
func (e *evaluation) choose(outlines []*outline, sel Selection) ([]chosen, *matcher, hcl.Diagnostics) {
	only, diags := e.t.matcher("only", sel.Only)
	except, more := e.t.matcher("except", sel.Except)
	diags = append(diags, more...)
	var list []chosen
	for _, o := range outlines {
		for _, u := range o.uses {
			name, subject := o.names(u, e.t.legacy)
			left := !except.match(subject)
			if len(sel.Only) > 0 {
				left = only.match(subject) && left
			}
			if left {
				list = append(list, chosen{o, u, name})
			}
		}
	}
	e.budget.Grant(limit.PerBuild * len(list))
	if e.t.legacy {
		return list, except, diags
	}
	return list, except, append(diags, e.inVain(only, outlines)...)
}

// names are how a build is shown, and what it is selected by.
func (o *outline) names(u use, legacy bool) (shown BuildName, subject string) {
	shown = o.shown(u, legacy)
	if legacy {
		return shown, u.name
	}
	return shown, shown
}

// inVain warns of patterns that match no build at all: once for each build
// block, with the names that are there.
func (e *evaluation) inVain(only *matcher, outlines []*outline) hcl.Diagnostics {
	var without []string
	for i, p := range only.patterns {
		if only.hits[i] == 0 {
			without = append(without, strconv.Quote(p))
		}
	}
	if without == nil {
		return nil
	}
	var diags hcl.Diagnostics
	for _, o := range outlines {
		var names []string
		for _, u := range o.uses {
			names = append(names, o.shown(u, false))
		}
		d := failureAt(e.t.builds[o.index].at, "an 'only' option was passed, but not all matches were found for the given build.",
			"Nothing matches %s. Possible names: %s. A pattern such as '*.%s' would do, too.",
			strings.Join(without, ", "), strings.Join(names, ", "), example(o))
		d.Severity = hcl.DiagWarning
		diags = append(diags, d)
	}
	return diags
}

// example is the end of a build's name.
func example(o *outline) string {
	if len(o.uses) == 0 {
		return "NAME"
	}
	return o.uses[0].name
}

// Select names the builds that a selection leaves, in the template's order. It
// is an error when there are none, and when the name of a build depends on
// something that is not known before the plan is made.
func (t *Template) Select(v Values, sel Selection) ([]BuildName, hcl.Diagnostics) {
	e := t.evaluation(v, Pinned{})
	diags := e.valuate()
	outlines, more := e.outlines()
	diags = append(diags, more...)
	list, _, more := e.choose(outlines, sel)
	diags = append(diags, more...)
	var names []BuildName
	for _, c := range list {
		names = append(names, c.name)
	}
	if len(names) == 0 && !diags.HasErrors() {
		diags = append(diags, t.nothing())
	}
	return names, e.polish(diags)
}

// A Chain is what changes the machine of one build, in order.
type Chain struct {
	Build        BuildName
	Provisioners []PlannedProvisioner
}

// Provisioners tells what each of the builds that Select names does to its
// machine. Where Select fails it returns what it can.
func (t *Template) Provisioners(v Values, sel Selection) []Chain {
	e := t.evaluation(v, Pinned{})
	_ = e.valuate()
	outlines, _ := e.outlines()
	list, _, _ := e.choose(outlines, sel)
	var chains []Chain
	for _, c := range list {
		chains = append(chains, Chain{Build: c.name, Provisioners: c.provisioners(t.legacy)})
	}
	return chains
}

// provisioners are those that apply to the source of the build.
func (c chosen) provisioners(legacy bool) []PlannedProvisioner {
	var out []PlannedProvisioner
	key := c.use.key(legacy)
	for _, p := range c.outline.provisioners {
		if p.appliesTo(key) {
			out = append(out, p.provisioner())
		}
	}
	return out
}

// nothing says that the selection leaves no build.
func (t *Template) nothing() *hcl.Diagnostic {
	d := failure("No builds to run", "Nothing in the template is left by -only and -except.")
	if len(t.builds) > 0 {
		d.Subject = t.builds[0].at.Ptr()
	}
	return d
}
