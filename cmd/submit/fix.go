package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"strings"

	"github.com/hashicorp/hcl/v2"

	"github.com/bakehouse-farm/bakehouse"
	"github.com/bakehouse-farm/bakehouse/cmd/catalogue"
	"github.com/bakehouse-farm/bakehouse/template"
	"github.com/bakehouse-farm/bakehouse/template/fix"
)

var fixTopic = topic{
	name: "fix", args: "TEMPLATE", least: 1, most: 1,
	summary: "bring an older JSON template up to date",
	text:    fixText(),
	exits: `  0  the fixed template was printed
  1  it could not be fixed, or is not valid once it is
`,
	make: func() command { return new(mend) },
}

func fixText() string {
	var b strings.Builder
	b.WriteString(`
Replaces arguments that have gone in a JSON template of the older kind by what
stands for them now, and prints the result. The file itself stays as it is.
Templates in HCL know none of these. In this order:

`)
	for _, f := range fix.Fixers() {
		fmt.Fprintf(&b, "  %-26s %s\n", f.Name, f.Summary)
	}
	return b.String()
}

type mend struct{ validate bool }

func (m *mend) flags(f *flag.FlagSet) {
	f.BoolVar(&m.validate, "validate", true, "check that the fixed template can be read")
}

func (m *mend) run(_ context.Context, c *console, args []string) error {
	name := args[0]
	src, err := legacySource(name, "fix")
	if err != nil {
		return err
	}
	out, diags := fix.Fix(src, name, fix.Fixers())
	c.complain(diags, map[string][]byte{name: src})
	if diags.HasErrors() {
		return failed
	}
	if _, err := fmt.Fprintf(c.out, "%s\n", out); err != nil {
		return fmt.Errorf("write the standard output: %w", err)
	}
	if !m.validate {
		return nil
	}
	fixed := name + " (fixed)"
	diags = loadLegacy(out, fixed)
	if !diags.HasErrors() {
		diags = append(diags, fix.Dangling(out, fixed)...)
	}
	c.complain(diags, map[string][]byte{fixed: out})
	if diags.HasErrors() {
		fmt.Fprintf(c.err, "Error: the fixed template is not valid, which is usually so because %s is not: mend it and try again.\n", name)
		return failed
	}
	return nil
}

// legacySource reads a template that must be of the older JSON kind.
func legacySource(name, command string) ([]byte, error) {
	if name == "-" {
		return nil, fmt.Errorf("%s does not read the standard input: name a file", command)
	}
	for _, suffix := range []string{".hcl", ".pkr.json"} {
		if strings.HasSuffix(name, suffix) {
			return nil, fmt.Errorf("%s: %s is for JSON templates of the older kind; this one is HCL", name, command)
		}
	}
	if info, err := os.Stat(name); err == nil && info.IsDir() {
		return nil, fmt.Errorf("%s is a folder: %s takes one JSON template", name, command)
	}
	return os.ReadFile(name)
}

// loadLegacy says what is wrong with the structure of a JSON template. What its
// components say of their arguments is for validate.
func loadLegacy(src []byte, name string) hcl.Diagnostics {
	t, diags := template.LoadJSON(name, src, bakehouse.Files{Cwd: "/", Home: "/"}, catalogue.Template())
	if !diags.HasErrors() && len(t.InspectLegacy().Builders) == 0 {
		diags = append(diags, &hcl.Diagnostic{
			Severity: hcl.DiagError, Summary: "at least one builder must be defined",
			Detail: "The key \"builders\" holds no builder.", Subject: &hcl.Range{Filename: name, Start: hcl.InitialPos, End: hcl.InitialPos},
		})
	}
	return diags
}
