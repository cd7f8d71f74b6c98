package bundle

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/bakehouse-farm/bakehouse"
)

// maxEntries is how many files, folders and links a bundle may have. More is
// nearly always a home folder that was taken for a template's.
const maxEntries = 100_000

// maxHops is how many links a path may lead through, as in Linux.
const maxHops = 40

// A walker lists what belongs into a bundle.
type walker struct {
	skip  func(abs string) bool
	seen  map[string]entry
	limit int
}

// list returns the entries for the paths, sorted. Files have no parts yet.
func list(ctx context.Context, paths []string, skip func(string) bool) ([]entry, error) {
	w := &walker{skip: skip, seen: map[string]entry{}, limit: maxEntries}
	for _, p := range paths {
		if err := w.add(ctx, p); err != nil {
			return nil, err
		}
	}
	out := make([]entry, 0, len(w.seen))
	for _, e := range w.seen {
		out = append(out, e)
	}
	slices.SortFunc(out, func(a, b entry) int { return strings.Compare(a.Path, b.Path) })
	return out, nil
}

// add takes the file or folder at path and every link that leads to it.
func (w *walker) add(ctx context.Context, path string) error {
	real, err := w.follow(path)
	if err != nil {
		return missing(path, err)
	}
	if _, ok := w.seen[real]; ok {
		return nil
	}
	return filepath.WalkDir(real, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return fmt.Errorf("pack %s: %w", p, err)
		}
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		if p != real {
			// What the template names itself is never skipped.
			if d.Name() == ".git" || w.skip != nil && w.skip(p) {
				if d.IsDir() {
					return filepath.SkipDir
				}
				return nil
			}
		}
		if _, ok := w.seen[p]; ok {
			if d.IsDir() && p != real {
				// A folder that a link led to before is complete, but it may be one
				// that is only the way to a file: those are not in seen.
				return filepath.SkipDir
			}
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return fmt.Errorf("pack %s: %w", p, err)
		}
		switch mode := info.Mode(); {
		case mode.IsDir():
			return w.put(entry{Path: p, Kind: folder})
		case mode.IsRegular():
			return w.put(entry{Path: p, Kind: file, Mode: normalMode(mode), Size: info.Size()})
		case mode&fs.ModeSymlink != 0:
			return w.addLink(ctx, p)
		case p == real:
			return bakehouse.Errorf(bakehouse.Invalid, "pack %s: it is neither a file nor a folder", p)
		}
		return nil // sockets, pipes and devices have no content to carry
	})
}

// addLink takes a link that was found in a folder and what it points to. A
// dangling link is carried as it is.
func (w *walker) addLink(ctx context.Context, path string) error {
	target, err := readLink(path)
	if err != nil {
		return fmt.Errorf("pack %s: %w", path, err)
	}
	if err := w.put(entry{Path: path, Kind: link, Target: target}); err != nil {
		return err
	}
	if _, err := os.Stat(path); err != nil {
		return nil //nolint:nilerr // dangling, or a loop
	}
	return w.add(ctx, target)
}

func (w *walker) put(e entry) error {
	w.seen[e.Path] = e
	if len(w.seen) > w.limit {
		return bakehouse.Errorf(bakehouse.Invalid, "more than %d files and folders to pack (at %s): move the template to a folder of its own", w.limit, e.Path)
	}
	return nil
}

// follow returns where path really is, and takes each link on the way there.
func (w *walker) follow(path string) (string, error) {
	path = filepath.Clean(path)
	for range maxHops {
		next, err := w.hop(path)
		if err != nil || next == path {
			return path, err
		}
		path = next
	}
	return "", errors.New("too many symbolic links")
}

// hop resolves the first link in path, or returns path when there is none.
func (w *walker) hop(path string) (string, error) {
	done := "/"
	rest := strings.Split(strings.TrimPrefix(path, "/"), "/")
	for i, name := range rest {
		done = filepath.Join(done, name)
		info, err := os.Lstat(done)
		if err != nil {
			return "", err
		}
		if info.Mode()&fs.ModeSymlink == 0 {
			continue
		}
		target, err := readLink(done)
		if err != nil {
			return "", err
		}
		if err := w.put(entry{Path: done, Kind: link, Target: target}); err != nil {
			return "", err
		}
		return filepath.Join(append([]string{target}, rest[i+1:]...)...), nil
	}
	return path, nil
}

// readLink returns the target of a link as an absolute path.
func readLink(path string) (string, error) {
	target, err := os.Readlink(path)
	if err != nil {
		return "", err
	}
	if !filepath.IsAbs(target) {
		target = filepath.Join(filepath.Dir(path), target)
	}
	return filepath.Clean(target), nil
}

// missing says that a path which the template names cannot be packed.
func missing(path string, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return bakehouse.Errorf(bakehouse.NotFound, "pack %s: there is no such file or folder", path)
	case errors.Is(err, fs.ErrPermission):
		return bakehouse.Errorf(bakehouse.Denied, "pack %s: %w", path, err)
	}
	return fmt.Errorf("pack %s: %w", path, err)
}
