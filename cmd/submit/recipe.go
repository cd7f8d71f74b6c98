package main

import (
	"errors"
	"flag"
	"os"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"

	"github.com/bakehouse-farm/bakehouse"
	"github.com/bakehouse-farm/bakehouse/cmd/catalogue"
	"github.com/bakehouse-farm/bakehouse/cmd/submit/ui"
	"github.com/bakehouse-farm/bakehouse/template"
)

// templateVersion is the version of Packer whose templates we accept.
const templateVersion = "1.16.0"

// A recipe is what build and validate are told about a template.
type recipe struct {
	vars, varFiles many
	only, except   list
	// Flags of Packer that change nothing here.
	prerelease, sequential bool
}

func (r *recipe) flags(f *flag.FlagSet) {
	f.Var(&r.vars, "var", "set a variable, `name=value`; may be repeated, the last one wins, and wins over files")
	f.Var(&r.varFiles, "var-file", "`file` with variables, HCL or JSON; may be repeated, the last one wins")
	f.Var(&r.only, "only", "build only these: `patterns` joined by commas, matched against the names of builds")
	f.Var(&r.except, "except", "leave these builds and post-processors out: `patterns` joined by commas")
	f.BoolVar(&r.prerelease, "ignore-prerelease-plugins", false, "accepted for Packer's sake: there are no plugins")
	f.BoolVar(&r.sequential, "use-sequential-evaluation", false, "accepted for Packer's sake: locals and data are evaluated in the order of their dependencies")
}

func (r *recipe) selection() template.Selection {
	return template.Selection{Only: r.only, Except: r.except}
}

// A dish is a template with its variables, found to be right as far as that
// can be told without network.
type dish struct {
	path      string
	files     bakehouse.Files
	template  *template.Template
	values    template.Values
	selection template.Selection
	pinned    template.Pinned
	builds    []string
}

// load parses the template and prints what is wrong with it.
func (r *recipe) load(c *console, u *ui.UI, path string, colored bool) (*dish, *report, error) {
	if path == "-" {
		return nil, nil, errors.New("a template cannot be read from standard input: name a file or a folder")
	}
	cwd, err := os.Getwd()
	if err != nil {
		return nil, nil, err
	}
	home, err := os.UserHomeDir()
	if err != nil {
		home = "/" // ~ is the user's affair then
	}
	d := &dish{path: path, files: bakehouse.Files{Cwd: cwd, Home: home}, selection: r.selection()}
	// What is checked here is checked again when the plan is made, from the
	// clock of the farm.
	d.pinned = template.Pinned{Time: time.Now().UTC(), Seed: "check", RunUUID: "00000000-0000-0000-0000-000000000000", Version: templateVersion}
	t, diags := template.Load(path, d.files, catalogue.Template())
	d.template = t
	width := 0
	if size, ok := c.terminal(); ok {
		width, _ = size()
	}
	p := &report{u, t, colored, width}
	if p.show(diags) {
		return nil, nil, failed
	}
	return d, p, nil
}

// evaluate evaluates the variables and prints what is wrong with them.
func (r *recipe) evaluate(c *console, d *dish, p *report, warnUndeclared bool) error {
	values, diags := d.template.Variables(template.Inputs{
		Vars: r.vars, VarFiles: r.varFiles, Environ: c.environ, WarnUndeclared: warnUndeclared,
	})
	d.values = values
	if p.show(diags) {
		return failed
	}
	return nil
}

// A report prints diagnostics.
type report struct {
	u       *ui.UI
	t       *template.Template
	colored bool
	width   int
}

// show prints diagnostics and tells whether there are errors among them.
func (p *report) show(diags hcl.Diagnostics) bool {
	for _, d := range diags {
		var text strings.Builder
		template.WriteDiagnostics(&text, hcl.Diagnostics{d}, p.t, p.colored, p.width)
		p.u.Text(strings.TrimRight(text.String(), "\n")+"\n", d.Severity == hcl.DiagError)
	}
	return diags.HasErrors()
}
