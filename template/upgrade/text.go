package upgrade

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"text/template/parse"

	"github.com/hashicorp/hcl/v2/hclwrite"
	"github.com/zclconf/go-cty/cty"
)

// A place is where a string stands, which decides what it may refer to.
type place struct{ kind placeKind }

type placeKind int

const (
	inDefault placeKind = iota // the default of a variable
	inLocal
	inSource
	inPart     // a provisioner or post-processor
	inOverride // what a provisioner does differently for one source
	inName     // what must be known before any build
)

// translated is HCL's source of an expression.
type translated struct {
	source string
	// troubles say what could not be translated, and why.
	troubles []string
}

// quote writes s as a string of HCL in which nothing is evaluated.
func quote(s string) string {
	return string(hclwrite.TokensForValue(cty.StringVal(s)).Bytes())
}

// escape writes s as a part of a string of HCL.
func escape(s string) string {
	q := strings.TrimSpace(quote(s))
	return q[1 : len(q)-1]
}

func parseText(s string) (*parse.Tree, error) {
	tree := parse.New("")
	tree.Mode = parse.SkipFuncCheck | parse.ParseComments
	return tree.Parse(s, "", "", map[string]*parse.Tree{})
}

// text translates a string that may hold {{ }}.
func (t *translator) text(s string, at place) translated {
	if !strings.Contains(s, "{{") {
		return translated{source: quote(s)}
	}
	tree, err := parseText(s)
	if err != nil {
		return translated{quote(s), []string{trouble(s, errors.New(strings.TrimPrefix(err.Error(), "template: :1: ")))}}
	}
	var out translated
	var parts []string
	var only string // the expression, while there is no more than one
	changed := false
	for _, n := range tree.Root.Nodes {
		switch n := n.(type) {
		case *parse.TextNode:
			parts = append(parts, escape(string(n.Text)))
		case *parse.CommentNode:
			changed = true
		case *parse.ActionNode:
			was := actionSource(s, n)
			o, err := t.pipe(n.Pipe, at)
			switch {
			case err != nil:
				parts = append(parts, escape(was))
				out.troubles = append(out.troubles, trouble(was, err))
			case o.literal:
				// It is there to hide braces from being evaluated, which they are in HCL's
				// strings as well.
				parts = append(parts, escape(was))
			case o.hcl != "":
				only = o.hcl
				parts = append(parts, "${"+o.hcl+"}")
				changed = true
			case o.changed:
				parts = append(parts, "{{ "+o.call+" }}")
				changed = true
			default:
				parts = append(parts, escape(was))
			}
		default:
			parts = append(parts, escape(n.String()))
			if err := t.within(n, at); err != nil {
				out.troubles = append(out.troubles, trouble(n.String(), err))
			}
		}
	}
	switch {
	case !changed:
		out.source = quote(s) // to the letter
	case len(parts) == 1 && only != "":
		out.source = only
	default:
		out.source = `"` + strings.Join(parts, "") + `"`
	}
	return out
}

// actionSource is what stands in s for n, without the marks that trim the text
// around it: that was done when s was parsed.
func actionSource(s string, n *parse.ActionNode) string {
	from := strings.LastIndex(s[:n.Position()], "{{")
	if from < 0 {
		return n.String()
	}
	var quoted byte
	for i := from + 2; i+1 < len(s); i++ {
		switch c := s[i]; {
		case quoted != 0:
			if c == '\\' && quoted != '`' {
				i++
			} else if c == quoted {
				quoted = 0
			}
		case c == '"' || c == '`' || c == '\'':
			quoted = c
		case c == '}' && s[i+1] == '}':
			inner := s[from+2 : i]
			if rest, ok := strings.CutPrefix(inner, "- "); ok {
				inner = " " + rest
			}
			if rest, ok := strings.CutSuffix(inner, " -"); ok {
				inner = rest + " "
			}
			return "{{" + inner + "}}"
		}
	}
	return n.String()
}

func trouble(what string, why error) string {
	what = strings.Join(strings.Fields(what), " ")
	if r := []rune(what); len(r) > 60 {
		what = string(r[:57]) + "..."
	}
	return fmt.Sprintf("To be done by hand: %s stays, because %s.", what, why)
}

