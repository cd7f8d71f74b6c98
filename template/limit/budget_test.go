package limit_test

import (
	"context"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
	"github.com/zclconf/go-cty/cty/function"

	"github.com/bakehouse-farm/bakehouse/template/limit"
)

// refused tells how an error is not as a table wants it: with word in it, or
// none at all.
func refused(t *testing.T, err error, word string) {
	t.Helper()
	switch {
	case word == "" && err != nil:
		t.Errorf("refused: %v", err)
	case word != "" && (err == nil || !strings.Contains(err.Error(), word)):
		t.Errorf("%v; want something about %q", err, word)
	}
}

func numbers(n int) cty.Value {
	list := make([]cty.Value, n)
	for i := range list {
		list[i] = cty.NumberIntVal(int64(i))
	}
	return cty.TupleVal(list)
}

// power returns 2 to the n.
func power(n int) *big.Float { return new(big.Float).SetMantExp(big.NewFloat(1), n) }

// Documents and values just within each limit, and just beyond it.
func TestValues(t *testing.T) {
	weigh := func(v cty.Value) error { return limit.New().Weigh(v) }
	single := func(v cty.Value) error { return (*limit.Budget)(nil).Weigh(v) }
	doubled := cty.StringVal("x")
	for range 60 { // small in memory, endless to walk
		doubled = cty.TupleVal([]cty.Value{doubled, doubled})
	}
	aliases := func(n int) string {
		return "a: &a [" + repeat("1,", 999) + "1]\nb: [" + repeat("*a,", n-1) + "*a]\n"
	}
	for _, tt := range []struct {
		name string
		err  error
		want string
	}{
		{"data: depth", limit.Data(repeat("[", limit.Depth) + repeat("]", limit.Depth)), ""},
		{"data: too deep", limit.Data(repeat("{", limit.Depth+1)), "deep"},
		{"data: brackets after each other", limit.Data(repeat("[]", 2*limit.Depth)), ""},
		{"data: brackets in text", limit.Data(`"` + repeat(`[\"`, 2*limit.Depth) + `"`), ""},
		{"data: closed more than opened", limit.Data(repeat("]", 5) + repeat("[", limit.Depth+1)), "deep"},
		{"data: digits", limit.Data(repeat("1", limit.Bits)), ""},
		{"data: too many digits", limit.Data("[1, " + repeat("1", limit.Bits+1)), "digits"},
		{"data: digits in text", limit.Data(`"` + repeat("1", limit.Bits+1) + `"`), ""},

		{"yaml: aliases", limit.YAML(aliases(990)), ""},
		{"yaml: too many aliases", limit.YAML(aliases(1000)), "aliases"},
		{"yaml: aliases of aliases", limit.YAML("a: &a [1,1]\nb: &b [*a,*a]\nc: [*b,*b]\n"), ""},
		{"yaml: within itself", limit.YAML("a: &a [*a]\n"), ""},
		{"yaml: none at all", limit.YAML("a: [1"), ""},
		{"yaml: too deep", limit.YAML(repeat("[", limit.Depth+1)), "deep"},

		{"elements", weigh(numbers(limit.Elements - 1)), ""},
		{"too many elements", weigh(numbers(limit.Elements)), "elements"},
		{"too many without a budget", single(numbers(limit.Elements)), "elements"},
		{"elements of elements", weigh(doubled), "elements"},
		{"marked", weigh(doubled.Mark("secret")), "elements"},
		{"text", weigh(cty.StringVal(repeat("x", limit.Text))), ""},
		{"too much text", weigh(cty.StringVal(repeat("x", limit.Text+1))), "bytes"},
		{"too much text in keys", weigh(cty.ObjectVal(map[string]cty.Value{repeat("k", limit.Text): cty.StringVal("x")})), "bytes"},
		{"nothing", weigh(cty.NullVal(cty.String)), ""},
		{"unknown", weigh(cty.UnknownVal(cty.List(cty.String))), ""},
		{"great number within", weigh(cty.TupleVal([]cty.Value{cty.NumberVal(power(limit.Bits))})), "digits"},

		{"number", limit.Number(power(limit.Bits - 1)), ""},
		{"too great a number", limit.Number(power(limit.Bits)), "digits"},
		{"fraction", limit.Number(power(-limit.Bits - 1)), ""},
		{"too small a fraction", limit.Number(power(-limit.Bits - 2)), "digits"},
		{"negative", limit.Number(new(big.Float).Neg(power(limit.Bits))), "digits"},
		{"zero", limit.Number(new(big.Float)), ""},
		{"infinite", limit.Number(new(big.Float).SetInf(false)), ""},

		{"digits", limit.Digits(repeat("1", limit.Bits)), ""},
		{"too many digits", limit.Digits(repeat("1", limit.Bits+1)), "digits"},
		{"no digits at all", limit.Digits(repeat("x", limit.Bits+1)), ""},
		{"hexadecimal", limit.Digits("f00de9999"), ""},

		{"text to a number", limit.Convertible(cty.StringVal(repeat("1", limit.Bits+1)), cty.Number), "digits"},
		{"text stays text", limit.Convertible(cty.StringVal(repeat("1", limit.Bits+1)), cty.String), ""},
		{"text to numbers", limit.Convertible(cty.TupleVal([]cty.Value{cty.StringVal(repeat("1", limit.Bits+1))}), cty.List(cty.Number)), "digits"},
		{"secret text to numbers", limit.Convertible(cty.TupleVal([]cty.Value{cty.StringVal(repeat("1", limit.Bits+1)).Mark("s")}), cty.Set(cty.Number)), "digits"},
		{"text to a member", limit.Convertible(cty.ObjectVal(map[string]cty.Value{"a": cty.StringVal("1e9999")}), cty.Object(map[string]cty.Type{"a": cty.Number})), "digits"},
	} {
		t.Run(tt.name, func(t *testing.T) { refused(t, tt.err, tt.want) })
	}
}

