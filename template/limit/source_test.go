package limit_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"

	"github.com/bakehouse-farm/bakehouse/template/limit"
)

var repeat = strings.Repeat

// Sources just within each limit, and just beyond it. What is within must not
// be refused here, whatever a parser may say of it.
func TestFiles(t *testing.T) {
	config := func(s string) *hcl.Diagnostic { return limit.Source([]byte(s), "a.pkr.hcl") }
	text := func(s string) *hcl.Diagnostic { return limit.Template([]byte(s), "a.tpl") }
	json := func(s string) *hcl.Diagnostic { return limit.JSON([]byte(s), "a.pkr.json", true) }
	plain := func(s string) *hcl.Diagnostic { return limit.JSON([]byte(s), "a.json", false) }
	within := func(open, middle, end string) func(int) string {
		return func(n int) string { return "a = 1\nb = " + repeat(open, n) + middle + repeat(end, n) + "\n" }
	}
	member := func(before, open, middle, end, after string) func(int) string {
		return func(n int) string {
			return "{\n\"b\": " + before + repeat(open, n) + middle + repeat(end, n) + after + "\n}"
		}
	}
	const d, c = limit.Depth, limit.Chain
	for _, tt := range []struct {
		name    string
		look    func(string) *hcl.Diagnostic
		source  func(n int) string
		most    int
		summary string
		line    int // where it says that it is; 0: in the file
	}{
		{"bytes", config, func(n int) string { return repeat(" ", n) }, limit.File, "too large", 0},
		{"bytes of json", json, func(n int) string { return repeat(" ", n) }, limit.File, "too large", 0},
		{"words", config, func(n int) string { return repeat("ab ", n) }, limit.Words, "too much", 0},
		{"signs", config, func(n int) string { return repeat(";", n) }, limit.Words, "too much", 0},
		{"words of json", plain, func(n int) string { return repeat("1,", n/2) + repeat("1", n%2) }, limit.Words, "too much", 0},

		{"brackets", config, within("[", "", "]"), d, "too deep", 2},
		{"parentheses", config, within("(", "1", ")"), d, "too deep", 2},
		{"braces", config, within("{ a = ", "1", "}"), d, "too deep", 2},
		{"never closed", config, within("[", "", ""), d, "too deep", 2},
		{"calls", config, within("f(", "1", ")"), d, "too deep", 2},
		{"one bracket a line", config, within("[\n", "", "]"), d, "too deep", d + 2},
		{"strings", config, within(`"${`, "1", `}"`), d / 2, "too deep", 2},
		// The string and the head of the last block count, too.
		{"if in a string", config, func(n int) string {
			return "b = \"" + repeat("%{ if true }", n) + "x" + repeat("%{ endif }", n) + `"`
		}, d - 2, "too deep", 1},
		{"for in a string", config, func(n int) string {
			return "b = \"" + repeat("%{ for a in b }", n) + "x" + repeat("%{ endfor }", n) + `"`
		}, d - 2, "too deep", 1},
		{"if in a template", text, func(n int) string { return repeat("%{ if true }", n) + "x" + repeat("%{ endif }", n) }, d - 1, "too deep", 1},
		{"strings in a template", text, func(n int) string { return "${" + repeat(`"${`, n) + "1" + repeat(`}"`, n) + "}" }, (d - 1) / 2, "too deep", 1},

		{"plus", config, within(" 1 +", " 1", ""), c, "too deep", 2},
		{"not", config, within("!", "true", ""), c, "too deep", 2},
		{"questions", config, within("a ? b : ", "c", ""), c, "too deep", 2},
		{"dots", config, func(n int) string { return "b = c" + repeat(".d", n) }, c, "too deep", 1},
		{"plus within brackets", config, func(n int) string { return "b = [" + repeat("1 + ", n) + "1]" }, c - c/d, "too deep", 1},
		{"plus over lines", config, func(n int) string { return "b = (" + repeat("1 +\n", n) + "1)" }, c - c/d, "too deep", c - c/d + 1},
		// An index is a bracket while it is open.
		{"indexes", config, func(n int) string { return "b = c" + repeat("[0]", n) }, c - c/d + 1, "too deep", 1},

		{"name", config, func(n int) string { return "\n" + repeat("a", n) + " = 1" }, limit.Name, "Name is too long", 2},
		{"name with dashes", config, func(n int) string { return repeat("a-", n/2) + repeat("b", n%2) + " = 1" }, limit.Name, "Name is too long", 1},
		{"digits", config, func(n int) string { return "a = " + repeat("1", n) }, limit.Bits, "Number is too long", 1},

		{"json: brackets", json, member("", "[", "", "]", ""), d - 1, "too deep", 2},
		{"json: braces", plain, member("", `{"a":`, "1", "}", ""), d - 1, "too deep", 2},
		{"json: digits", plain, member("", "1", "", "", ""), limit.Bits, "Number is too long", 2},
		{"json: in a string", json, member(`"${`, "[", "", "]", `}"`), d - 1, "too deep", 2},
		{"json: operators in a string", json, member(`"${`, "1 +", "1", "", `}"`), c - c/d, "too deep", 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.look(tt.source(tt.most)); got != nil {
				t.Errorf("%d is refused: %v", tt.most, got)
			}
			got := tt.look(tt.source(tt.most + 1))
			if got == nil {
				t.Fatalf("%d is accepted", tt.most+1)
			}
			line := 0
			if got.Subject != nil {
				line = got.Subject.Start.Line
			}
			if got.Severity != hcl.DiagError || !strings.Contains(got.Summary, tt.summary) || line != tt.line {
				t.Errorf("line %d: %v; want %q on line %d", line, got, tt.summary, tt.line)
			}
		})
	}
}