// An operand is what a part of {{ }} has become.
type operand struct {
	// hcl is its source in HCL; empty when HCL has none.
	hcl string
	// call is what to write in {{ }} for it, as a part of a string of HCL.
	call string
	// changed tells that call is not what it was: it refers to values of HCL.
	changed bool
	// literal tells that it is the string text; number that it is a number, which
	// is in text when it is whole.
	literal, number bool
	text            string
}

func literal(s string) (operand, error) {
	if strings.Contains(s, "`") {
		return operand{hcl: quote(s), call: escape(fmt.Sprintf("%q", s)), literal: true, text: s}, nil
	}
	return operand{hcl: quote(s), call: "`" + escape(s) + "`", literal: true, text: s}, nil
}

// expression is an operand that HCL computes, and that {{ }} gets as a text.
func expression(hcl string) operand {
	return operand{hcl: hcl, call: "`${" + hcl + "}`", changed: true}
}

func (t *translator) pipe(p *parse.PipeNode, at place) (operand, error) {
	if len(p.Decl) > 0 {
		return operand{}, errors.New("HCL has no variables within a string")
	}
	var before []operand // the result of the command before, as the last argument
	for _, c := range p.Cmds {
		o, err := t.command(c, before, at)
		if err != nil {
			return operand{}, err
		}
		before = []operand{o}
	}
	return before[0], nil
}

func (t *translator) command(c *parse.CommandNode, piped []operand, at place) (operand, error) {
	f, ok := c.Args[0].(*parse.IdentifierNode)
	if !ok {
		if len(c.Args) > 1 || len(piped) > 0 {
			return operand{}, errors.New("HCL does not know such a call")
		}
		return t.argument(c.Args[0], at)
	}
	var args []operand
	for _, a := range c.Args[1:] {
		o, err := t.argument(a, at)
		if err != nil {
			return operand{}, err
		}
		args = append(args, o)
	}
	return t.call(f.Ident, append(args, piped...), at)
}

func (t *translator) argument(n parse.Node, at place) (operand, error) {
	switch n := n.(type) {
	case *parse.StringNode:
		return literal(n.Text)
	case *parse.NumberNode:
		o := operand{call: escape(n.Text), number: true}
		if n.IsInt {
			o.text = strconv.FormatInt(n.Int64, 10)
			o.hcl = o.text
		}
		return o, nil
	case *parse.IdentifierNode:
		return t.call(n.Ident, nil, at)
	case *parse.PipeNode:
		o, err := t.pipe(n, at)
		if !o.literal && !o.number && o.hcl == "" {
			o.call = "(" + o.call + ")"
		}
		return o, err
	case *parse.FieldNode, *parse.DotNode:
		// The component fills it in when it runs.
		if at.kind != inSource && at.kind != inPart && at.kind != inOverride {
			return operand{}, errors.New("no component renders it here")
		}
		return operand{call: n.String()}, nil
	}
	return operand{}, fmt.Errorf("HCL has nothing like %s", n)
}

// within looks into conditions and loops, which stay: what they call must be
// something that {{ }} may still call.
func (t *translator) within(n parse.Node, at place) error {
	branch := func(b parse.BranchNode) error {
		if err := t.unchanged(b.Pipe, at); err != nil {
			return err
		}
		for _, list := range []*parse.ListNode{b.List, b.ElseList} {
			if list == nil {
				continue
			}
			for _, one := range list.Nodes {
				if err := t.within(one, at); err != nil {
					return err
				}
			}
		}
		return nil
	}
	switch n := n.(type) {
	case *parse.TextNode, *parse.CommentNode:
		return nil
	case *parse.ActionNode:
		return t.unchanged(n.Pipe, at)
	case *parse.IfNode:
		return branch(n.BranchNode)
	case *parse.RangeNode:
		return branch(n.BranchNode)
	case *parse.WithNode:
		return branch(n.BranchNode)
	}
	return fmt.Errorf("HCL has nothing like %s", n)
}

func (t *translator) unchanged(p *parse.PipeNode, at place) error {
	for _, c := range p.Cmds {
		for _, a := range c.Args {
			switch a := a.(type) {
			case *parse.IdentifierNode:
				if f, ok := functions[a.Ident]; ok && !f.stays {
					return fmt.Errorf("%s does not work in {{ }} of HCL, and a condition is not translated", a.Ident)
				}
			case *parse.PipeNode:
				if err := t.unchanged(a, at); err != nil {
					return err
				}
			}
		}
	}
	return nil
}
