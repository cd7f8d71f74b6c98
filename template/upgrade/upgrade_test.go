package upgrade_test

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/hcl/v2"

	"github.com/bakehouse-farm/bakehouse"
	"github.com/bakehouse-farm/bakehouse/cmd/catalogue"
	"github.com/bakehouse-farm/bakehouse/template"
	"github.com/bakehouse-farm/bakehouse/template/upgrade"
)

const cwd = "/home/me/bake"

// A server answers what templates ask for.
type server struct{}

func (server) Vault(_ context.Context, path, key string) (string, error) {
	return "vault-" + path + "-" + key, nil
}

func (server) ConsulKey(context.Context, string) (string, error) { return "eu-central-1", nil }

func (server) SecretsManager(_ context.Context, name, key string) (string, error) {
	return "secret-" + name + "-" + key, nil
}

func (server) SecretsManagerRaw(_ context.Context, name string) (string, error) {
	return "raw-" + name, nil
}

func components() template.Catalogue {
	c := catalogue.Template()
	c.Lookup = server{}
	return c
}

// inputs are what every template of the corpus is given.
var inputs = template.Inputs{
	Environ: []string{"USER=me", "STAGE=prod", "CIRCLE_SHA1=abc", "CIRCLE_BUILD_NUM=7", "CIRCLE_BRANCH=Main", "CIRCLE_TOKEN=hunter22"},
}

// vars are what single ones are given besides.
var vars = map[string][]string{
	"environment": {"build_number=12"},
	"nulls":       {"required=yes"},
}

// stranger are the templates that no farm of ours can build: they are checked,
// but there is no plan to compare.
var stranger = map[string]bool{"docker": true, "virtualbox": true, "several": true, "windows": true}

// unfinished are the templates of which something is left to be done by hand.
var unfinished = map[string]bool{"by_hand": true}

var pin = template.Pinned{
	Time: time.Date(2024, 2, 29, 12, 5, 6, 0, time.UTC), Seed: "seed",
	RunUUID: "11111111-2222-4333-8444-555555555555",
}

// corpus calls f with each JSON template that we have.
func corpus(t *testing.T, f func(t *testing.T, name string, src []byte)) {
	t.Helper()
	names, err := filepath.Glob("testdata/*.json")
	if err != nil || len(names) < 20 {
		t.Fatal("the corpus is not there", err)
	}
	for _, file := range names {
		name := strings.TrimSuffix(filepath.Base(file), ".json")
		t.Run(name, func(t *testing.T) {
			src, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			f(t, name, src)
		})
	}
}

func translate(t *testing.T, name string, src []byte) ([]byte, hcl.Diagnostics) {
	t.Helper()
	out, diags := upgrade.HCL(src, name+".json", upgrade.Options{Catalogue: components()})
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	return out, diags
}

// A made is what a template makes of one source, with everything evaluated.
type made struct {
	Settings any
	Parts    []part
}

type part struct {
	Kind, Type, Name string
	Pause, Timeout   bakehouse.Duration
	Retries          int
	Keep             *bool
	Settings         any
}

// build evaluates a template as submit and agent do.
func build(t *testing.T, file, name string, src []byte) (map[string]made, []string) {
	t.Helper()
	tpl, values := load(t, file, name, src)
	plan, diags := tpl.Plan(t.Context(), values, template.Selection{}, pin)
	if diags.HasErrors() {
		t.Fatalf("%s: %s\n%s", file, diags, src)
	}
	machine := map[string]string{"ID": "i-1", "Host": "10.0.0.9", "User": "ubuntu", "SourceAMI": "ami-base"}
	all := map[string]made{}
	for _, b := range plan.Builds {
		m := made{Settings: decode(t, b.Settings)}
		provision := func(kind string, p template.PlannedProvisioner) {
			settings, diags := tpl.Provisioner(plan.Scope, b, p, machine)
			if diags.HasErrors() {
				t.Fatalf("%s: %s %s: %s", file, kind, p.Type, diags)
			}
			m.Parts = append(m.Parts, part{kind, p.Type, p.Name, p.PauseBefore, p.Timeout, p.MaxRetries, nil, decode(t, settings)})
		}
		for _, p := range b.Provisioners {
			provision("provisioner", p)
		}
		if b.ErrorCleanup != nil {
			provision("cleanup", *b.ErrorCleanup)
		}
		for _, chain := range b.PostProcessors {
			for _, p := range chain {
				settings, diags := tpl.PostProcessor(plan.Scope, b, p, machine)
				if diags.HasErrors() {
					t.Fatalf("%s: post-processor %s: %s", file, p.Type, diags)
				}
				m.Parts = append(m.Parts, part{"post-processor", p.Type, p.Name, 0, 0, 0, p.KeepInputArtifact, decode(t, settings)})
			}
			m.Parts = append(m.Parts, part{Kind: "end of the chain"})
		}
		all[b.Type+"."+b.Source] = m
	}
	return all, plan.Secrets()
}

