package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"
)

// A program is Packer or submit: it is called in a folder and says something.
type program func(dir, input string, args ...string) (out string, code int)

// both returns Debian's Packer and our own program. Packer is old (1.6.6), so
// what came later is not in what these tests ask of it.
func both(t *testing.T) (theirs, ours program) {
	t.Helper()
	packer, err := exec.LookPath("packer")
	if err != nil {
		t.Skip("packer is not installed")
	}
	home := t.TempDir()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	t.Cleanup(cancel)
	theirs = func(dir, input string, args ...string) (string, int) {
		cmd := exec.CommandContext(ctx, packer, args...)
		cmd.Dir, cmd.Stdin = dir, strings.NewReader(input)
		cmd.Env = append(os.Environ(), "HOME="+home, "CHECKPOINT_DISABLE=1", "PACKER_NO_COLOR=1")
		out, err := cmd.Output()
		var ended *exec.ExitError
		if err != nil && !errors.As(err, &ended) {
			t.Fatal(err)
		}
		return string(out), cmd.ProcessState.ExitCode()
	}
	ours = func(dir, input string, args ...string) (string, int) {
		t.Chdir(dir)
		var out, said bytes.Buffer
		c := &console{in: strings.NewReader(input), out: &out, err: &said, environ: append(os.Environ(), "HOME="+home)}
		code := run(t.Context(), c, args)
		return out.String(), code
	}
	return theirs, ours
}

func write(t *testing.T, dir, name, text string) {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

const given = `
variable "text" { default = "hello" }
variable "number" { default = 3 }
variable "flag" { default = true }
variable "list" { default = ["a", "b"] }
variable "map" {
  type    = map(string)
  default = { k = "v", l = "w" }
}
variable "object" { default = { list = [{ name = "n1" }, { name = "n2" }] } }
variable "unset" { type = string }
variable "secret" {
  default   = "topsecret"
  sensitive = true
}
locals { given = "given" }
`

// The consoles show the same values for the same expressions. They are the
// locals of one template, so that Packer is started once.
func TestSameValuesAsPacker(t *testing.T) {
	theirs, ours := both(t)
	data, err := os.ReadFile("testdata/packer/expressions.txt")
	if err != nil {
		t.Fatal(err)
	}
	var expressions []string
	for line := range strings.Lines(string(data)) {
		if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
			expressions = append(expressions, line)
		}
	}
	if len(expressions) < 150 {
		t.Fatalf("only %d expressions", len(expressions))
	}
	var text strings.Builder
	text.WriteString(given)
	for i, x := range expressions {
		fmt.Fprintf(&text, "locals {\n  x%d = %s\n}\n", i, x)
	}
	dir := t.TempDir()
	write(t, dir, "all.pkr.hcl", text.String())
	values := func(p program) map[string]string {
		out, code := p(dir, "variables\n", "console", ".")
		if code != 0 {
			t.Fatalf("exit code %d:\n%s", code, out)
		}
		m := map[string]string{}
		for line := range strings.Lines(out) {
			if name, value, ok := strings.Cut(strings.TrimSpace(line), ": "); ok {
				m[name] = value
			}
		}
		return m
	}
	want, got := values(theirs), values(ours)
	for i, x := range expressions {
		name := fmt.Sprintf("local.x%d", i)
		w, there := want[name]
		if !there {
			t.Errorf("Packer has no value for %s", x)
			continue
		}
		if got[name] != w {
			t.Errorf("%s\nours:     %s\nPacker's: %s", x, got[name], w)
		}
		delete(want, name)
		delete(got, name)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("variables (-Packer +ours):\n%s", diff)
	}
}

