package bakehouse

import (
	"encoding/json"
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
	// OnError is "cleanup" (also when empty) or "abort".
	OnError string `json:"on_error,omitempty"`
	// Force replaces images of the same name.
	Force bool `json:"force,omitempty"`
	// Pool is the task queue of the agents that shall work on it.
	Pool string `json:"pool"`
	// TraceParent is the W3C trace context of the caller; may be empty.
	TraceParent string `json:"traceparent,omitempty"`
	// User is who submitted, for lists. Not trusted.
	User string `json:"user,omitempty"`
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
	Leftovers string    `json:"leftovers,omitempty"`
	Started   time.Time `json:"started"`
	Ended     time.Time `json:"ended"`
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
