// Package legacyjson reads a JSON template of Packer's older kind as it is
// written: with the order of its members, and with the place of everything, so
// that what rewrites templates can say where something is wrong.
package legacyjson

import (
	"encoding/json"
	"fmt"
	"math/big"

	"github.com/hashicorp/hcl/v2"
	hcljson "github.com/hashicorp/hcl/v2/json"
	"github.com/zclconf/go-cty/cty"
)

// A Kind is one of the kinds of JSON values.
type Kind int

// The kinds of values. The zero value is JSON's null.
const (
	Null Kind = iota
	Bool
	Number
	String
	List
	Object
)

// A Value is a JSON value.
type Value struct {
	Kind Kind
	// True is the value of a Bool.
	True bool
	// Text is the text of a String, or the digits of a Number.
	Text string
	// Items are those of a List, Members those of an Object, in the order in
	// which they are written.
	Items   []Value
	Members []Member
	// Range is where the value is written; of lists and objects, the whole of it.
	Range hcl.Range
}

// A Member is a name and a value in an object.
type Member struct {
	Name  string
	At    hcl.Range
	Value Value
}

// Member returns the member of that name.
func (v Value) Member(name string) (Value, bool) {
	for _, m := range v.Members {
		if m.Name == name {
			return m.Value, true
		}
	}
	return Value{}, false
}

// Parse reads src, which must be one JSON object without members of the same
// name in one object. The name stands for it in diagnostics.
func Parse(src []byte, name string) (Value, hcl.Diagnostics) {
	if d := tooDeep(src, name); d != nil {
		return Value{}, hcl.Diagnostics{d}
	}
	expr, diags := hcljson.ParseExpression(src, name)
	if diags.HasErrors() {
		return Value{}, diags
	}
	v, diags := value(expr)
	if v.Kind != Object && !diags.HasErrors() {
		diags = append(diags, wrong(v.Range, "Not a template", "A JSON template is an object { }."))
	}
	return v, diags
}

// maxDepth is how deep brackets may nest. HCL's parser recurses, and complains
// of each bracket that is not closed.
const maxDepth = 1000

func tooDeep(src []byte, name string) *hcl.Diagnostic {
	depth, text := 0, false
	at := hcl.InitialPos
	for i := 0; i < len(src); i++ {
		switch c := src[i]; {
		case text && c == '\\':
			i++
		case c == '"':
			text = !text
		case c == '\n':
			at.Line++
		case text:
		case c == '{' || c == '[':
			if depth++; depth > maxDepth {
				at.Byte = i
				return wrong(hcl.Range{Filename: name, Start: at, End: at}, "Template nests too deep", fmt.Sprintf("Brackets are nested more than %d deep here.", maxDepth))
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	return nil
}

func value(x hcl.Expression) (Value, hcl.Diagnostics) {
	if items, no := hcl.ExprList(x); !no.HasErrors() {
		v := Value{Kind: List, Range: x.Range()}
		var diags hcl.Diagnostics
		for _, item := range items {
			one, more := value(item)
			diags = append(diags, more...)
			v.Items = append(v.Items, one)
		}
		return v, diags
	}
	if pairs, no := hcl.ExprMap(x); !no.HasErrors() {
		return object(x, pairs)
	}
	c, diags := x.Value(nil)
	v := Value{Range: x.Range()}
	switch {
	case diags.HasErrors() || c.IsNull():
	case c.Type() == cty.Bool:
		v.Kind, v.True = Bool, c.True()
	case c.Type() == cty.Number:
		v.Kind, v.Text = Number, digits(c.AsBigFloat())
	case c.Type() == cty.String:
		v.Kind, v.Text = String, c.AsString()
	}
	return v, diags
}

func object(x hcl.Expression, pairs []hcl.KeyValuePair) (Value, hcl.Diagnostics) {
	v := Value{Kind: Object, Range: x.Range()}
	var diags hcl.Diagnostics
	seen := map[string]hcl.Range{}
	for _, p := range pairs {
		key, more := p.Key.Value(nil)
		diags = append(diags, more...)
		if more.HasErrors() {
			continue
		}
		name := key.AsString()
		if at, ok := seen[name]; ok {
			diags = append(diags, wrong(p.Key.Range(), "template has duplicate field: "+name, fmt.Sprintf("It is already set at %s.", at)))
			continue
		}
		seen[name] = p.Key.Range()
		one, more := value(p.Value)
		diags = append(diags, more...)
		v.Members = append(v.Members, Member{name, p.Key.Range(), one})
	}
	return v, diags
}

// digits writes a number as people do; only very big ones get an exponent.
func digits(f *big.Float) string {
	if f.MantExp(nil) > 256 || f.MantExp(nil) < -256 {
		return f.Text('g', -1)
	}
	return f.Text('f', -1)
}

func wrong(at hcl.Range, summary, detail string) *hcl.Diagnostic {
	return &hcl.Diagnostic{Severity: hcl.DiagError, Summary: summary, Detail: detail, Subject: at.Ptr()}
}

// Plain returns the value in the form that encoding/json decodes to: nil, bool,
// json.Number, string, []any and map[string]any.
func (v Value) Plain() any {
	switch v.Kind {
	case Bool:
		return v.True
	case Number:
		return json.Number(v.Text)
	case String:
		return v.Text
	case List:
		list := make([]any, len(v.Items))
		for i, item := range v.Items {
			list[i] = item.Plain()
		}
		return list
	case Object:
		m := make(map[string]any, len(v.Members))
		for _, one := range v.Members {
			m[one.Name] = one.Value.Plain()
		}
		return m
	}
	return nil
}
