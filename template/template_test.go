package template

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"
	"golang.org/x/tools/txtar"

	"github.com/bakehouse-farm/bakehouse"
	"github.com/bakehouse-farm/bakehouse/datasources"
)

// with lays files out and returns the scene of them.
func with(t *testing.T, archive string) scene {
	t.Helper()
	return unpack(t, txtar.Parse([]byte(archive)))
}

// mustLoad parses a template that has no fault.
func mustLoad(t *testing.T, s scene) *Template {
	t.Helper()
	tpl, diags := Load(s.path, s.files, catalogue())
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	return tpl
}

// The sources of a variable's value, from low to high: each beats all before it.
func TestPrecedence(t *testing.T) {
	const (
		template = `
-- t.pkr.hcl --
variable "v" {
  default = "default"
}
source "null" "a" {}
build {
  sources = ["null.a"]
}
-- one.pkrvars.hcl --
v = "file one"
-- two.pkrvars.json --
{"v": "file two"}
`
		autoHCL  = "-- b.auto.pkrvars.hcl --\nv = \"auto b\"\n"
		autoJSON = "-- a.auto.pkrvars.json --\n{\"v\": \"auto json\"}\n"
	)
	env := []string{"PKR_VAR_v=env", "PKR_VAR_other=ignored"}
	tests := []struct {
		name, auto, path string
		in               Inputs
		want             string
	}{
		{"default", "", ".", Inputs{}, "default"},
		{"environment", "", ".", Inputs{Environ: env}, "env"},
		{"auto file", autoHCL, ".", Inputs{Environ: env}, "auto b"},
		{"auto json after auto hcl", autoHCL + autoJSON, ".", Inputs{Environ: env}, "auto json"},
		{"no auto files for a single file", autoHCL + autoJSON, "t.pkr.hcl", Inputs{Environ: env}, "env"},
		{"file", autoHCL + autoJSON, ".", Inputs{Environ: env, VarFiles: []string{"one.pkrvars.hcl"}}, "file one"},
		{"last file", "", ".", Inputs{VarFiles: []string{"one.pkrvars.hcl", "two.pkrvars.json"}}, "file two"},
		{"last file, the other way", "", ".", Inputs{VarFiles: []string{"two.pkrvars.json", "one.pkrvars.hcl"}}, "file one"},
		{"flag", autoHCL, ".", Inputs{Environ: env, VarFiles: []string{"one.pkrvars.hcl"}, Vars: []string{"v=flag"}}, "flag"},
		{"last flag", "", ".", Inputs{Vars: []string{"v=1", "v=a=b"}}, "a=b"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := with(t, template+tt.auto)
			s.path = tt.path
			values, diags := mustLoad(t, s).Variables(tt.in)
			if diags.HasErrors() {
				t.Fatal(diags)
			}
			if got := values.vars["v"]; !got.RawEquals(cty.StringVal(tt.want)) {
				t.Errorf("v = %#v, want %q", got, tt.want)
			}
		})
	}
}

func TestSelect(t *testing.T) {
	s := with(t, `
-- t.pkr.hcl --
source "null" "one" {}
source "null" "two" {}
source "file" "one" {}
build {
  sources = ["null.one", "file.one"]
}
build {
  name    = "b${"b"}"
  sources = ["null.two"]
  source "null.one" {
    name = "local"
  }
}
`)
	tests := []struct {
		only, except []string
		want         string
		said         string
	}{
		{nil, nil, "null.one file.one bb.null.two bb.null.local", ""},
		{[]string{"null.one"}, nil, "null.one", ""},
		{[]string{"*.null.*"}, nil, "bb.null.two bb.null.local", ""},
		{[]string{"*one"}, nil, "null.one file.one", ""},
		{[]string{"{file,bb}.*"}, nil, "file.one bb.null.two bb.null.local", ""},
		{nil, []string{"*null*"}, "file.one", ""},
		{[]string{"null.*"}, []string{"*.one"}, "", "No builds to run"},
		{[]string{"nope", "file.*"}, nil, "file.one", "an 'only' option was passed, but not all matches were found for the given build."},
		{[]string{"[a"}, nil, "", "Invalid -only pattern [a"},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprint(tt.only, tt.except), func(t *testing.T) {
			names, diags := mustLoad(t, s).Select(Values{}, Selection{tt.only, tt.except})
			if got := strings.Join(names, " "); got != tt.want {
				t.Errorf("%q, want %q", got, tt.want)
			}
			said := false
			for _, d := range diags {
				said = said || d.Summary == tt.said
			}
			if said != (tt.said != "") || !said && len(diags) > 0 {
				t.Errorf("said %v, want %q", diags, tt.said)
			}
		})
	}
	if diags := mustLoad(t, s).Check(Values{}, Selection{Only: []string{"nope"}}, pinned); diags.HasErrors() {
		t.Errorf("Check without a match fails: %v", diags)
	}
}

