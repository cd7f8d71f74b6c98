package bakehouse

import (
	"encoding/json"
	"slices"
	"strconv"
	"time"
)

// A Submission is one `submit build`: a template and its variables. It is what
// the submitter hands to the farm and the input of workflow Submission.
type Submission struct {
	// Template is the path of the template as the user wrote it.
	Template string `json:"template"`
	// Title is the short name of the template, for lists: "web".
	Title string `json:"title"`
	// Bundle is the digest of the files that the submission needs.
	Bundle string `json:"bundle"`
	// Cwd and Home are the submitter's; see Files.
	Cwd  string `json:"cwd"`
	Home string `json:"home"`
	// Values is the digest of the blob with the evaluated variables (template.Values).
	Values string `json:"values"`
	// Only and Except are the user's patterns.
	Only   []string `json:"only,omitempty"`
	Except []string `json:"except,omitempty"`
	// Parallel is the most builds at a time; 0 means all at once.
	Parallel int `json:"parallel,omitempty"`
	// Policy says what builds do when something goes wrong.
	Policy
	// Force replaces images of the same name.
	Force bool `json:"force,omitempty"`
	// Pool is the task queue of the agents that shall work on it.
	Pool string `json:"pool"`
	// TraceParent is the W3C trace context of the caller; may be empty.
	TraceParent string `json:"traceparent,omitempty"`
	// User is who submitted, for lists. Not trusted.
	User string `json:"user,omitempty"`
}

// A Policy says what a build does when things do not go as they should. The
// zero value is what Packer does: the build cleans up and fails.
type Policy struct {
	// OnError says what a step that failed means: "cleanup" (also when empty)
	// ends the build and releases what it made; "abort" ends it and leaves
	// everything as it is; "run-cleanup-provisioner" does too, after the
	// error-cleanup-provisioner has run; "ask" parks the build until somebody
	// decides.
	OnError string `json:"on_error,omitempty"`
	// OnMachineLoss says what the loss of the machine means: "fail" (also when
	// empty) is a failed step; "restart" launches another machine and does the
	// work again, from the last checkpoint or from the start.
	OnMachineLoss string `json:"on_machine_loss,omitempty"`
	// Checkpoint asks for an image of the machine after each provisioner but the
	// last, whose work is in the image of the build itself.
	Checkpoint bool `json:"checkpoint,omitempty"`
	// CheckpointAfter limits that to the provisioners that one of its words means
	// (see ChecksAfter). Empty: all.
	CheckpointAfter []string `json:"checkpoint_after,omitempty"`
	// Debug parks the build before each of its steps.
	Debug bool `json:"debug,omitempty"`
	// Timeout is how long the build may take, StepTimeout how long one step of it
	// may; zero means that nothing limits them.
	Timeout     Duration `json:"timeout,omitempty"`
	StepTimeout Duration `json:"step_timeout,omitempty"`
	// Lease is how long a parked build waits before it ends by itself; zero means
	// DefaultLease.
	Lease Duration `json:"lease,omitempty"`
	// Keep is how long a build whose machine was finished is kept when what
	// comes after (snapshot, copies, post-processors) failed, so that only that
	// need be done again; zero means not at all.
	Keep Duration `json:"keep,omitempty"`
}

// ChecksAfter tells whether a checkpoint is wanted after a provisioner, which
// a word means by its number among those of its build, counted from 1, by its
// name or by its type.
func (p Policy) ChecksAfter(number int, name, typ string) bool {
	if !p.Checkpoint || len(p.CheckpointAfter) == 0 {
		return p.Checkpoint
	}
	return slices.ContainsFunc(p.CheckpointAfter, func(word string) bool {
		return word == strconv.Itoa(number) || word == typ || name != "" && word == name
	})
}

// DefaultLease is how long a parked build waits for a decision.
const DefaultLease = 4 * time.Hour

// MaxLease is the longest lease and the longest Keep: what a build holds is
// marked as lost after a week.
const MaxLease = 6 * 24 * time.Hour

