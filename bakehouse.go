// Package bakehouse holds the words of the house: what a build, a source, an
// artifact and a failure are. Everything else imports it; it imports only the
// standard library.
package bakehouse

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"time"
)

// A BuildID names one build for ever. It is the ID of the build's workflow,
// the value of the tag bakehouse:build on everything the build makes, the
// prefix of its log, and the seed of its idempotency tokens. It consists of
// lower-case letters, digits and dashes, and is at most 63 bytes long.
type BuildID string

// A Build is one source being made into one image.
type Build struct {
	ID BuildID `json:"id"`
	// Name is what Packer shows: TYPE.NAME, or BUILD.TYPE.NAME when the build
	// block has a name.
	Name string `json:"name"`
	// Type and Source are the labels of the source block: "amazon-ebs", "web".
	Type   string `json:"type"`
	Source string `json:"source"`
	// Submission is the workflow ID of the submission that this build belongs to.
	Submission string `json:"submission"`
	// RunUUID is Packer's PackerRunUUID: one value for all builds of a submission.
	RunUUID string `json:"run_uuid"`
	// Started is when the submission was accepted. Names that Packer would make
	// from the clock are made from it.
	Started time.Time `json:"started"`
	// ExpiresAt is when a sweep may remove what the build left behind. It goes
	// into the tag bakehouse:expires-at. Zero means never.
	ExpiresAt time.Time `json:"expires_at,omitzero"`
	// Force is -force: replace an image of the same name.
	Force bool `json:"force,omitempty"`
	// Attempt counts how often the build has asked the platform anew for what it
	// had asked for before: another machine for one that is gone, another image
	// for one that failed. It is part of what names such a request, so that its
	// answer is not that of the earlier one.
	Attempt int `json:"attempt,omitempty"`
	// Settings are the evaluated arguments of the source block, frozen when the
	// build was planned: a JSON object in the shape of the builder's Settings.
	// They never travel in a payload (see activities): they are filled in on the
	// agent, from the plan.
	Settings json.RawMessage `json:"-"`
	// Files finds the local files that the settings name. Filled in with them.
	Files Files `json:"-"`
}

// Tags of everything a build makes, present from the call that creates it.
const (
	TagBuild     = "bakehouse:build"      // the BuildID
	TagSource    = "bakehouse:source"     // the build's Name
	TagStep      = "bakehouse:step"       // which step made it
	TagExpiresAt = "bakehouse:expires-at" // RFC 3339, UTC
)

// An Artifact is what a build or a post-processor made, as Packer reports it.
type Artifact struct {
	// BuilderID says what kind of artifact it is: "mitchellh.amazonebs".
	BuilderID string `json:"builder_id"`
	// ID is what other tools read: "us-east-1:ami-1,us-west-2:ami-2".
	ID string `json:"id"`
	// String is what people read: "AMIs were created:\nus-east-1: ami-1\n".
	String string `json:"string"`
	// Files are the files of the artifact; empty for images in a cloud.
	Files []File `json:"files,omitempty"`
}

// A File is one file of an artifact, as the manifest lists it.
type File struct {
	Name string `json:"name"`
	Size int64  `json:"size"`
}

// A Component is a builder, provisioner, post-processor or data source as a
// template sees it: a type name that takes arguments.
type Component interface {
	// Settings returns a pointer to a new struct with the component's defaults.
	// Its fields, by their tags, are the arguments that a template may set:
	//
	//	json:"ami_name"   the argument's name; embedded structs are flattened
	//	bake:"required"   it must be set
	//	bake:"block"      it is a nested block (struct or *struct: at most one;
	//	                  slice of structs: any number), not an attribute
	//	bake:"file"       it names a local file or folder (or a list of them)
	//	                  that must travel with the submission
	//	bake:"late"       {{ }} in it is rendered by the component, when it runs
	//	bake:"secret"     its value is masked wherever it appears
	//	bake:"deprecated=TEXT"  setting it gives a warning
	//
	// Tags are joined by commas (deprecated last). Types: string, bool, *bool
	// (unset differs from false), int, *int, float64, []string, []int,
	// map[string]string, [][]string, Duration, any.
	Settings() any
	// Check says what is wrong with evaluated settings, without touching the
	// network. settings is a JSON object in the shape of Settings; arguments that
	// were not set are absent, and arguments whose value is not known yet (they
	// depend on a data source or on the running machine) are named in unknown.
	Check(settings json.RawMessage, unknown []string, files Files) []Finding
}

