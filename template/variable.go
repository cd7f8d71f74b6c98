package template

import (
	"unicode"
	"unicode/utf8"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/ext/typeexpr"
	"github.com/hashicorp/hcl/v2/gohcl"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"

	"github.com/bakehouse-farm/bakehouse/template/function"
)

// A variable is a declared input of a template.
type variable struct {
	name string
	// typ is cty.NilType when the template does not say.
	typ      cty.Type
	optional *typeexpr.Defaults
	// def is nil for a variable that must be given.
	def         hcl.Expression
	sensitive   bool
	validations []validation
	at          hcl.Range
	// faulty tells that the default is wrong, which has been reported.
	faulty bool
}

// A validation is a rule that the value of a variable has to keep.
type validation struct {
	condition hcl.Expression
	message   string
	at        hcl.Range
}

var variableSchema = &hcl.BodySchema{
	Attributes: []hcl.AttributeSchema{{Name: "type"}, {Name: "default"}, {Name: "description"}, {Name: "sensitive"}},
	Blocks:     []hcl.BlockHeaderSchema{{Type: "validation"}},
}

func (t *Template) readVariable(b *hcl.Block) hcl.Diagnostics {
	diags := identifier(b, 0)
	content, more := b.Body.Content(variableSchema)
	diags = append(diags, more...)
	v := &variable{name: b.Labels[0], at: b.DefRange}
	if a, ok := content.Attributes["type"]; ok {
		typ, optional, more := typeexpr.TypeConstraintWithDefaults(a.Expr)
		diags = append(diags, more...)
		if !more.HasErrors() {
			v.typ, v.optional = typ, optional
		}
	}
	if a, ok := content.Attributes["default"]; ok {
		v.def = a.Expr
		// What does not depend on the environment is wrong whoever asks.
		if more := v.badDefault(); more.HasErrors() {
			diags = append(diags, more...)
			v.faulty = true
		}
	}
	if a, ok := content.Attributes["description"]; ok {
		var text string
		diags = append(diags, gohcl.DecodeExpression(a.Expr, nil, &text)...)
	}
	if a, ok := content.Attributes["sensitive"]; ok {
		diags = append(diags, gohcl.DecodeExpression(a.Expr, nil, &v.sensitive)...)
	}
	for _, rule := range content.Blocks {
		r, more := readValidation(v.name, rule)
		diags = append(diags, more...)
		if !more.HasErrors() {
			v.validations = append(v.validations, r)
		}
	}
	return append(diags, t.addVariable(v)...)
}

// badDefault says what is wrong with the default, as far as that can be told
// without an environment.
func (v *variable) badDefault() hcl.Diagnostics {
	value, diags := v.def.Value(&hcl.EvalContext{Functions: function.InDefaults(nil)})
	if diags.HasErrors() || len(v.def.Variables()) > 0 || callsFunction(v.def) {
		return diags
	}
	if _, err := v.convert(value); err != nil {
		diags = append(diags, v.badDefaultType(err))
	}
	return diags
}

// callsFunction tells whether x calls anything, which can only be env.
func callsFunction(x hcl.Expression) bool {
	node, ok := x.(hclsyntax.Node)
	calls := false
	if ok {
		_ = hclsyntax.VisitAll(node, func(n hclsyntax.Node) hcl.Diagnostics {
			_, call := n.(*hclsyntax.FunctionCallExpr)
			calls = calls || call
			return nil
		})
	}
	return calls || !ok
}

func (v *variable) badDefaultType(err error) *hcl.Diagnostic {
	return failureAt(v.def.Range(), "Invalid default value for variable",
		"The default of variable %q is not compatible with its type: %s.", v.name, err)
}

func (t *Template) readVariables(b *hcl.Block) hcl.Diagnostics {
	attrs, diags := b.Body.JustAttributes()
	for _, a := range inOrder(attrs) {
		diags = append(diags, t.addVariable(&variable{name: a.Name, def: a.Expr, at: a.Range})...)
	}
	return diags
}

func (t *Template) addVariable(v *variable) hcl.Diagnostics {
	if other := t.variable(v.name); other != nil {
		return hcl.Diagnostics{failureAt(v.at, "Duplicate variable",
			"Variable %q is already declared at %s.", v.name, other.at)}
	}
	t.variables = append(t.variables, v)
	t.named["variable."+v.name] = v
	return nil
}

func (t *Template) variable(name string) *variable {
	v, _ := t.named["variable."+name].(*variable)
	return v
}

func readValidation(name string, b *hcl.Block) (validation, hcl.Diagnostics) {
	content, diags := b.Body.Content(&hcl.BodySchema{Attributes: []hcl.AttributeSchema{
		{Name: "condition", Required: true}, {Name: "error_message", Required: true},
	}})
	r := validation{at: b.DefRange}
	if a, ok := content.Attributes["condition"]; ok {
		r.condition = a.Expr
		refers := false
		for _, ref := range a.Expr.Variables() {
			if attr, ok := attrStep(ref, 1); ok && ref.RootName() == "var" && attr == name {
				refers = true
				continue
			}
			diags = append(diags, failureAt(ref.SourceRange(), "Invalid reference in variable validation",
				"The condition for variable %q can only refer to the variable itself, using var.%s.", name, name))
		}
		if !refers && !diags.HasErrors() {
			diags = append(diags, failureAt(a.Expr.Range(), "Invalid variable validation condition",
				"The condition for variable %q must refer to var.%s in order to test incoming values.", name, name))
		}
	}
	if a, ok := content.Attributes["error_message"]; ok {
		more := gohcl.DecodeExpression(a.Expr, nil, &r.message)
		if !more.HasErrors() && !sentence(r.message) {
			more = append(more, failureAt(a.Expr.Range(), "Invalid validation error message",
				"The error message must be at least one full sentence that starts with an uppercase letter and ends with a period, an exclamation mark or a question mark."))
		}
		diags = append(diags, more...)
	}
	return r, diags
}

func sentence(s string) bool {
	first, _ := utf8.DecodeRuneInString(s)
	last, _ := utf8.DecodeLastRuneInString(s)
	return unicode.IsUpper(first) && (last == '.' || last == '!' || last == '?')
}

// attrStep returns the name of the nth step of a reference.
func attrStep(ref hcl.Traversal, n int) (string, bool) {
	if n >= len(ref) {
		return "", false
	}
	switch step := ref[n].(type) {
	case hcl.TraverseAttr:
		return step.Name, true
	case hcl.TraverseIndex:
		if k := step.Key; k.Type() == cty.String && k.IsKnown() && !k.IsNull() {
			return k.AsString(), true
		}
	}
	return "", false
}
