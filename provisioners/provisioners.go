// Package provisioners says how a machine is changed. Each provisioner is a
// package below this one.
package provisioners

import (
	"context"
	"encoding/json"

	"github.com/bakehouse-farm/bakehouse"
	"github.com/bakehouse-farm/bakehouse/communicator"
)

// A Provisioner changes a machine.
type Provisioner interface {
	bakehouse.Component

	// Provision does its work on the machine. It may be called again after being
	// cut off anywhere, on another agent: what has been done is then found on the
	// machine (by the ID of each command) and in the output (by its offset), and
	// is not done twice.
	//
	// That a script said no is an error of kind bakehouse.Script, in Packer's
	// words. When ctx ends it returns the cause of that, unwrapped.
	Provision(ctx context.Context, w Work) error
}

// Work is one call of a provisioner.
type Work struct {
	Build bakehouse.Build
	// ID names this call for ever on the machine: step and try. Commands that
	// the provisioner runs derive their IDs from it.
	ID string
	// Settings are the evaluated arguments of the provisioner block.
	Settings json.RawMessage
	// Files finds the local files that the settings name.
	Files bakehouse.Files
	// Machine is connected.
	Machine communicator.Communicator
	// User is the login on the machine.
	User string
	// Env is what every command gets besides its own environment: TRACEPARENT …
	Env map[string]string
	// Output keeps what commands print.
	Output Output
	// Download takes what the file provisioner fetches: it stores the file so
	// that submit can put it at the path that the template names.
	Download func(ctx context.Context, path string, fetch func(local string) error) error
}

// Output is where the commands of a provisioner print, exactly once.
type Output interface {
	// Offset returns how much of the output of the command is stored. Commands
	// are told apart by their ID.
	Offset(command string) int64
	// Sink stores more of it.
	Sink(command string) communicator.Sink
}
