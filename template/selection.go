package template

import (
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
	var names []string
	for _, o := range outlines {
		for _, u := range o.uses {
			name := o.shown(u, e.t.legacy)
			subject := name
			if e.t.legacy {
				subject = u.name
			}
			names = append(names, subject)
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
	for i, p := range sel.Only {
		if only.hits[i] == 0 {
			d := failure("an 'only' option was passed, but not all matches were found for the given build.",
				"Nothing matches %q. Possible names: %s.", p, strings.Join(names, ", "))
			d.Severity = hcl.DiagWarning
			diags = append(diags, d)
		}
	}
	return list, except, diags
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
		diags = append(diags, nothing())
	}
	return names, e.polish(diags)
}

func nothing() *hcl.Diagnostic {
	return failure("No builds to run", "Nothing in the template is left by -only and -except.")
}
