package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bakehouse-farm/bakehouse"
)

// Stop ends an instance: SIGTERM to all of its processes, SIGKILL to those that
// are left after two seconds. Its files stay. Stopping one that does not run
// is no error. When ctx ends first, the end comes all the same, but Stop does
// not wait for it.
func (h *Host) Stop(ctx context.Context, id string) error {
	if err := checkID("instance", id); err != nil {
		return err
	}
	defer h.locked(id)()
	if err := h.stopLocked(ctx, h.instance(id)); err != nil {
		return fmt.Errorf("stop instance %s: %w", id, err)
	}
	return nil
}

// A push is one attempt to end a shim, and how long it is given for it.
type push struct {
	signal unix.Signal
	wait   time.Duration
}

func (h *Host) stopLocked(ctx context.Context, in instanceDir) error {
	return h.end(ctx, in, push{unix.SIGTERM, graceStop + 3*time.Second}, push{unix.SIGKILL, 5 * time.Second})
}

func (h *Host) end(ctx context.Context, in instanceDir, pushes ...push) error {
	defer h.straighten(in.id)
	pid, err := in.shim()
	if err != nil {
		return err
	}
	if pid == 0 {
		return in.giveBackIfThere(h.dir)
	}
	h.setWanted(in.id, true)
	gone := func() bool {
		pid, err := in.shim()
		return err == nil && pid == 0
	}
	for _, p := range pushes {
		if err := in.signalShim(p.signal); err != nil {
			return err
		}
		ok := poll(p.wait, func() bool { return gone() || ctx.Err() != nil })
		if ctx.Err() != nil && !gone() {
			return context.Cause(ctx)
		}
		if ok {
			break
		}
	}
	if !gone() {
		return errors.New("its shim does not end, not even killed: see shim.log")
	}
	return in.giveBackIfThere(h.dir)
}

func (i instanceDir) giveBackIfThere(dir string) error {
	if _, err := os.Stat(i.dir); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err := i.giveBack(dir); err != nil {
		return err
	}
	return os.RemoveAll(i.work())
}

// trashPrefix begins the names of instances that are being deleted.
const trashPrefix = ".removed-"

// Remove ends an instance and deletes all of it. One that does not exist is no
// error.
func (h *Host) Remove(ctx context.Context, id string) error {
	if err := checkID("instance", id); err != nil {
		return err
	}
	defer h.locked(id)()
	in := h.instance(id)
	h.setWanted(id, true)
	if err := h.stopLocked(ctx, in); err != nil {
		return fmt.Errorf("remove instance %s: %w", id, err)
	}
	if err := in.detach(); err != nil {
		return fmt.Errorf("remove instance %s: %w", id, err)
	}
	// Gone at once, deleted in a while: cut off in between, New goes on.
	trash := filepath.Join(h.dir, "instances", trashPrefix+id)
	if err := os.RemoveAll(trash); err != nil {
		return fmt.Errorf("remove instance %s: %w", id, err)
	}
	if err := os.Rename(in.dir, trash); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove instance %s: %w", id, err)
	}
	if err := os.RemoveAll(trash); err != nil {
		return fmt.Errorf("remove instance %s: %w", id, err)
	}
	return nil
}

func (h *Host) finishRemovals() error {
	entries, err := os.ReadDir(filepath.Join(h.dir, "instances"))
	if err != nil {
		return err
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), trashPrefix) {
			if err := os.RemoveAll(filepath.Join(h.dir, "instances", e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

// Freeze makes what a stopped instance has written the read-only layer of that
// id. The instance goes on with a new, empty writable layer on top of it. The
// files are not copied, unless its disk is of limited size, but brought to the
// disk of this machine, so that the layer is there after a power failure. When
// the layer was frozen from this instance before, nothing happens. A running
// instance is an error of kind Conflict.
func (h *Host) Freeze(ctx context.Context, id, layer string) error {
	if err := checkID("instance", id); err != nil {
		return err
	}
	if err := checkID("layer", layer); err != nil {
		return err
	}
	defer h.locked(id)()
	in := h.instance(id)
	if !in.exists() {
		if o, err := h.layers.Origin(layer); err == nil && o.Instance == id {
			return nil // done long ago; the instance is gone since
		}
		return bakehouse.Errorf(bakehouse.NotFound, "freeze instance %s: it does not exist", id)
	}
	if pid, err := in.shim(); err != nil {
		return err
	} else if pid != 0 {
		return bakehouse.Errorf(bakehouse.Conflict, "freeze instance %s: it runs; stop it first", id)
	}
	if err := h.freeze(ctx, in, layer); err != nil {
		return fmt.Errorf("freeze instance %s: %w", id, err)
	}
	return nil
}

func (h *Host) freeze(ctx context.Context, in instanceDir, layer string) error {
	if in.limited() {
		if err := h.freezeDisk(ctx, in, layer); err != nil {
			return err
		}
	} else if err := h.layers.Adopt(layer, in.id, in.upper()); err != nil {
		return err
	}
	spec, err := in.spec()
	if err != nil {
		return err
	}
	for _, l := range spec.Layers {
		if l == layer {
			return nil // a crash came later than this
		}
	}
	if err := in.clear(); err != nil {
		return err
	}
	spec.Layers = append([]string{layer}, spec.Layers...)
	if err := writeJSON(in.path("spec.json"), spec); err != nil {
		return err
	}
	lower, host, err := h.layers.Lower(spec.Layers)
	if err != nil {
		return err
	}
	return h.makeUpper(in, lower, host)
}

// LayersOf returns what an instance stands on now, topmost first.
func (h *Host) LayersOf(id string) ([]string, error) {
	if err := checkID("instance", id); err != nil {
		return nil, err
	}
	s, err := h.instance(id).spec()
	if errors.Is(err, fs.ErrNotExist) {
		return nil, bakehouse.Errorf(bakehouse.NotFound, "instance %s does not exist", id)
	}
	return s.Layers, err
}
