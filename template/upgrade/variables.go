package upgrade

import (
	"fmt"
	"strings"
	"text/template/parse"

	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"

	"github.com/bakehouse-farm/bakehouse/template/legacyjson"
)

// A variable is a user variable. HCL's defaults know nothing but the
// environment: what computes more becomes a local.
type variable struct {
	was, name string
	at        hcl.Range
	value     legacyjson.Value
	sensitive bool
	local     bool
}

// ref is how expressions refer to it.
func (v *variable) ref() string {
	if v.local {
		return "local." + v.name
	}
	return "var." + v.name
}

func (t *translator) readVariables() {
	t.byName = map[string]*variable{}
	t.environ, t.environSecret = map[string]string{}, map[string]bool{}
	list, _ := t.root.Member("variables")
	taken := map[string]bool{}
	has := func(name string) bool { return taken[name] }
	var locals []string
	at := len(list.Members) // the first of them
	for _, m := range list.Members {
		v := &variable{was: m.Name, at: m.At, value: m.Value}
		v.name = identifier(m.Name, has)
		taken[v.name] = true
		if v.name != m.Name {
			t.note(m.At, "Variable renamed", "HCL takes no name like %q: the variable is called %q now, also by -var.", m.Name, v.name)
		}
		v.local = m.Value.Kind == legacyjson.String && computed(m.Value.Text)
		if v.local {
			locals = append(locals, m.Name)
			at = min(at, len(t.variables))
		}
		t.variables = append(t.variables, v)
		t.byName[m.Name] = v
	}
	if len(locals) > 0 {
		t.note(list.Members[at].At, "Variables became locals", "The values of these are computed, which HCL allows in locals only, so that -var cannot set them any more: %s.", several(locals))
	}
	secret, _ := t.root.Member("sensitive-variables")
	for _, s := range secret.Items {
		if v := t.byName[s.Text]; v != nil {
			v.sensitive = true
		}
	}
	t.stamp = identifier("timestamp", func(name string) bool {
		for _, v := range t.variables {
			if v.local && v.name == name {
				return true
			}
		}
		return false
	})
	// Locals cannot read the environment: they read variables that do.
	for _, v := range t.variables {
		if !v.local {
			continue
		}
		for _, name := range environOf(v.value.Text) {
			t.environSecret[name] = t.environSecret[name] || v.sensitive
			if _, ok := t.environ[name]; !ok {
				t.environ[name] = identifier("env_"+name, has)
				taken[t.environ[name]] = true
			}
		}
	}
}

// several lists names, but not more than anybody reads.
func several(names []string) string {
	const most = 20
	if len(names) <= most {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
}

// computed tells whether a value holds more than text and calls of env.
func computed(s string) bool {
	if !strings.Contains(s, "{{") {
		return false
	}
	tree, err := parseText(s)
	if err != nil {
		return false // it stays as it is, and is warned of
	}
	for _, n := range tree.Root.Nodes {
		switch n := n.(type) {
		case *parse.TextNode, *parse.CommentNode:
		case *parse.ActionNode:
			if name, _ := envCall(n); name == "" {
				return true
			}
		default:
			return true
		}
	}
	return false
}

// envCall returns the name in {{env "NAME"}}.
func envCall(n *parse.ActionNode) (name string, ok bool) {
	p := n.Pipe
	if len(p.Decl) > 0 || len(p.Cmds) != 1 || len(p.Cmds[0].Args) != 2 {
		return "", false
	}
	f, isFunc := p.Cmds[0].Args[0].(*parse.IdentifierNode)
	arg, isText := p.Cmds[0].Args[1].(*parse.StringNode)
	if !isFunc || f.Ident != "env" || !isText {
		return "", false
	}
	return arg.Text, true
}

// environOf lists the names that env is called with in s.
func environOf(s string) []string {
	tree, err := parseText(s)
	if err != nil {
		return nil
	}
	var names []string
	var walk func(n parse.Node)
	walk = func(n parse.Node) {
		switch n := n.(type) {
		case *parse.ListNode:
			for _, one := range n.Nodes {
				walk(one)
			}
		case *parse.ActionNode:
			walk(n.Pipe)
		case *parse.PipeNode:
			for i, c := range n.Cmds {
				if f, ok := c.Args[0].(*parse.IdentifierNode); ok && f.Ident == "env" && i == 0 && len(c.Args) == 2 {
					if arg, ok := c.Args[1].(*parse.StringNode); ok {
						names = append(names, arg.Text)
					}
				}
				for _, a := range c.Args {
					walk(a)
				}
			}
		}
	}
	walk(tree.Root)
	return names
}

func (t *translator) writeVariables() {
	first := true
	for _, v := range t.variables {
		if v.local {
			continue
		}
		if first {
			t.annotate(aboutVariables)
			first = false
		}
		value := t.expression(v.value, cty.String, place{inDefault})
		t.warn(v.value.Range, value.troubles)
		t.line("variable %q {", v.name)
		t.say(value.troubles)
		t.line("type = string")
		if v.value.Kind != legacyjson.Null {
			t.line("default = %s", value.source)
		}
		if v.sensitive {
			t.line("sensitive = true")
		}
		t.line("}\n")
	}
	for _, name := range t.environUsed {
		t.line("variable %q {\ntype = string\ndefault = env(%s)", t.environ[name], quote(name))
		if t.environSecret[name] {
			t.line("sensitive = true")
		}
		t.line("}\n")
	}
}

func (t *translator) writeLocals() {
	var plain, sensitive strings.Builder
	for _, v := range t.variables {
		if !v.local {
			continue
		}
		value := t.expression(v.value, cty.String, place{inLocal})
		t.warn(v.value.Range, value.troubles)
		why := t.apart(func() { t.say(value.troubles) })
		if v.sensitive {
			fmt.Fprintf(&sensitive, "local %q {\n%sexpression = %s\nsensitive = true\n}\n\n", v.name, why, value.source)
		} else {
			fmt.Fprintf(&plain, "%s%s = %s\n", why, v.name, value.source)
		}
	}
	if plain.Len() > 0 {
		t.line("locals {\n%s}\n", plain.String())
	}
	t.out.WriteString(sensitive.String())
}

// say writes why something stays as it was.
func (t *translator) say(troubles []string) {
	for _, trouble := range troubles {
		t.comment(trouble)
	}
}
