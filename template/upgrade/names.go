package upgrade

import (
	"fmt"
	"strings"
	"text/template/parse"

	"github.com/hashicorp/hcl/v2/hclsyntax"

	"github.com/bakehouse-farm/bakehouse/template/legacyjson"
)

// identifier makes a name that HCL takes of one that JSON took, and that is not
// taken yet.
func identifier(name string, taken func(string) bool) string {
	var b strings.Builder
	for i, r := range name {
		if one := string(r); !hclsyntax.ValidIdentifier("a"+one) || i == 0 && !hclsyntax.ValidIdentifier(one) {
			if i == 0 && hclsyntax.ValidIdentifier("a"+one) {
				b.WriteString("_" + one)
				continue
			}
			r = '_'
		}
		b.WriteRune(r)
	}
	base := b.String()
	if base == "" {
		base = "_"
	}
	free := base
	for i := 2; taken(free); i++ {
		free = fmt.Sprintf("%s_%d", base, i)
	}
	return free
}

// A source is a builder under the name that it gets.
type source struct {
	typ, name string
	// was is what the builder is called in the JSON template, where no variable is
	// given another value.
	was    string
	config legacyjson.Value
}

func (s source) ref() string { return s.typ + "." + s.name }

// readSources names the builders. One without a name keeps the one that JSON
// gives it, its type: then {{build_name}} says what it said.
func (t *translator) readSources() {
	builders, _ := t.root.Member("builders")
	taken := map[string]bool{}
	for _, b := range builders.Items {
		typ, ok := b.Member("type")
		if !ok || typ.Kind != legacyjson.String {
			t.note(b.Range, "Builder without a type", "It is left out.")
			continue
		}
		was := typ
		if name, ok := b.Member("name"); ok && name.Text != "" {
			was = name
		}
		called := t.withDefaults(was.Text)
		// Names count for "only" and "override", so that no two are the same.
		name := identifier(called, func(s string) bool { return taken[s] })
		taken[name] = true
		if name != was.Text {
			t.note(was.Range, "Builder renamed", "HCL takes no name like %q: the source is called %q. That is also what build.name tells now.", was.Text, name)
		}
		t.sources = append(t.sources, source{typ.Text, name, called, b})
	}
}

// withDefaults puts the values of variables into a name. HCL wants names that are
// written out.
func (t *translator) withDefaults(name string) string {
	if !strings.Contains(name, "{{") {
		return name
	}
	tree, err := parseText(name)
	if err != nil {
		return name
	}
	var b strings.Builder
	for _, n := range tree.Root.Nodes {
		switch n := n.(type) {
		case *parse.TextNode:
			b.Write(n.Text)
		case *parse.ActionNode:
			b.WriteString(t.inName(n.Pipe))
		}
	}
	return b.String()
}

// inName is the value of the variable that a pipe calls for; its name where the
// value has to be computed.
func (t *translator) inName(p *parse.PipeNode) string {
	args := p.Cmds[0].Args
	if len(p.Cmds) != 1 || len(args) != 2 || args[0].String() != "user" {
		return strings.TrimSpace(p.String())
	}
	arg, ok := args[1].(*parse.StringNode)
	if !ok {
		return strings.TrimSpace(p.String())
	}
	if v := t.byName[arg.Text]; v != nil && v.value.Kind == legacyjson.String && !strings.Contains(v.value.Text, "{{") {
		return v.value.Text
	}
	return arg.Text
}

// sourceNamed finds the source that a builder has become.
func (t *translator) sourceNamed(was string) (source, bool) {
	for _, s := range t.sources {
		if s.was == was {
			return s, true
		}
	}
	return source{}, false
}
