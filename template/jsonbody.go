package template

import (
	"fmt"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"

	"github.com/bakehouse-farm/bakehouse/template/schema"
)

// A literal is an expression of a legacy template: nothing in it is HCL, so
// that ${ } means itself.
type literalExpr struct{ hcl.Expression }

func (l literalExpr) Value(*hcl.EvalContext) (cty.Value, hcl.Diagnostics) {
	return l.Expression.Value(nil)
}

func (l literalExpr) Variables() []hcl.Traversal { return nil }

// UnwrapExpression lets hcl.ExprList and hcl.ExprMap see what is wrapped.
func (l literalExpr) UnwrapExpression() hcl.Expression { return l.Expression }

// A jsonBody is an object of a legacy template as a block's body. Where the
// schema wants nested blocks, it takes an object or a list of objects.
type jsonBody struct {
	members []jsonMember
	rng     hcl.Range
	// fold tells that upper and lower case make no difference in a name, which is
	// how Packer reads the arguments of components.
	fold bool
}

type jsonMember struct {
	name  string
	at    hcl.Range
	value hcl.Expression
}

// objectBody is the body that an object expression is; its error says that it
// is none. A member that is there twice is an error.
func objectBody(x hcl.Expression) (*jsonBody, hcl.Diagnostics) {
	pairs, diags := hcl.ExprMap(x)
	if diags.HasErrors() {
		return &jsonBody{rng: x.Range()}, hcl.Diagnostics{failureAt(x.Range(), "Not an object", "An object { } is required here.")}
	}
	b := &jsonBody{rng: x.StartRange()}
	seen := map[string]hcl.Range{}
	for _, p := range pairs {
		k, more := p.Key.Value(nil)
		diags = append(diags, more...)
		if more.HasErrors() || k.Type() != cty.String {
			continue
		}
		name := k.AsString()
		if at, ok := seen[name]; ok {
			diags = append(diags, failureAt(p.Key.Range(), "template has duplicate field: "+name, "It is already set at %s.", at))
			continue
		}
		seen[name] = p.Key.Range()
		b.members = append(b.members, jsonMember{name, p.Key.Range(), literalExpr{p.Value}})
	}
	return b, diags
}

// take removes the member of that name and returns it.
func (b *jsonBody) take(name string) (jsonMember, bool) {
	m, ok := b.takeIf(func(m jsonMember) bool { return m.name == name })
	if !ok && b.fold {
		m, ok = b.takeIf(func(m jsonMember) bool { return strings.EqualFold(m.name, name) })
	}
	return m, ok
}

func (b *jsonBody) takeIf(wanted func(jsonMember) bool) (jsonMember, bool) {
	for i, m := range b.members {
		if wanted(m) {
			b.members = append(b.members[:i:i], b.members[i+1:]...)
			return m, true
		}
	}
	return jsonMember{}, false
}

// Content is hcl.Body's.
func (b *jsonBody) Content(s *hcl.BodySchema) (*hcl.BodyContent, hcl.Diagnostics) {
	content, rest, diags := b.PartialContent(s)
	var names []string
	for _, a := range s.Attributes {
		names = append(names, a.Name)
	}
	for _, a := range s.Blocks {
		names = append(names, a.Type)
	}
	for _, m := range rest.(*jsonBody).members {
		d := failureAt(m.at, "Unsupported argument", "An argument named %q is not expected here.", m.name)
		if near := schema.Nearest(m.name, names); near != "" {
			d.Detail += fmt.Sprintf(" Did you mean %q?", near)
		}
		diags = append(diags, d)
	}
	return content, diags
}

// PartialContent is hcl.Body's.
func (b *jsonBody) PartialContent(s *hcl.BodySchema) (*hcl.BodyContent, hcl.Body, hcl.Diagnostics) {
	var diags hcl.Diagnostics
	content := &hcl.BodyContent{Attributes: hcl.Attributes{}, MissingItemRange: b.rng}
	rest := &jsonBody{rng: b.rng, fold: b.fold, members: append([]jsonMember(nil), b.members...)}
	for _, a := range s.Attributes {
		if m, ok := rest.take(a.Name); ok {
			content.Attributes[a.Name] = &hcl.Attribute{
				Name: a.Name, Expr: m.value, NameRange: m.at, Range: hcl.RangeBetween(m.at, m.value.Range()),
			}
		}
	}
	for _, header := range s.Blocks {
		if len(header.LabelNames) > 0 { // dynamic blocks are not for JSON
			continue
		}
		m, ok := rest.take(header.Type)
		if !ok {
			continue
		}
		list, not := hcl.ExprList(m.value)
		if not.HasErrors() {
			list = []hcl.Expression{m.value}
		}
		if v, more := m.value.Value(nil); !more.HasErrors() && (v.IsNull() || schema.Is(v, "") || v.Type().Equals(cty.EmptyObject)) {
			continue // to Packer's decoder that is no block
		}
		for _, x := range list {
			inner, more := objectBody(x)
			inner.fold = b.fold
			diags = append(diags, more...)
			content.Blocks = append(content.Blocks, &hcl.Block{Type: header.Type, Body: inner, DefRange: m.at, TypeRange: m.at})
		}
	}
	return content, rest, diags
}

// JustAttributes is hcl.Body's.
func (b *jsonBody) JustAttributes() (hcl.Attributes, hcl.Diagnostics) {
	attrs := hcl.Attributes{}
	for _, m := range b.members {
		attrs[m.name] = &hcl.Attribute{
			Name: m.name, Expr: m.value, NameRange: m.at, Range: hcl.RangeBetween(m.at, m.value.Range()),
		}
	}
	return attrs, nil
}

// MissingItemRange is hcl.Body's.
func (b *jsonBody) MissingItemRange() hcl.Range { return b.rng }
