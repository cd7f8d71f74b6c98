package secret

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Info tells of one key of a file, without the key.
type Info struct {
	// ID is the key's, or the URL of a key in KMS.
	ID string
	// Seals tells that new data is sealed with it: one key of a file does.
	Seals bool
	// Retired is when the key was taken out; empty when it still opens.
	Retired string
}

// List tells what the key file at path holds: the sealing key, the others in
// their order, and what was retired.
func List(path string) ([]Info, error) {
	text, _, err := readPrivate(path)
	if err != nil {
		return nil, err
	}
	r, err := parseRing(text)
	if err != nil {
		return nil, fmt.Errorf("key file %s: %w", path, err)
	}
	var out []Info
	for i, e := range r.entries {
		info := Info{ID: e.key.id, Seals: i == 0}
		if e.kms != nil {
			info.ID = e.kms.url
		}
		out = append(out, info)
	}
	var gone []Info
	for id, when := range r.retired {
		gone = append(gone, Info{ID: id, Retired: when})
	}
	slices.SortFunc(gone, func(a, b Info) int { return strings.Compare(a.Retired+a.ID, b.Retired+b.ID) })
	return append(out, gone...), nil
}

// Add puts a key behind those in the file at path and returns its ID: it opens,
// but does not seal yet, so that the file can be copied everywhere before
// Rotate lets the first one use it. url names a key in KMS; empty makes a new
// key.
func Add(path, url string) (id string, err error) {
	err = edit(path, func(r *ring, lines []string) ([]string, error) {
		if url != "" {
			k, err := newKMSKey(url)
			if err != nil {
				return nil, err
			}
			if slices.Contains(lines, k.url) {
				return nil, fmt.Errorf("%s is in it already", k.url)
			}
			id = k.url
			return append(lines, k.url), nil
		}
		k, err := generate()
		if err != nil {
			return nil, err
		}
		id = k.id
		return append(lines, keyLine(k)), nil
	})
	return id, err
}

// Rotate makes a key of the file at path the one that seals and returns its ID;
// the others open, as before. id names it, a URL or an ID; empty means the key
// that was added last, or, where the file holds but one, a new key.
func Rotate(path, id string) (sealing string, err error) {
	err = edit(path, func(r *ring, lines []string) ([]string, error) {
		if id == "" {
			if len(r.entries) == 1 {
				k, err := generate()
				if err != nil {
					return nil, err
				}
				sealing = k.id
				return slices.Insert(lines, 0, keyLine(k)), nil
			}
			id = r.entries[len(r.entries)-1].name()
		}
		i, err := r.line(lines, id)
		if err != nil {
			return nil, err
		}
		sealing = id
		line := lines[i]
		return slices.Insert(slices.Delete(lines, i, i+1), 0, line), nil
	})
	return sealing, err
}

// Retire takes a key out of the file at path for good: what was sealed with it
// cannot be read any more. The one that seals is refused. The file remembers
// the ID, so that the reason is told to who tries to read what it sealed.
func Retire(path, id string) error {
	return edit(path, func(r *ring, lines []string) ([]string, error) {
		i, err := r.line(lines, id)
		if err != nil {
			return nil, err
		}
		if r.entries[0].name() == id {
			return nil, fmt.Errorf("key %s seals: rotate to another one first", id)
		}
		if strings.HasPrefix(id, kmsScheme+":") {
			return slices.Delete(lines, i, i+1), nil
		}
		lines[i] = retiredFormat + ":" + id + ":" + time.Now().UTC().Format(time.DateOnly)
		return lines, nil
	})
}

// name is how people call a key.
func (e entry) name() string {
	if e.kms != nil {
		return e.kms.url
	}
	return e.key.id
}

// line finds the line of a key.
func (r *ring) line(lines []string, id string) (int, error) {
	if when, ok := r.retired[id]; ok {
		return 0, fmt.Errorf("key %s was retired on %s", id, when)
	}
	i := slices.IndexFunc(lines, func(l string) bool { return l == id || strings.HasPrefix(l, keyFormat+":"+id+":") })
	if i < 0 || id == "" {
		return 0, fmt.Errorf("there is no key %q in it", id)
	}
	return i, nil
}

// editLimit is how long others may take to change a file.
const editLimit = 10 * time.Second

// edit replaces a key file, whole, while nobody else edits it. Comments go: they
// belong to lines that move.
func edit(path string, change func(r *ring, lines []string) ([]string, error)) error {
	// A link stays one.
	path, err := filepath.EvalSymlinks(path)
	if err != nil {
		return fmt.Errorf("key file: %w", err)
	}
	// The folder is locked: the file itself is replaced.
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return fmt.Errorf("key file %s: %w", path, err)
	}
	defer dir.Close()
	for limit := time.Now().Add(editLimit); ; time.Sleep(10 * time.Millisecond) {
		err := unix.Flock(int(dir.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			break
		}
		if time.Now().After(limit) {
			return fmt.Errorf("key file %s is being changed by somebody else: %w", path, err)
		}
	}
	text, _, err := readPrivate(path)
	if err != nil {
		return err
	}
	r, err := parseRing(text)
	if err != nil {
		return fmt.Errorf("key file %s: %w", path, err)
	}
	lines, _, err := unsum(text)
	if err != nil {
		return fmt.Errorf("key file %s: %w", path, err)
	}
	lines = slices.DeleteFunc(lines, func(l string) bool { return l == "" || strings.HasPrefix(l, "#") })
	if lines, err = change(r, lines); err != nil {
		return fmt.Errorf("key file %s: %w", path, err)
	}
	out := fileText(lines)
	if _, err := parseRing(string(out)); err != nil {
		return errors.Join(fmt.Errorf("key file %s would be unusable", path), err)
	}
	if err := put(path, out, func(tmp string) error { return os.Rename(tmp, path) }); err != nil {
		return fmt.Errorf("write key file %s: %w", path, err)
	}
	return nil
}