// A Finding is one thing that Check found.
type Finding struct {
	// Field is the argument at fault, dotted for nested blocks
	// ("source_ami_filter.owners"); empty when the whole block is.
	Field string
	// Message is one sentence that says what is wrong, as Packer words it where
	// Packer has words for it.
	Message string
	// Hint says what would be right; may be empty.
	Hint string
	// Warning tells that the template can be used all the same.
	Warning bool
	// NotYet tells that the template is right, but that this farm cannot do what
	// it says yet. When the template is only checked, that is a warning.
	NotYet bool
}

// A Duration is written "5m" in a template. Its zero value is no duration.
type Duration time.Duration

// UnmarshalJSON reads a Go duration string. The empty string is zero.
func (d *Duration) UnmarshalJSON(b []byte) error {
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return fmt.Errorf("duration must be a string such as \"5m\": %w", err)
	}
	if s == "" {
		*d = 0
		return nil
	}
	v, err := time.ParseDuration(s)
	if err != nil {
		return err
	}
	*d = Duration(v)
	return nil
}

// MarshalJSON writes the form that UnmarshalJSON reads.
func (d Duration) MarshalJSON() ([]byte, error) { return json.Marshal(time.Duration(d).String()) }

// Or returns d, or otherwise when d is zero.
func (d Duration) Or(otherwise time.Duration) time.Duration {
	if d == 0 {
		return otherwise
	}
	return time.Duration(d)
}

// Files finds the local files that a template names, on whatever computer the
// template is evaluated. On the submitter's computer Root is empty and names
// mean what they say; on an agent, Root is the folder into which the bundle was
// unpacked, which holds each file at its original absolute path.
type Files struct {
	// Root is put before every absolute path. Empty: the real file system.
	Root string
	// Cwd is the absolute folder, as the submitter saw it, that relative names
	// start from.
	Cwd string
	// Home is the absolute folder, as the submitter saw it, that ~ stands for.
	Home string
}

// Abs returns the absolute path that name means on the submitter's computer.
func (f Files) Abs(name string) string {
	if name == "~" || strings.HasPrefix(name, "~/") {
		return filepath.Join(f.Home, name[1:])
	}
	if filepath.IsAbs(name) {
		return filepath.Clean(name)
	}
	return filepath.Join(f.Cwd, name)
}

// Path returns where the file that a template calls name is on this computer.
func (f Files) Path(name string) string {
	abs := f.Abs(name)
	if f.Root == "" {
		return abs
	}
	return filepath.Join(f.Root, abs)
}

// A Log takes what the user should see of a step. Lines are plain text without
// the "==> NAME: " that is put before them when they are shown.
//
// A step that is cut off and begun again says the same things again; the log
// keeps each line of a step once. Say never fails: a log that cannot be stored
// fails the step when the step ends.
type Log interface {
	// Say tells what the step does ("Creating temporary security group ...").
	Say(line string)
	// Error tells what went wrong without ending the step.
	Error(line string)
}

// Resources that a program hands to a step besides its arguments.
type logKey struct{}

// WithLog returns a context whose LogOf is l.
func WithLog(ctx context.Context, l Log) context.Context { return context.WithValue(ctx, logKey{}, l) }

// LogOf returns the log of the step that ctx belongs to. Without one it returns
// a log that drops what it is told.
func LogOf(ctx context.Context) Log {
	if l, ok := ctx.Value(logKey{}).(Log); ok {
		return l
	}
	return silence{}
}

type silence struct{}

func (silence) Say(string)   {}
func (silence) Error(string) {}
