// Package null is Packer's null builder: it makes no image, but connects to a
// machine that is already there, so that provisioners can work on it.
package null

import (
	"context"
	"encoding/json"
	"slices"

	"github.com/bakehouse-farm/bakehouse"
	"github.com/bakehouse-farm/bakehouse/builders"
	"github.com/bakehouse-farm/bakehouse/communicator"
)

// Settings are the arguments of the source block: how to reach the machine.
type Settings struct {
	communicator.Settings
}

// A Builder implements builders.Builder, and neither Launcher nor Capturer.
type Builder struct{}

var _ builders.Builder = (*Builder)(nil)

// New returns the null builder.
func New() *Builder { return &Builder{} }

// ID implements builders.Builder.
func (*Builder) ID() string { return "fnoeding.null" }

// Settings implements bakehouse.Component.
func (*Builder) Settings() any { return &Settings{} }

// Check implements bakehouse.Component.
func (*Builder) Check(settings json.RawMessage, unknown []string, files bakehouse.Files) []bakehouse.Finding {
	s, err := read(settings)
	if err != nil {
		return []bakehouse.Finding{{Message: err.Error()}}
	}
	found := communicator.CheckSettings(s, files, unknown...)
	if s.Communicator == "none" {
		return found
	}
	unset := func(field, value string) bool { return value == "" && !slices.Contains(unknown, field) }
	if unset("ssh_host", s.SSHHost) && unset("winrm_host", s.WinRMHost) {
		found = append(found, bakehouse.Finding{Field: "ssh_host", Message: "host must be specified"})
	}
	if s.Communicator != "" && s.Communicator != "ssh" {
		return found
	}
	ways := 0
	for _, set := range []bool{s.SSHAgentAuth, !unset("ssh_password", s.SSHPassword), !unset("ssh_private_key_file", s.SSHPrivateKeyFile)} {
		if set {
			ways++
		}
	}
	switch {
	case ways == 0 && !slices.Contains(unknown, "ssh_agent_auth"):
		found = append(found, bakehouse.Finding{
			Message: "one authentication method must be specified",
			Hint:    "Set one of ssh_agent_auth, ssh_password and ssh_private_key_file.",
		})
	case ways > 1:
		found = append(found, bakehouse.Finding{Message: "only one of ssh_agent_auth, ssh_password, and ssh_private_key_file must be specified"})
	}
	return found
}

// Communicator implements builders.Builder.
func (*Builder) Communicator(settings json.RawMessage) (communicator.Settings, error) {
	return read(settings)
}

// Resolve implements builders.Builder. There is nothing to choose.
func (*Builder) Resolve(context.Context, bakehouse.Build) (builders.Resolved, error) {
	return builders.Resolved{}, nil
}

// Release implements builders.Builder. The machine is not ours.
func (*Builder) Release(context.Context, bakehouse.Build, builders.Resolved, builders.Holding) error {
	return nil
}

// Artifact implements builders.Builder.
func (b *Builder) Artifact([]builders.Image) bakehouse.Artifact {
	return bakehouse.Artifact{BuilderID: b.ID(), ID: "Null", String: "Did not export anything. This is the null builder"}
}

func read(settings json.RawMessage) (communicator.Settings, error) {
	var s Settings
	if len(settings) > 0 {
		if err := json.Unmarshal(settings, &s); err != nil {
			return s.Settings, bakehouse.Errorf(bakehouse.Invalid, "settings of null: %w", err)
		}
	}
	return s.Settings, nil
}
