// Package null is the builder null: it makes no image, but runs provisioners
// on a machine that is there already.
package null

import (
	"context"
	"encoding/json"

	"github.com/bakehouse-farm/bakehouse"
	"github.com/bakehouse-farm/bakehouse/builders"
	"github.com/bakehouse-farm/bakehouse/communicator"
)

// Null is the builder.
type Null struct{}

var _ builders.Builder = Null{}

// New returns the builder.
func New() Null { return Null{} }

// Settings are the arguments of the source block: where the machine is.
type Settings struct {
	communicator.Settings
}

// Settings returns new settings.
func (Null) Settings() any { return new(Settings) }

// ID is Packer's.
func (Null) ID() string { return "fnoeding.null" }

// Check applies Packer's rules (packer.md §5.1).
func (Null) Check(raw json.RawMessage, unknown []string, files bakehouse.Files) []bakehouse.Finding {
	var s Settings
	if err := json.Unmarshal(raw, &s); err != nil {
		return []bakehouse.Finding{{Message: err.Error()}}
	}
	if s.Communicator == "none" {
		return nil
	}
	found := communicator.CheckSettings(s.Settings, files)
	open := map[string]bool{}
	for _, name := range unknown {
		open[name] = true
	}
	missing := func(value, field, message string) {
		if value == "" && !open[field] {
			found = append(found, bakehouse.Finding{Field: field, Message: message})
		}
	}
	missing(s.SSHHost, "ssh_host", "a communicator host must be specified")
	missing(s.SSHUsername, "ssh_username", "a communicator username must be specified")
	ways := 0
	for _, given := range []bool{
		s.SSHAgentAuth,
		s.SSHPassword != "" || open["ssh_password"],
		s.SSHPrivateKeyFile != "" || open["ssh_private_key_file"],
	} {
		if given {
			ways++
		}
	}
	if ways != 1 {
		found = append(found, bakehouse.Finding{
			Message: "one authentication method must be specified",
			Hint:    "Set exactly one of ssh_agent_auth, ssh_password and ssh_private_key_file.",
		})
	}
	return found
}

// Communicator returns how the machine is reached.
func (Null) Communicator(raw json.RawMessage) (communicator.Settings, error) {
	var s Settings
	err := json.Unmarshal(raw, &s)
	return s.Settings, err
}

// Resolve has nothing to choose.
func (Null) Resolve(context.Context, bakehouse.Build) (builders.Resolved, error) {
	return builders.Resolved{}, nil
}

// Release has nothing to remove: the machine is not ours.
func (Null) Release(context.Context, bakehouse.Build, builders.Resolved, []builders.Image) error {
	return nil
}

// Artifact is Packer's.
func (Null) Artifact([]builders.Image) bakehouse.Artifact {
	return bakehouse.Artifact{BuilderID: Null{}.ID(), ID: "Null", String: "Did not export anything. This is the null builder"}
}
