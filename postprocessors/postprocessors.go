// Package postprocessors says what is done with an image once it is made. Each
// post-processor is a package below this one.
package postprocessors

import (
	"context"
	"encoding/json"

	"github.com/bakehouse-farm/bakehouse"
)

// A PostProcessor takes an artifact and makes another, or notes it down. It may
// be called again after being cut off anywhere.
type PostProcessor interface {
	bakehouse.Component

	// Process does its work. The result's Outputs are brought to the computer of
	// whoever submitted, because that is where the template's user looks for them.
	Process(ctx context.Context, w Work) (Result, error)
	// Writes names the files that Process will make, as the template writes
	// them, so that they are not packed with the next submission.
	Writes(settings json.RawMessage) []string
}

// Work is one call of a post-processor.
type Work struct {
	Build bakehouse.Build
	// Settings are the evaluated arguments of the post-processor block.
	Settings json.RawMessage
	Files    bakehouse.Files
	// Artifact is what to process.
	Artifact bakehouse.Artifact
	// Time is when the build was captured; the same each time Process is called.
	Time int64 // Unix seconds
}

// A Result is what a post-processor made.
type Result struct {
	// Artifact is the new artifact, or the one given when it was only noted down.
	Artifact bakehouse.Artifact `json:"artifact"`
	// Keep tells that the input artifact must stay, whatever the template says.
	Keep bool `json:"keep,omitempty"`
	// Outputs are for the submitter's computer.
	Outputs []Output `json:"outputs,omitempty"`
}

// An Output is something to be put on the submitter's computer.
type Output = bakehouse.Output
