package layer

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/bakehouse-farm/bakehouse"
	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
	"golang.org/x/sys/unix"
)

// Import makes the layer id from a root filesystem as tarball: plain, gzip, xz
// or zstd. Owners, modes, times, links and the extended attributes
// security.capability and user.* are kept; devices and sockets are skipped,
// with a note in the log. Entries that lead out of the tree are errors of kind
// Invalid. A layer of that id that was imported before is left as it is.
func (s *Store) Import(ctx context.Context, id string, tarball io.Reader, log *slog.Logger) error {
	if id == Host {
		return bakehouse.Errorf(bakehouse.Invalid, "import: layer id %q is taken by the host's root", Host)
	}
	if s.Has(id) {
		o, err := s.Origin(id)
		if err == nil && o.Tarball {
			return nil
		}
		return bakehouse.Errorf(bakehouse.Conflict, "import: layer %s exists and is no import", id)
	}
	half, err := os.MkdirTemp(s.dir, ".import-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(half)
	files := filepath.Join(half, "files")
	if err := os.Mkdir(files, 0o755); err != nil {
		return err
	}
	plain, err := decompress(tarball)
	if err != nil {
		return bakehouse.Errorf(bakehouse.Invalid, "import layer %s: %w", id, err)
	}
	defer plain.Close()
	if err := unpack(ctx, files, plain, log); err != nil {
		return fmt.Errorf("import layer %s: %w", id, err)
	}
	if err := writeOrigin(half, Origin{Tarball: true, Created: time.Now().UTC()}); err != nil {
		return err
	}
	if err := syncFS(files); err != nil {
		return err
	}
	return s.publish(half, id)
}

// decompress tells the format by its first bytes.
func decompress(r io.Reader) (io.ReadCloser, error) {
	b := bufio.NewReaderSize(r, 1<<16)
	magic, err := b.Peek(6)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	switch {
	case bytes.HasPrefix(magic, []byte{0x1f, 0x8b}):
		return gzip.NewReader(b)
	case bytes.HasPrefix(magic, []byte{0xfd, '7', 'z', 'X', 'Z', 0}):
		x, err := xz.NewReader(b)
		if err != nil {
			return nil, err
		}
		return io.NopCloser(x), nil
	case bytes.HasPrefix(magic, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		z, err := zstd.NewReader(b, zstd.WithDecoderConcurrency(1))
		if err != nil {
			return nil, err
		}
		return z.IOReadCloser(), nil
	}
	return io.NopCloser(b), nil
}

// unpack writes the entries below dir. Every path goes through an os.Root, so
// that neither .. nor a link leads out of it.
func unpack(ctx context.Context, dir string, r io.Reader, log *slog.Logger) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	t := tar.NewReader(r)
	var folders []*tar.Header // their times come last: writing into them changes them
	n := 0
	for ; ; n++ {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return bakehouse.Errorf(bakehouse.Invalid, "read tarball: %w", err)
		}
		name := filepath.Clean(strings.TrimLeft(h.Name, "/"))
		if name != "." && !filepath.IsLocal(name) {
			return bakehouse.Errorf(bakehouse.Invalid, "entry %q leads out of the tree", h.Name)
		}
		h.Name = name
		if err := entry(root, h, t, log); err != nil {
			return bakehouse.Errorf(bakehouse.Invalid, "entry %q: %w", name, err)
		}
		if h.Typeflag == tar.TypeDir {
			folders = append(folders, h)
		}
	}
	if n == 0 {
		return bakehouse.Errorf(bakehouse.Invalid, "the tarball is empty")
	}
	for _, h := range folders {
		if err := root.Chtimes(h.Name, h.ModTime, h.ModTime); err != nil {
			return err
		}
	}
	return nil
}

func entry(root *os.Root, h *tar.Header, r io.Reader, log *slog.Logger) error {
	if h.Name != "." {
		if err := root.MkdirAll(filepath.Dir(h.Name), 0o755); err != nil {
			return err
		}
		// A later entry replaces an earlier one, but a folder keeps its content.
		info, err := root.Lstat(h.Name)
		if err == nil && !(info.IsDir() && h.Typeflag == tar.TypeDir) {
			if err := root.RemoveAll(h.Name); err != nil {
				return err
			}
		}
	}
	mode := h.FileInfo().Mode()
	switch h.Typeflag {
	case tar.TypeDir:
		if err := root.Mkdir(h.Name, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	case tar.TypeReg, tar.TypeGNUSparse:
		f, err := root.OpenFile(h.Name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		_, err = io.Copy(f, r)
		if err = errors.Join(err, f.Close()); err != nil {
			return err
		}
	case tar.TypeSymlink:
		if err := root.Symlink(h.Linkname, h.Name); err != nil {
			return err
		}
		if err := root.Lchown(h.Name, h.Uid, h.Gid); err != nil {
			return err
		}
		return linkTime(root, h)
	case tar.TypeLink:
		to := filepath.Clean(strings.TrimLeft(h.Linkname, "/"))
		return root.Link(to, h.Name)
	case tar.TypeFifo:
		if err := fifo(root, h.Name); err != nil {
			return err
		}
	case tar.TypeChar, tar.TypeBlock:
		log.Warn("import skips a device", "path", h.Name)
		return nil
	case tar.TypeXGlobalHeader:
		return nil
	default:
		log.Warn("import skips an entry of unknown type", "path", h.Name, "type", string(h.Typeflag))
		return nil
	}
	if err := root.Lchown(h.Name, h.Uid, h.Gid); err != nil {
		return err
	}
	// After the owner: chown clears setuid bits and capabilities.
	if err := root.Chmod(h.Name, mode.Perm()|mode&(fs.ModeSetuid|fs.ModeSetgid|fs.ModeSticky)); err != nil {
		return err
	}
	if err := xattrs(root, h); err != nil {
		return err
	}
	return root.Chtimes(h.Name, h.ModTime, h.ModTime)
}

const paxXattr = "SCHILY.xattr."

// kept tells which extended attributes mean something on another host. Above
// all it leaves out trusted.overlay.*, which would reach below the layer.
func kept(name string) bool {
	return name == "security.capability" || strings.HasPrefix(name, "user.")
}

func xattrs(root *os.Root, h *tar.Header) error {
	for k, v := range h.PAXRecords {
		name, ok := strings.CutPrefix(k, paxXattr)
		if !ok || !kept(name) || (h.Typeflag != tar.TypeReg && h.Typeflag != tar.TypeDir) {
			continue
		}
		f, err := root.Open(h.Name)
		if err != nil {
			return err
		}
		err = unix.Fsetxattr(int(f.Fd()), name, []byte(v), 0)
		f.Close()
		if err != nil && !errors.Is(err, unix.ENOTSUP) {
			return fmt.Errorf("set %s: %w", name, err)
		}
	}
	return nil
}

// linkTime sets the time of a symbolic link, not of what it leads to.
func linkTime(root *os.Root, h *tar.Header) error {
	d, err := root.Open(filepath.Dir(h.Name))
	if err != nil {
		return err
	}
	defer d.Close()
	when, err := unix.TimeToTimespec(h.ModTime)
	if err != nil {
		return err
	}
	return unix.UtimesNanoAt(int(d.Fd()), filepath.Base(h.Name), []unix.Timespec{when, when}, unix.AT_SYMLINK_NOFOLLOW)
}

func fifo(root *os.Root, name string) error {
	d, err := root.Open(filepath.Dir(name))
	if err != nil {
		return err
	}
	defer d.Close()
	return unix.Mkfifoat(int(d.Fd()), filepath.Base(name), 0o600)
}