func TestSelectWhatCannotBeKnown(t *testing.T) {
	s := with(t, `
-- t.pkr.hcl --
source "null" "one" {}
build {
  name    = timestamp()
  sources = ["null.one"]
}
`)
	if _, diags := mustLoad(t, s).Select(Values{}, Selection{}); !diags.HasErrors() {
		t.Error("a build whose name depends on the clock has a name before the clock is pinned")
	}
}

func TestSelectLegacy(t *testing.T) {
	s := with(t, `
-- t.json --
{"builders": [{"type": "null"}, {"type": "null", "name": "n"}]}
`)
	s.path = "t.json"
	for only, want := range map[string]string{"": "null null.n", "n": "null.n", "null": "null", "null.n": "", "nu*": ""} {
		var sel Selection
		if only != "" {
			sel.Only = []string{only}
		}
		names, _ := mustLoad(t, s).Select(Values{}, sel)
		if got := strings.Join(names, " "); got != want {
			t.Errorf("-only=%s leaves %q, want %q", only, got, want)
		}
	}
}

// Values travel to the agent: nothing may be lost on the way.
func TestValuesTravel(t *testing.T) {
	secret := cty.StringVal("hush").Mark(sensitive)
	in := map[string]cty.Value{
		"string": cty.StringVal("a\u0000\"é"),
		"number": cty.MustParseNumberVal("12345678901234567890.125"),
		"bool":   cty.True,
		"null":   cty.NullVal(cty.List(cty.String)),
		"any":    cty.NullVal(cty.DynamicPseudoType),
		"list":   cty.ListVal([]cty.Value{cty.StringVal("a"), secret}),
		"empty":  cty.ListValEmpty(cty.Number),
		"set":    cty.SetVal([]cty.Value{cty.StringVal("b"), cty.StringVal("a")}),
		"map":    cty.MapVal(map[string]cty.Value{"k": secret, "l": cty.StringVal("x")}),
		"object": cty.ObjectVal(map[string]cty.Value{"a": cty.TupleVal([]cty.Value{cty.Zero, secret}), "b": cty.NullVal(cty.String)}),
		"secret": cty.ObjectVal(map[string]cty.Value{"a": cty.StringVal("x")}).Mark(sensitive),
	}
	out := throughJSON(t, Values{vars: in, env: map[string]string{"HOME": "/root"}, raw: map[string]bool{"string": true}})
	for name, want := range in {
		if got := out.vars[name]; !got.RawEquals(want) {
			t.Errorf("%s: %#v came out as %#v", name, want, got)
		}
	}
	if diff := cmp.Diff(map[string]string{"HOME": "/root"}, out.env); diff != "" || !out.raw["string"] {
		t.Errorf("env: %s raw: %v", diff, out.raw)
	}
	scope := throughJSON(t, Scope{vars: in, locals: in, data: in, pin: pinned})
	if !scope.locals["object"].RawEquals(in["object"]) || !scope.data["secret"].RawEquals(in["secret"]) || !scope.pin.Time.Equal(pinned.Time) {
		t.Errorf("scope came out as %#v", scope)
	}
}

