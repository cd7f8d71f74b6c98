package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"github.com/bakehouse-farm/bakehouse"
)

// Snapshot makes what a running instance has written so far the layer of that
// id, while it goes on: its processes stand still for as long as the copy
// takes, and notice nothing but the time. The layer belongs on top of what the
// instance stands on, and the instance does not stand on it. When the layer is
// there from this instance, nothing happens. An instance that does not run is
// an error of kind Conflict: Freeze is for those.
func (h *Host) Snapshot(ctx context.Context, id, layer string) error {
	if err := checkID("layer", layer); err != nil {
		return err
	}
	if err := checkID("instance", id); err != nil {
		return err
	}
	defer h.locked(id)()
	if o, err := h.layers.Origin(layer); err == nil && o.Instance == id {
		return nil
	}
	in, init, err := h.running("snapshot", id)
	if err != nil {
		return err
	}
	if err := h.snapshot(ctx, in, init, layer); err != nil {
		return fmt.Errorf("snapshot instance %s: %w", id, err)
	}
	return nil
}

func (h *Host) snapshot(ctx context.Context, in instanceDir, init int, layer string) (err error) {
	// Whoever comes after us, should we be killed, knows whom to wake.
	if err := os.WriteFile(in.path("still"), nil, 0o600); err != nil {
		return err
	}
	stopped, err := standStill(init)
	defer func() {
		for _, pid := range stopped {
			if _, wake := signalProcess(init, pid, unix.SIGCONT); wake != nil {
				err = errors.Join(err, fmt.Errorf("let process %d go on: %w", pid, wake))
			}
		}
		err = errors.Join(err, os.Remove(in.path("still")))
	}()
	if err != nil {
		return err
	}
	half := in.path("frozen")
	if err := os.RemoveAll(half); err != nil {
		return err
	}
	if err := copyTree(ctx, in.upper(), half); err != nil {
		return err
	}
	if pid, err := in.shim(); err != nil || pid == 0 {
		return errors.Join(bakehouse.Errorf(bakehouse.Conflict, "it ended meanwhile"), err)
	}
	return h.layers.Adopt(layer, in.id, half)
}

// wake lets an instance go on that a killed Host has left standing still in the
// middle of a snapshot.
func (i instanceDir) wake() error {
	err := os.Remove(i.path("still"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	st, err := i.state()
	if err != nil {
		return err
	}
	if _, err := signalInside(st.Init, unix.SIGCONT); err != nil {
		return fmt.Errorf("let instance %s go on: %w", i.id, err)
	}
	return nil
}
