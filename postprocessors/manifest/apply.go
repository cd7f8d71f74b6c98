package manifest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/bakehouse-farm/bakehouse"
)

// An entry is one artifact in the manifest. Names and order of its fields are
// Packer's.
type entry struct {
	Name        string            `json:"name"`
	BuilderType string            `json:"builder_type"`
	BuildTime   int64             `json:"build_time,omitempty"`
	Files       []bakehouse.File  `json:"files"` // null without files
	ArtifactID  string            `json:"artifact_id"`
	RunUUID     string            `json:"packer_run_uuid"`
	CustomData  map[string]string `json:"custom_data"`
}

// An addition is an entry on its way to the manifest.
type addition struct {
	entry
	// Force is -force: entries of other runs are removed.
	Force bool `json:"force,omitempty"`
}

// A document is the manifest. Entries are kept as they are, with fields that
// we do not know.
type document struct {
	Builds  []json.RawMessage `json:"builds"`
	LastRun string            `json:"last_run_uuid"`
}

// Apply merges entry, the Data of an Output of kind "manifest", into the
// manifest at path, which it creates, with its folder, where there is none. runUUID
// becomes last_run_uuid. An entry of the same run, name and artifact is
// replaced, so applying twice is the same as once. Several processes, Packer
// among them, may write to the manifest at the same time. A file that is not a
// manifest is left alone and is an error of kind bakehouse.Conflict.
func Apply(path string, data json.RawMessage, runUUID string) error {
	var add addition
	if err := json.Unmarshal(data, &add); err != nil {
		return bakehouse.Errorf(bakehouse.Invalid, "manifest %s: entry: %w", path, err)
	}
	// The manifest may be a link; what it points to is what we replace.
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		return fmt.Errorf("manifest %s: %w", path, err)
	}
	unlock, err := lock(path + ".lock")
	if err != nil {
		return fmt.Errorf("manifest %s: %w", path, err)
	}
	defer unlock()
	doc, mode, err := load(path)
	if err != nil {
		return err
	}
	if err := doc.merge(add); err != nil {
		return fmt.Errorf("manifest %s: %w", path, err)
	}
	doc.LastRun = runUUID
	if err := doc.save(path, mode); err != nil {
		return fmt.Errorf("manifest %s: %w", path, err)
	}
	return nil
}

// load reads the manifest at path. Where there is none it returns an empty one
// and the mode that Packer gives to a new one.
func load(path string) (document, fs.FileMode, error) {
	doc := document{}
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return doc, 0o664 &^ umask(), nil
	}
	if err != nil {
		return doc, 0, fmt.Errorf("manifest: %w", err)
	}
	info, err := os.Stat(path)
	if err != nil {
		return doc, 0, fmt.Errorf("manifest: %w", err)
	}
	if len(bytes.TrimSpace(text)) > 0 {
		if err := json.Unmarshal(text, &doc); err != nil {
			return doc, 0, bakehouse.Errorf(bakehouse.Conflict,
				"manifest %s is not a manifest, and stays as it is: %w (move it away, or set output to another path)", path, err)
		}
	}
	return doc, info.Mode().Perm(), nil
}

// merge puts add into the document: in the place of the same entry, else last.
func (d *document) merge(add addition) error {
	raw, err := json.Marshal(add.entry)
	if err != nil {
		return err
	}
	kept := make([]json.RawMessage, 0, len(d.Builds)+1)
	placed := false
	for _, old := range d.Builds {
		var e entry
		if err := json.Unmarshal(old, &e); err != nil {
			return bakehouse.Errorf(bakehouse.Conflict, "an entry in it is not one of a manifest, and it stays as it is: %w", err)
		}
		switch {
		case add.Force && e.RunUUID != add.RunUUID:
		case e.RunUUID == add.RunUUID && e.Name == add.Name && e.ArtifactID == add.ArtifactID:
			if !placed {
				kept = append(kept, raw)
				placed = true
			}
		default:
			kept = append(kept, old)
		}
	}
	if !placed {
		kept = append(kept, raw)
	}
	d.Builds = kept
	return nil
}

// save replaces the file whole, indented as Packer does.
func (d document) save(path string, mode fs.FileMode) (err error) {
	text, err := json.MarshalIndent(d, "", "  ")
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, ignoreAbsent(os.Remove(f.Name())))
		}
	}()
	_, err = f.Write(text)
	if err == nil {
		err = f.Chmod(mode)
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

func ignoreAbsent(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
