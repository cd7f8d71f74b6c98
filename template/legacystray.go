package template

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"

	"github.com/bakehouse-farm/bakehouse/template/schema"
)

// A mention is a place where a component of a legacy template uses a user variable.
type mention struct {
	name string
	at   hcl.Range
}

var action = regexp.MustCompile(`(?s)\{\{.*?\}\}`)

// mentions are the user variables that the strings below x use, as far as that
// can be read off their texts.
func mentions(x hcl.Expression) []mention {
	if pairs, diags := hcl.ExprMap(x); !diags.HasErrors() {
		var list []mention
		for _, p := range pairs {
			list = append(list, mentions(p.Key)...)
			list = append(list, mentions(p.Value)...)
		}
		return list
	}
	if elements, diags := hcl.ExprList(x); !diags.HasErrors() {
		var list []mention
		for _, one := range elements {
			list = append(list, mentions(one)...)
		}
		return list
	}
	v, diags := x.Value(nil)
	if diags.HasErrors() || v.IsNull() || v.Type() != cty.String || !strings.Contains(v.AsString(), "user") {
		return nil
	}
	var list []mention
	for _, one := range action.FindAllString(v.AsString(), -1) {
		for _, m := range userMention.FindAllStringSubmatch(one, -1) {
			list = append(list, mention{m[1] + m[2], x.Range()})
		}
	}
	return list
}

// strays warns of user variables that are used but neither declared nor given.
// Packer puts an empty string in their place, and so do we; but it says nothing,
// so that a misspelt one goes unnoticed into an image.
func (e *evaluation) strays() hcl.Diagnostics {
	if !e.t.legacy || e.t.faulty {
		return nil
	}
	var declared []string
	for _, v := range e.t.variables {
		declared = append(declared, v.name)
	}
	var diags hcl.Diagnostics
	for _, b := range e.t.builds {
		for _, m := range b.legacy.mentions {
			if _, ok := e.user[m.name]; ok {
				continue
			}
			d := failureAt(m.at, "User variable is not declared", "There is no user variable %q: an empty string takes its place.", m.name)
			if near := schema.Nearest(m.name, declared); near != "" {
				d.Detail += fmt.Sprintf(" Did you mean %q?", near)
			} else {
				d.Detail += fmt.Sprintf(" To declare it, add it to \"variables\": %q: \"\".", m.name)
			}
			d.Severity = hcl.DiagWarning
			diags = append(diags, d)
		}
	}
	return diags
}