// Made again from the same Pinned, a plan is the same, byte for byte; made from
// another it is not.
func TestPinnedPlan(t *testing.T) {
	s := with(t, `
-- t.pkr.hcl --
locals {
  id = uuidv4()
}
source "amazon-ebs" "a" {
  region   = "r"
  ami_name = "${local.id}-{{uuid}}-{{timestamp}}-{{isotime \"02\"}}-${uuidv4()}"
}
build {
  sources = ["amazon-ebs.a"]
}
`)
	plan := func(pin Pinned) string {
		p, diags := mustLoad(t, s).Plan(context.Background(), Values{}, Selection{}, pin)
		if diags.HasErrors() {
			t.Fatal(diags)
		}
		js, err := json.Marshal(p.Builds)
		if err != nil {
			t.Fatal(err)
		}
		return string(js)
	}
	first := plan(pinned)
	if diff := cmp.Diff(first, plan(pinned)); diff != "" {
		t.Error(diff)
	}
	other := pinned
	other.Seed = "other"
	later := pinned
	later.Time = later.Time.Add(time.Second)
	if first == plan(other) || first == plan(later) {
		t.Error("another seed or time gives the same plan")
	}
	if _, diags := mustLoad(t, s).Plan(context.Background(), Values{}, Selection{}, Pinned{}); !diags.HasErrors() {
		t.Error("a plan without a time is made")
	}
}

// A build that is planned from one template is not carried out from another.
func TestTemplateChanged(t *testing.T) {
	s := with(t, "-- t.pkr.hcl --\nsource \"null\" \"a\" {}\nbuild {\n  sources = [\"null.a\"]\n  provisioner \"shell\" {\n    inline = [\"x\"]\n  }\n}\n")
	tpl := mustLoad(t, s)
	plan, diags := tpl.Plan(context.Background(), Values{}, Selection{}, pinned)
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	b := plan.Builds[0]
	for name, p := range map[string]PlannedProvisioner{
		"type": {Index: 0, Type: "file"}, "index": {Index: 1, Type: "shell"}, "cleanup": {Index: -1, Type: "shell"},
	} {
		if _, diags := tpl.Provisioner(plan.Scope, b, p, nil); !diags.HasErrors() {
			t.Errorf("%s: evaluated", name)
		}
	}
	if _, diags := tpl.PostProcessor(plan.Scope, b, PlannedPostProcessor{Type: "manifest"}, nil); !diags.HasErrors() {
		t.Error("a post-processor that is not there is evaluated")
	}
	b.Use = 3
	if _, diags := tpl.Provisioner(plan.Scope, b, b.Provisioners[0], nil); !diags.HasErrors() {
		t.Error("a source that is not there is evaluated")
	}
}

// Provisioners of many builds are evaluated at once from one Template.
func TestConcurrentUse(t *testing.T) {
	for _, s := range []scene{
		with(t, "-- t.pkr.hcl --\nlocals {\n  x = \"y\"\n}\nsource \"null\" \"a\" {}\nbuild {\n  sources = [\"null.a\"]\n  provisioner \"shell\" {\n    inline = [\"${local.x} ${build.ID} ${build.name} ${build.PackerRunUUID}\"]\n  }\n}\n"),
		with(t, "-- args --\npath t.json\n-- t.json --\n{\"variables\": {\"x\": \"y\"}, \"builders\": [{\"type\": \"null\", \"name\": \"a\"}], \"provisioners\": [{\"type\": \"shell\", \"inline\": [\"{{user `x`}} {{build `ID`}} a "+pinned.RunUUID+"\"]}]}"),
	} {
		tpl := mustLoad(t, s)
		values, _ := tpl.Variables(Inputs{})
		plan, diags := tpl.Plan(context.Background(), values, Selection{}, pinned)
		if diags.HasErrors() {
			t.Fatal(diags)
		}
		b := plan.Builds[0]
		var all sync.WaitGroup
		for i := range 8 {
			all.Go(func() {
				id := fmt.Sprintf("i-%d", i)
				settings, diags := tpl.Provisioner(plan.Scope, b, b.Provisioners[0], map[string]string{"ID": id})
				want := `{"inline":["y ` + id + ` a ` + pinned.RunUUID + `"]}`
				if diags.HasErrors() || string(settings) != want {
					t.Errorf("%s (%v), want %s", settings, diags, want)
				}
			})
		}
		all.Wait()
	}
}

