package limit

import (
	"errors"
	"fmt"
	"reflect"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"
)

// root is the name under which an EvalContext holds its Budget. No expression
// can name it, and it is like no name that one could misspell.
const root = "\x00 what an evaluation may do \x00"

var budgetType = cty.Capsule("budget", reflect.TypeFor[Budget]())

// Put makes instrumented expressions that see vars spend from b.
func Put(vars map[string]cty.Value, b *Budget) {
	if b != nil {
		vars[root] = cty.CapsuleVal(budgetType, b)
	}
}

// of finds the budget that an evaluation spends from; nil when there is none.
func of(ctx *hcl.EvalContext) *Budget {
	for ; ctx != nil; ctx = ctx.Parent() {
		if v, ok := ctx.Variables[root]; ok {
			return v.EncapsulatedValue().(*Budget)
		}
	}
	return nil
}

// Instrument makes the expressions below node spend from the Budget of the
// context that they are evaluated in, or from otherwise where there is none. It
// changes node, and says where numbers are beyond what can be written down.
func Instrument(node hclsyntax.Node, otherwise *Budget) hcl.Diagnostics {
	guard := func(x hclsyntax.Expression, spend func(*Budget, cty.Value) error) hclsyntax.Expression {
		switch x := x.(type) {
		case *hclsyntax.LiteralValueExpr, *guarded:
			return x
		}
		return &guarded{ParenthesesExpr: &hclsyntax.ParenthesesExpr{Expression: x, SrcRange: x.Range()}, spend: spend, otherwise: otherwise}
	}
	return hclsyntax.VisitAll(node, func(n hclsyntax.Node) hcl.Diagnostics {
		switch n := n.(type) {
		case *hclsyntax.LiteralValueExpr:
			return literal(n.Val, n.SrcRange)
		case *hclsyntax.ScopeTraversalExpr:
			return steps(n.Traversal)
		case *hclsyntax.RelativeTraversalExpr:
			return steps(n.Traversal)
		case *hclsyntax.ForExpr:
			n.CollExpr = guard(n.CollExpr, turns)
		case *hclsyntax.TemplateExpr:
			for i, part := range n.Parts {
				n.Parts[i] = guard(part, (*Budget).Weigh)
			}
		case *hclsyntax.FunctionCallExpr:
			for i, arg := range n.Args {
				n.Args[i] = guard(arg, digits)
				if g, ok := n.Args[i].(*guarded); ok && !n.ExpandFinal {
					g.argument = true
				}
			}
		case *hclsyntax.UnaryOpExpr:
			if n.Op == hclsyntax.OpNegate {
				n.Val = guard(n.Val, digits)
			}
		case *hclsyntax.BinaryOpExpr:
			if n.Op.Type != cty.Number && n.Op.Impl.Params()[0].Type != cty.Number {
				break
			}
			n.LHS, n.RHS = guard(n.LHS, digits), guard(n.RHS, digits)
			if n.Op.Type == cty.Number {
				n.Op = &hclsyntax.Operation{Impl: bounded(n.Op.Impl), Type: n.Op.Type}
			}
		}
		return nil
	})
}

func literal(v cty.Value, at hcl.Range) hcl.Diagnostics {
	if v.Type() != cty.Number || v.IsNull() || !v.IsKnown() {
		return nil
	}
	if err := Number(v.AsBigFloat()); err != nil {
		return hcl.Diagnostics{beyond(at, err)}
	}
	return nil
}

func steps(way hcl.Traversal) hcl.Diagnostics {
	var diags hcl.Diagnostics
	for _, step := range way {
		if i, ok := step.(hcl.TraverseIndex); ok {
			diags = append(diags, literal(i.Key, i.SrcRange)...)
		}
	}
	return diags
}

func beyond(rng hcl.Range, err error) *hcl.Diagnostic {
	return at(rng, "Template goes beyond a limit", "%s.", capital(err.Error()))
}

// guarded is an expression whose value is looked at before it is used. What it
// embeds walks to the expression within, as hclsyntax wants it.
type guarded struct {
	*hclsyntax.ParenthesesExpr
	spend     func(*Budget, cty.Value) error
	otherwise *Budget
	// argument tells that it is one of a function.
	argument bool
}

// Value is hcl.Expression's.
func (g *guarded) Value(ctx *hcl.EvalContext) (cty.Value, hcl.Diagnostics) {
	v, diags := g.Expression.Value(ctx)
	if g.argument {
		short, err := shorten(v)
		if err != nil {
			return cty.DynamicVal, append(diags, beyond(g.SrcRange, err))
		}
		v = short
	}
	b := of(ctx)
	if b == nil {
		b = g.otherwise
	}
	if err := g.spend(b, v); err != nil {
		return cty.DynamicVal, append(diags, beyond(g.SrcRange, err))
	}
	return v, diags
}

// UnwrapExpression lets hcl see what is guarded.
func (g *guarded) UnwrapExpression() hcl.Expression { return g.Expression }

// turns counts what a for expression does with a collection.
func turns(b *Budget, v cty.Value) error {
	if err := b.Weigh(v); err != nil {
		return err
	}
	v, _ = v.Unmark()
	if !v.IsKnown() || v.IsNull() || !v.CanIterateElements() {
		return nil
	}
	return b.Spend(Turn * v.LengthInt())
}

// digits refuses a string that would be a number of many digits: making a
// number of it takes time that grows with the square of its length.
func digits(_ *Budget, v cty.Value) error {
	v, _ = v.Unmark()
	if v.IsNull() || !v.IsKnown() || v.Type() != cty.String {
		return nil
	}
	return Digits(v.AsString())
}

// Digits says whether s, taken for a number, is within the limits of one.
func Digits(s string) error {
	if strings.Trim(s, "0123456789.eE+-_ \n\t") != "" {
		return nil // no number: a checksum in hexadecimal may end like one
	}
	if i := strings.LastIndexAny(s, "eE"); i > 0 && i < len(s)-1 && i >= len(s)-32 && s[i-1] >= '.' && s[i-1] <= '9' && exponent([]byte(s[i+1:])) {
		return errors.New("a number may have about 3,000 digits; written down, this one has more")
	}
	if len(s) <= Bits {
		return nil
	}
	return fmt.Errorf("a number may be written with %d digits; this one has %d", Bits, len(s))
}

// bounded is an operation on numbers whose operands and result are within the
// limits of a number.
func bounded(op function.Function) function.Function {
	check := func(list ...cty.Value) error {
		for _, v := range list {
			if v.IsKnown() && !v.IsNull() {
				if err := Number(v.AsBigFloat()); err != nil {
					return err
				}
			}
		}
		return nil
	}
	return function.New(&function.Spec{
		Params: op.Params(),
		Type:   op.ReturnTypeForValues,
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			if err := check(args...); err != nil {
				return cty.NilVal, err
			}
			v, err := op.Call(args)
			if err == nil {
				err = check(v)
			}
			return v, err
		},
	})
}
