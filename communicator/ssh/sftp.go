package ssh

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"

	"github.com/pkg/sftp"
)

// sftpFiles moves files by the machine's sftp subsystem.
type sftpFiles struct{ *sftp.Client }

func (s sftpFiles) put(_ context.Context, name string, r io.Reader, mode fs.FileMode) error {
	// Not into the file that is there: who was cut off may still write to it, on
	// the other side of a lost connection.
	if err := s.Client.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrPermission) {
		return err
	}
	f, err := s.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL)
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("%w: %w", errNotBegun, err)
	}
	if err != nil {
		return err
	}
	return s.fill(f, r, mode)
}

func (s sftpFiles) overwrite(_ context.Context, name string, r io.Reader, _ fs.FileMode) error {
	f, err := s.OpenFile(name, os.O_WRONLY|os.O_TRUNC)
	if err != nil {
		return err
	}
	_, err = f.ReadFromWithConcurrency(r, 0)
	if err2 := f.Close(); err == nil {
		err = err2
	}
	return err
}

func (s sftpFiles) fill(f *sftp.File, r io.Reader, mode fs.FileMode) error {
	// Whoever finds it half-written must not be able to run it, nor to read what
	// is meant to be private.
	err := f.Chmod(mode &^ 0o177)
	if err == nil {
		_, err = f.ReadFromWithConcurrency(r, 0)
	}
	if err == nil {
		err = f.Chmod(mode)
	}
	if err2 := f.Close(); err == nil {
		err = err2
	}
	return err
}

func (s sftpFiles) replace(_ context.Context, from, to string) error {
	err := s.PosixRename(from, to)
	var status *sftp.StatusError
	if errors.As(err, &status) && status.FxCode() == sftp.ErrSSHFxOpUnsupported {
		if err := s.Client.Remove(to); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return s.Rename(from, to)
	}
	return err
}

func (s sftpFiles) remove(_ context.Context, name string) error { return s.Client.Remove(name) }

func (s sftpFiles) mkdir(_ context.Context, name string) error { return s.MkdirAll(name) }

func (s sftpFiles) resolve(_ context.Context, name string) (string, bool, error) {
	info, err := s.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return name, true, nil
	}
	if err != nil {
		return name, false, err
	}
	if info.Mode()&fs.ModeSymlink != 0 {
		real, err := s.RealPath(name)
		if err != nil {
			return name, false, err
		}
		name = real
		if info, err = s.Stat(name); errors.Is(err, fs.ErrNotExist) {
			return name, true, nil
		} else if err != nil {
			return name, false, err
		}
	}
	if info.IsDir() {
		return name, false, fmt.Errorf("%s is a folder", name)
	}
	return name, info.Mode().IsRegular(), nil
}

func (s sftpFiles) get(_ context.Context, name string, w io.Writer) error {
	f, err := s.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.IsDir() {
		return fmt.Errorf("%s is a folder", name)
	}
	_, err = f.WriteTo(w)
	return err
}

func (s sftpFiles) list(_ context.Context, name string) (dirs, files []string, err error) {
	root := path.Clean(name)
	if root, err = s.RealPath(root); err != nil {
		return nil, nil, err
	}
	for w := s.Walk(root); w.Step(); {
		if err := w.Err(); err != nil {
			return nil, nil, err
		}
		rel := strings.TrimPrefix(strings.TrimPrefix(w.Path(), root), "/")
		info := w.Stat()
		if info.Mode()&fs.ModeSymlink != 0 {
			// As with scp: the file itself, not the link. Links to folders could
			// lead in circles, and those to nothing have no content.
			if info, err = s.Stat(w.Path()); err != nil || info.IsDir() {
				continue
			}
		}
		switch {
		case rel == "" && !info.IsDir():
			return nil, nil, fmt.Errorf("%s is not a folder", name)
		case rel == "":
		case info.IsDir():
			dirs = append(dirs, rel)
		case info.Mode().IsRegular():
			files = append(files, rel)
		}
	}
	return dirs, files, nil
}
