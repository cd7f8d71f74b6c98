package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// A file is replaced whole or not at all, also when the disk is full.
func TestRewriteOnFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Skipf("cannot mount a small disk: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	name := filepath.Join(dir, "a.pkr.hcl")
	old := bytes.Repeat([]byte("#\n"), 10<<10)
	if err := os.WriteFile(name, old, 0o600); err != nil {
		t.Fatal(err)
	}
	err := rewrite(name, bytes.Repeat([]byte("# \n"), 20<<10), 0o644)
	if !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("rewrite: %v", err)
	}
	if got, err := os.ReadFile(name); err != nil || !bytes.Equal(got, old) {
		t.Errorf("the file has changed: %v, %d bytes", err, len(got))
	}
	onlyThere(t, dir, "a.pkr.hcl")
}

func TestRewriteKeepsOwnerAndMode(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "a.pkr.hcl")
	if err := os.WriteFile(name, []byte("a"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(name, 0o640); err != nil {
		t.Fatal(err)
	}
	uid := os.Getuid()
	if uid == 0 {
		uid = 1234
	}
	if err := os.Chown(name, uid, -1); err != nil {
		t.Fatal(err)
	}
	if err := rewrite(name, []byte("b"), 0o644); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	owner := int(info.Sys().(*syscall.Stat_t).Uid)
	if info.Mode() != 0o640 || owner != uid {
		t.Errorf("mode %v, owner %d; want 0640 and %d", info.Mode(), owner, uid)
	}
	onlyThere(t, dir, "a.pkr.hcl")
	if err := rewrite(dir, nil, 0o644); err == nil {
		t.Error("a folder was replaced")
	}
}

// onlyThere fails when anything but one file is in a folder.
func onlyThere(t *testing.T, dir, name string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != 1 || entries[0].Name() != name {
		t.Errorf("left behind: %v", entries)
	}
}
