package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/hashicorp/hcl/v2"
)

// complain prints diagnostics on the standard error, with the source lines that
// they are about: what a command that rewrites templates prints on the standard
// output may be on its way into a file.
func (c *console) complain(diags hcl.Diagnostics, src map[string][]byte) {
	files := map[string]*hcl.File{}
	for name, b := range src {
		if shortLines(b) {
			files[name] = &hcl.File{Bytes: b, Body: hcl.EmptyBody()}
		}
	}
	w := hcl.NewDiagnosticTextWriter(c.err, files, 0, false)
	for i, d := range diags {
		if i == mostComplaints {
			fmt.Fprintf(c.err, "And %d more.\n\n", len(diags)-i)
			return
		}
		if w.WriteDiagnostic(d) != nil {
			return // nobody reads it
		}
	}
}

// mostComplaints is how many diagnostics are printed: more than anybody reads.
const mostComplaints = 100

// shortLines tells whether the lines of a file can be shown. JSON that a program
// wrote may be one line of megabytes.
func shortLines(src []byte) bool {
	for line := range bytes.Lines(src) {
		if len(line) > 1000 {
			return false
		}
	}
	return true
}

// rewrite replaces what a file holds, at once or not at all: the new content is
// on the disk before the old one is gone. Mode and owner stay; a symbolic link
// stays one, and the file that it leads to is replaced. A file that is not there
// yet is made, with the mode fresh.
func rewrite(name string, content []byte, fresh fs.FileMode) (err error) {
	if target, err := filepath.EvalSymlinks(name); err == nil {
		name = target
	}
	mode := fresh
	info, err := os.Stat(name)
	switch {
	case err == nil:
		mode = info.Mode().Perm()
		if !info.Mode().IsRegular() {
			return fmt.Errorf("write %s: not a regular file", name)
		}
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(name), ".submit-*")
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	defer func() {
		if err != nil {
			_ = f.Close()
			_ = os.Remove(f.Name())
			err = fmt.Errorf("write %s: %w", name, err)
		}
	}()
	if _, err := f.Write(content); err != nil {
		return err
	}
	if info != nil {
		if owner, ok := info.Sys().(*syscall.Stat_t); ok {
			// Without the right to give files away, it becomes ours.
			_ = f.Chown(int(owner.Uid), int(owner.Gid))
		}
	}
	if err := f.Chmod(mode); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return os.Rename(f.Name(), name)
}
