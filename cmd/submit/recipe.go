package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"

	"github.com/bakehouse-farm/bakehouse"
	"github.com/bakehouse-farm/bakehouse/cmd/catalogue"
	"github.com/bakehouse-farm/bakehouse/cmd/submit/ui"
	"github.com/bakehouse-farm/bakehouse/template"
	"github.com/bakehouse-farm/bakehouse/template/limit"
)

// templateVersion is the version of Packer whose templates we accept.
const templateVersion = "1.16.0"

// A recipe is what build, validate, inspect and console are told about a template.
type recipe struct {
	vars, varFiles many
	only, except   list
	configType     configType
	// Flags of Packer that change nothing here.
	prerelease, sequential bool
}

// stdin is the path that means a JSON template on the standard input.
const stdin = "-"

func (r *recipe) flags(f *flag.FlagSet) {
	f.Var(&r.vars, "var", "set a variable, `name=value`; may be repeated, the last one wins, and wins over files")
	f.Var(&r.varFiles, "var-file", "`file` with variables, HCL or JSON; may be repeated, the last one wins")
	f.Var(&r.only, "only", "build only these: `patterns` joined by commas, matched against the names of builds")
	f.Var(&r.except, "except", "leave these builds and post-processors out: `patterns` joined by commas")
	f.BoolVar(&r.prerelease, "ignore-prerelease-plugins", false, "accepted for Packer's sake: there are no plugins")
	f.BoolVar(&r.sequential, "use-sequential-evaluation", false, "accepted for Packer's sake, with a warning: locals and data are evaluated in the order of their dependencies")
	f.Var(&r.configType, "config-type", "what the console is of if it has no template: `json` or hcl2")
}

func (r *recipe) selection() template.Selection {
	return template.Selection{Only: r.only, Except: r.except}
}

// A dish is a template with its variables, found to be right as far as that
// can be told without network.
type dish struct {
	path string
	// source is the template itself when it came from the standard input.
	source    []byte
	files     bakehouse.Files
	template  *template.Template
	values    template.Values
	selection template.Selection
	pinned    template.Pinned
	builds    []string
}

// load parses the template and prints what is wrong with it.
func (r *recipe) load(c *console, u *ui.UI, path string, colored bool) (*dish, *report, error) {
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
	t, diags, err := r.read(c, d)
	if err != nil {
		return nil, nil, err
	}
	d.template = t
	width := 0
	if size, ok := c.terminal(); ok {
		width, _ = size()
	}
	p := &report{u, t, colored, width}
	if r.sequential {
		diags = append(diags, &hcl.Diagnostic{
			Severity: hcl.DiagWarning, Summary: "-use-sequential-evaluation changes nothing",
			Detail: "Locals and data sources are always evaluated in the order of their dependencies, whatever the order that they are written in.",
		})
	}
	if p.show(diags) {
		return nil, nil, failed
	}
	return d, p, nil
}

// read parses the template: that of the path, or, when there is none, an empty
// one of the type that -config-type says.
func (r *recipe) read(c *console, d *dish) (*template.Template, hcl.Diagnostics, error) {
	switch {
	case d.path == "":
		return template.Empty(d.files, catalogue.Template(), r.configType != "hcl2"), nil, nil
	case d.path == stdin && r.configType == "hcl2":
		return nil, nil, errors.New("only a JSON template of the older kind can be read from the standard input: put HCL into a file that ends in .pkr.hcl")
	case d.path == stdin:
		src, err := io.ReadAll(io.LimitReader(c.in, limit.File+1)) // more is refused
		if err != nil {
			return nil, nil, fmt.Errorf("read the template from the standard input: %w", err)
		}
		d.source = src
		t, diags := template.LoadJSON(stdin, src, d.files, catalogue.Template())
		return t, diags, nil
	}
	t, diags := template.Load(d.path, d.files, catalogue.Template())
	return t, diags, nil
}

// evaluate evaluates the variables and prints what is wrong with them.
func (r *recipe) evaluate(c *console, d *dish, p *report, in template.Inputs) error {
	in.Vars, in.VarFiles, in.Environ = r.vars, r.varFiles, c.environ
	values, diags := d.template.Variables(in)
	d.values = values
	if p.show(diags) {
		return failed
	}
	return nil
}

// A configType is the value of -config-type; empty means json.
type configType string

func (t *configType) String() string { return string(*t) }

// Set implements flag.Value.
func (t *configType) Set(s string) error {
	if s != "json" && s != "hcl2" {
		return errors.New("choose json or hcl2")
	}
	*t = configType(s)
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
