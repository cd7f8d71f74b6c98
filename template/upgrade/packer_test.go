package upgrade_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// newer is what Packer learned after 1.6.6, and how to say it without.
var newer = []struct {
	what *regexp.Regexp
	with string
}{
	{regexp.MustCompile(`(?s)  required_plugins \{.*?\n  \}\n`), ""},
	{regexp.MustCompile(`legacy_(isotime|strftime)\([^)]*\)`), `"2024"`},
	{regexp.MustCompile(`local "(\w+)" \{\n  expression = (.*)\n.*\n\}`), "locals {\n  $1 = $2\n}"},
	{regexp.MustCompile(`packer\.version`), `"1.16.0"`},
}

// asks are the templates that ask a server when they are validated.
var asks = map[string]bool{"secrets": true}

// refused are templates with something that Packer 1.6.6 does not know or this
// machine does not have, and what it says of that.
var refused = map[string]string{
	"cleaned": `function "clean_resource_name" not defined`, // in tags
	"cleanup": `Blocks of type "error-cleanup-provisioner"`,
	"disks":   "Throughput must be between", // a default came later
	"iam":     `Blocks of type "metadata_options"`,
	"runtime": `An argument named "content"`,
	"several": `Error running "ansible-playbook --version"`,
}

func packer(t *testing.T, dir, name string, args ...string) (string, error) {
	t.Helper()
	binary, err := exec.LookPath("packer")
	if err != nil {
		t.Skip("packer is not installed")
	}
	cmd := exec.CommandContext(t.Context(), binary, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "HOME="+dir, "CHECKPOINT_DISABLE=1", "PACKER_NO_COLOR=1", "SSH_AUTH_SOCK=/nowhere")
	for _, kv := range vars[name] {
		cmd.Env = append(cmd.Env, "PKR_VAR_"+kv)
	}
	cmd.Env = append(cmd.Env, inputs.Environ...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func write(t *testing.T, dir, name string, data []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// Packer itself takes what we write, but for what it did not know yet when
// Debian took it.
func TestPackerTakesIt(t *testing.T) {
	corpus(t, func(t *testing.T, name string, src []byte) {
		out, _ := translate(t, name, src)
		if asks[name] || unfinished[name] {
			return
		}
		text := string(out)
		for _, n := range newer {
			text = n.what.ReplaceAllString(text, n.with)
		}
		dir := t.TempDir()
		write(t, dir, "install.sh", []byte("true\n"))
		write(t, dir, "t.pkr.hcl", []byte(text))
		said, err := packer(t, dir, name, "validate", "t.pkr.hcl")
		switch why := refused[name]; {
		case err != nil && (why == "" || !strings.Contains(said, why) || strings.Count(said, "Error: ") > 1):
			t.Errorf("%v\n%s\n%s", err, said, text)
		case err == nil && why != "":
			t.Errorf("taken, though %q was expected", why)
		}
	})
}

// A shape is which blocks there are and what they set, whatever the values.
type shape struct {
	Variables, Sources []string
	Parts              []string
}

// later are arguments that Packer 1.6.6 lost on the way.
var later = []string{"pause_before", "override"}

func shapeOf(t *testing.T, src []byte) shape {
	t.Helper()
	file, diags := hclsyntax.ParseConfig(src, "t.pkr.hcl", hcl.InitialPos)
	if diags.HasErrors() {
		t.Fatalf("%s\n%s", diags, src)
	}
	var s shape
	for _, b := range file.Body.(*hclsyntax.Body).Blocks {
		switch b.Type {
		case "variable":
			if !strings.HasPrefix(b.Labels[0], "env_") { // ours, for locals
				s.Variables = append(s.Variables, b.Labels[0])
			}
		case "locals":
			for name := range b.Body.Attributes {
				if name != "timestamp" {
					s.Variables = append(s.Variables, name)
				}
			}
		case "local":
			s.Variables = append(s.Variables, b.Labels[0])
		case "source":
			s.Sources = append(s.Sources, b.Labels[0]+" "+inside(b.Body))
		case "build":
			for _, p := range b.Body.Blocks {
				s.Parts = append(s.Parts, parts(p)...)
			}
		}
	}
	slices.Sort(s.Variables)
	slices.Sort(s.Sources)
	return s
}

func parts(b *hclsyntax.Block) []string {
	if b.Type != "post-processors" {
		return []string{b.Type + " " + strings.Join(b.Labels, " ") + " " + inside(b.Body)}
	}
	var list []string
	for _, one := range b.Body.Blocks {
		list = append(list, "chained "+parts(one)[0])
	}
	return list
}

// inside lists what a body sets. Packer writes some blocks as attributes, which
// it does not take then.
func inside(b *hclsyntax.Body) string {
	var list []string
	for name := range b.Attributes {
		if !slices.Contains(later, name) {
			list = append(list, name)
		}
	}
	for _, one := range b.Blocks {
		list = append(list, one.Type)
	}
	slices.Sort(list)
	return strings.Join(slices.Compact(list), " ")
}

// unlike are templates of which Packer 1.6.6 makes something else, and why we
// do not.
var unlike = map[string]string{
	"cleanup": "it forgets the error-cleanup-provisioner",
	"names":   "it writes names that HCL does not take",
	"by_hand": "it stops at the JSON",
	"typed":   "it keeps names in other letters",
	"nulls":   "it drops empty lists",
}

// What we write has the blocks and arguments that Packer's own hcl2_upgrade
// writes.
func TestSameShapeAsPacker(t *testing.T) {
	corpus(t, func(t *testing.T, name string, src []byte) {
		if why := unlike[name]; why != "" {
			t.Skip("Packer 1.6.6: " + why)
		}
		dir := t.TempDir()
		write(t, dir, "t.json", src)
		write(t, dir, "install.sh", []byte("true\n"))
		if said, err := packer(t, dir, name, "hcl2_upgrade", "t.json"); err != nil {
			t.Fatal(err, said)
		}
		theirs, err := os.ReadFile(filepath.Join(dir, "t.json.pkr.hcl"))
		if err != nil {
			t.Fatal(err)
		}
		ours, _ := translate(t, name, src)
		if diff := cmp.Diff(shapeOf(t, theirs), shapeOf(t, ours)); diff != "" {
			t.Errorf("(-Packer +ours)\n%s\n%s\n%s", diff, theirs, ours)
		}
	})
}
