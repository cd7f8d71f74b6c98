package bundle

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/bakehouse-farm/bakehouse"
)

// indexVersion is the form in which an index is written.
const indexVersion = 1

// An index lists what is in a bundle, sorted by path. The bundle's digest is
// the digest of its index.
type index struct {
	Version int     `json:"version"`
	Entries []entry `json:"entries"`
}

// An entry is one file, folder or symbolic link. Times and owners are left
// out: the same files give the same bundle wherever they were checked out.
type entry struct {
	Path string      `json:"path"` // absolute and clean, as on the submitter's computer
	Kind kind        `json:"kind"`
	Mode fs.FileMode `json:"mode,omitempty"` // of a file; see normalMode
	Size int64       `json:"size,omitempty"` // of a file
	// Parts are the content of a file, in order.
	Parts []Digest `json:"parts,omitempty"`
	// Target is what a link points to, made absolute.
	Target string `json:"target,omitempty"`
}

type kind string

const (
	folder kind = "dir"
	file   kind = "file"
	link   kind = "link"
)

// normalMode keeps of a file's mode whether it can be run and whether it is its
// owner's alone (ssh refuses other keys); the rest depends on a umask.
func normalMode(m fs.FileMode) fs.FileMode {
	mode := fs.FileMode(0o600)
	if m.Perm()&0o077 != 0 {
		mode = 0o644
	}
	if m.Perm()&0o111 != 0 {
		mode |= (mode & 0o444) >> 2 // who may read it may run it
	}
	return mode
}

// parseIndex reads an index and refuses one that could write outside of the
// folder that it is unpacked into.
func parseIndex(d Digest, data []byte) (index, error) {
	var x index
	if err := json.Unmarshal(data, &x); err != nil {
		return x, bakehouse.Errorf(bakehouse.Failed, "blob %s is not a bundle: %w", d, err)
	}
	if x.Version != indexVersion {
		return x, bakehouse.Errorf(bakehouse.Failed, "bundle %s has format %d, this program reads %d", d, x.Version, indexVersion)
	}
	if len(x.Entries) > maxEntries {
		return x, bakehouse.Errorf(bakehouse.Failed, "bundle %s has %d files and folders, the limit is %d", d, len(x.Entries), maxEntries)
	}
	leaves := map[string]bool{} // what nothing can lie below
	var last string
	var size int64
	for _, e := range x.Entries {
		if err := e.check(); err != nil {
			return x, bakehouse.Errorf(bakehouse.Failed, "bundle %s: %w", d, err)
		}
		if e.Path <= last {
			return x, bakehouse.Errorf(bakehouse.Failed, "bundle %s: %s is listed twice, or out of order", d, e.Path)
		}
		last = e.Path
		if size += e.Size; size > MaxBundle {
			return x, bakehouse.Errorf(bakehouse.Failed, "bundle %s unpacks to more than %d bytes", d, int64(MaxBundle))
		}
		if e.Kind != folder {
			leaves[e.Path] = true
		}
	}
	for _, e := range x.Entries {
		for p := filepath.Dir(e.Path); p != "/"; p = filepath.Dir(p) {
			if leaves[p] {
				return x, bakehouse.Errorf(bakehouse.Failed, "bundle %s: %s lies behind %s, which is no folder", d, e.Path, p)
			}
		}
	}
	return x, nil
}

func (e entry) check() error {
	for _, p := range []string{e.Path, e.Target} {
		if p != "" && (!filepath.IsAbs(p) || filepath.Clean(p) != p || strings.ContainsRune(p, 0)) {
			return fmt.Errorf("%q is not a clean absolute path", p)
		}
	}
	if e.Path == "" {
		return fmt.Errorf("an entry has no path")
	}
	if e.Size < 0 || int64(len(e.Parts)) > e.Size {
		return fmt.Errorf("%s has %d bytes in %d parts", e.Path, e.Size, len(e.Parts))
	}
	switch {
	case e.Kind == folder, e.Kind == file, e.Kind == link && e.Target != "":
		return nil
	}
	return fmt.Errorf("%s is of unknown kind %q", e.Path, e.Kind)
}
