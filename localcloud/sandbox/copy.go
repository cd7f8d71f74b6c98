package sandbox

import (
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

// copyTree copies a folder as overlayfs left it: owners, modes, times, links,
// extended attributes, and the devices that stand for deleted files.
func copyTree(ctx context.Context, from, to string) error {
	linked := map[uint64]string{}
	var folders []string // whose times are set when they are complete
	err := filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return fmt.Errorf("%s: %w", rel, err)
		}
		copied := filepath.Join(to, rel)
		if !d.IsDir() && st.Nlink > 1 {
			if first := linked[st.Ino]; first != "" {
				return os.Link(first, copied)
			}
			linked[st.Ino] = copied
		}
		if err := copyNode(path, copied, st); err != nil {
			return fmt.Errorf("%s: %w", rel, err)
		}
		if d.IsDir() {
			folders = append(folders, rel)
			return nil
		}
		return setTimes(copied, st)
	})
	if err != nil {
		return err
	}
	for n := len(folders) - 1; n >= 0; n-- {
		var st unix.Stat_t
		if err := unix.Lstat(filepath.Join(from, folders[n]), &st); err != nil {
			return err
		}
		if err := setTimes(filepath.Join(to, folders[n]), st); err != nil {
			return err
		}
	}
	return nil
}

func setTimes(path string, st unix.Stat_t) error {
	return unix.UtimesNanoAt(unix.AT_FDCWD, path, []unix.Timespec{st.Atim, st.Mtim}, unix.AT_SYMLINK_NOFOLLOW)
}

// copyNode copies one file, without its times.
func copyNode(from, to string, st unix.Stat_t) error {
	var err error
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		err = os.Mkdir(to, 0o700)
	case unix.S_IFREG:
		err = copyFile(from, to)
	case unix.S_IFLNK:
		var target string
		if target, err = os.Readlink(from); err == nil {
			err = os.Symlink(target, to)
		}
	default: // devices, pipes, sockets
		err = unix.Mknod(to, st.Mode, int(st.Rdev))
	}
	if err != nil {
		return err
	}
	if err := os.Lchown(to, int(st.Uid), int(st.Gid)); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFLNK {
		if err := unix.Chmod(to, st.Mode&0o7777); err != nil {
			return err
		}
	}
	return copyAttributes(from, to)
}

func copyFile(from, to string) error {
	in, err := os.OpenFile(from, os.O_RDONLY|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

func copyAttributes(from, to string) error {
	n, err := unix.Llistxattr(from, nil)
	if errors.Is(err, unix.ENOTSUP) || err == nil && n == 0 {
		return nil
	}
	if err != nil {
		return fmt.Errorf("list attributes: %w", err)
	}
	names := make([]byte, n)
	if n, err = unix.Llistxattr(from, names); err != nil {
		return fmt.Errorf("list attributes: %w", err)
	}
	for name := range bytes.SplitSeq(bytes.TrimRight(names[:n], "\x00"), []byte{0}) {
		attr := string(name)
		size, err := unix.Lgetxattr(from, attr, nil)
		if err != nil {
			return fmt.Errorf("attribute %s: %w", attr, err)
		}
		value := make([]byte, size)
		if size > 0 {
			if size, err = unix.Lgetxattr(from, attr, value); err != nil {
				return fmt.Errorf("attribute %s: %w", attr, err)
			}
		}
		if err := unix.Lsetxattr(to, attr, value[:size], 0); err != nil {
			return fmt.Errorf("attribute %s: %w", attr, err)
		}
	}
	return nil
}
