package sandbox

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/bakehouse-farm/bakehouse/localcloud/sandbox/guest"
	"github.com/bakehouse-farm/bakehouse/localcloud/sandbox/layer"
)

// makeTools fills the layer that lies between what the image is and what the
// instance writes: links to our tools. It is made anew for each boot and is
// part of no image.
//
// The tools for the power hide the image's own, which speak to a PID 1 that is
// not there. sudo and scp only stand in where the image has none.
func makeTools(dir string, under []string) error {
	t := tools{dir: dir, under: under}
	for _, name := range append([]string{guest.SystemctlTool}, guest.PowerTools...) {
		if err := t.link("usr/local/sbin", name, guest.ToolPath); err != nil {
			return err
		}
	}
	for _, folder := range []string{"sbin", "usr/sbin", "bin", "usr/bin"} {
		for _, name := range []string{"reboot", "poweroff", "halt", "shutdown"} {
			there, err := layer.Find(under, folder+"/"+name)
			if err != nil {
				return err
			}
			if there == nil {
				continue
			}
			if err := t.link(folder, name, guest.ToolPath); err != nil {
				return err
			}
		}
	}
	for _, name := range guest.SpareTools {
		if err := t.spare(name); err != nil {
			return err
		}
	}
	return nil
}

type tools struct {
	dir   string
	under []string
}

func (t tools) spare(name string) error {
	for _, folder := range []string{"usr/bin", "bin", "usr/local/bin", "usr/sbin"} {
		there, err := layer.Find(t.under, folder+"/"+name)
		if err != nil || there != nil {
			return err
		}
	}
	to := guest.ToolPath
	if name == "sudo" {
		to = guest.SudoPath
	}
	return t.link("usr/bin", name, to)
}

func (t tools) link(folder, name, to string) error {
	ok, err := t.folder(folder)
	if err != nil || !ok {
		return err
	}
	if err := os.Symlink(to, filepath.Join(t.dir, folder, name)); err != nil {
		return fmt.Errorf("tool %s: %w", name, err)
	}
	return nil
}

// folder makes a folder as the image has it; false means that the image has
// something else there, which we leave alone.
func (t tools) folder(path string) (bool, error) {
	if path == "." {
		return true, nil
	}
	if ok, err := t.folder(filepath.Dir(path)); !ok || err != nil {
		return false, err
	}
	at := filepath.Join(t.dir, path)
	if _, err := os.Lstat(at); err == nil {
		return true, nil
	}
	mode, uid, gid := fs.FileMode(0o755), 0, 0
	there, err := layer.Find(t.under, path)
	if err != nil {
		return false, err
	}
	if there != nil {
		if !there.IsDir() {
			return false, nil
		}
		st := there.Sys().(*syscall.Stat_t)
		mode, uid, gid = there.Mode(), int(st.Uid), int(st.Gid)
	}
	if err := os.Mkdir(at, 0o700); err != nil {
		return false, err
	}
	if err := os.Lchown(at, uid, gid); err != nil {
		return false, err
	}
	return true, os.Chmod(at, mode)
}
