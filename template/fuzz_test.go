package template

import (
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/tools/txtar"

	"github.com/bakehouse-farm/bakehouse"
)

// kitchen holds files that templates may read, in a root of their own, so that
// nothing outside is read however a name is written.
func kitchen(t *testing.T) bakehouse.Files {
	t.Helper()
	f := bakehouse.Files{Root: t.TempDir(), Cwd: "/home/me", Home: "/home/me"}
	for name, text := range map[string]string{
		"a.sh": "#!/bin/sh\n", "a.tpl": "${x}%{for y in z}${y}%{endfor}",
	} {
		if err := os.MkdirAll(f.Path("."), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(f.Path(name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return f
}

// bake does to a template all that submit and an agent do: it must neither
// panic nor hang, and a template that Check takes must not fail the Plan
// in another way than by what only the Plan knows.
func bake(t *testing.T, f bakehouse.Files, path string, in Inputs) {
	t.Helper()
	start := time.Now()
	tpl, diags := Load(path, f, catalogue())
	values, more := tpl.Variables(in)
	diags = append(diags, more...)
	diags = append(diags, tpl.Check(values, Selection{}, pinned)...)
	WriteDiagnostics(io.Discard, diags, tpl, false, 80)
	if !diags.HasErrors() {
		raw, err := json.Marshal(values)
		if err != nil {
			t.Fatalf("values cannot be sent: %v", err)
		}
		var sent Values
		if err := json.Unmarshal(raw, &sent); err != nil {
			t.Fatalf("values cannot be received: %v\n%s", err, raw)
		}
		tpl.LocalFiles(sent, Selection{}, pinned)
		_, _ = tpl.Select(sent, Selection{})
		plan, diags := tpl.Plan(context.Background(), sent, Selection{}, pinned)
		WriteDiagnostics(io.Discard, diags, tpl, false, 0)
		if !diags.HasErrors() {
			runLate(t, tpl, plan)
		}
	}
	if d := time.Since(start); d > 30*time.Second {
		t.Errorf("took %s", d)
	}
}

// runLate sends a plan as it travels, and evaluates what runs later.
func runLate(t *testing.T, tpl *Template, plan *Plan) {
	t.Helper()
	raw, err := json.Marshal(plan)
	if err != nil {
		t.Fatalf("plan cannot be sent: %v", err)
	}
	var sent Plan
	if err := json.Unmarshal(raw, &sent); err != nil {
		t.Fatalf("plan cannot be received: %v\n%s", err, raw)
	}
	for _, b := range sent.Builds {
		for _, p := range b.Provisioners {
			_, diags := tpl.Provisioner(sent.Scope, b, p, map[string]string{"ID": "i-1"})
			WriteDiagnostics(io.Discard, diags, tpl, false, 0)
		}
		for _, chain := range b.PostProcessors {
			for _, p := range chain {
				_, diags := tpl.PostProcessor(sent.Scope, b, p, map[string]string{"ID": "i-1"})
				WriteDiagnostics(io.Discard, diags, tpl, false, 0)
			}
		}
	}
}

// archived adds the templates of the golden archives with a suffix as seeds.
func archived(f *testing.F, suffix string) {
	f.Helper()
	names, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(names) == 0 {
		f.Fatal("no archives", err)
	}
	for _, name := range names {
		a, err := txtar.ParseFile(name)
		if err != nil {
			f.Fatal(err)
		}
		for _, file := range a.Files {
			if strings.HasSuffix(file.Name, suffix) && !strings.Contains(file.Name, "pkrvars") {
				f.Add(string(file.Data))
			}
		}
	}
}

// fuzzed bakes a template of one file.
func fuzzed(f *testing.F, name string) {
	f.Helper()
	f.Fuzz(func(t *testing.T, src string) {
		if len(src) > 64<<10 {
			t.Skip("size is for TestHostile")
		}
		files := kitchen(t)
		if err := os.WriteFile(files.Path(name), []byte(src), 0o600); err != nil {
			t.Fatal(err)
		}
		bake(t, files, name, Inputs{Vars: []string{"v=[1]"}, Environ: []string{"PKR_VAR_w=1", "HOME=/home/me"}})
	})
}

func FuzzHCL(f *testing.F) {
	archived(f, ".pkr.hcl")
	f.Add("variable \"v\" {\n  type = list(object({ a = optional(string, \"x\") }))\n  sensitive = true\n}\n" +
		"locals {\n  f = [for k, x in var.v : templatefile(\"a.tpl\", { x = x, z = [1] })...]\n}\n" +
		"source \"null\" \"n\" {\n  communicator = \"none\"\n}\n" +
		"build {\n  dynamic \"source\" {\n    for_each = [1]\n    labels = [\"null.n\"]\n    content {\n      name = \"a${source.key}\"\n    }\n  }\n" +
		"  provisioner \"shell\" {\n    inline = [build.ID, try(local.f[0], \"x\")]\n    override = { n = { inline = [] } }\n  }\n}\n")
	fuzzed(f, "t.pkr.hcl")
}

func FuzzJSON(f *testing.F) {
	archived(f, ".pkr.json")
	f.Add(`{"variable":{"v":{"type":"any","sensitive":true}},"locals":{"l":"${[for x in var.v : \"%{if x == 1}a%{endif}\"]}","o":{"${1}":"${2}"}},` +
		`"source":{"null":{"n":{"communicator":"none"}}},"build":{"sources":["null.n"],"provisioner":{"shell":{"inline":"${local.l}"}},` +
		`"dynamic":{"post-processor":{"for_each":[1],"labels":["manifest"],"content":{"output":"${post-processor.value}"}}}}}`)
	fuzzed(f, "t.pkr.json")
}

func FuzzLegacy(f *testing.F) {
	archived(f, ".json")
	f.Add("{\"variables\":{\"v\":\"{{env `HOME`}}\",\"w\":\"{{user `v`}}-{{range $i, $x := .}}{{end}}\"},\"sensitive-variables\":[\"v\"]," +
		"\"builders\":[{\"type\":\"null\",\"name\":\"n{{user `v`}}\",\"communicator\":\"none\"}]," +
		"\"provisioners\":[{\"type\":\"shell\",\"inline\":[\"{{build `ID`}} {{.Vars}}\"],\"override\":{\"n\":{\"inline\":\"x\"}}}]," +
		"\"post-processors\":[[\"manifest\",{\"type\":\"manifest\",\"output\":\"{{timestamp}}\"}]]}")
	fuzzed(f, "t.json")
}

// Variables come from files and from the command line.
func FuzzVariables(f *testing.F) {
	f.Add("v = [1, { a = \"x\" }]\nw = 1e99", `[{a="x"}]`)
	f.Add("v = [for x in [1] : x]", "${1}")
	f.Add("n = 1e999999999\nm = {a = 1}", "null")
	f.Fuzz(func(t *testing.T, file, flag string) {
		if len(file) > 64<<10 {
			t.Skip("size is for TestHostile")
		}
		files := kitchen(t)
		for name, text := range map[string]string{
			"t.pkr.hcl": "variable \"v\" {\n  type = any\n  default = 1\n}\nvariable \"w\" {\n  default = true\n  sensitive = true\n}\n" +
				"variable \"n\" {\n  type = number\n  default = 1\n}\nvariable \"m\" {\n  type = map(list(string))\n  default = {}\n}\n" +
				"variable \"o\" {\n  type = object({ a = optional(number, 1), b = set(string) })\n  default = { b = [] }\n}\n" +
				"locals {\n  all = jsonencode([var.v, var.w, var.n, var.m, var.o])\n}\n" +
				"source \"null\" \"n\" {\n  communicator = \"none\"\n}\nbuild {\n  sources = [\"null.n\"]\n}\n",
			"v.pkrvars.hcl": file,
		} {
			if err := os.WriteFile(files.Path(name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		for _, name := range []string{"v", "w", "n", "m", "o"} {
			bake(t, files, "t.pkr.hcl", Inputs{VarFiles: []string{"v.pkrvars.hcl"}, Vars: []string{name + "=" + flag}, WarnUndeclared: true})
		}
	})
}

// The console evaluates what somebody types.
func FuzzConsole(f *testing.F) {
	for _, line := range []string{
		"upper(var.x)", "{ for k, v in var.o : k => v... }", "var.o[*].a", "format(\"%5.2f %[1]q\", 1.5)", "%{", "${", "regexall(\"(a)(b)?\", \"ab\")",
		"cidrsubnets(\"10.0.0.0/8\", 4, 4)", "yamldecode(\"a: &a [1]\\nb: *a\")", "templatefile(\"a.tpl\", { x = 1, z = [2] })", "formatdate(\"YYYY'x'\", timestamp())",
		"try(jsondecode(\"{\"), convert(1, list(any)))", "setproduct([1], [2], var.s)", "pow(2, 1e9) - 1e308", "-\"1\" % 0", "{{timestamp}} {{user `x`}}", "1e400 * 1e400",
	} {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, line string) {
		files := kitchen(t)
		src := "variable \"x\" {\n  default = \"s\"\n  sensitive = true\n}\nvariable \"o\" {\n  default = { a = 1, b = [2] }\n}\nvariable \"s\" {\n  type = set(string)\n  default = [\"a\"]\n}\n"
		if err := os.WriteFile(files.Path("t.pkr.hcl"), []byte(src), 0o600); err != nil {
			t.Fatal(err)
		}
		tpl, _ := Load("t.pkr.hcl", files, catalogue())
		values, diags := tpl.Variables(Inputs{})
		if diags.HasErrors() {
			t.Fatal(diags)
		}
		c, diags := tpl.Console(values, pinned)
		if diags.HasErrors() {
			t.Fatal(diags)
		}
		_, diags = c.Evaluate(line, pinned)
		WriteDiagnostics(io.Discard, diags, tpl, false, 0)
		empty, bad := Empty(files, catalogue(), true).Console(Values{}, pinned)
		if !bad.HasErrors() {
			_, _ = empty.Evaluate(line, pinned)
		}
	})
}
