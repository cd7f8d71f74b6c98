package bundle

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/bakehouse-farm/bakehouse"
)

// partSize is how much of a file is in one blob. It bounds the memory that
// packing and unpacking take, and what is sent again when a big file changes.
const partSize = 8 << 20

// parallel is how many files are packed or unpacked at once.
const parallel = 4

// Stats tells what Pack did.
type Stats struct {
	Files    int   // files in the bundle
	Bytes    int64 // their size
	Uploaded int64 // bytes that were sent to the store
}

// Pack stores the files and folders at paths, which are as the template writes
// them, and returns the bundle's digest. Folders are taken with all that is in
// them but .git and what skip (which may be nil) says of an absolute path. Links
// are kept as links, and what they point to is taken along. Whether a file can
// be run is kept; times and owners are not, so the same content has the same
// digest. A path that does not exist is an error of kind bakehouse.NotFound that
// names it.
func (s *Store) Pack(ctx context.Context, files bakehouse.Files, paths []string, skip func(abs string) bool) (Digest, Stats, error) {
	var stats Stats
	if files.Root != "" {
		return "", stats, errors.New("a bundle is packed on the submitter's computer, not from another bundle")
	}
	abs := make([]string, len(paths))
	for i, p := range paths {
		abs[i] = files.Abs(p)
	}
	entries, err := list(ctx, abs, skip)
	if err != nil {
		return "", stats, err
	}
	var sent atomic.Int64
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(parallel)
	for i := range entries {
		e := &entries[i]
		if e.Kind == file {
			g.Go(func() error { return s.packFile(gctx, e, &sent) })
		}
	}
	if err := g.Wait(); err != nil {
		return "", stats, err
	}
	for _, e := range entries {
		if e.Kind == file {
			stats.Files++
			stats.Bytes += e.Size
		}
	}
	if stats.Bytes > MaxBundle {
		return "", stats, bakehouse.Errorf(bakehouse.Invalid, "files of %d bytes to pack: the limit is %d", stats.Bytes, int64(MaxBundle))
	}
	data, err := json.Marshal(index{Version: indexVersion, Entries: entries})
	if err != nil {
		return "", stats, err
	}
	d, n, err := s.put(ctx, data)
	stats.Uploaded = sent.Load() + n
	if err != nil {
		return "", stats, fmt.Errorf("pack: list of files: %w", err)
	}
	return d, stats, nil
}

// packFile stores the content of a file. Its size is what was read, should the
// file have changed since it was listed.
func (s *Store) packFile(ctx context.Context, e *entry, sent *atomic.Int64) error {
	f, err := os.Open(e.Path)
	if err != nil {
		return missing(e.Path, err)
	}
	defer f.Close()
	buf := make([]byte, min(partSize, e.Size+1))
	e.Size = 0
	for {
		n, err := io.ReadFull(f, buf)
		if n > 0 {
			d, up, perr := s.put(ctx, buf[:n])
			if perr != nil {
				return fmt.Errorf("pack %s: %w", e.Path, perr)
			}
			e.Parts = append(e.Parts, d)
			e.Size += int64(n)
			sent.Add(up)
		}
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return nil
		case err != nil:
			return fmt.Errorf("pack %s: %w", e.Path, err)
		}
	}
}