// A budget is spent to the last, and no further.
func TestSpend(t *testing.T) {
	b := limit.New()
	refused(t, b.Spend(limit.Work), "")
	refused(t, b.Spend(1), "more work")
	b.Grant(limit.PerBuild + 1)
	refused(t, b.Spend(limit.PerBuild), "")
	refused(t, b.Spend(1), "more work")

	var none *limit.Budget
	none.Grant(1)
	refused(t, none.Spend(2*limit.Work), "")

	b = limit.New()
	ctx, cancel := context.WithCancelCause(t.Context())
	b.Until(ctx)
	refused(t, b.Spend(1), "")
	reason := errors.New("the agent stops")
	cancel(reason)
	if err := b.Spend(1); !errors.Is(err, reason) {
		t.Errorf("%v; want %v", err, reason)
	}
}

// Dynamic blocks make as many blocks as a template may have, not one more.
func TestExpand(t *testing.T) {
	b := limit.New()
	expand := func(v cty.Value) error {
		if d := b.Expand(v, hcl.StaticExpr(v, hcl.Range{Filename: "a.pkr.hcl"}), nil); d.HasErrors() {
			return d
		}
		return nil
	}
	refused(t, expand(numbers(limit.Blocks-2)), "")
	refused(t, expand(cty.UnknownVal(cty.List(cty.String))), "")
	refused(t, expand(numbers(2).Mark("secret")), "")
	refused(t, expand(numbers(1)), "blocks")
	b = limit.New()
	refused(t, b.Spend(limit.Work-100), "")
	refused(t, expand(numbers(10)), "more work")
}