// A Decision is what somebody says to a parked build.
type Decision struct {
	// Action is one of the Actions.
	Action Action `json:"action"`
	// From is the provisioner, counted from 1, that RetryFrom begins with.
	From int `json:"from,omitempty"`
	// By is who decided, for the log. Not trusted.
	By string `json:"by,omitempty"`
}

// An Action is what a parked build is told to do.
type Action string

// The actions.
const (
	Retry     Action = "retry"      // do the failed step again
	RetryFrom Action = "retry-from" // go back to a provisioner
	Skip      Action = "skip"       // go on as if the step had succeeded
	Resume    Action = "resume"     // go on after a pause or a breakpoint
	Cleanup   Action = "cleanup"    // end the build and release what it holds
	Abort     Action = "abort"      // end the build and leave everything as it is
)

// A Parked tells why a build waits, and until when.
type Parked struct {
	// Why is "failed", "paused", "breakpoint" or "debug".
	Why string `json:"why"`
	// Step is the step that failed, or the one that comes next.
	Step string `json:"step"`
	// Error is what failed; empty when nothing did.
	Error string `json:"error,omitempty"`
	// Actions are those that the build would take.
	Actions []Action  `json:"actions"`
	Since   time.Time `json:"since"`
	Until   time.Time `json:"until"`
}

// A Status tells how far a build has come.
type Status struct {
	Build Build `json:"build"`
	// Step is the one that is being done, or comes next.
	Step string `json:"step"`
	// Provisioners are the types of the provisioners; Done is how many of them
	// the machine has behind it.
	Provisioners []string `json:"provisioners,omitempty"`
	Done         int      `json:"done"`
	// Parked is nil while the build goes on.
	Parked *Parked `json:"parked,omitempty"`
	// Pausing tells that the build will park before its next step.
	Pausing bool `json:"pausing,omitempty"`
	// Machine and Host are the machine's ID and address, once it has them.
	Machine string `json:"machine,omitempty"`
	Host    string `json:"host,omitempty"`
}

// A Result tells how a build ended.
type Result struct {
	Build Build `json:"build"`
	// Error is empty when the build succeeded.
	Error string `json:"error,omitempty"`
	Kind  Kind   `json:"kind,omitempty"`
	// Cancelled tells that the user ended the build.
	Cancelled bool `json:"cancelled,omitempty"`
	// Artifacts are the builder's artifact and then that of each post-processor
	// that made or passed on one, as Packer lists them.
	Artifacts []Artifact `json:"artifacts,omitempty"`
	// Outputs are to be put on the submitter's computer.
	Outputs []Output `json:"outputs,omitempty"`
	// Leftovers says what could not be removed; a sweep will find it.
	Leftovers string `json:"leftovers,omitempty"`
	// KeptUntil is set when the build failed after its machine was finished, and
	// what it had made is kept for a retry until then.
	KeptUntil time.Time `json:"kept_until,omitzero"`
	// Log tells where the build's log ended; nil when that is not known. The
	// result of a build has it, that of its submission has not.
	Log     *LogEnd   `json:"log,omitempty"`
	Started time.Time `json:"started"`
	Ended   time.Time `json:"ended"`
}

// A LogEnd tells where a log ends.
type LogEnd struct {
	// Chunks is how many chunks each step has, by its name. A step that is not
	// named has none.
	Chunks map[string]int `json:"chunks"`
}

// Results tells how a submission ended. It is the result of workflow
// Submission, or the detail of its error.
type Results struct {
	Builds []Result `json:"builds"`
}

// An Output is something to be put on the submitter's computer, because that
// is where the template's user looks for it. Applying it twice is the same as
// once.
type Output struct {
	// Path is where, as the template writes it.
	Path string `json:"path"`
	// Kind says how: "manifest" merges Data, one entry, into the manifest at
	// Path (postprocessors/manifest); "file" writes the blob named by Blob.
	Kind string          `json:"kind"`
	Data json.RawMessage `json:"data,omitempty"`
	Blob string          `json:"blob,omitempty"`
}
