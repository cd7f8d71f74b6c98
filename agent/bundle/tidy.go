package bundle

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Use marks bundle d as used in cacheDir, whether or not it is unpacked there,
// until done is called: until then Tidy, of this or another process, does not
// remove it. A process that dies uses nothing any more.
func Use(ctx context.Context, d Digest, cacheDir string) (done func(), err error) {
	if _, err := d.key(); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(cacheDir, 0o700); err != nil {
		return nil, fmt.Errorf("use bundle %s: %w", d, err)
	}
	path := filepath.Join(cacheDir, string(d)+usedSuffix)
	unlock, err := lock(ctx, path, unix.LOCK_SH)
	if err != nil {
		return nil, fmt.Errorf("use bundle %s: %w", d, err)
	}
	touch := func() { now := time.Now(); _ = os.Chtimes(path, now, now) } // else it is unpacked again
	touch()
	return func() { touch(); unlock() }, nil
}

// Tidy removes bundles from cacheDir that nobody has used for as long as unused,
// and, when full tells that the disk is, the one that was used longest ago, and
// so on until it is not. One that is used stays. It returns what it removed.
// Any number of processes may share a folder and tidy it.
func Tidy(cacheDir string, unused time.Duration, full func() bool) ([]Digest, error) {
	files, err := os.ReadDir(cacheDir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("tidy bundles: %w", err)
	}
	last := map[Digest]time.Time{}
	for _, f := range files {
		d := Digest(strings.TrimSuffix(f.Name(), tempSuffix))
		if _, err := d.key(); err != nil || !f.IsDir() {
			continue // none of ours, or goes with its bundle
		}
		last[d] = lastUse(cacheDir, d)
	}
	var oldest []Digest
	for d := range last {
		oldest = append(oldest, d)
	}
	slices.SortFunc(oldest, func(a, b Digest) int {
		return cmp.Or(last[a].Compare(last[b]), cmp.Compare(a, b))
	})
	var removed []Digest
	var errs []error
	for _, d := range oldest {
		if time.Since(last[d]) < unused && !full() {
			break
		}
		gone, err := discard(cacheDir, d, last[d])
		if gone {
			removed = append(removed, d)
		}
		errs = append(errs, err)
	}
	return removed, errors.Join(errs...)
}

// lastUse is when a bundle was last used; when nobody said so, when it was
// unpacked.
func lastUse(cacheDir string, d Digest) time.Time {
	for _, suffix := range []string{usedSuffix, "", tempSuffix} {
		if info, err := os.Stat(filepath.Join(cacheDir, string(d)+suffix)); err == nil {
			return info.ModTime()
		}
	}
	return time.Now()
}

// discard removes a bundle unless somebody uses it, or has used it since. What
// a crash leaves of it is not taken for whole: see intact.
func discard(cacheDir string, d Digest, last time.Time) (gone bool, err error) {
	dir := filepath.Join(cacheDir, string(d))
	_, serr := os.Stat(dir + usedSuffix)
	used, err := tryLock(dir+usedSuffix, unix.LOCK_EX)
	if err != nil || used == nil {
		return false, err
	}
	defer used.Close()
	if now := lastUse(cacheDir, d); serr == nil && now.After(last) {
		return false, nil // used, and let go of, before we had the lock
	}
	unpacking, err := tryLock(dir+lockSuffix, unix.LOCK_EX)
	if err != nil || unpacking == nil {
		return false, err
	}
	defer unpacking.Close()
	for _, path := range []string{dir, dir + tempSuffix, dir + lockSuffix, dir + usedSuffix} {
		if err := os.RemoveAll(path); err != nil {
			return false, fmt.Errorf("remove bundle %s: %w", d, err)
		}
	}
	return true, nil
}

// NearlyFull tells whether less than a tenth of the disk with the folder is
// free for us. That it cannot be told counts as no.
func NearlyFull(dir string) bool {
	var s unix.Statfs_t
	if unix.Statfs(dir, &s) != nil || s.Blocks == 0 {
		return false
	}
	return s.Bavail < s.Blocks/10
}
