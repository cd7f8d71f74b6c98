// Package activities is the door between the two worlds: what a workflow asks
// for by name is done here, on an agent. An activity decides nothing. It is
// told everything it needs, hands the question to a builder, a provisioner or
// a post-processor, keeps the log of the step, beats while it lives, and says
// as its last act whether a failure is final.
package activities

import (
	"context"
	"time"

	"github.com/bakehouse-farm/bakehouse"
	"github.com/bakehouse-farm/bakehouse/agent/buildlog"
	"github.com/bakehouse-farm/bakehouse/agent/bundle"
	"github.com/bakehouse-farm/bakehouse/builders"
	"github.com/bakehouse-farm/bakehouse/communicator"
	"github.com/bakehouse-farm/bakehouse/postprocessors"
	"github.com/bakehouse-farm/bakehouse/provisioners"
	"github.com/bakehouse-farm/bakehouse/template"
)

// Config says what the activities work with. All fields but Traces and Farm are required.
type Config struct {
	// Template is what templates may name.
	Template template.Catalogue
	// Builders, Provisioners and PostProcessors are the components by type.
	Builders       map[string]builders.Builder
	Provisioners   map[string]provisioners.Provisioner
	PostProcessors map[string]postprocessors.PostProcessor
	// Machines reaches the machines of this pool.
	Machines Machines
	// Bundles holds files and plans; Logs what steps say.
	Bundles *bundle.Store
	Logs    *buildlog.Store
	// Cache is a folder for unpacked bundles. It may vanish at any time between
	// two activities.
	Cache string
	// Traces sends traces; nil when nobody asked this agent for them.
	Traces Traces
	// Farm tells which builds live; nil makes Fates fail.
	Farm Farm
}

// Machines reaches machines. It is the communicators, chosen by the target's
// settings.
type Machines interface {
	// Wait waits until one can log in, and returns the host key it saw.
	Wait(ctx context.Context, t communicator.Target, files bakehouse.Files) (hostKey string, err error)
	// Dial connects.
	Dial(ctx context.Context, t communicator.Target, files bakehouse.Files) (communicator.Communicator, error)
}

// Activities are the activities. Their methods are registered under their names.
type Activities struct {
	Config
	plans     *cache[*plan]
	templates *cache[*loaded]
}

// New returns the activities of one agent.
func New(c Config) *Activities {
	return &Activities{Config: c, plans: newCache[*plan](32), templates: newCache[*loaded](8)}
}

// A Step is what every activity of a build is told.
type Step struct {
	// Key names the step within its build and orders it: "07-provision-1-shell".
	// It is the activity's ID and the name of its log.
	Key   string          `json:"step"`
	Build bakehouse.Build `json:"build"`
	Plan  PlanRef         `json:"plan"`
}

// A PlanRef finds the plan of a build.
type PlanRef struct {
	// Digest is that of the blob with the plan; Index is the build's place in it.
	Digest string `json:"digest"`
	Index  int    `json:"index"`
	// Files is what the plan was made from.
	Files FilesRef `json:"files"`
	// Trace is the W3C trace context under which the builds of the submission
	// are drawn.
	Trace Trace `json:"trace"`
}

// A FilesRef finds the files of a submission.
type FilesRef struct {
	Bundle   string `json:"bundle"`
	Template string `json:"template"`
	Cwd      string `json:"cwd"`
	Home     string `json:"home"`
}

// A Trace is what the trace of a submission derives from.
type Trace struct {
	// Parent is the caller's W3C traceparent; may be empty.
	Parent string `json:"parent,omitempty"`
	// Run is the run ID of the submission.
	Run string `json:"run"`
}

// PlanInput asks for a plan.
type PlanInput struct {
	Step       Step                 `json:"step"`
	Submission bakehouse.Submission `json:"submission"`
	// Run is the run ID of the submission; random values derive from it.
	Run string `json:"run"`
	// Time is when the submission was accepted; the clock of the template.
	Time time.Time `json:"time"`
	// RunUUID is Packer's PackerRunUUID.
	RunUUID string `json:"run_uuid"`
}

// Planned is the outline of a plan: what a workflow must know of it.
type Planned struct {
	Digest string         `json:"digest"`
	Builds []PlannedBuild `json:"builds"`
	// Log is where the log of the plan ended; nil when an older agent planned.
	Log *bakehouse.LogEnd `json:"log,omitempty"`
}

// PlannedBuild is the outline of one build.
type PlannedBuild struct {
	Name   string `json:"name"`
	Type   string `json:"type"`
	Source string `json:"source"`
	// Launches and Captures tell what the builder does; Connects whether there is
	// a machine to talk to.
	Launches bool `json:"launches"`
	Captures bool `json:"captures"`
	Connects bool `json:"connects"`
	// Replaces tells that a machine that is gone can be replaced; Checkpoints
	// that what it has become can be kept meanwhile.
	Replaces    bool `json:"replaces,omitempty"`
	Checkpoints bool `json:"checkpoints,omitempty"`
	// PauseBeforeConnecting is the communicator's option.
	PauseBeforeConnecting time.Duration `json:"pause_before_connecting,omitempty"`
	// ClearKeys asks for the temporary key to be removed from the machine.
	ClearKeys      bool                              `json:"clear_keys,omitempty"`
	Provisioners   []template.PlannedProvisioner     `json:"provisioners,omitempty"`
	ErrorCleanup   *template.PlannedProvisioner      `json:"error_cleanup,omitempty"`
	PostProcessors [][]template.PlannedPostProcessor `json:"post_processors,omitempty"`
}
