package function

import (
	"strings"
	"testing"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
)

// plain are the functions that the test below leaves out, and why.
var plain = map[string]string{
	"timestamp":  "has no argument",
	"uuidv4":     "has no argument",
	"can":        "tells whether an expression can be evaluated, nothing of its value",
	"try":        "passes values on as they are: TestMarkedResults",
	"rsadecrypt": "needs a key: TestRSADecrypt",
}

// Whatever is made of something sensitive is sensitive: each argument of each
// function in turn is, in every case of the table that succeeds.
func TestSensitiveArguments(t *testing.T) {
	e, _ := world(t)
	e.Ask = func(string, []cty.Value) (cty.Value, error) { return cty.StringVal("answer"), nil }
	all := All(e)
	tested := map[string]bool{}
	for _, tt := range rows(t) {
		x, diags := hclsyntax.ParseExpression([]byte(tt.src), "test", hcl.InitialPos)
		if diags.HasErrors() {
			continue // its error is what the case is about
		}
		_ = hclsyntax.VisitAll(x, func(n hclsyntax.Node) hcl.Diagnostics {
			call, ok := n.(*hclsyntax.FunctionCallExpr)
			if !ok {
				return nil
			}
			for i := range call.Args {
				if _, out := plain[call.Name]; out || call.Name == "convert" && i > 0 { // a type
					continue
				}
				marked := *call
				marked.Args = append([]hclsyntax.Expression(nil), call.Args...)
				marked.Args[i] = &sensitiveExpr{&hclsyntax.ParenthesesExpr{Expression: call.Args[i], SrcRange: call.Args[i].Range()}}
				v, diags := marked.Value(&hcl.EvalContext{Functions: all, Variables: map[string]cty.Value{
					"secret": cty.StringVal("hush"), "unknown": cty.UnknownVal(cty.String),
				}})
				if diags.HasErrors() {
					continue
				}
				tested[call.Name] = true
				if !v.ContainsMarked() {
					t.Errorf("%s: with a sensitive argument %d of %s the result is not: %#v", tt.src, i+1, call.Name, v)
				}
			}
			return nil
		})
	}
	for name := range all {
		if _, out := plain[name]; !out && !tested[name] {
			t.Errorf("%s has no case that succeeds", name)
		}
	}
}

// sensitiveExpr is an expression whose value is sensitive.
type sensitiveExpr struct{ *hclsyntax.ParenthesesExpr }

// Value is hcl.Expression's.
func (s *sensitiveExpr) Value(ctx *hcl.EvalContext) (cty.Value, hcl.Diagnostics) {
	v, diags := s.Expression.Value(ctx)
	return v.Mark("sensitive"), diags
}

// UnwrapExpression lets hcl see what is within.
func (s *sensitiveExpr) UnwrapExpression() hcl.Expression { return s.Expression }

// A function that fails does not tell its sensitive argument, be it ever so short.
func TestSensitiveArgumentsInErrors(t *testing.T) {
	e, _ := world(t)
	for _, src := range []string{
		`cidrhost(s, 1)`, `textencodebase64("x", s)`, `file(s)`, `regex(s, "x")`, `jsondecode(s)`, `parseint(s, 2)`, `formatdate(s, s)`, `lookup({}, s)`,
	} {
		for _, secret := range []string{"q(", "hush(hush"} {
			x, diags := hclsyntax.ParseExpression([]byte(src), "test", hcl.InitialPos)
			if diags.HasErrors() {
				t.Fatal(diags)
			}
			_, diags = x.Value(&hcl.EvalContext{Functions: All(e), Variables: map[string]cty.Value{"s": cty.StringVal(secret).Mark("sensitive")}})
			if !diags.HasErrors() {
				t.Errorf("%s with %q does not fail", src, secret)
			}
			for _, d := range diags {
				if strings.Contains(d.Summary+d.Detail, secret) {
					t.Errorf("%s tells %q: %s", src, secret, d.Detail)
				}
			}
		}
	}
}
