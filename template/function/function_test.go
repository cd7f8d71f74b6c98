package function

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	ctyjson "github.com/zclconf/go-cty/cty/json"

	"github.com/bakehouse-farm/bakehouse"
)

// world is an Env over a folder of its own.
func world(t *testing.T) (Env, *[]string) {
	t.Helper()
	root := t.TempDir()
	for name, content := range map[string]string{
		"home/me/t/a.txt":       "alpha\n",
		"home/me/t/sub/b.txt":   "beta",
		"home/me/t/sub/c.conf":  "gamma",
		"home/me/t/bin":         "\xff\xfe",
		"home/me/t/list.tpl":    "%{ for x in xs ~}\n${upper(x)}\n%{ endfor ~}\n",
		"home/me/t/again.tpl":   "${templatefile(\"a.txt\", {})}",
		"home/me/t/missing.tpl": "${nope}",
		"home/me/secret":        "s",
		"etc/x":                 "absolute",
	} {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	var read []string
	return Env{
		Files: bakehouse.Files{Root: root, Cwd: "/home/me", Home: "/home/me"}, Base: "t",
		Time: time.Date(2024, 2, 29, 12, 5, 6, 0, time.UTC), Seed: "seed",
		Reads: func(name string) { read = append(read, name) },
		Ask:   echo,
	}, &read
}

// echo answers with the question.
func echo(name string, args []cty.Value) (cty.Value, error) {
	for _, a := range args {
		a, _ := a.Unmark() // the marks are put back by who asks
		switch {
		case !a.IsKnown():
			return cty.UnknownVal(cty.String), nil
		case a.IsNull():
			name += " nothing"
		default:
			name += " " + a.AsString()
		}
	}
	return cty.StringVal(name), nil
}

func eval(t *testing.T, e Env, src string) (cty.Value, error) {
	t.Helper()
	x, diags := hclsyntax.ParseExpression([]byte(src), "test", hcl.InitialPos)
	if diags.HasErrors() {
		t.Fatalf("%s: %v", src, diags)
	}
	v, diags := x.Value(&hcl.EvalContext{
		Functions: All(e),
		Variables: map[string]cty.Value{
			"secret":  cty.StringVal("hush").Mark("sensitive"),
			"unknown": cty.UnknownVal(cty.String),
		},
	})
	if diags.HasErrors() {
		return v, diags
	}
	return v, nil
}

// A row is one case of testdata/cases.txt.
type row struct{ function, src, want string }

func rows(t *testing.T) []row {
	t.Helper()
	text, err := os.ReadFile("testdata/cases.txt")
	if err != nil {
		t.Fatal(err)
	}
	var all []row
	for _, line := range strings.Split(string(text), "\n") {
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		name, rest, ok := strings.Cut(line, ": ")
		src, want, both := strings.Cut(rest, " => ")
		if !ok || !both || !strings.Contains(src, name+"(") {
			t.Fatalf("%q is not of the form FUNCTION: CALL => RESULT", line)
		}
		all = append(all, row{name, src, want})
	}
	return all
}

func TestFunctions(t *testing.T) {
	e, _ := world(t)
	byName := map[string][]row{}
	for _, r := range rows(t) {
		byName[r.function] = append(byName[r.function], r)
	}
	for name, some := range byName {
		t.Run(name, func(t *testing.T) {
			for _, tt := range some {
				v, err := eval(t, e, tt.src)
				if want, fails := strings.CutPrefix(tt.want, "error: "); fails {
					if err == nil || !strings.Contains(err.Error(), want) {
						t.Errorf("%s: error %v, want %q", tt.src, err, want)
					}
					continue
				}
				if err != nil {
					t.Errorf("%s: %v", tt.src, err)
					continue
				}
				got, err := ctyjson.SimpleJSONValue{Value: v}.MarshalJSON()
				if err != nil || string(got) != tt.want {
					t.Errorf("%s = %s (%v), want %s", tt.src, got, err, tt.want)
				}
			}
		})
	}
}

// There are 103 functions, each of which the table above calls.
func TestEveryFunctionIsTested(t *testing.T) {
	all := All(Env{})
	if len(all) != 103 {
		t.Errorf("there are %d functions, Packer has 103", len(all))
	}
	for name := range all {
		called := false
		for _, tt := range rows(t) {
			called = called || tt.function == name
		}
		if !called {
			t.Errorf("no test calls %s", name)
		}
	}
}

// What functions make of something sensitive is told, in its new form.
func TestMarkedResults(t *testing.T) {
	e, _ := world(t)
	seen := map[string]bool{}
	e.Marked = func(v cty.Value) {
		plain, _ := v.UnmarkDeep()
		if plain.Type() == cty.String {
			seen[plain.AsString()] = true
		}
	}
	v, err := eval(t, e, `try("x ${base64encode(secret)}", "")`)
	if err != nil || !v.IsMarked() {
		t.Fatalf("%#v, %v: want a marked value", v, err)
	}
	if !seen["aHVzaA=="] {
		t.Errorf("base64 of the secret was not told: %v", seen)
	}
	if _, err := eval(t, e, `upper("plain")`); err != nil || seen["PLAIN"] {
		t.Errorf("a plain value was told (%v)", err)
	}
	for _, src := range []string{`convert(secret, string)`, `length(secret)`, `templatefile("list.tpl", { xs = [secret] })`} {
		if v, err := eval(t, e, src); err != nil || !v.IsMarked() {
			t.Errorf("%s lost the mark: %#v, %v", src, v, err)
		}
	}
}

// Without a clock, what tells the time is unknown rather than wrong.
func TestUnpinned(t *testing.T) {
	for _, src := range []string{"timestamp()", "legacy_isotime()", "legacy_strftime(\"%Y\")", "uuidv4()", "upper(unknown)"} {
		if v, err := eval(t, Env{}, src); err != nil || v.IsKnown() {
			t.Errorf("%s = %#v, %v; want unknown", src, v, err)
		}
	}
}

// Files that are read are told, so that they can travel.
func TestReads(t *testing.T) {
	e, read := world(t)
	if _, err := eval(t, e, `[file("a.txt"), file("~/secret"), fileexists("nope"), fileset("sub", "*.conf"), templatefile("list.tpl", { xs = [] })]`); err != nil {
		t.Fatal(err)
	}
	got := map[string]bool{}
	for _, name := range *read {
		got[name] = true
	}
	for _, want := range []string{"t/a.txt", "~/secret", "t/sub/c.conf", "t/list.tpl"} {
		if !got[want] {
			t.Errorf("%s is not told: %v", want, *read)
		}
	}
	if got["t/nope"] {
		t.Error("a file that is not there is told")
	}
}
