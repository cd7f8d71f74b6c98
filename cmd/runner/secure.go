//go:build linux

package main

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// overflowUID is how owners look that have no place in our user namespace.
const overflowUID = 65534

// secure refuses a base that somebody else could move away and replace: who may
// write to a folder above it, and is neither root nor us, can do that, unless
// the folder is sticky.
func secure(base string) error {
	parent, err := filepath.EvalSymlinks(filepath.Dir(base))
	if err != nil {
		return err
	}
	for path := parent; ; path = filepath.Dir(path) {
		info, err := os.Lstat(path)
		if err != nil {
			return err
		}
		if why := exposed(info); why != "" {
			return fmt.Errorf("%s is no place to run commands from: %s %s", base, path, why)
		}
		if path == "/" {
			return nil
		}
	}
}

// exposed says why others could replace what is in a folder; empty when they
// cannot.
func exposed(info fs.FileInfo) string {
	sys, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return "has no owner"
	}
	mode := info.Mode()
	switch {
	case sys.Uid != 0 && int(sys.Uid) != os.Geteuid() && (sys.Uid != overflowUID || wholeNamespace()):
		return fmt.Sprintf("belongs to another user (%d)", sys.Uid)
	case mode&fs.ModeSticky != 0:
	case mode.Perm()&0o002 != 0:
		return "can be written by everybody"
	case mode.Perm()&0o020 != 0 && sys.Gid != 0 && int(sys.Gid) != os.Getegid():
		return fmt.Sprintf("can be written by another group (%d)", sys.Gid)
	}
	return ""
}

// wholeNamespace tells whether every user ID means what it says: in containers
// with a user namespace, root's folders may seem to be nobody's.
func wholeNamespace() bool {
	text, err := os.ReadFile("/proc/self/uid_map")
	return err != nil || bytes.Equal(bytes.Join(bytes.Fields(text), []byte(" ")), []byte("0 0 4294967295"))
}
