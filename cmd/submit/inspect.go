package main

import (
	"context"
	"flag"
	"fmt"
	"strings"

	"github.com/bakehouse-farm/bakehouse/cmd/submit/ui"
	"github.com/bakehouse-farm/bakehouse/template"
)

var inspectTopic = topic{
	name: "inspect", args: "PATH", least: 1, most: 1,
	summary: "list what is in a template",
	text: `
Lists the variables, locals and builds of a template, or the variables, builders
and provisioners of a JSON template of the older kind, without checking them.
Variables need no value. PATH is a folder with *.pkr.hcl and *.pkr.json files,
one file, or - for a JSON template on the standard input.`,
	exits: `  0  done, also when the template is not valid
  1  the template cannot be read
`,
	make: func() command { return new(inspect) },
}

type inspect struct {
	recipe
	look
}

func (i *inspect) flags(f *flag.FlagSet) {
	i.recipe.flags(f)
	i.look.flags(f)
}

func (i *inspect) run(_ context.Context, c *console, args []string) error {
	u := i.look.ui(c)
	d, p, err := i.recipe.load(c, u, args[0], i.look.colored(c))
	if err != nil {
		return err
	}
	if d.template.Legacy() {
		inspectLegacy(u, d.template.InspectLegacy())
		return nil
	}
	if err := i.recipe.evaluate(c, d, p, template.Inputs{AllowUnset: true}); err != nil {
		return err
	}
	in := d.template.Inspect(d.values, d.pinned)
	u.Say("Packer Inspect: HCL2 mode\n")
	u.Say(variablesText(in.Variables, in.Locals))
	u.Say(buildsText(in.Builds))
	return nil
}

// variablesText lists variables and locals as Packer does.
func variablesText(variables, locals []template.Named) string {
	var b strings.Builder
	b.WriteString("> input-variables:\n\n")
	for _, v := range variables {
		fmt.Fprintf(&b, "var.%s: %q\n", v.Name, v.Value)
	}
	b.WriteString("\n> local-variables:\n\n")
	for _, l := range locals {
		fmt.Fprintf(&b, "local.%s: %q\n", l.Name, l.Value)
	}
	return b.String()
}

func buildsText(builds []template.InspectedBuild) string {
	var b strings.Builder
	b.WriteString("> builds:\n")
	for i, block := range builds {
		name := block.Name
		if name == "" {
			name = fmt.Sprintf("<unnamed build %d>", i)
		}
		fmt.Fprintf(&b, "\n  > %s:\n", name)
		if block.Description != "" {
			fmt.Fprintf(&b, "\n  > Description: %s\n", block.Description)
		}
		b.WriteString("\n    sources:\n")
		for _, s := range orNone(block.Sources, "<no source>") {
			fmt.Fprintf(&b, "\n      %s\n", s)
		}
		b.WriteString("\n    provisioners:\n\n")
		for _, p := range orNone(block.Provisioners, "<no provisioner>") {
			fmt.Fprintf(&b, "      %s\n", p)
		}
		b.WriteString("\n    post-processors:\n")
		if len(block.PostProcessors) == 0 {
			b.WriteString("\n      <no post-processor>\n")
		}
		for i, chain := range block.PostProcessors {
			fmt.Fprintf(&b, "\n      %d:\n", i)
			for _, p := range chain {
				fmt.Fprintf(&b, "        %s\n", p)
			}
		}
	}
	return b.String()
}

func orNone(list []string, none string) []string {
	if len(list) == 0 {
		return []string{none}
	}
	return list
}

// inspectLegacy prints what is in a JSON template of the older kind, as lines or
// as records that Packer's users read.
func inspectLegacy(u *ui.UI, in template.LegacyInspection) {
	u.Say("Packer Inspect: JSON mode")
	if in.Description != "" {
		u.Say("Description:\n")
		u.Say(in.Description + "\n")
	}
	inspectVariables(u, in)
	u.Say("Builders:\n")
	if len(in.Builders) == 0 {
		u.Say("  <No builders>")
	}
	for _, b := range in.Builders {
		u.Record("", "template-builder", b.Name, b.Value)
		line := fmt.Sprintf("  %-*s", widest(in.Builders), b.Name)
		if b.Name != b.Value {
			line += " (" + b.Value + ")"
		}
		u.Say(line)
	}
	u.Say("")
	u.Say("Provisioners:\n")
	if len(in.Provisioners) == 0 {
		u.Say("  <No provisioners>")
	}
	for _, typ := range in.Provisioners {
		u.Record("", "template-provisioner", typ)
		u.Say("  " + typ)
	}
	u.Say("\nNote: names are shown as they are written. User variables and functions such\n" +
		"as 'timestamp' in them get their values when the template is built.")
}

func inspectVariables(u *ui.UI, in template.LegacyInspection) {
	if len(in.Required)+len(in.Optional) == 0 {
		u.Say("Variables:\n")
		u.Say("  <No variables>")
	}
	if len(in.Required) > 0 {
		u.Say("Required variables:\n")
	}
	for _, name := range in.Required {
		u.Record("", "template-variable", name, "", "1")
		u.Say("  " + name)
	}
	if len(in.Required) > 0 {
		u.Say("")
	}
	if len(in.Required)+len(in.Optional) > 0 {
		u.Say("Optional variables and their defaults:\n")
	}
	for _, v := range in.Optional {
		u.Record("", "template-variable", v.Name, v.Value, "0")
		u.Say(fmt.Sprintf("  %-*s = %s", widest(in.Optional), v.Name, v.Value))
	}
	u.Say("")
}

func widest(list []template.Named) int {
	n := 0
	for _, v := range list {
		n = max(n, len(v.Name))
	}
	return n
}
