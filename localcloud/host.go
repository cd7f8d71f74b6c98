package localcloud

import (
	"context"
	"io"
	"os/exec"

	"github.com/bakehouse-farm/bakehouse/localcloud/sandbox"
)

// A Host runs the instances and keeps the layers that images consist of.
// *sandbox.Host is one. Everything that changes something is idempotent, for it
// is done again when localcloud was killed in the middle of it.
type Host interface {
	// Start boots an instance, or finds it running.
	Start(ctx context.Context, spec sandbox.Spec) error
	// Status tells how an instance is.
	Status(id string) (sandbox.Status, error)
	// Events tells of instances that ended by themselves.
	Events() <-chan sandbox.Event
	// Stop ends an instance and keeps its files.
	Stop(ctx context.Context, id string) error
	// Remove ends an instance and deletes its files.
	Remove(ctx context.Context, id string) error
	// Freeze makes what a stopped instance wrote a layer of its own.
	Freeze(ctx context.Context, id, layer string) error
	// Layers lists the layers that are there.
	Layers() ([]string, error)
	// RemoveLayer deletes a layer.
	RemoveLayer(layer string) error
	// Size returns the bytes that a layer takes.
	Size(layer string) (int64, error)
	// HostLayer names the layer that is this machine's own root.
	HostLayer() string
	// ImportLayer makes a layer from a tarball.
	ImportLayer(ctx context.Context, layer string, tarball io.Reader) error
	// Export writes what a stack of layers amounts to as a tarball.
	Export(ctx context.Context, layers []string, w io.Writer) error
	// Command prepares a command to run as root inside a running instance.
	Command(ctx context.Context, id string, argv []string) (*exec.Cmd, error)
}
