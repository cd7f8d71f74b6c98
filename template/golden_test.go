package template

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/hcl/v2"
	"golang.org/x/tools/txtar"

	"github.com/bakehouse-farm/bakehouse"
)

var update = flag.Bool("update", false, "write what is computed into the golden files")

var pinned = Pinned{
	Time: time.Date(2024, 2, 29, 12, 5, 6, 0, time.UTC), Seed: "seed",
	RunUUID: "11111111-2222-4333-8444-555555555555",
}

// A scene is a template with what it is called with, from one txtar archive.
type scene struct {
	files bakehouse.Files
	path  string
	in    Inputs
	sel   Selection
	build map[string]string
}

// unpack lays the archive's files out below a root of their own, so that the
// paths in golden files are the same wherever the test runs.
func unpack(t *testing.T, a *txtar.Archive) scene {
	t.Helper()
	s := scene{path: ".", files: bakehouse.Files{Root: t.TempDir(), Cwd: "/home/me/bake", Home: "/home/me"}}
	s.build = map[string]string{"ID": "i-1", "Host": "10.0.0.9", "User": "ubuntu", "SourceAMI": "ami-base"}
	for _, f := range a.Files {
		switch f.Name {
		case "want", "plan":
			continue
		case "args":
			for _, line := range strings.Split(strings.TrimSpace(string(f.Data)), "\n") {
				k, v, _ := strings.Cut(line, " ")
				switch k {
				case "-var":
					s.in.Vars = append(s.in.Vars, v)
				case "-var-file":
					s.in.VarFiles = append(s.in.VarFiles, v)
				case "-only":
					s.sel.Only = append(s.sel.Only, strings.Split(v, ",")...)
				case "-except":
					s.sel.Except = append(s.sel.Except, strings.Split(v, ",")...)
				case "env":
					s.in.Environ = append(s.in.Environ, v)
				case "warn":
					s.in.WarnUndeclared = true
				case "path":
					s.path = v
				case "":
				default:
					t.Fatalf("unknown word in args: %q", line)
				}
			}
			continue
		}
		name := s.files.Path(f.Name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, f.Data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// late is what a build's blocks evaluate to when they run.
type late struct {
	PlannedBuild
	Late []json.RawMessage `json:"late,omitempty"`
}

// run does what submit and agent do with a template: check it, plan it, send
// plan and values through JSON, and evaluate every late block.
func (s scene) run(t *testing.T) string {
	t.Helper()
	var out bytes.Buffer
	tpl, diags := Load(s.path, s.files, catalogue())
	values, more := tpl.Variables(s.in)
	diags = append(diags, more...)
	diags = append(diags, tpl.Check(values, s.sel, pinned)...)
	WriteDiagnostics(&out, diags, tpl, false, 0)
	if diags.HasErrors() {
		return out.String()
	}
	values = throughJSON(t, values)
	again, more := Load(s.path, s.files, catalogue())
	if more.HasErrors() {
		t.Fatal(more)
	}
	plan, more := again.Plan(context.Background(), values, s.sel, pinned)
	if more.HasErrors() {
		WriteDiagnostics(&out, more, again, false, 0)
		return out.String()
	}
	sent := throughJSON(t, *plan)
	var builds []late
	for _, b := range sent.Builds {
		l := late{PlannedBuild: b}
		add := func(settings json.RawMessage, diags hcl.Diagnostics) {
			if diags.HasErrors() {
				WriteDiagnostics(&out, diags, again, false, 0)
			}
			l.Late = append(l.Late, settings)
		}
		for _, p := range b.Provisioners {
			add(again.Provisioner(sent.Scope, b, p, s.build))
		}
		if b.ErrorCleanup != nil {
			add(again.Provisioner(sent.Scope, b, *b.ErrorCleanup, s.build))
		}
		for _, chain := range b.PostProcessors {
			for _, p := range chain {
				add(again.PostProcessor(sent.Scope, b, p, s.build))
			}
		}
		builds = append(builds, l)
	}
	js, err := json.MarshalIndent(struct {
		Builds  []late   `json:"builds"`
		Secrets []string `json:"secrets,omitempty"`
		Files   []string `json:"files,omitempty"`
	}{builds, sent.Secrets(), tpl.LocalFiles(values, s.sel, pinned)}, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	out.Write(js)
	out.WriteByte('\n')
	return out.String()
}

func throughJSON[T any](t *testing.T, in T) T {
	t.Helper()
	js, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	var out T
	if err := json.Unmarshal(js, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// What a template means, or what is wrong with it, is written at the end of
// each archive, under "want".
func TestGolden(t *testing.T) {
	archives, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(archives) == 0 {
		t.Fatal("no archives", err)
	}
	for _, name := range archives {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txtar"), func(t *testing.T) {
			a, err := txtar.ParseFile(name)
			if err != nil {
				t.Fatal(err)
			}
			got := unpack(t, a).run(t)
			for i, f := range a.Files {
				if f.Name != "want" {
					continue
				}
				if *update {
					a.Files[i].Data = []byte(got)
					if err := os.WriteFile(name, txtar.Format(a), 0o644); err != nil {
						t.Fatal(err)
					}
					return
				}
				if diff := cmp.Diff(string(f.Data), got); diff != "" {
					t.Errorf("(-want +got; -update writes it)\n%s", diff)
				}
				return
			}
			t.Error("archive does not say what it wants")
		})
	}
}
