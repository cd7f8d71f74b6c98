package sandbox

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/bakehouse-farm/bakehouse"
	"github.com/bakehouse-farm/bakehouse/localcloud/sandbox/layer"
)

// Config says where a Host lives.
type Config struct {
	// Dir is the state folder. It is made if missing, readable by root only,
	// and must be on a filesystem that overlayfs can write to (ext4, xfs,
	// btrfs, tmpfs; not another overlay).
	Dir string
	// Init is the path of the executable that is started again as shim, as PID
	// 1 of instances and as their tools. Its main function calls Main first.
	// Empty means os.Executable. Only a statically linked executable
	// (CGO_ENABLED=0) can serve images that lack the host's libraries.
	Init string
	// Disk is how many bytes each new instance can write before its disk is
	// full; at least 1 MiB. Zero: as much as the filesystem of Dir takes. See
	// Spec.Disk.
	Disk int64
	// Log hears what is out of the ordinary. nil means slog.Default.
	Log *slog.Logger
}

// A Host keeps layers and instances below one folder and runs the instances.
// Its methods may be called at the same time, for different instances and for
// the same one.
type Host struct {
	dir    string
	init   string
	disk   int64
	log    *slog.Logger
	layers *layer.Store
	lock   *os.File
	done   chan struct{} // closed by Close
	close  sync.Once
	events chan Event

	mu     sync.Mutex
	locks  map[string]*sync.Mutex // by instance: one change at a time
	wanted map[string]bool        // instances that Stop is ending: no event
	lines  map[string]badLine     // by instance: what carries its packets badly
}

// New opens the state folder, adopts the instances that still run from before
// and gives back what dead ones left. Errors have kind Invalid and name what
// is missing: root, overlayfs, namespaces, an executable.
//
// One Host at a time uses a folder; New fails when another process has it.
// The instances go on when the Host's process ends; ctx only bounds New.
func New(ctx context.Context, c Config) (*Host, error) {
	if c.Log == nil {
		c.Log = slog.Default()
	}
	if os.Geteuid() != 0 {
		return nil, bakehouse.Errorf(bakehouse.Invalid, "sandbox: instances need root: run localcloud as root (sudo), or without instances")
	}
	dir, err := filepath.Abs(c.Dir)
	if err != nil {
		return nil, fmt.Errorf("sandbox: state folder: %w", err)
	}
	if c.Dir == "" {
		return nil, bakehouse.Errorf(bakehouse.Invalid, "sandbox: no state folder given")
	}
	if c.Disk != 0 && c.Disk < smallestDisk {
		return nil, bakehouse.Errorf(bakehouse.Invalid, "sandbox: a disk has at least %d bytes, not %d", smallestDisk, c.Disk)
	}
	for _, d := range []string{dir, filepath.Join(dir, "instances"), filepath.Join(dir, "bin")} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return nil, bakehouse.Errorf(bakehouse.Invalid, "sandbox: state folder: %w", err)
		}
	}
	dir, err = filepath.EvalSymlinks(dir)
	if err != nil {
		return nil, fmt.Errorf("sandbox: state folder: %w", err)
	}
	lock, err := lockFile(filepath.Join(dir, "lock"))
	if err != nil {
		if errors.Is(err, errLocked) {
			return nil, bakehouse.Errorf(bakehouse.Invalid, "sandbox: %s is used by another localcloud: stop it or choose another folder", dir)
		}
		return nil, fmt.Errorf("sandbox: state folder: %w", err)
	}
	h := &Host{
		dir: dir, log: c.Log, lock: lock, disk: c.Disk,
		done:   make(chan struct{}),
		events: make(chan Event, 64),
		locks:  map[string]*sync.Mutex{},
		wanted: map[string]bool{},
		lines:  map[string]badLine{},
	}
	if err := h.open(ctx, c.Init); err != nil {
		lock.Close()
		return nil, fmt.Errorf("sandbox: %w", err)
	}
	return h, nil
}

func (h *Host) open(ctx context.Context, init string) error {
	var err error
	if h.init, err = h.installInit(init); err != nil {
		return err
	}
	if h.layers, err = layer.Open(filepath.Join(h.dir, "layers"), h.dir); err != nil {
		return err
	}
	if err := h.probe(ctx); err != nil {
		return err
	}
	if err := fence(); err != nil {
		return err
	}
	return h.adopt(ctx)
}

// Close lets go of the state folder. Instances go on, over good networks or cut
// ones. Closing twice is no error.
func (h *Host) Close() error {
	var err error
	h.close.Do(func() {
		close(h.done)
		h.straightenAll()
		if err := unfence(); err != nil {
			h.log.Warn("close sandbox", "error", err)
		}
		err = h.lock.Close()
	})
	return err
}

// Events tells of instances that ended by themselves: from inside, by a crash,
// killed; not by Stop or Remove. Events that nobody reads are dropped after
// the 64th; Status knows the truth.
func (h *Host) Events() <-chan Event { return h.events }

// HostLayer returns the layer that is the host's own root filesystem as far as
// it may be shown: without its users, homes, logs, state and secrets, and with
// logins for the users of the usual cloud images.
func (h *Host) HostLayer() string { return layer.Host }

// Layers returns the ids of all layers, without the host layer.
func (h *Host) Layers() ([]string, error) { return h.layers.List() }

// Size returns how many bytes the files of a layer take on disk: of this
// layer alone, not of those below it. The host layer has size 0.
func (h *Host) Size(layer string) (int64, error) { return h.layers.Size(layer) }

// RemoveLayer deletes a layer; one that does not exist is no error. It refuses
// while an instance stands on it; whether another AMI does, the caller knows.
func (h *Host) RemoveLayer(id string) error {
	all, err := h.instances()
	if err != nil {
		return err
	}
	for _, in := range all {
		spec, err := in.spec()
		if err != nil {
			continue // half removed: it stands on nothing any more
		}
		for _, l := range spec.Layers {
			if l == id {
				return bakehouse.Errorf(bakehouse.Conflict, "remove layer %s: instance %s stands on it", id, in.id)
			}
		}
	}
	return h.layers.Remove(id)
}

// locked takes the lock of one instance and returns what lets it go.
func (h *Host) locked(id string) func() {
	h.mu.Lock()
	m := h.locks[id]
	if m == nil {
		m = &sync.Mutex{}
		h.locks[id] = m
	}
	h.mu.Unlock()
	m.Lock()
	return m.Unlock
}

// checkID keeps ids from meaning anything else in a path.
func checkID(what, id string) error {
	if id == "" || len(id) > 128 || strings.ContainsAny(id, "/\x00:,\\ \n") || strings.HasPrefix(id, ".") {
		return bakehouse.Errorf(bakehouse.Invalid, "%s id %q: letters, digits and dashes only", what, id)
	}
	return nil
}

// graceStop is how long processes have between SIGTERM and SIGKILL.
const graceStop = 2 * time.Second
