package template

import (
	"strconv"
	"strings"
	"text/template/parse"
)

// nestedUser puts the values of user variables where {{ }} hands them to another
// function: {{clean_resource_name (user `x`)}}, {{user `x` | upper}}. What does
// not parse is left for the component, which says what is wrong with it.
func nestedUser(s string, value func(name string) string) string {
	if !strings.Contains(s, "{{") || !strings.Contains(s, "user") {
		return s
	}
	tree := parse.New("")
	tree.Mode = parse.SkipFuncCheck | parse.ParseComments
	if _, err := tree.Parse(s, "", "", map[string]*parse.Tree{}); err != nil {
		return s
	}
	w := userWalk{value: value}
	w.list(tree.Root)
	if !w.changed {
		return s
	}
	return tree.Root.String()
}

type userWalk struct {
	value   func(string) string
	changed bool
}

func (w *userWalk) list(l *parse.ListNode) {
	if l == nil {
		return
	}
	for _, n := range l.Nodes {
		switch n := n.(type) {
		case *parse.ActionNode:
			w.pipe(n.Pipe)
		case *parse.IfNode:
			w.branch(&n.BranchNode)
		case *parse.RangeNode:
			w.branch(&n.BranchNode)
		case *parse.WithNode:
			w.branch(&n.BranchNode)
		}
	}
}

func (w *userWalk) branch(b *parse.BranchNode) {
	w.pipe(b.Pipe)
	w.list(b.List)
	w.list(b.ElseList)
}

func (w *userWalk) pipe(p *parse.PipeNode) {
	for _, c := range p.Cmds {
		if text := w.call(c); text != nil {
			c.Args = []parse.Node{text}
			continue
		}
		for i, arg := range c.Args {
			inner, ok := arg.(*parse.PipeNode)
			if !ok {
				continue
			}
			w.pipe(inner)
			if len(inner.Cmds) == 1 && len(inner.Decl) == 0 && len(inner.Cmds[0].Args) == 1 {
				c.Args[i] = inner.Cmds[0].Args[0] // brackets around a string
			}
		}
	}
}

// call returns the string that a call of user stands for, or nil.
func (w *userWalk) call(c *parse.CommandNode) *parse.StringNode {
	if len(c.Args) != 2 {
		return nil
	}
	function, ok := c.Args[0].(*parse.IdentifierNode)
	if !ok || function.Ident != "user" {
		return nil
	}
	name, ok := c.Args[1].(*parse.StringNode)
	if !ok {
		return nil
	}
	value := w.value(name.Text)
	w.changed = true
	return &parse.StringNode{NodeType: parse.NodeString, Pos: c.Pos, Quoted: strconv.Quote(value), Text: value}
}
