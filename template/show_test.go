package template

import (
	"math/big"
	"strings"
	"testing"

	"github.com/zclconf/go-cty/cty"

	"github.com/bakehouse-farm/bakehouse"
)

func TestShow(t *testing.T) {
	secret := cty.StringVal("hidden").Mark(sensitive)
	big64, _, err := big.ParseFloat("9223372036854775808", 10, 512, big.ToNearestEven)
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name string
		v    cty.Value
		want string
	}{
		{"string", cty.StringVal("a\n\"b\""), "a\n\"b\""},
		{"empty string", cty.StringVal(""), ""},
		{"null", cty.NullVal(cty.String), "null"},
		{"whole number", cty.NumberIntVal(1_000_000), "1000000"},
		{"number beyond 64 bits", cty.NumberVal(big64), "9.223372036854776e+18"},
		{"fraction", cty.NumberFloatVal(0.5), "0.5"},
		{"infinity", cty.PositiveInfinity, "+Inf"},
		{"bool", cty.True, "true"},
		{"unknown", cty.UnknownVal(cty.String), Unknown},
		{"with something unknown", cty.TupleVal([]cty.Value{cty.True, cty.DynamicVal}), Unknown},
		{"empty", cty.TupleVal([]cty.Value{cty.EmptyObjectVal, cty.EmptyTupleVal, cty.MapValEmpty(cty.String)}), "[\n  {},\n  [],\n  {},\n]"},
		{"nested", cty.ObjectVal(map[string]cty.Value{
			"b": cty.ListVal([]cty.Value{cty.StringVal("x\ty"), cty.StringVal("")}),
			"a": cty.SetVal([]cty.Value{cty.NumberIntVal(2), cty.NumberIntVal(1)}),
			"n": cty.NullVal(cty.Number),
		}), "{\n  \"a\" = [\n    1,\n    2,\n  ]\n  \"b\" = [\n    \"x\\ty\",\n    \"\",\n  ]\n}"},
		{"sensitive string", secret, Hidden},
		{"sensitive number", cty.NumberIntVal(1).Mark(sensitive), Hidden},
		{"sensitive list", cty.ListVal([]cty.Value{cty.StringVal("hidden")}).Mark(sensitive), Hidden},
		{"sensitive null", cty.NullVal(cty.String).Mark(sensitive), Hidden},
		{"sensitive and unknown", cty.UnknownVal(cty.String).Mark(sensitive), Unknown},
		{"with something sensitive", cty.ObjectVal(map[string]cty.Value{
			"a": secret, "b": cty.NullVal(cty.String).Mark(sensitive), "c": cty.ListVal([]cty.Value{cty.StringVal("hidden")}).Mark(sensitive),
		}), "{\n  \"a\" = \"<sensitive>\"\n  \"b\" = \"<sensitive>\"\n  \"c\" = \"<sensitive>\"\n}"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := Show(tt.v); got != tt.want {
				t.Errorf("got:\n%s\nwant:\n%s", got, tt.want)
			}
		})
	}
}

// Each line of a console has its own clock, its own random values, and its own
// limits; what one line costs is not taken from the next.
func TestConsoleLines(t *testing.T) {
	con, diags := Empty(bakehouse.Files{Cwd: "/"}, Catalogue{}, false).Console(Values{}, pinned)
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	ask := func(line string, pin Pinned) string {
		t.Helper()
		got, diags := con.Evaluate(line, pin)
		if diags.HasErrors() {
			t.Fatalf("%s: %v", line, diags)
		}
		return got
	}
	if a, b := ask("uuidv4()", pinned), ask("uuidv4()", pinned); a == b {
		t.Errorf("the same uuid twice: %s", a)
	}
	later := pinned
	later.Time = pinned.Time.AddDate(1, 0, 0)
	if a, b := ask("timestamp()", pinned), ask("timestamp()", later); a == b {
		t.Errorf("the clock stands still at %s", a)
	}
	const cube = "[for a in range(1000) : [for b in range(1000) : [for c in range(1000) : 1]]]"
	if _, diags := con.Evaluate(cube, pinned); !diags.HasErrors() {
		t.Errorf("%s is no error", cube)
	}
	if _, diags := con.Evaluate(strings.Repeat("(", 100_000), pinned); !diags.HasErrors() {
		t.Error("deep nesting is no error")
	}
	if got := ask("length([for a in range(1000) : upper(a)])", pinned); got != "1000" {
		t.Errorf("after one that was too much: %s", got)
	}
}
