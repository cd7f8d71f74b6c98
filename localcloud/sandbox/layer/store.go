// Package layer keeps the trees of files that instances are made of: one
// folder each, stacked by overlayfs.
package layer

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"syscall"
	"time"

	"github.com/bakehouse-farm/bakehouse"
	"golang.org/x/sys/unix"
)

// Host is the id of the layer that is the host's own root.
const Host = "host"

// A Store keeps layers below one folder.
//
//	ID/files/       the tree, as overlayfs wants its lower folders
//	ID/layer.json   where it came from
//	.mask-HASH/     what hides and replaces parts of the host's root
//
// What begins with a dot is not a layer (yet): a layer appears by a rename,
// whole or not at all.
type Store struct {
	dir  string
	mask string // the folder of the current mask
}

// Origin says where a layer came from.
type Origin struct {
	Instance string    `json:"instance,omitempty"` // frozen from it
	Tarball  bool      `json:"tarball,omitempty"`  // or imported
	Created  time.Time `json:"created"`
}

// Open makes the folder ready and the mask of the host layer, which also hides
// the folder state.
func Open(dir, state string) (*Store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	s := &Store{dir: dir}
	// Imports that a dead process left.
	old, err := filepath.Glob(filepath.Join(dir, ".import-*"))
	if err != nil {
		return nil, err
	}
	for _, o := range old {
		if err := os.RemoveAll(o); err != nil {
			return nil, fmt.Errorf("remove unfinished import: %w", err)
		}
	}
	if s.mask, err = makeMask(dir, "/", state); err != nil {
		return nil, fmt.Errorf("host layer: %w", err)
	}
	return s, nil
}

// Files returns the folder of a layer's tree.
func (s *Store) Files(id string) string { return filepath.Join(s.dir, id, "files") }

// Mask returns the folder that lies on top of the host's root.
func (s *Store) Mask() string { return s.mask }

// Lower returns the folders of a stack of layers, topmost first, and whether
// the host's root lies below them. A missing layer is an error of kind NotFound.
func (s *Store) Lower(layers []string) (dirs []string, host bool, err error) {
	for i, id := range layers {
		if id == Host {
			if i != len(layers)-1 {
				return nil, false, bakehouse.Errorf(bakehouse.Invalid, "layer %q can only be the lowest", Host)
			}
			return append(dirs, s.mask), true, nil
		}
		if !s.Has(id) {
			return nil, false, bakehouse.Errorf(bakehouse.NotFound, "layer %s does not exist", id)
		}
		dirs = append(dirs, s.Files(id))
	}
	return dirs, false, nil
}

// Has tells whether the layer exists. The host layer always does.
func (s *Store) Has(id string) bool {
	if id == Host {
		return true
	}
	_, err := os.Stat(s.Files(id))
	return err == nil
}

// List returns the ids of all layers but the host layer, sorted.
func (s *Store) List() ([]string, error) {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, err
	}
	ids := []string{}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), ".") && e.IsDir() {
			ids = append(ids, e.Name())
		}
	}
	sort.Strings(ids)
	return ids, nil
}

// Origin tells where a layer came from.
func (s *Store) Origin(id string) (Origin, error) {
	var o Origin
	b, err := os.ReadFile(filepath.Join(s.dir, id, "layer.json"))
	if err != nil {
		return o, err
	}
	return o, json.Unmarshal(b, &o)
}

// Adopt makes the folder upper the layer id, by a rename. Called again after
// being cut off anywhere, it finishes; for a layer that was adopted from the
// same instance it does nothing. Any other layer of that id is a Conflict.
func (s *Store) Adopt(id, instance, upper string) error {
	if id == Host {
		return bakehouse.Errorf(bakehouse.Invalid, "freeze: layer id %q is taken by the host's root", Host)
	}
	if s.Has(id) {
		o, err := s.Origin(id)
		if err == nil && o.Instance == instance {
			return nil
		}
		return bakehouse.Errorf(bakehouse.Conflict, "freeze: layer %s exists and is not from instance %s", id, instance)
	}
	half := filepath.Join(s.dir, ".new-"+id)
	if err := os.MkdirAll(half, 0o700); err != nil {
		return err
	}
	if err := writeOrigin(half, Origin{Instance: instance, Created: time.Now().UTC()}); err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(half, "files")); errors.Is(err, fs.ErrNotExist) {
		if err := syncFS(upper); err != nil {
			return err
		}
		if err := os.Rename(upper, filepath.Join(half, "files")); err != nil {
			return err
		}
	}
	return s.publish(half, id)
}

// publish gives a finished folder its name, durably.
func (s *Store) publish(half, id string) error {
	if err := os.Rename(half, filepath.Join(s.dir, id)); err != nil {
		return err
	}
	d, err := os.Open(s.dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

func writeOrigin(dir string, o Origin) error {
	b, err := json.Marshal(o)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "layer.json"), b, 0o600)
}

// syncFS brings what instances wrote to the disk: they run without fsync.
func syncFS(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := unix.Syncfs(int(d.Fd())); err != nil {
		return fmt.Errorf("sync %s: %w", dir, err)
	}
	return nil
}

// Remove deletes a layer. One that does not exist is no error.
func (s *Store) Remove(id string) error {
	if id == Host {
		return bakehouse.Errorf(bakehouse.Invalid, "the host layer cannot be removed")
	}
	// Out of sight first: a half-deleted layer must not be booted from.
	trash := filepath.Join(s.dir, ".import-trash-"+id)
	err := os.Rename(filepath.Join(s.dir, id), trash)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove layer %s: %w", id, err)
	}
	if err := os.RemoveAll(trash); err != nil {
		return fmt.Errorf("remove layer %s: %w", id, err)
	}
	return nil
}

// Size returns the bytes that a layer's files take on disk; 0 for the host's.
func (s *Store) Size(id string) (int64, error) {
	if id == Host {
		return 0, nil
	}
	if !s.Has(id) {
		return 0, bakehouse.Errorf(bakehouse.NotFound, "layer %s does not exist", id)
	}
	var size int64
	linked := map[uint64]bool{}
	err := filepath.WalkDir(s.Files(id), func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		st := info.Sys().(*syscall.Stat_t)
		if !d.IsDir() && st.Nlink > 1 {
			if linked[st.Ino] {
				return nil
			}
			linked[st.Ino] = true
		}
		size += st.Blocks * 512
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("size of layer %s: %w", id, err)
	}
	return size, nil
}
