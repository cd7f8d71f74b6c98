package main

import (
	"context"
	"flag"

	"github.com/hashicorp/hcl/v2"

	"github.com/bakehouse-farm/bakehouse/template"
)

var validateTopic = topic{
	name: "validate", args: "PATH", least: 1, most: 1,
	summary: "check a template without building it",
	text: `
Checks everything in a template that can be checked without network: its
syntax, its variables, and the arguments of every builder, provisioner and
post-processor of the selected builds. PATH is a folder with *.pkr.hcl and
*.pkr.json files, one file, or - for a JSON template on the standard input.

Data sources are not read, and what depends on them is not known, unless
-evaluate-datasources asks for it: then they are read from this computer and with
its credentials, and so are the servers that functions such as vault ask. In a
build, it is an agent that reads them.`,
	exits: `  0  the template is valid; there may be warnings
  1  it is not; what is wrong was printed
`,
	make: func() command { return new(validate) },
}

type validate struct {
	recipe
	look
	syntaxOnly, dataSources, noWarn bool
}

func (v *validate) flags(f *flag.FlagSet) {
	v.recipe.flags(f)
	v.look.flags(f)
	f.BoolVar(&v.syntaxOnly, "syntax-only", false, "check the syntax only; variables need no values")
	f.BoolVar(&v.dataSources, "evaluate-datasources", false, "really read data sources, from this computer and with its credentials")
	f.BoolVar(&v.noWarn, "no-warn-undeclared-var", false, "do not warn of values in variable files whose variable is not declared")
}

func (v *validate) run(ctx context.Context, c *console, args []string) error {
	u, colored := v.look.ui(c), v.look.colored(c)
	d, p, err := v.recipe.load(c, u, args[0], colored)
	if err != nil {
		return err
	}
	if v.syntaxOnly {
		u.Say("Syntax-only check passed. Everything looks okay.")
		return nil
	}
	if err := v.recipe.evaluate(c, d, p, template.Inputs{WarnUndeclared: !v.noWarn}); err != nil {
		return err
	}
	check := d.template.Check
	if v.dataSources {
		check = func(values template.Values, sel template.Selection, pin template.Pinned) hcl.Diagnostics {
			return d.template.CheckAsking(ctx, values, sel, pin)
		}
	}
	if p.show(check(d.values, d.selection, d.pinned)) {
		return failed
	}
	u.Say("The configuration is valid.")
	return nil
}
