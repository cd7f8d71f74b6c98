package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"

	"github.com/bakehouse-farm/bakehouse/cmd/catalogue"
	"github.com/bakehouse-farm/bakehouse/template/upgrade"
)

var upgradeTopic = topic{
	name: "hcl2_upgrade", args: "TEMPLATE", least: 1, most: 1,
	summary: "write an older JSON template anew in HCL",
	text: `
Writes a JSON template of the older kind anew in HCL, so that it makes the same
builds. The JSON stays as it is; what is in the way of the new file is replaced.
Run fix first if the template is old.

What has no counterpart in HCL stays as {{ }}, under a comment that says why, and
is warned of. Variables whose values are computed become locals, which -var does
not set. {{timestamp}} counts digits of date and time afterwards, not seconds.`,
	exits: `  0  the template was written; there may be warnings
  1  TEMPLATE is no JSON template, or the file could not be written
`,
	make: func() command { return new(anew) },
}

type anew struct {
	output   string
	annotate bool
}

func (a *anew) flags(f *flag.FlagSet) {
	f.StringVar(&a.output, "output-file", "", "`file` to write; without this flag, TEMPLATE.pkr.hcl")
	f.BoolVar(&a.annotate, "with-annotations", false, "write comments that explain the blocks")
}

func (a *anew) run(_ context.Context, c *console, args []string) error {
	name := args[0]
	src, err := legacySource(name, "hcl2_upgrade")
	if err != nil {
		return err
	}
	files := map[string][]byte{name: src}
	diags := loadLegacy(src, name)
	if diags.HasErrors() {
		c.complain(diags, files)
		return failed
	}
	out, diags := upgrade.HCL(src, name, upgrade.Options{Catalogue: catalogue.Template(), Annotate: a.annotate})
	c.complain(diags, files)
	if diags.HasErrors() {
		return failed
	}
	if a.output == "" {
		a.output = name + ".pkr.hcl"
	}
	if err := os.MkdirAll(filepath.Dir(a.output), 0o755); err != nil {
		return err
	}
	info, err := os.Stat(name)
	if err != nil {
		return err
	}
	// What may not be read in one notation may not be read in the other.
	if err := rewrite(a.output, out, info.Mode().Perm()); err != nil {
		return err
	}
	new(look).ui(c).Say(fmt.Sprintf("Successfully created %s.", a.output))
	return nil
}
