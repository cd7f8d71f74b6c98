package layer

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// Write writes the tree below dir as a tarball (PAX): owners by number, hard
// links, security.capability and user.* attributes. Devices and sockets are
// left out.
func Write(ctx context.Context, dir string, w io.Writer) error {
	t := tar.NewWriter(w)
	linked := map[[2]uint64]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		return writeEntry(t, path, rel, d, linked)
	})
	return errors.Join(err, t.Close())
}

func writeEntry(t *tar.Writer, path, rel string, d fs.DirEntry, linked map[[2]uint64]string) error {
	info, err := d.Info()
	if err != nil {
		return err
	}
	var target string
	switch info.Mode().Type() {
	case 0, fs.ModeDir, fs.ModeNamedPipe:
	case fs.ModeSymlink:
		if target, err = os.Readlink(path); err != nil {
			return err
		}
	default:
		return nil
	}
	h, err := tar.FileInfoHeader(info, target)
	if err != nil {
		return err
	}
	st := info.Sys().(*syscall.Stat_t)
	h.Name = "./" + rel
	if rel == "." {
		h.Name = "./"
	} else if info.IsDir() {
		h.Name += "/"
	}
	h.Uname, h.Gname = "", "" // the names of this host mean nothing elsewhere
	h.Format = tar.FormatPAX
	key := [2]uint64{st.Dev, st.Ino}
	if first, seen := linked[key]; seen && info.Mode().IsRegular() {
		h.Typeflag, h.Linkname, h.Size = tar.TypeLink, first, 0
		return t.WriteHeader(h)
	}
	if info.Mode().IsRegular() && st.Nlink > 1 {
		linked[key] = h.Name
	}
	if info.Mode().IsRegular() || info.IsDir() {
		if h.PAXRecords, err = readXattrs(path); err != nil {
			return err
		}
	}
	if err := t.WriteHeader(h); err != nil {
		return fmt.Errorf("%s: %w", rel, err)
	}
	if !info.Mode().IsRegular() {
		return nil
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.CopyN(t, f, h.Size)
	return err
}

func readXattrs(path string) (map[string]string, error) {
	list := make([]byte, 1<<16)
	n, err := unix.Llistxattr(path, list)
	if errors.Is(err, unix.ENOTSUP) || n == 0 {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("%s: extended attributes: %w", path, err)
	}
	records := map[string]string{}
	for name := range bytes.SplitSeq(bytes.TrimRight(list[:n], "\x00"), []byte{0}) {
		if !kept(string(name)) {
			continue
		}
		v := make([]byte, 1<<16)
		n, err := unix.Lgetxattr(path, string(name), v)
		if err != nil {
			return nil, fmt.Errorf("%s: %s: %w", path, name, err)
		}
		records[paxXattr+string(name)] = string(v[:n])
	}
	return records, nil
}