func load(t *testing.T, file, name string, src []byte) (*template.Template, template.Values) {
	t.Helper()
	files := bakehouse.Files{Root: t.TempDir(), Cwd: cwd, Home: "/home/me"}
	for _, f := range []struct {
		name string
		data []byte
	}{{file, src}, {"install.sh", []byte("true\n")}} {
		if err := os.MkdirAll(filepath.Dir(files.Path(f.name)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(files.Path(f.name), f.data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	tpl, diags := template.Load(file, files, components())
	in := inputs
	in.Vars = vars[name]
	values, more := tpl.Variables(in)
	diags = append(diags, more...)
	if !diags.HasErrors() {
		diags = append(diags, tpl.Check(values, template.Selection{}, pin)...)
	}
	if diags.HasErrors() {
		var text strings.Builder
		template.WriteDiagnostics(&text, diags, tpl, false, 0)
		t.Fatalf("%s\n%s", text.String(), src)
	}
	return tpl, values
}

func decode(t *testing.T, raw json.RawMessage) any {
	t.Helper()
	var v any
	if err := json.Unmarshal(raw, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

var uuid = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}`)

// blur hides what cannot be the same by nature: {{timestamp}} counts seconds, and
// local.timestamp digits; uuids are random; template_dir is absolute, and
// path.root as the user wrote it.
func blur(v any) any {
	switch v := v.(type) {
	case string:
		v = strings.NewReplacer("1709208306", "<timestamp>", "20240229120506", "<timestamp>", cwd, ".").Replace(v)
		return uuid.ReplaceAllString(v, "<uuid>")
	case []any:
		for i := range v {
			v[i] = blur(v[i])
		}
	case map[string]any:
		for k := range v {
			v[k] = blur(v[k])
		}
	}
	return v
}

// The template in HCL is right, and makes the same builds as the one in JSON:
// the same settings, provisioners, post-processors and secrets.
func TestSameBuilds(t *testing.T) {
	corpus(t, func(t *testing.T, name string, src []byte) {
		out, diags := translate(t, name, src)
		hand := strings.Contains(string(out), "# To be done by hand")
		if hand != unfinished[name] {
			t.Errorf("to be done by hand: %v\n%s\n%s", hand, diags, out)
		}
		if hand {
			return
		}
		file := name + ".pkr.hcl"
		if stranger[name] {
			load(t, name+".json", name, src)
			load(t, file, name, out)
			return
		}
		want, wantSecrets := build(t, name+".json", name, src)
		got, gotSecrets := build(t, file, name, out)
		for _, all := range []map[string]made{want, got} {
			for _, m := range all {
				blur(m.Settings)
				for _, p := range m.Parts {
					blur(p.Settings)
				}
			}
		}
		renamed := map[string]made{}
		for ref, m := range want {
			if to, ok := names[ref]; ok {
				ref = to
			}
			renamed[ref] = m
		}
		if diff := cmp.Diff(renamed, got); diff != "" {
			t.Errorf("(-JSON +HCL)\n%s\n%s", diff, out)
		}
		// HCL also hides what is made of secrets.
		for _, s := range wantSecrets {
			if !slices.Contains(gotSecrets, s) {
				t.Errorf("no longer secret: %q\n%s", s, out)
			}
		}
	})
}

// names are builders whose names HCL does not take.
var names = map[string]string{
	"null.a b":                "null.a_b",
	"null.9-lives":            "null._9-lives",
	"amazon-ebs.ubuntu-22.04": "amazon-ebs.ubuntu-22_04",
}

// Translated is laid out, ends with a newline, and is the same each time.
func TestLayout(t *testing.T) {
	corpus(t, func(t *testing.T, name string, src []byte) {
		out, _ := translate(t, name, src)
		if again, _ := translate(t, name, src); string(again) != string(out) {
			t.Error("the second time is different")
		}
		if !strings.HasSuffix(string(out), "}\n") || strings.Contains(string(out), "\n\n\n") {
			t.Errorf("layout:\n%s", out)
		}
	})
}

// What no component is known to take is written by what it looks like.
func TestUnknownComponents(t *testing.T) {
	out, diags := translate(t, "t", []byte(`{
  "builders": [{
    "type": "nobody-knows-this", "text": "{{isotime}}", "list": [1, "2"], "map": {"a b": "c"}, "empty": {}, "none": null,
    "block": {"map": {"a": "b"}}, "blocks": [{"a": 1}, {"a": {}}], "not a name": 1
  }],
  "provisioners": [{"type": "nor-this", "flag": true, "nested": [["a"], ["b"]]}]
}`))
	want := `source "nobody-knows-this" "nobody-knows-this" {
  text = legacy_isotime()
  list = [1, "2"]
  map = {
    "a b" = "c"
  }
  empty = {}
  none  = null
  block {
    map = {
      a = "b"
    }
  }
  blocks {
    a = 1
  }
  blocks {
    a = {}
  }
  # To be done by hand: "not a name" is left out, because it is no name.
}

build {
  sources = ["source.nobody-knows-this.nobody-knows-this"]

  provisioner "nor-this" {
    flag   = true
    nested = [["a"], ["b"]]
  }
}
`
	if diff := cmp.Diff(want, string(out)); diff != "" {
		t.Error(diff)
	}
	if len(diags) != 1 || diags[0].Severity != hcl.DiagWarning || diags[0].Subject == nil {
		t.Errorf("one warning with a place is missing: %v", diags)
	}
}

// Blocks within blocks are written as such where they are known.
func TestKnownBlocks(t *testing.T) {
	out, _ := translate(t, "t", []byte(`{"builders": [{"type": "amazon-ebs", "temporary_iam_instance_profile_policy_document": {
  "Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": ["*"]}, {"Effect": "Deny", "Action": ["ec2:*"], "Resource": "${x}"}]}}]}`))
	want := `  temporary_iam_instance_profile_policy_document {
    Version = "2012-10-17"
    Statement {
      Effect   = "Allow"
      Action   = ["s3:*"]
      Resource = ["*"]
    }
    Statement {
      Effect   = "Deny"
      Action   = ["ec2:*"]
      Resource = ["$${x}"]
    }
  }
`
	if !strings.Contains(string(out), want) {
		t.Errorf("got:\n%s", out)
	}
}

// What cannot be translated is warned of, and stands under a comment.
func TestByHand(t *testing.T) {
	src, err := os.ReadFile("testdata/by_hand.json")
	if err != nil {
		t.Fatal(err)
	}
	out, diags := translate(t, "by_hand", src)
	if comments := strings.Count(string(out), "# To be done by hand: "); comments != 6 {
		t.Errorf("%d comments\n%s", comments, out)
	}
	count := map[string]int{}
	for _, d := range diags {
		if d.Severity != hcl.DiagWarning || d.Subject == nil || d.Subject.Filename != "by_hand.json" {
			t.Errorf("no warning with a place: %v", d)
		}
		count[d.Summary]++
	}
	if diff := cmp.Diff(map[string]int{"To be done by hand": 6, "No such builder": 2}, count); diff != "" {
		t.Error(diff)
	}
}

// What a secret is made of is a secret, too.
func TestSecretOfTheEnvironment(t *testing.T) {
	out, _ := translate(t, "t", []byte(`{"variables": {"t": "{{env `+"`X`"+` | lower}}", "u": "{{env `+"`Y`"+` | lower}}"}, "sensitive-variables": ["t"], "builders": [{"type": "null"}]}`))
	for _, want := range []string{
		"variable \"env_X\" {\n  type      = string\n  default   = env(\"X\")\n  sensitive = true\n}",
		"variable \"env_Y\" {\n  type    = string\n  default = env(\"Y\")\n}",
		"local \"t\" {\n  expression = lower(var.env_X)\n  sensitive  = true\n}",
	} {
		if !strings.Contains(string(out), want) {
			t.Errorf("no\n%s\nin\n%s", want, out)
		}
	}
}

// Annotations are comments, and change nothing else.
func TestAnnotations(t *testing.T) {
	corpus(t, func(t *testing.T, name string, src []byte) {
		plain, _ := translate(t, name, src)
		annotated, diags := upgrade.HCL(src, name+".json", upgrade.Options{Catalogue: components(), Annotate: true})
		if diags.HasErrors() {
			t.Fatal(diags)
		}
		if !strings.HasPrefix(string(annotated), "# This file was written by") {
			t.Errorf("not annotated:\n%s", annotated)
		}
		if diff := cmp.Diff(code(plain), code(annotated)); diff != "" {
			t.Error(diff)
		}
	})
}

// code are the lines that are neither comments nor empty.
func code(src []byte) []string {
	var list []string
	for line := range strings.Lines(string(src)) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			list = append(list, line)
		}
	}
	return list
}

func TestRefused(t *testing.T) {
	for name, src := range map[string]string{"HCL": `source "null" "a" {}`, "a list": `[]`, "cut off": `{"builders": [`, "twice": `{"a": 1, "a": 2}`, "empty": ``} {
		out, diags := upgrade.HCL([]byte(src), "t.json", upgrade.Options{})
		if !diags.HasErrors() || out != nil {
			t.Errorf("%s: %v %s", name, diags, out)
		}
	}
}
