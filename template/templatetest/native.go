package templatetest

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// A native template being taken apart.
type native struct {
	src   []byte
	root  *hclsyntax.Body
	edits []edit
}

// mutateNative lists what can be broken in a template in HCL's native syntax.
func mutateNative(src []byte) ([]edit, error) {
	file, diags := hclsyntax.ParseConfig(src, "base", hcl.InitialPos)
	if diags.HasErrors() {
		return nil, diags
	}
	n := &native{src: src, root: file.Body.(*hclsyntax.Body)}
	n.body("", n.root)
	if err := n.tokens(); err != nil {
		return nil, err
	}
	return n.edits, nil
}

func (n *native) add(kind, what string, r hcl.Range, with string) {
	n.edits = append(n.edits, edit{kind, what, r.Start.Byte, r.End.Byte, with})
}

func (n *native) text(r hcl.Range) string { return string(n.src[r.Start.Byte:r.End.Byte]) }

// values are one expression of each kind, to put in the place of another.
var values = []struct{ kind, native, json string }{
	{"string", `"word"`, `"word"`},
	{"number", `7`, `7`},
	{"bool", `true`, `true`},
	{"list", `["word"]`, `["word"]`},
	{"object", `{ word = "x" }`, `{"word": "x"}`},
	{"null", `null`, `null`},
}

func (n *native) body(path string, body *hclsyntax.Body) {
	// Attributes are a map, but the corpus is the same each time it is made.
	attrs := slices.SortedFunc(maps.Values(body.Attributes), func(a, b *hclsyntax.Attribute) int {
		return cmp.Compare(a.SrcRange.Start.Byte, b.SrcRange.Start.Byte)
	})
	for _, a := range attrs {
		what := path + a.Name
		n.add("drop argument", what, a.SrcRange, "")
		n.add("rename argument", what, a.NameRange, a.Name+"x")
		n.add("name not an identifier", what, a.NameRange, "9"+a.Name)
		n.add("argument twice", what, hcl.Range{Start: a.SrcRange.End, End: a.SrcRange.End}, "\n"+n.text(a.SrcRange)+"\n")
		n.add("argument as block", what, a.SrcRange, a.Name+" {\n}")
		for _, v := range values {
			n.add("make "+v.kind, what, a.Expr.Range(), v.native)
		}
		n.expression(what, a.Expr)
	}
	count := map[string]int{}
	for _, b := range body.Blocks {
		name := b.Type
		for _, l := range b.Labels {
			name += "." + l
		}
		count[name]++
		if count[name] > 1 {
			name = fmt.Sprintf("%s#%d", name, count[name])
		}
		n.block(path+name, b, body == n.root)
		n.body(path+name+".", b.Body)
	}
}

func (n *native) block(what string, b *hclsyntax.Block, top bool) {
	whole := b.Range()
	whole.End = b.CloseBraceRange.End
	n.add("drop block", what, whole, "")
	n.add("block twice", what, hcl.Range{Start: whole.End, End: whole.End}, "\n"+n.text(whole)+"\n")
	n.add("rename block", what, b.TypeRange, b.Type+"x")
	n.add("block as argument", what, whole, b.Type+" = {}")
	n.add("empty block", what, hcl.RangeBetween(b.OpenBraceRange, b.CloseBraceRange), "{\n}")
	n.add("label too much", what, hcl.Range{Start: b.OpenBraceRange.Start, End: b.OpenBraceRange.Start}, `"more" `)
	for i, r := range b.LabelRanges {
		of := fmt.Sprintf("%s label %d", what, i)
		n.add("label missing", of, r, "")
		n.add("label misspelt", of, r, `"`+b.Labels[i]+`x"`)
		n.add("label not an identifier", of, r, `"1 `+b.Labels[i]+`"`)
		n.add("label empty", of, r, `""`)
	}
	if !top {
		end := n.root.SrcRange.End.Byte
		n.edits = append(n.edits, edit{"block moved to the top", what, end, end, "\n" + n.text(whole) + "\n"})
	}
	for _, other := range n.root.Blocks {
		if top && b != other && (other.Type == "build" || other.Type == "source") {
			at := other.CloseBraceRange.Start.Byte
			n.edits = append(n.edits, edit{"block moved into " + other.Type, what, at, at, n.text(whole) + "\n"})
			break
		}
	}
}

// expression breaks what stands in an expression.
func (n *native) expression(what string, x hclsyntax.Expression) {
	refs, calls, items := 0, 0, 0
	_ = hclsyntax.VisitAll(x, func(node hclsyntax.Node) hcl.Diagnostics {
		switch e := node.(type) {
		case *hclsyntax.ScopeTraversalExpr:
			refs++
			of := fmt.Sprintf("%s reference %d", what, refs)
			root := e.Traversal.RootName()
			text := n.text(e.Range())
			n.add("reference to nothing", of, e.Range(), root+".nothing")
			n.add("reference with another root", of, e.Range(), "other."+text)
			n.add("reference that ends early", of, e.Range(), root)
			n.add("reference that goes on", of, e.Range(), text+".more")
			n.add("reference with an index", of, e.Range(), text+"[0]")
		case *hclsyntax.FunctionCallExpr:
			calls++
			of := fmt.Sprintf("%s call %d", what, calls)
			n.add("function misspelt", of, e.NameRange, e.Name+"x")
			in := hcl.Range{Start: e.OpenParenRange.End, End: e.CloseParenRange.Start}
			n.add("function without arguments", of, in, "")
			extra := "null"
			if len(e.Args) > 0 {
				extra = ", null, null, null, null"
			}
			n.add("function with arguments too many", of, hcl.Range{Start: in.End, End: in.End}, extra)
			if len(e.Args) > 0 {
				for _, v := range values {
					n.add("function of another type", of+" "+v.kind, e.Args[0].Range(), v.native)
				}
			}
		case *hclsyntax.TupleConsExpr:
			for _, item := range e.Exprs {
				items++
				of := fmt.Sprintf("%s item %d", what, items)
				for _, v := range values {
					n.add("item of another type", of+" "+v.kind, item.Range(), v.native)
				}
			}
		}
		return nil
	})
}

// tokens loses or doubles punctuation.
func (n *native) tokens() error {
	tokens, diags := hclsyntax.LexConfig(n.src, "base", hcl.InitialPos)
	if diags.HasErrors() {
		return diags
	}
	names := map[hclsyntax.TokenType]string{
		hclsyntax.TokenComma: "comma", hclsyntax.TokenEqual: "equals sign", hclsyntax.TokenOQuote: "quote",
		hclsyntax.TokenOBrace: "brace", hclsyntax.TokenCBrace: "closing brace", hclsyntax.TokenOBrack: "bracket",
		hclsyntax.TokenCBrack: "closing bracket", hclsyntax.TokenDot: "dot", hclsyntax.TokenNewline: "line end",
	}
	for _, t := range tokens {
		name, ok := names[t.Type]
		if !ok {
			continue
		}
		of := fmt.Sprintf("in line %d, column %d", t.Range.Start.Line, t.Range.Start.Column)
		with := ""
		if t.Type == hclsyntax.TokenNewline {
			with = " "
		}
		n.add(name+" lost", of, t.Range, with)
		if t.Type != hclsyntax.TokenNewline {
			n.add("punctuation doubled", name+" "+of, t.Range, string(t.Bytes)+string(t.Bytes))
		}
	}
	return nil
}