// An expression costs what is promised, exactly.
func TestCosts(t *testing.T) {
	vars := map[string]cty.Value{
		"list": numbers(100),
		"text": cty.StringVal(repeat("x", 1600)),
		"big":  cty.NumberVal(power(limit.Bits - 2)),
		"long": cty.StringVal(repeat("1", limit.Bits+1)),
	}
	mix := make([]cty.Value, 20_001)
	for i := range mix {
		if mix[i] = cty.StringVal("a"); i%2 == 0 {
			mix[i] = cty.True
		}
	}
	vars["mix"], vars["fewer"] = cty.TupleVal(mix), cty.TupleVal(mix[1:])
	same := function.New(&function.Spec{
		Params: []function.Parameter{{Name: "v", Type: cty.DynamicPseudoType}},
		Type:   func(args []cty.Value) (cty.Type, error) { return args[0].Type(), nil },
		Impl:   func(args []cty.Value, _ cty.Type) (cty.Value, error) { return args[0], nil },
	})
	for _, tt := range []struct {
		expr  string
		costs int
		want  string // why it is refused, whatever is left
	}{
		{"list", 0, ""},
		{"1 + 2", 0, ""},
		{"[for x in list : x]", 1 + 100 + 100*limit.Turn, ""},
		{"{for i, x in list : i => x}", 1 + 100 + 100*limit.Turn, ""},
		{`"x${text}"`, 1 + 100, ""},
		{`"${text}"`, 0, ""}, // nothing is made
		{`"${text}-${text}"`, 2 * (1 + 100), ""},
		{"[for x in [for y in list : y] : x]", 2 * (1 + 100 + 100*limit.Turn), ""},
		{"big * 2", 0, ""},
		{"big * 4", 0, "digits"},
		{"big * big", 0, "digits"},
		{"1 / big / 16", 0, "digits"},
		{"1e3000", 0, ""},
		{"1e3100", 0, "digits"},
		{"list[1e3100]", 0, "digits"},
		{"long + 1", 0, "digits"},
		{"-long", 0, "digits"},
		{"long == 1", 0, ""},
		{"same(long)", 0, "digits"},
		{"same(fewer)", 0, ""},
		{"same(mix)", 0, "different types"},
	} {
		t.Run(tt.expr, func(t *testing.T) {
			evaluate := func(left int) error {
				x, diags := hclsyntax.ParseExpression([]byte(tt.expr), "a.pkr.hcl", hcl.InitialPos)
				if diags.HasErrors() {
					t.Fatal(diags)
				}
				if diags := limit.Instrument(x, nil); diags.HasErrors() {
					return diags
				}
				b := limit.New()
				if err := b.Spend(limit.Work - left); err != nil {
					t.Fatal(err)
				}
				ctx := &hcl.EvalContext{Variables: map[string]cty.Value{}, Functions: map[string]function.Function{"same": same}}
				for k, v := range vars {
					ctx.Variables[k] = v
				}
				limit.Put(ctx.Variables, b)
				if _, diags := x.Value(ctx.NewChild()); diags.HasErrors() {
					return diags
				}
				return nil
			}
			refused(t, evaluate(tt.costs), tt.want)
			if tt.want == "" && tt.costs > 0 {
				refused(t, evaluate(tt.costs-1), "more work")
			}
		})
	}
}

// Long tuples and objects are converted as short ones are.
func TestConvert(t *testing.T) {
	for _, n := range []int{3, 500, 501, 1500} {
		tuple := numbers(n)
		members := map[string]cty.Value{}
		for i, v := range tuple.AsValueSlice() {
			members[strings.Repeat("k", i+1)] = v
		}
		object := cty.ObjectVal(members)
		wrong := cty.TupleVal(append(tuple.AsValueSlice(), cty.StringVal("no number")))
		for _, tt := range []struct {
			name string
			v    cty.Value
			want cty.Type
		}{
			{"list", tuple, cty.List(cty.String)},
			{"set", tuple, cty.Set(cty.String)},
			{"map", object, cty.Map(cty.String)},
			{"marked", tuple.Mark("secret"), cty.List(cty.String)},
			{"tuple to map", tuple, cty.Map(cty.String)},
			{"object to list", object, cty.List(cty.String)},
			{"wrong", wrong, cty.List(cty.Number)},
			{"not converted", tuple, cty.DynamicPseudoType},
			{"null", cty.NullVal(tuple.Type()), cty.List(cty.String)},
			{"unknown", cty.UnknownVal(tuple.Type()), cty.List(cty.String)},
		} {
			got, err := limit.Convert(tt.v, tt.want)
			want, wantErr := convert.Convert(tt.v, tt.want)
			if (err == nil) != (wantErr == nil) {
				t.Errorf("%d, %s: %v; want %v", n, tt.name, err, wantErr)
				continue
			}
			if err != nil {
				var at cty.PathError
				var wantAt cty.PathError
				if errors.As(err, &at) != errors.As(wantErr, &wantAt) || len(at.Path) != len(wantAt.Path) {
					t.Errorf("%d, %s: %v at %v; want %v at %v", n, tt.name, err, at.Path, wantErr, wantAt.Path)
				}
				continue
			}
			if !got.RawEquals(want) {
				t.Errorf("%d, %s: %.200s; want %.200s", n, tt.name, got.GoString(), want.GoString())
			}
		}
	}
}

func TestReadFile(t *testing.T) {
	name := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, []byte("12345"), 0o600); err != nil {
		t.Fatal(err)
	}
	if b, err := limit.ReadFile(name, 5); err != nil || string(b) != "12345" {
		t.Errorf("%q, %v", b, err)
	}
	_, err := limit.ReadFile(name, 4)
	refused(t, err, "4 bytes")
	if _, err := limit.ReadFile("/dev/zero", 1000); err == nil {
		t.Error("read what has no end")
	}
	if _, err := limit.ReadFile(name+"x", 5); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing: %v", err)
	}
}
