// Package template reads Packer's template language: files and variables go
// in, and out comes a plan or diagnostics that say what is wrong and where.
//
// Three notations lead onto one model: HCL (.pkr.hcl), HCL's JSON form
// (.pkr.json) and Packer's older JSON templates.
package template

import (
	"context"
	"encoding/json"
	"io"
	"time"

	"github.com/hashicorp/hcl/v2"

	"github.com/bakehouse-farm/bakehouse"
	"github.com/bakehouse-farm/bakehouse/datasources"
)

// A Catalogue lists the components that exist, by the type name that templates
// use ("amazon-ebs", "shell"). It is handed down; nobody registers.
type Catalogue struct {
	Builders, Provisioners, PostProcessors map[string]bakehouse.Component
	DataSources                            map[string]datasources.DataSource
}

// A Template is a parsed template. Nothing in it is evaluated yet.
type Template struct{}

// Inputs are the sources of variables' values besides the template itself.
type Inputs struct {
	// Vars are -var arguments, "name=value", in the order given.
	Vars []string
	// VarFiles are -var-file arguments, in the order given.
	VarFiles []string
	// Environ is the environment, in the form of os.Environ.
	Environ []string
	// WarnUndeclared asks for a warning for each value in a variable file whose
	// variable is not declared.
	WarnUndeclared bool
}

// Values are the evaluated variables of a template.
type Values struct{}

// A Selection is what -only and -except choose; globs as Packer matches them.
type Selection struct{ Only, Except []string }

// Pinned fixes what would differ each time a template is evaluated: the clock,
// random numbers, the run.
type Pinned struct {
	Time    time.Time `json:"time"`
	Seed    string    `json:"seed"`
	RunUUID string    `json:"run_uuid"`
	// Version is packer.version as templates see it, "1.16.0".
	Version string `json:"version"`
}

// A BuildName is how a build is displayed and selected: "amazon-ebs.web", or
// "name.amazon-ebs.web" when the build block has a name.
type BuildName = string

// A Plan is an evaluated template, frozen and self-contained.
type Plan struct {
	Builds []PlannedBuild `json:"builds"`
	Scope  Scope          `json:"scope"`
}

// A Scope holds the evaluated variables, locals and data that later
// expressions may see.
type Scope struct{}

// A PlannedBuild is one source of one build block, evaluated.
type PlannedBuild struct {
	Name           string                   `json:"name"`
	Type           string                   `json:"type"`
	Source         string                   `json:"source"`
	Settings       json.RawMessage          `json:"settings"`
	Provisioners   []PlannedProvisioner     `json:"provisioners,omitempty"`
	ErrorCleanup   *PlannedProvisioner      `json:"error_cleanup,omitempty"`
	PostProcessors [][]PlannedPostProcessor `json:"post_processors,omitempty"`
}

// A PlannedProvisioner is one provisioner block of a build.
type PlannedProvisioner struct {
	Index           int                `json:"index"`
	Type            string             `json:"type"`
	Name            string             `json:"name,omitempty"`
	PauseBefore     bakehouse.Duration `json:"pause_before,omitempty"`
	Timeout         bakehouse.Duration `json:"timeout,omitempty"`
	MaxRetries      int                `json:"max_retries,omitempty"`
	ContinueOnError bool               `json:"continue_on_error,omitempty"`
}

// A PlannedPostProcessor is one post-processor block of a build.
type PlannedPostProcessor struct {
	Index             [2]int `json:"index"`
	Type              string `json:"type"`
	Name              string `json:"name,omitempty"`
	KeepInputArtifact *bool  `json:"keep_input_artifact,omitempty"`
}

func todo(what string) hcl.Diagnostics {
	return hcl.Diagnostics{{Severity: hcl.DiagError, Summary: what + " is not written yet"}}
}

// Load parses the template at path, a folder or a file.
func Load(path string, files bakehouse.Files, cat Catalogue) (*Template, hcl.Diagnostics) {
	return &Template{}, todo("Load")
}

// Variables evaluates every variable from all its sources.
func (t *Template) Variables(in Inputs) (Values, hcl.Diagnostics) { return Values{}, todo("Variables") }

// Check finds everything wrong that can be found without network.
func (t *Template) Check(v Values, sel Selection, pin Pinned) hcl.Diagnostics { return todo("Check") }

// Select names the builds that a selection leaves, in template order.
func (t *Template) Select(v Values, sel Selection) ([]BuildName, hcl.Diagnostics) {
	return nil, todo("Select")
}

// LocalFiles names the files and folders that must travel.
func (t *Template) LocalFiles(v Values, sel Selection, pin Pinned) []string { return nil }

// Writes collects what post-processors will write.
func (t *Template) Writes(v Values, pin Pinned, writes func(typ string, settings json.RawMessage) []string) []string {
	return nil
}

// Plan evaluates everything for real.
func (t *Template) Plan(ctx context.Context, v Values, sel Selection, pin Pinned) (*Plan, hcl.Diagnostics) {
	return nil, todo("Plan")
}

// Provisioner evaluates one provisioner block when it runs.
func (t *Template) Provisioner(s Scope, b PlannedBuild, p PlannedProvisioner, build map[string]string) (json.RawMessage, hcl.Diagnostics) {
	return nil, todo("Provisioner")
}

// PostProcessor evaluates one post-processor block when it runs.
func (t *Template) PostProcessor(s Scope, b PlannedBuild, p PlannedPostProcessor, build map[string]string) (json.RawMessage, hcl.Diagnostics) {
	return nil, todo("PostProcessor")
}

// Secrets returns what must be masked, longest first.
func (p *Plan) Secrets() []string { return nil }

// WriteDiagnostics writes diagnostics with the source lines they are about.
func WriteDiagnostics(w io.Writer, diags hcl.Diagnostics, t *Template, color bool, width int) {
	_ = hcl.NewDiagnosticTextWriter(w, nil, uint(max(width, 0)), color).WriteDiagnostics(diags)
}
