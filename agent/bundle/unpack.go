package bundle

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/bakehouse-farm/bakehouse"
)

// Names in the folder of an unpacked bundle.
const (
	rootName = "root" // holds each file at its absolute path
	bootName = "boot" // the boot in which it was unpacked
)

// Unpack puts the files of bundle d below cacheDir, unless they are there, and
// returns the folder that is to be Files.Root: it holds each file at its
// absolute path. Several processes may ask for the same bundle at once; one of
// them unpacks. What a crash left half done is done again. Whatever is read is
// checked against its digest, and what was unpacked before against what it was
// then: files that were changed are unpacked again. The result is shared: do
// not change it.
func (s *Store) Unpack(ctx context.Context, d Digest, cacheDir string) (root string, err error) {
	if _, err := d.key(); err != nil {
		return "", err
	}
	cacheDir, err = filepath.Abs(cacheDir)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(cacheDir, 0o700); err != nil {
		return "", fmt.Errorf("unpack bundle: cache folder: %w", err)
	}
	boot, err := bootID()
	if err != nil {
		return "", fmt.Errorf("unpack bundle: %w", err)
	}
	dir := filepath.Join(cacheDir, string(d))
	if intact(dir, boot) {
		return filepath.Join(dir, rootName), nil
	}
	unlock, err := lock(ctx, dir+lockSuffix, unix.LOCK_EX)
	if err != nil {
		return "", fmt.Errorf("unpack bundle %s: %w", d, err)
	}
	defer unlock()
	if intact(dir, boot) { // by whoever held the lock
		return filepath.Join(dir, rootName), nil
	}
	if err := s.unpack(ctx, d, dir, boot); err != nil {
		return "", err
	}
	return filepath.Join(dir, rootName), nil
}

// unpack writes the bundle beside its place and moves it there whole. The
// caller holds the lock.
func (s *Store) unpack(ctx context.Context, d Digest, dir, boot string) (err error) {
	tmp := dir + tempSuffix
	for _, old := range []string{tmp, dir} {
		if err := os.RemoveAll(old); err != nil {
			return fmt.Errorf("unpack bundle %s: %w", d, err)
		}
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(tmp))
		}
	}()
	data, err := s.Get(ctx, d)
	if err != nil {
		return fmt.Errorf("unpack bundle: %w", err)
	}
	x, err := parseIndex(d, data)
	if err != nil {
		return err
	}
	var made sums
	if err := s.extract(ctx, x, filepath.Join(tmp, rootName), &made); err != nil {
		return fmt.Errorf("unpack bundle %s: %w", d, err)
	}
	if err := made.write(tmp, boot); err != nil {
		return fmt.Errorf("unpack bundle %s: %w", d, err)
	}
	if err := os.Rename(tmp, dir); err != nil {
		return fmt.Errorf("unpack bundle %s: %w", d, err)
	}
	return nil
}

// extract writes the entries below root. Links are made last, and are relative
// to their place, so that nothing is written or read through one to anywhere
// outside of root.
func (s *Store) extract(ctx context.Context, x index, root string, made *sums) error {
	if err := os.MkdirAll(root, 0o700); err != nil {
		return err
	}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(parallel)
	for _, e := range x.Entries {
		if gctx.Err() != nil {
			break
		}
		path := filepath.Join(root, e.Path)
		dir := filepath.Dir(path)
		if e.Kind == folder {
			dir = path
		}
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return errors.Join(err, g.Wait())
		}
		if e.Kind == file {
			g.Go(func() error { return s.extractFile(gctx, e, path, made) })
		}
	}
	if err := g.Wait(); err != nil {
		return err
	}
	if ctx.Err() != nil { // the loop may have ended early without anybody having failed
		return context.Cause(ctx)
	}
	for _, e := range x.Entries {
		if e.Kind != link {
			continue
		}
		target, err := filepath.Rel(filepath.Dir(e.Path), e.Target)
		if err != nil {
			return err
		}
		if err := os.Symlink(target, filepath.Join(root, e.Path)); err != nil {
			return err
		}
		made.add(sum{Path: e.Path, Target: target})
	}
	return nil
}

func (s *Store) extractFile(ctx context.Context, e entry, path string, made *sums) (err error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if cerr := f.Close(); err == nil {
			err = cerr
		}
	}()
	var size int64
	h := sha256.New()
	for _, part := range e.Parts {
		data, err := s.Get(ctx, part)
		if err != nil {
			return fmt.Errorf("%s: %w", e.Path, err)
		}
		if size += int64(len(data)); size > e.Size {
			break // before the disk is full
		}
		if _, err := f.Write(data); err != nil {
			return err
		}
		h.Write(data)
	}
	if size != e.Size {
		return bakehouse.Errorf(bakehouse.Failed, "%s: %d bytes, not %d", e.Path, size, e.Size)
	}
	made.add(sum{Path: e.Path, Mode: e.Mode.Perm(), SHA256: hex.EncodeToString(h.Sum(nil))})
	return f.Chmod(e.Mode.Perm())
}

func bootID() (string, error) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if errors.Is(err, fs.ErrNotExist) {
		return "unknown", nil // not Linux
	}
	return strings.TrimSpace(string(b)), err
}
