package secret

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	// lookEvery is how often, at most, a key file is looked at again.
	lookEvery = time.Second
	// maxFile is more than a key file ever holds.
	maxFile = 1 << 20
)

// Load reads the key file at path, or takes a URL for its only line: KMS is
// first spoken to when it is needed. A file that anyone but its owner may read
// or write is refused, and one that is damaged.
func Load(path string) (*Keys, error) {
	if strings.HasPrefix(path, kmsScheme+":") {
		k, err := newKMSKey(path)
		if err != nil {
			return nil, fmt.Errorf("key: %w", err)
		}
		return &Keys{ring: &ring{entries: []entry{{kms: k}}}}, nil
	}
	s := &source{path: path}
	r, err := s.read(nil)
	if err != nil {
		return nil, err
	}
	s.looked = time.Now()
	return &Keys{ring: r, source: s}, nil
}

// LoadOrCreate is Load, but makes a file with one new key where there is none.
// Programs that do so at the same time end up with the same key.
func LoadOrCreate(path string) (*Keys, error) {
	k, err := Load(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return k, err
	}
	if err := create(path); err != nil {
		return nil, fmt.Errorf("create key file %s: %w", path, err)
	}
	return Load(path)
}

// A source is a key file that Keys follow.
type source struct {
	path string

	mu      sync.Mutex
	looked  time.Time // when the file was last looked at
	version version   // of what was read last
	bad     error     // why the newest version cannot be used
}

// A version tells whether a file is still the one that was read.
type version struct {
	size     int64
	modified time.Time
	inode    uint64
}

func versionOf(info fs.FileInfo) version {
	v := version{size: info.Size(), modified: info.ModTime()}
	if sys, ok := info.Sys().(*syscall.Stat_t); ok {
		v.inode = sys.Ino
	}
	return v
}

// now returns the keys as the file held them a second ago or later.
func (k *Keys) now() *ring {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.source == nil {
		return k.ring
	}
	if r := k.source.look(k.ring, false); r != nil {
		k.ring = r
	}
	return k.ring
}

// again returns the keys as the file holds them, and why what it holds now
// cannot be used.
func (k *Keys) again() (*ring, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.source == nil {
		return k.ring, nil
	}
	if r := k.source.look(k.ring, true); r != nil {
		k.ring = r
	}
	return k.ring, k.source.bad
}

// look reads the file again if it has changed; nil means that the keys are the
// same. A file that cannot be used leaves us with the keys that we had: builds
// that run must not fail because somebody is just copying a file.
func (s *source) look(before *ring, now bool) *ring {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !now && time.Since(s.looked) < lookEvery {
		return nil
	}
	s.looked = time.Now()
	info, err := os.Stat(s.path)
	if err == nil && versionOf(info) == s.version {
		return nil
	}
	var r *ring
	if err == nil {
		r, err = s.readLocked(before)
	}
	if err != nil {
		if s.bad == nil || s.bad.Error() != err.Error() {
			slog.Error("key file cannot be read again: going on with the keys from before", "error", err)
		}
		s.bad = err
		return nil
	}
	s.bad = nil
	return r
}

func (s *source) read(before *ring) (*ring, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.readLocked(before)
}

// readLocked reads the file. Keys in KMS that were there before keep what they
// remember.
func (s *source) readLocked(before *ring) (*ring, error) {
	text, v, err := readPrivate(s.path)
	if v != (version{}) {
		s.version = v // also of a bad file: it is read again when it changes
	}
	if err != nil {
		return nil, err
	}
	r, err := parseRing(text)
	if err != nil {
		return nil, fmt.Errorf("key file %s: %w", s.path, err)
	}
	for i, e := range r.entries {
		if e.kms == nil || before == nil {
			continue
		}
		for _, old := range before.entries {
			if old.kms != nil && old.kms.url == e.kms.url {
				r.entries[i] = old
			}
		}
	}
	return r, nil
}

// readPrivate reads a file that only its owner may see.
func readPrivate(path string) (string, version, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", version{}, fmt.Errorf("key file: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", version{}, fmt.Errorf("key file: %w", err)
	}
	if !info.Mode().IsRegular() {
		return "", version{}, fmt.Errorf("key file %s is not a regular file", path)
	}
	if perm := info.Mode().Perm(); perm&0o077 != 0 {
		return "", version{}, fmt.Errorf("key file %s may be read by others (mode %04o): make it private with chmod 600 %s", path, perm, path)
	}
	if info.Size() > maxFile {
		return "", versionOf(info), fmt.Errorf("key file %s is %d bytes long: that is no key file", path, info.Size())
	}
	text, err := io.ReadAll(io.LimitReader(f, maxFile))
	if err != nil {
		return "", version{}, fmt.Errorf("key file: %w", err)
	}
	return string(text), versionOf(info), nil
}

// create writes a new key file whole, or leaves the one that somebody else
// made meanwhile: link(2) does not replace.
func create(path string) error {
	k, err := generate()
	if err != nil {
		return err
	}
	return put(path, fileText([]string{keyLine(k)}), func(tmp string) error {
		if err := os.Link(tmp, path); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		return nil
	})
}

// put writes text to a file beside path and moves it there by place. A key that
// is lost in a power cut takes everything it sealed with it, so all of it is on
// disk in the end.
func put(path string, text []byte, place func(tmp string) error) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, ".key-*") // 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(text)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	if err := place(f.Name()); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