// What a sensitive value is never shows, wherever it has gone wrong.
func TestDiagnosticsKeepSecrets(t *testing.T) {
	s := with(t, `
-- t.pkr.hcl --
variable "key" {
  sensitive = true
}
locals {
  parsed = parseint(var.key, 10)
  text   = "key is ${var.key}"
}
source "amazon-ebs" "a" {
  region      = "r"
  ami_name    = "${local.text}:"
  ssh_port    = var.key
  ssh_timeout = local.text
}
build {
  sources = ["amazon-ebs.a"]
  provisioner "shell" {
    script = var.key
  }
}
`)
	tpl := mustLoad(t, s)
	values, diags := tpl.Variables(Inputs{Vars: []string{"key=hunter22-hunter22"}})
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	diags = tpl.Check(values, Selection{}, pinned)
	var out bytes.Buffer
	WriteDiagnostics(&out, diags, tpl, true, 80)
	if n := len(diags.Errs()); n < 4 {
		t.Errorf("only %d errors:\n%s", n, out.String())
	}
	if strings.Contains(out.String(), "hunter22") {
		t.Errorf("the secret shows:\n%s", out.String())
	}
}

// Values that are not sensitive help to understand an error.
func TestDiagnosticsShowValues(t *testing.T) {
	s := with(t, "-- t.pkr.hcl --\nvariable \"n\" {\n  default = \"x\"\n}\nlocals {\n  m = parseint(var.n, 10)\n}\n")
	tpl := mustLoad(t, s)
	values, _ := tpl.Variables(Inputs{})
	var out bytes.Buffer
	WriteDiagnostics(&out, tpl.Check(values, Selection{}, pinned), tpl, false, 0)
	if !strings.Contains(out.String(), `var.n as "x"`) || !strings.Contains(out.String(), "t.pkr.hcl line 5") {
		t.Error(out.String())
	}
}

func TestLocalFilesAndWrites(t *testing.T) {
	s := with(t, `
-- t.pkr.hcl --
source "amazon-ebs" "a" {
  region         = "r"
  ami_name       = file("name.txt")
  user_data_file = "~/data.sh"
}
source "amazon-ebs" "b" {
  region         = "r"
  ami_name       = "b"
  user_data_file = "b.sh"
}
build {
  sources = ["amazon-ebs.a", "amazon-ebs.b"]
  provisioner "shell" {
    scripts = ["../up.sh", "missing.sh"]
  }
  provisioner "file" {
    source      = "name.txt"
    destination = "/x"
  }
  provisioner "file" {
    direction   = "download"
    source      = "down.txt"
    destination = "/y"
  }
  post-processor "manifest" {
    output = "m.json"
  }
  post-processor "manifest" {
    output = "${source.name}.json"
  }
}
-- name.txt --
n
-- down.txt --
d
-- b.sh --
-- ../up.sh --
-- /home/me/data.sh --
`)
	tpl := mustLoad(t, s)
	got := tpl.LocalFiles(Values{}, Selection{Only: []string{"*.a"}}, pinned)
	if diff := cmp.Diff([]string{"name.txt", "~/data.sh", "../up.sh"}, got); diff != "" {
		t.Error(diff)
	}
	writes := tpl.Writes(Values{}, pinned, func(typ string, settings json.RawMessage) []string {
		var m manifest
		if err := json.Unmarshal(settings, &m); err != nil || typ != "manifest" {
			t.Fatal(typ, err)
		}
		return []string{m.Output}
	})
	if diff := cmp.Diff([]string{"m.json", "a.json", "b.json"}, writes); diff != "" {
		t.Error(diff)
	}
}

