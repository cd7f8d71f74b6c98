// Package breakpoint is Packer's provisioner of that name: it parks the build,
// until somebody tells it to go on.
package breakpoint

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/bakehouse-farm/bakehouse"
	"github.com/bakehouse-farm/bakehouse/provisioners"
)

// Settings are the arguments of the provisioner block.
type Settings struct {
	// Note is shown where the build waits.
	Note string `json:"note"`
	// Disable passes by without waiting.
	Disable bool `json:"disable"`
}

// Provisioner implements provisioners.Provisioner.
type Provisioner struct{}

// New returns the provisioner.
func New() Provisioner { return Provisioner{} }

// Settings implements bakehouse.Component.
func (Provisioner) Settings() any { return new(Settings) }

// Check implements bakehouse.Component: nothing can be wrong.
func (Provisioner) Check(json.RawMessage, []string, bakehouse.Files) []bakehouse.Finding { return nil }

// Provision implements provisioners.Provisioner. It asks for the build to be
// parked by an error of kind bakehouse.Breakpoint: waiting is the workflow's,
// which needs no agent for it.
func (Provisioner) Provision(ctx context.Context, w provisioners.Work) error {
	var s Settings
	if err := json.Unmarshal(w.Settings, &s); err != nil {
		return bakehouse.Errorf(bakehouse.Invalid, "settings of breakpoint: %w", err)
	}
	note := ""
	if s.Note != "" {
		note = fmt.Sprintf(" with note %q", s.Note)
	}
	if s.Disable {
		bakehouse.LogOf(ctx).Say("Breakpoint provisioner" + note + " disabled; continuing...")
		return nil
	}
	bakehouse.LogOf(ctx).Say("Pausing at breakpoint provisioner" + note + ".")
	return bakehouse.Errorf(bakehouse.Breakpoint, "breakpoint%s", note)
}