// Much that is not deep is no trouble.
func TestFlat(t *testing.T) {
	const n = 3 * limit.Chain
	for name, src := range map[string]string{
		"statements":   repeat("a = 1 + 1\n", n),
		"elements":     "a = [" + repeat("1 + 1, ", n) + "]",
		"brackets":     "a = [" + repeat("[1], ", n) + "]",
		"blocks":       repeat("b {\n  a = b.c\n}\n", n),
		"strings":      repeat("a = \"${b}-${c}\"\n", n),
		"conditions":   repeat("a = \"%{ if b }x%{ else }y%{ endif }\"\n", n),
		"text":         "a = \"" + repeat("x+", n) + "\"",
		"long literal": "a = \"" + repeat("x", limit.Bits+1) + "\"",
		"comment":      "# " + repeat("((", n),
		"heredoc":      "a = <<EOT\n" + repeat("[[[ + + +\n", n) + "EOT\n",
		"not ended":    repeat("a = \"%{ if b }\"\n", n),
		"not begun":    repeat("a = \"%{ endif }\"\n", n),
	} {
		t.Run(name, func(t *testing.T) {
			if d := limit.Source([]byte(src), "a.pkr.hcl"); d != nil {
				t.Error(d)
			}
		})
	}
	for name, src := range map[string]string{
		"elements":      "[" + repeat("[1],", n) + "1]",
		"strings":       "[" + repeat(`"[[[",`, n) + "1]",
		"quotes":        `["` + repeat(`\"[`, n) + `"]`,
		"plain strings": `["` + repeat("1+", n) + `"]`,
		"hexadecimal":   `["` + repeat("0123456789abcdef", n) + `"]`,
	} {
		t.Run("json: "+name, func(t *testing.T) {
			if d := limit.JSON([]byte(src), "a.pkr.json", true); d != nil {
				t.Error(d)
			}
		})
	}
	// What is no template is not looked at as one.
	deep := `["${` + repeat("[", 2*limit.Depth) + `}"]`
	if d := limit.JSON([]byte(deep), "a.json", false); d != nil {
		t.Error(d)
	}
	if limit.JSON([]byte(deep), "a.pkr.json", true) == nil {
		t.Error("a deep template in a string is accepted")
	}
}

// A number with an exponent is as long as it would be written down.
func TestExponents(t *testing.T) {
	for _, tt := range []struct {
		number string
		ok     bool
	}{
		{"1e3000", true},
		{"1e3001", false},
		{"1E+3001", false},
		{"1e-3000", true},
		{"1e-3001", false},
		{"1.5e3001", false},
		{"1e" + repeat("9", 29), false},
		{"1e0", true},
	} {
		name := fmt.Sprintf("%.12s", tt.number)
		if d := limit.JSON([]byte(`{"a": `+tt.number+`}`), "a.json", false); (d == nil) != tt.ok {
			t.Errorf("json: %s: %v", name, d)
		}
		if err := limit.Digits(tt.number); (err == nil) != tt.ok {
			t.Errorf("digits: %s: %v", name, err)
		}
	}
}

// What is accepted does not exhaust the stack of the parser.
func TestParserSurvives(t *testing.T) {
	for name, src := range map[string]string{
		"brackets": "b = " + repeat("[", limit.Depth) + repeat("]", limit.Depth) + "\n",
		"strings":  "b = " + repeat(`"${`, limit.Depth/2) + "1" + repeat(`}"`, limit.Depth/2) + "\n",
		"plus":     "b = 1" + repeat(" + 1", limit.Chain) + "\n",
		"not":      "b = " + repeat("!", limit.Chain) + "true\n",
	} {
		t.Run(name, func(t *testing.T) {
			if d := limit.Source([]byte(src), "a.pkr.hcl"); d != nil {
				t.Fatal(d)
			}
			file, diags := hclsyntax.ParseConfig([]byte(src), "a.pkr.hcl", hcl.InitialPos)
			if diags.HasErrors() {
				t.Fatal(diags)
			}
			attrs, _ := file.Body.JustAttributes()
			if _, diags := attrs["b"].Expr.Value(nil); diags.HasErrors() {
				t.Error(diags)
			}
		})
	}
}