// Another try can mend a data source that had trouble, and nothing else.
func TestFailure(t *testing.T) {
	plan := func(fail error) error {
		t.Helper()
		s := with(t, `
-- t.pkr.hcl --
data "amazon-ami" "x" {
  filters = { name = "none" }
  owners  = ["self"]
}
source "null" "a" {}
build {
  sources = ["null.a"]
}
`)
		cat := catalogue()
		cat.DataSources = map[string]datasources.DataSource{"amazon-ami": imageSource{fail: fail}}
		tpl, diags := Load(s.path, s.files, cat)
		if diags.HasErrors() {
			t.Fatal(diags)
		}
		_, diags = tpl.Plan(context.Background(), Values{}, Selection{}, pinned)
		return Failure(diags)
	}
	if err := plan(errThrottled); bakehouse.KindOf(err) != bakehouse.Trouble || !strings.Contains(err.Error(), "throttled") {
		t.Errorf("%v is of kind %s", err, bakehouse.KindOf(err))
	}
	if err := plan(nil); bakehouse.KindOf(err) != bakehouse.NotFound {
		t.Errorf("%v is of kind %s", err, bakehouse.KindOf(err))
	}
	if err := Failure(hcl.Diagnostics{failure("x", "y"), {Severity: hcl.DiagError, Extra: errThrottled}}); bakehouse.KindOf(err) != bakehouse.Invalid {
		t.Errorf("%v is of kind %s", err, bakehouse.KindOf(err))
	}
	if err := Failure(hcl.Diagnostics{registryIgnored(hcl.Range{})}); err != nil {
		t.Errorf("a warning is an error: %v", err)
	}
}

// A hostile template ends in bounded time with a clear answer.
func TestHostile(t *testing.T) {
	deep := strings.Repeat("[", 100_000)
	var many strings.Builder
	for i := range 2000 {
		fmt.Fprintf(&many, "variable \"v%d\" {\n  default = \"%d\"\n}\nlocals {\n  l%d = \"${var.v%d}\"\n}\nsource \"null\" \"s%d\" {}\n", i, i, i, i, i)
	}
	many.WriteString("build {\n  sources = [\"null.s1\"]\n}\n")
	for name, tt := range map[string]struct {
		file, content string
		fails         bool
	}{
		"deep hcl":   {"t.pkr.hcl", "locals {\n  x = " + deep, true},
		"deep json":  {"t.pkr.json", deep, true},
		"deep old":   {"t.json", deep, true},
		"many":       {"t.pkr.hcl", many.String(), false},
		"not utf-8":  {"t.pkr.hcl", "\xff\xfe\x00", true},
		"null bytes": {"t.json", "\x00", true},
		"empty":      {"t.pkr.hcl", "", true},
		"json null":  {"t.pkr.json", "null", true},
		"old list":   {"t.json", "[]", true},
	} {
		t.Run(name, func(t *testing.T) {
			s := with(t, "")
			s.path = tt.file
			if err := os.MkdirAll(filepath.Dir(s.files.Path(tt.file)), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(s.files.Path(tt.file), []byte(tt.content), 0o644); err != nil {
				t.Fatal(err)
			}
			tpl, diags := Load(s.path, s.files, catalogue())
			values, more := tpl.Variables(Inputs{})
			diags = append(diags, more...)
			diags = append(diags, tpl.Check(values, Selection{}, pinned)...)
			if diags.HasErrors() != tt.fails {
				t.Errorf("%v", diags)
			}
		})
	}
}

func FuzzCheck(f *testing.F) {
	archives, _ := filepath.Glob("testdata/*.txtar")
	for _, name := range archives {
		a, err := txtar.ParseFile(name)
		if err != nil {
			f.Fatal(err)
		}
		for _, file := range a.Files {
			if strings.HasSuffix(file.Name, ".hcl") || strings.HasSuffix(file.Name, ".json") {
				f.Add(filepath.Base(file.Name), file.Data)
			}
		}
	}
	f.Fuzz(func(t *testing.T, name string, src []byte) {
		dir := t.TempDir()
		name = "t" + filepath.Ext(name)
		if filepath.Ext(name) == ".hcl" {
			name = "t.pkr.hcl"
		}
		// A template may ask for a list that fills the memory; that is another test's.
		if bytes.Contains(src, []byte("range")) || os.WriteFile(filepath.Join(dir, name), src, 0o600) != nil {
			t.Skip()
		}
		tpl, _ := Load(name, bakehouse.Files{Cwd: dir}, catalogue())
		values, _ := tpl.Variables(Inputs{})
		_ = tpl.Check(values, Selection{}, pinned)
	})
}
