package bundle

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"
)

// sumsName holds what was unpacked, with checksums.
const sumsName = "sums"

// sums are what is known of the files of a bundle when they are unpacked.
type sums struct {
	mu    sync.Mutex
	Files []sum `json:"files"`
}

// A sum is what a file must be like. Of a link, Target is set.
type sum struct {
	Path   string      `json:"path"`
	Mode   fs.FileMode `json:"mode,omitempty"`
	SHA256 string      `json:"sha256,omitempty"`
	Target string      `json:"target,omitempty"`
}

func (s *sums) add(f sum) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.Files = append(s.Files, f)
}

// write puts the sums beside the files, and last the word that all is there.
func (s *sums) write(dir, boot string) error {
	data, err := json.Marshal(s)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, sumsName), data, 0o600); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, bootName), bootText(boot, data), 0o600)
}

func bootText(boot string, sums []byte) []byte {
	return fmt.Appendf(nil, "%s %x\n", boot, sha256.Sum256(sums))
}

// intact tells whether dir holds a whole bundle, as it was unpacked. One of an
// earlier boot is not trusted: after a power cut, renamed folders may hold
// files whose content never reached the disk, and syncing each of them would
// cost more than unpacking once a boot.
func intact(dir, boot string) bool {
	note, err := os.ReadFile(filepath.Join(dir, bootName))
	if err != nil {
		return false
	}
	data, err := os.ReadFile(filepath.Join(dir, sumsName))
	if err != nil || !bytes.Equal(note, bootText(boot, data)) {
		return false
	}
	var s sums
	if err := json.Unmarshal(data, &s); err != nil {
		return false
	}
	for _, f := range s.Files {
		if err := f.check(filepath.Join(dir, rootName, f.Path)); err != nil {
			slog.Warn("unpacked bundle was changed: unpacking it again", "folder", dir, "error", err)
			return false
		}
	}
	return true
}

func (f sum) check(path string) error {
	if f.Target != "" {
		if target, err := os.Readlink(path); err != nil || target != f.Target {
			return fmt.Errorf("link %s leads to %q, not %q", path, target, f.Target)
		}
		return nil
	}
	file, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() || info.Mode().Perm() != f.Mode {
		return fmt.Errorf("file %s has mode %s, not %s", path, info.Mode(), f.Mode)
	}
	h := sha256.New()
	if _, err := io.Copy(h, file); err != nil {
		return err
	}
	if hex.EncodeToString(h.Sum(nil)) != f.SHA256 {
		return errors.New("file " + path + " has another content")
	}
	return nil
}
