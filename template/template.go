// Package template reads Packer's template language: files and variables go
// in, and out comes a plan, or diagnostics that say what is wrong and where.
//
// Three notations lead onto one model: HCL (.pkr.hcl), HCL's JSON form
// (.pkr.json) and Packer's older JSON templates. Load makes the model,
// Variables gives the variables their values, and then
//
//   - Check finds everything wrong without touching the network,
//   - Plan evaluates for real and freezes what came out,
//   - Provisioner and PostProcessor evaluate single blocks later, when what
//     they say of the machine (build.*) is known.
package template

import (
	"context"
	"encoding/json"
	"sort"
	"time"

	"github.com/hashicorp/hcl/v2"

	"github.com/bakehouse-farm/bakehouse"
	"github.com/bakehouse-farm/bakehouse/datasources"
	"github.com/bakehouse-farm/bakehouse/template/limit"
	"github.com/bakehouse-farm/bakehouse/template/schema"
)

// PackerVersion is the version of Packer whose language this is, and which
// required_version is held against.
const PackerVersion = "1.16.0"

// A Catalogue lists the components that exist, by the type name that templates
// use ("amazon-ebs", "shell"). It is handed down; nobody registers.
type Catalogue struct {
	Builders, Provisioners, PostProcessors map[string]bakehouse.Component
	DataSources                            map[string]datasources.DataSource
	// Lookup answers the functions that ask a server, in Plan and later. Without
	// one they fail there; what only checks never asks.
	Lookup datasources.Lookup
}

// A Template is a parsed template. Nothing in it is evaluated yet.
type Template struct {
	cat   Catalogue
	files bakehouse.Files
	// path is what the user named; base is the folder of the template as the
	// user would write it, path.root.
	path, base string
	// folder tells that path is a folder: then variable files are found there.
	folder bool
	// source is the text of a template that is in no file; else nil.
	source []byte
	// legacy tells of a JSON template of the older kind.
	legacy bool
	// description is what a legacy template says of itself.
	description string
	// first is the first of the template's files.
	first string
	// faulty tells that Load has found errors.
	faulty bool
	// budget is what the expressions may cost that are evaluated while reading;
	// size how much has been read.
	budget *limit.Budget
	size   int
	// parsed are the files, by the names that diagnostics use.
	parsed map[string]*hcl.File

	variables []*variable
	locals    []*local
	data      []*component
	sources   []*component
	builds    []*build
	plugins   []*RequiredPlugin
	// named are the declarations by kind and name, "variable.x".
	named map[string]any

	// ctx and hide are Asking's.
	ctx  context.Context
	hide func(secret string)
}

// A component is a block that configures a builder or a data source.
type component struct {
	kind, typ, name string
	body            hcl.Body
	// block is where the block's head stands, typeAt its type label.
	block, typeAt hcl.Range
}

func (c *component) ref() string { return c.typ + "." + c.name }

// A local is one local value.
type local struct {
	name      string
	expr      hcl.Expression
	sensitive bool
	at        hcl.Range
}

// A build is a build block; what is in it depends on values (names, dynamic
// blocks), so that it is read each time it is needed.
type build struct {
	body hcl.Body
	at   hcl.Range
	// legacy is what a legacy template says instead of a body; nil in HCL.
	legacy *legacyBuild
}

// A Selection is what -only and -except choose. In HCL the patterns are globs
// over whole build names; in legacy JSON they are the names of builders.
type Selection struct{ Only, Except []string }

// Pinned fixes what would differ each time a template is evaluated: the clock,
// random numbers, the run.
type Pinned struct {
	// Time is what timestamp() and its like tell. Zero makes them unknown, which
	// Check takes and Plan does not.
	Time time.Time `json:"time"`
	// Seed is what uuids are derived from; required as Time is.
	Seed string `json:"seed"`
	// RunUUID is build.PackerRunUUID.
	RunUUID string `json:"run_uuid"`
	// Version is packer.version as templates see it; empty means PackerVersion.
	Version string `json:"version"`
}

func (p Pinned) version() string {
	if p.Version == "" {
		return PackerVersion
	}
	return p.Version
}

// A BuildName is how a build is displayed and selected: "amazon-ebs.web", or
// "name.amazon-ebs.web" when the build block has a name.
type BuildName = string

// A Plan is an evaluated template, frozen and self-contained.
type Plan struct {
	Builds []PlannedBuild `json:"builds"`
	Scope  Scope          `json:"scope"`
	// Hidden are the strings that Secrets returns, in no order.
	Hidden []string `json:"hidden,omitempty"`
}

// Secrets returns every string that must be masked wherever it appears: the
// strings of sensitive variables and locals, what functions and interpolation
// made of them, and arguments that a component says are secret. Longest first,
// without repetition and without the empty string. Short ones are in it, too:
// whoever masks decides what to do about a secret of one letter.
func (p *Plan) Secrets() []string {
	s := append([]string(nil), p.Hidden...)
	sort.Slice(s, func(i, j int) bool {
		if len(s[i]) != len(s[j]) {
			return len(s[i]) > len(s[j])
		}
		return s[i] < s[j]
	})
	return s
}

// A PlannedBuild is one source of one build block, evaluated.
type PlannedBuild struct {
	// Name is the build's name as shown: "web.amazon-ebs.ubuntu".
	Name string `json:"name"`
	// Type and Source are the labels of the source block. Where the build block
	// gives the source another name, only Name has it.
	Type   string `json:"type"`
	Source string `json:"source"`
	// Block and Use say where in the template it is: the build block, and the
	// source among the sources of that block.
	Block int `json:"block"`
	Use   int `json:"use"`
	// Settings are the builder's evaluated settings: what is set, and nothing else.
	Settings json.RawMessage `json:"settings"`
	// Provisioners are those that apply to this source, in order.
	Provisioners []PlannedProvisioner `json:"provisioners,omitempty"`
	ErrorCleanup *PlannedProvisioner  `json:"error_cleanup,omitempty"`
	// PostProcessors are sequences, each of which starts from the builder's
	// artifact. A post-processor on its own is a sequence of one.
	PostProcessors [][]PlannedPostProcessor `json:"post_processors,omitempty"`
}

// A PlannedProvisioner is one provisioner block of a build.
type PlannedProvisioner struct {
	// Index is its place among the provisioners of the build block; -1 is the
	// error-cleanup-provisioner.
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
	// Index is its sequence within the build block and its place in the sequence.
	Index [2]int `json:"index"`
	Type  string `json:"type"`
	Name  string `json:"name,omitempty"`
	// KeepInputArtifact is nil where the template does not say.
	KeepInputArtifact *bool `json:"keep_input_artifact,omitempty"`
}

// schemaOf returns the schema of a component's settings.
func (t *Template) schemaOf(c bakehouse.Component) (*schema.Schema, error) {
	return schema.Of(c.Settings())
}
