package interpolate

import (
	"bytes"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"text/template"
	"text/template/parse"

	"github.com/bakehouse-farm/bakehouse/template/limit"
)

// turn is the function that loops and definitions call each time they begin.
const turn = "_turn"

// bounds keep one rendering within its limits: text/template would loop as
// often, and print as much, as it is told to.
type bounds struct {
	turns, text int
	spend       func(int) error
}

func (c Context) bounds() *bounds {
	return &bounds{turns: limit.Turns, text: 4 * limit.Rendered, spend: c.Spend}
}

// look refuses a string that the parser would have to recurse into too deeply.
func look(s string) error {
	if n := strings.Count(s, "{{"); n > limit.Actions {
		return fmt.Errorf("a string may have %d {{ }}; this one has %d", limit.Actions, n)
	}
	depth := 0
	for i := 0; i < len(s); i++ {
		switch {
		case strings.HasPrefix(s[i:], "{{"), strings.HasPrefix(s[i:], "}}"):
			depth = 0
		case s[i] == '(':
			if depth++; depth > limit.Depth && strings.Contains(s[:i], "{{") {
				return fmt.Errorf("parentheses may nest %d deep; here they nest deeper", limit.Depth)
			}
		case s[i] == ')':
			depth = max(0, depth-1)
		}
	}
	return nil
}

// parsed is s with its loops and definitions counted.
func parsed(s string, functions template.FuncMap) (*template.Template, error) {
	if err := look(s); err != nil {
		return nil, err
	}
	t, err := template.New("").Funcs(functions).Parse(s)
	if err != nil {
		return nil, readable(err)
	}
	count := template.Must(template.New("").Funcs(functions).Parse("{{" + turn + "}}")).Root.Nodes[0]
	for _, one := range t.Templates() {
		if one.Tree == nil || one.Root == nil {
			continue
		}
		loops(one.Root, count)
		if one.Name() != "" {
			one.Root.Nodes = append([]parse.Node{count}, one.Root.Nodes...)
		}
	}
	return t, nil
}

// loops puts count at the head of each loop below list.
func loops(list *parse.ListNode, count parse.Node) {
	if list == nil {
		return
	}
	for _, n := range list.Nodes {
		switch n := n.(type) {
		case *parse.RangeNode:
			loops(n.List, count)
			loops(n.ElseList, count)
			n.List.Nodes = append([]parse.Node{count}, n.List.Nodes...)
		case *parse.IfNode:
			loops(n.List, count)
			loops(n.ElseList, count)
		case *parse.WithNode:
			loops(n.List, count)
			loops(n.ElseList, count)
		}
	}
}

// bound replaces what makes text by what makes a bounded amount of it.
func (b *bounds) bound(f template.FuncMap) template.FuncMap {
	f[turn] = func() (string, error) {
		if b.turns--; b.turns < 0 {
			return "", fmt.Errorf("the loops of a string may take %d turns together; these take more", limit.Turns)
		}
		return "", b.charge(limit.Turn)
	}
	replace := func(old, with string, n int, s string) (string, error) {
		found := strings.Count(s, old)
		if n >= 0 {
			found = min(found, n)
		}
		if err := b.fits(found, len(with)); err != nil {
			return "", err
		}
		return b.made(strings.Replace(s, old, with, n))
	}
	f["replace"] = replace
	f["replace_all"] = func(old, with, s string) (string, error) { return replace(old, with, -1, s) }
	f["upper"] = func(s string) (string, error) { return b.made(strings.ToUpper(s)) }
	f["lower"] = func(s string) (string, error) { return b.made(strings.ToLower(s)) }
	f["print"] = func(args ...any) (string, error) { return b.made(fmt.Sprint(args...)) }
	f["println"] = func(args ...any) (string, error) { return b.made(fmt.Sprintln(args...)) }
	f["html"] = func(args ...any) (string, error) { return b.made(template.HTMLEscaper(args...)) }
	f["js"] = func(args ...any) (string, error) { return b.made(template.JSEscaper(args...)) }
	f["urlquery"] = func(args ...any) (string, error) { return b.made(template.URLQueryEscaper(args...)) }
	f["printf"] = func(layout string, args ...any) (string, error) {
		widest := 0
		for _, a := range args {
			switch a := a.(type) {
			case string:
				widest = max(widest, len(a))
			case int: // perhaps a width
				widest = max(widest, a, -a)
			}
		}
		for _, digits := range runs.FindAllString(layout, -1) {
			n, err := strconv.Atoi(digits)
			if err != nil {
				n = limit.Rendered
			}
			widest = max(widest, n)
		}
		if err := b.fits(strings.Count(layout, "%"), widest); err != nil {
			return "", err
		}
		return b.made(fmt.Sprintf(layout, args...))
	}
	return f
}

var runs = regexp.MustCompile(`[0-9]+`)

// fits says whether n pieces of size bytes are within the limit.
func (b *bounds) fits(n, size int) error {
	if n > 0 && size > limit.Rendered/n {
		return fmt.Errorf("the result would have more than the %d bytes that a string may have", limit.Rendered)
	}
	return nil
}

// made counts what a function has made.
func (b *bounds) made(s string) (string, error) {
	if b.text -= len(s); b.text < 0 || len(s) > limit.Rendered {
		return "", fmt.Errorf("a string may have %d bytes; what is made here has more", limit.Rendered)
	}
	return s, b.charge(len(s) / 16)
}

func (b *bounds) charge(work int) error {
	if b.spend == nil {
		return nil
	}
	return b.spend(work)
}

// output is what a rendering writes to.
type output struct{ bytes.Buffer }

// Write is io.Writer's.
func (o *output) Write(p []byte) (int, error) {
	if o.Len()+len(p) > limit.Rendered {
		return 0, fmt.Errorf("a string may become %d bytes; this one becomes more", limit.Rendered)
	}
	return o.Buffer.Write(p)
}
