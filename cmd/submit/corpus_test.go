package main

import (
	"bytes"
	"context"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/bakehouse-farm/bakehouse"
	"github.com/bakehouse-farm/bakehouse/cmd/catalogue"
	"github.com/bakehouse-farm/bakehouse/template"
	"github.com/bakehouse-farm/bakehouse/template/templatetest"
)

// The command itself gives the verdicts that Packer gave: template's own tests
// hold all of the corpus against Packer, and this one sees that nothing is lost
// between the language and the exit code.
func TestValidateSaysWhatPackerSays(t *testing.T) {
	const folder = "../../template/testdata/packer/"
	cases, err := templatetest.Written(folder + "written/*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(folder + "verdicts.golden")
	if err != nil {
		t.Fatal(err)
	}
	codes := map[string]int{}
	for line := range strings.Lines(string(text)) {
		if f := strings.SplitN(line, "\t", 3); len(f) == 3 {
			codes[f[0]], err = strconv.Atoi(f[1])
			if err != nil {
				t.Fatalf("%s: %v", line, err)
			}
		}
	}
	agree := 0
	for i, c := range cases {
		if i%4 != 0 { // which is enough to see it
			continue
		}
		code, known := codes[c.Digest()]
		if !known {
			t.Errorf("%s has no verdict", c.Name)
			continue
		}
		dir := t.TempDir()
		if err := c.Lay(dir); err != nil {
			t.Fatal(err)
		}
		t.Chdir(dir)
		var out bytes.Buffer
		environ := append([]string{"HOME=" + dir}, c.Env...)
		got := run(context.Background(), &console{in: strings.NewReader(""), out: &out, err: &out, environ: environ}, append(append([]string{"validate"}, c.Args...), c.Path))
		if (got == 0) == (code == 0) {
			agree++
			continue
		}
		// Where Packer is not followed, the language says so (and its tests say why).
		if tpl, diags := template.Load(c.Path, bakehouse.Files{Cwd: dir, Home: dir}, catalogue.Template()); len(c.Args) == 0 {
			values, more := tpl.Variables(template.Inputs{Environ: environ})
			diags = append(diags, more...)
			diags = append(diags, tpl.Check(values, template.Selection{}, template.Pinned{})...)
			if diags.HasErrors() == (got != 0) {
				continue
			}
		}
		t.Errorf("%s: exit code %d, Packer's %d:\n%s", c.Name, got, code, out.String())
	}
	if agree < 200 {
		t.Errorf("the command agrees with Packer on %d templates only", agree)
	}
}
