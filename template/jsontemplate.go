package template

import (
	"strings"
	"sync"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"

	"github.com/bakehouse-farm/bakehouse/template/limit"
)

// A jsonTemplate is a body in HCL's JSON form whose expressions keep to the
// limits. The library parses their strings each time they are evaluated; here
// they are parsed once, so that they can be instrumented.
type jsonTemplate struct {
	hcl.Body
	budget *limit.Budget
}

// Content is hcl.Body's.
func (b jsonTemplate) Content(s *hcl.BodySchema) (*hcl.BodyContent, hcl.Diagnostics) {
	content, diags := b.Body.Content(s)
	return b.guard(content), diags
}

// PartialContent is hcl.Body's.
func (b jsonTemplate) PartialContent(s *hcl.BodySchema) (*hcl.BodyContent, hcl.Body, hcl.Diagnostics) {
	content, rest, diags := b.Body.PartialContent(s)
	return b.guard(content), jsonTemplate{rest, b.budget}, diags
}

// JustAttributes is hcl.Body's.
func (b jsonTemplate) JustAttributes() (hcl.Attributes, hcl.Diagnostics) {
	attrs, diags := b.Body.JustAttributes()
	return b.attributes(attrs), diags
}

func (b jsonTemplate) guard(content *hcl.BodyContent) *hcl.BodyContent {
	if content == nil {
		return nil
	}
	guarded := *content
	guarded.Attributes = b.attributes(content.Attributes)
	guarded.Blocks = make(hcl.Blocks, len(content.Blocks))
	for i, block := range content.Blocks {
		one := *block
		one.Body = jsonTemplate{block.Body, b.budget}
		guarded.Blocks[i] = &one
	}
	return &guarded
}

func (b jsonTemplate) attributes(attrs hcl.Attributes) hcl.Attributes {
	guarded := make(hcl.Attributes, len(attrs))
	for name, a := range attrs {
		one := *a
		one.Expr = &jsonExpr{Expression: a.Expr, budget: b.budget}
		guarded[name] = &one
	}
	return guarded
}

// A jsonExpr is one expression of a jsonTemplate.
type jsonExpr struct {
	hcl.Expression
	budget *limit.Budget
	parse  sync.Once
	// native is what the expression means; nil when it is no more than data.
	native hclsyntax.Expression
	diags  hcl.Diagnostics
}

// Value is hcl.Expression's. Without a context, strings mean themselves.
func (x *jsonExpr) Value(ctx *hcl.EvalContext) (cty.Value, hcl.Diagnostics) {
	if ctx == nil {
		return x.Expression.Value(nil)
	}
	x.parse.Do(func() {
		p := jsonParse{}
		native := p.expression(x.Expression)
		if p.diags = append(p.diags, limit.Instrument(native, x.budget)...); p.templates {
			x.native, x.diags = native, p.diags
		}
	})
	switch {
	case x.diags.HasErrors():
		return cty.DynamicVal, x.diags
	case x.native == nil:
		return x.Expression.Value(nil)
	}
	v, diags := x.native.Value(ctx)
	return v, append(x.diags[:len(x.diags):len(x.diags)], diags...)
}

// UnwrapExpression lets hcl see what is wrapped.
func (x *jsonExpr) UnwrapExpression() hcl.Expression { return x.Expression }

// ExprList lets hcl.ExprList find the elements.
func (x *jsonExpr) ExprList() []hcl.Expression {
	list, diags := hcl.ExprList(x.Expression)
	if diags.HasErrors() {
		return nil
	}
	guarded := make([]hcl.Expression, len(list))
	for i, e := range list {
		guarded[i] = &jsonExpr{Expression: e, budget: x.budget}
	}
	return guarded
}

// ExprMap lets hcl.ExprMap find the members.
func (x *jsonExpr) ExprMap() []hcl.KeyValuePair {
	pairs, diags := hcl.ExprMap(x.Expression)
	if diags.HasErrors() {
		return nil
	}
	guarded := make([]hcl.KeyValuePair, len(pairs))
	for i, p := range pairs {
		guarded[i] = hcl.KeyValuePair{Key: p.Key, Value: &jsonExpr{Expression: p.Value, budget: x.budget}}
	}
	return guarded
}

// jsonParse makes HCL's native expressions of JSON.
type jsonParse struct {
	// templates tells that there is a string with ${ } or %{ }.
	templates bool
	diags     hcl.Diagnostics
}

func (p *jsonParse) expression(x hcl.Expression) hclsyntax.Expression {
	if list, not := hcl.ExprList(x); !not.HasErrors() {
		tuple := &hclsyntax.TupleConsExpr{SrcRange: x.Range(), OpenRange: x.StartRange()}
		for _, e := range list {
			tuple.Exprs = append(tuple.Exprs, p.expression(e))
		}
		return tuple
	}
	if pairs, not := hcl.ExprMap(x); !not.HasErrors() {
		object := &hclsyntax.ObjectConsExpr{SrcRange: x.Range(), OpenRange: x.StartRange()}
		seen := map[string]hcl.Range{}
		for _, pair := range pairs {
			k, _ := pair.Key.Value(nil)
			if first, ok := seen[k.AsString()]; ok {
				p.diags = append(p.diags, failureAt(pair.Key.Range(), "Duplicate object attribute",
					"An attribute named %q was already defined at %s.", k.AsString(), first))
			}
			seen[k.AsString()] = pair.Key.Range()
			object.Items = append(object.Items, hclsyntax.ObjectConsItem{
				KeyExpr: p.expression(pair.Key), ValueExpr: p.expression(pair.Value),
			})
		}
		return object
	}
	v, diags := x.Value(nil)
	p.diags = append(p.diags, diags...)
	if v.Type() != cty.String || v.IsNull() || !v.IsKnown() {
		return &hclsyntax.LiteralValueExpr{Val: v, SrcRange: x.Range()}
	}
	s := v.AsString()
	if !strings.Contains(s, "${") && !strings.Contains(s, "%{") {
		return &hclsyntax.LiteralValueExpr{Val: v, SrcRange: x.Range()}
	}
	p.templates = true
	// As in hcl's JSON: columns are right where nothing is escaped.
	start := x.Range().Start
	start.Byte++
	start.Column++
	template, diags := hclsyntax.ParseTemplate([]byte(s), x.Range().Filename, start)
	p.diags = append(p.diags, diags...)
	if template == nil || diags.HasErrors() {
		return &hclsyntax.LiteralValueExpr{Val: cty.DynamicVal, SrcRange: x.Range()}
	}
	return template
}
