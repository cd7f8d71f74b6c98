package layer

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Find tells what a stack of folders, topmost first, shows at a path, without
// mounting it. It follows no links: below one, and where nothing is, it
// returns nil.
func Find(dirs []string, path string) (fs.FileInfo, error) {
	for _, dir := range dirs {
		info, last, err := findIn(dir, path)
		if err != nil || last {
			return info, err
		}
	}
	return nil, nil
}

// findIn looks into one folder; last tells that those below do not count.
func findIn(dir, path string) (info fs.FileInfo, last bool, err error) {
	at := dir
	for part := range strings.SplitSeq(path, "/") {
		parent := at
		at = filepath.Join(at, part)
		info, err = os.Lstat(at)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
			return nil, opaque(parent), nil
		}
		if err != nil {
			return nil, true, err
		}
		if st, ok := info.Sys().(*syscall.Stat_t); ok && info.Mode()&fs.ModeCharDevice != 0 && st.Rdev == 0 {
			return nil, true, nil
		}
		if info.Mode()&fs.ModeSymlink != 0 && at != filepath.Join(dir, path) {
			return nil, true, nil
		}
	}
	return info, true, nil
}

func opaque(dir string) bool {
	var b [1]byte
	n, err := unix.Lgetxattr(dir, "trusted.overlay.opaque", b[:])
	return err == nil && n == 1 && b[0] == 'y'
}