// What is piped into the consoles gives the same output and exit code. What is
// wrong is said in other words.
func TestSameConsoleAsPacker(t *testing.T) {
	theirs, ours := both(t)
	dir := t.TempDir()
	write(t, dir, "t/a.pkr.hcl", given)
	write(t, dir, "old.json", `{
		"variables": {"a": "1", "b": null, "c": "{{user `+"`a`"+`}}x", "d": "", "s": "topsecret", "t": "{{user `+"`s`"+`}}-x"},
		"sensitive-variables": ["s"], "builders": [{"type": "null", "communicator": "none"}]
	}`)
	write(t, dir, "no-builder.json", `{"variables": {"a": "1"}}`)
	tests := []struct{ args, input string }{
		{"t", ""},
		{"t", "\n"},
		{"t", "var.text"},
		{"t", "  var.text  \n"},
		{"t", "var.text\nvar.number\n"},
		{"t", "var.text\n\n"},
		{"t", "var.text\nexit\n"},
		{"t", "exit\nvar.text\n"},
		{"t", "var.list\n"},
		{"t", "var.object\n"},
		{"t", "null\n"},
		{"t", "1/3\n"},
		{"t", `"a\nb"` + "\n"},
		{"t", `["a\nb"]` + "\n"},
		{"t", "var.unset\n"},
		{"t", "[var.unset, 1]\n"},
		{"t", "var.secret\n"},
		{"t", "{ a = var.secret, b = [var.secret] }\n"},
		{"t", "local\n"},
		{"t", "path.root\n"},
		{"t", "path.cwd\n"},
		{"t", "nope\n"},
		{"t", "nope\nvar.text\n"},
		{"t", "var.text\n1 +\n"},
		{"t", "var.nope\n"},
		{"t", "local.nope\n"},
		{"t", "data.amazon-ami.x\n"},
		{"t", "build.Nope\n"},
		{"t", "nofunction(1)\n"},
		{"t", "upper(1, 2)\n"},
		{"t", "upper(null)\n"},
		{"t", "element([], 0)\n"},
		{"t", "[1][5]\n"},
		{"t", "# comment\n"},
		{"t", "<<E\n"},
		{"t", "{{timestamp}}\n"},
		{"t", "variables\n"},
		{"-var unset=given t", "variables\n"},
		{"-var unset=given t", "var.unset\n"},
		{"-var nope=1 t", "var.text\n"},
		{"-only x t", "var.text\n"},
		{"-config-type json t", "var.text\n"},
		{"nowhere.pkr.hcl", "1\n"},
		{"-config-type hcl2", "upper(\"x\")\n"},
		{"-config-type hcl2", "variables\n"},
		{"-config-type hcl2", "path\n"},
		{"-config-type hcl2", "var.text\n"},
		{"-config-type sgml", "1\n"},
		{"", "upper(\"x\")\n"},
		{"", "{{upper `x`}}\n"},
		{"-var b=x old.json", "{{user `a`}}\n"},
		{"old.json", "{{user `b`}}\n"},
		{"-var b=x old.json", "{{user `c`}} and {{user `d`}}.\n"},
		{"-var b=x -var a=2 old.json", "{{user `a`}}{{user `b`}}\n"},
		{"-var b=x old.json", "{{user `s`}}\n"},
		{"-var b=x old.json", "{{user `t`}}\n"},
		{"old.json", "plain text\n"},
		{"old.json", "{{template_dir}} {{pwd}}\n"},
		{"old.json", "{{ .Vars }}\n"},
		{"old.json", "{{split `a-b` `-` 1}} {{replace_all `a` `b` `aa`}} {{lower `A`}}\n"},
		{"old.json", "exit\n"},
		{"no-builder.json", "x\n"},
		{"-", `{"builders": [{"type": "null"}]}`},
	}
	for _, tt := range tests {
		t.Run(tt.args+" "+strings.ReplaceAll(tt.input, "\n", ";"), func(t *testing.T) {
			args := append([]string{"console"}, strings.Fields(tt.args)...)
			want, wantCode := theirs(dir, tt.input, args...)
			got, code := ours(dir, tt.input, args...)
			if code != wantCode {
				t.Errorf("exit code %d, Packer's is %d\nours:\n%s\nPacker's:\n%s", code, wantCode, got, want)
			}
			if wantCode == 0 && got != want {
				t.Errorf("(-Packer +ours):\n%s", cmp.Diff(want, got))
			}
		})
	}
	// In {{ }}, what is wrong is said, and is no failure.
	for _, line := range []string{"{{nope}}", "{{", "{{build_name}}", "{{env `HOME`}}"} {
		want, wantCode := theirs(dir, line, "console", "old.json")
		got, code := ours(dir, line, "console", "old.json")
		if code != wantCode || !strings.Contains(want, "Interpolation error") || !strings.Contains(got, "Interpolation error") {
			t.Errorf("%s: ours %d, %q; Packer's %d, %q", line, code, got, wantCode, want)
		}
	}
	// Without a value for b, Packer has none for any user variable. They are
	// sorted here, and in no order there; a nameless one that it adds is left out.
	out, _ := ours(dir, "variables", "console", "old.json")
	if want := "\na: 1,\nb: ,\nc: 1x,\nd: ,\ns: <sensitive>,\nt: <sensitive>-x,\n\n"; out != want {
		t.Errorf("(-want +got):\n%s", cmp.Diff(want, out))
	}
	// Both say how it is used.
	for _, args := range [][]string{{"console", "t"}, {"console"}} {
		out, code := ours(dir, "help", args...)
		for _, word := range []string{"variables", "exit"} {
			if !strings.Contains(out, word) || code != 0 {
				t.Errorf("help: %s", out)
			}
		}
	}
}

var (
	stamp = regexp.MustCompile(`(?m)^[0-9]+,`)
	// note is what Packer says at the end, in words of its own.
	note = regexp.MustCompile(`(?s)\nNote: .*|(?m)^[0-9]*,,ui,say,\\nNote: .*\n`)
)

// Inspecting the same templates shows the same.
func TestSameInspectAsPacker(t *testing.T) {
	theirs, ours := both(t)
	a, err := txtar.ParseFile("testdata/packer/inspect.txtar")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	var paths []string
	for _, f := range a.Files {
		write(t, dir, f.Name, string(f.Data))
		path, _, _ := strings.Cut(f.Name, "/")
		if len(paths) == 0 || paths[len(paths)-1] != path {
			paths = append(paths, path)
		}
	}
	for _, path := range append(paths, "nowhere.json", "nowhere.pkr.hcl") {
		// Only JSON templates have records of their own.
		modes := [][]string{{"inspect"}}
		if strings.HasSuffix(path, ".json") && !strings.HasSuffix(path, ".pkr.json") {
			modes = append(modes, []string{"inspect", "-machine-readable"})
		}
		for _, mode := range modes {
			t.Run(strings.Join(append(mode, path), " "), func(t *testing.T) {
				args := append(mode[:len(mode):len(mode)], path)
				want, wantCode := theirs(dir, "", args...)
				got, code := ours(dir, "", args...)
				if code != wantCode {
					t.Errorf("exit code %d, Packer's is %d\n%s", code, wantCode, got)
				}
				plain := func(s string) string { return stamp.ReplaceAllString(note.ReplaceAllString(s, ""), "0,") }
				if diff := cmp.Diff(plain(want), plain(got)); wantCode == 0 && diff != "" {
					t.Errorf("(-Packer +ours):\n%s", diff)
				}
			})
		}
	}
}
