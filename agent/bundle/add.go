package bundle

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/bakehouse-farm/bakehouse"
)

// Add returns the bundle that has what bundle d has, and one file more: content,
// at the path that name means. The file need not be there; if the bundle has one
// at that path, content takes its place. Only the owner may read what is
// unpacked of it.
func (s *Store) Add(ctx context.Context, d Digest, files bakehouse.Files, name string, content []byte) (Digest, error) {
	abs := files.Abs(name)
	data, err := s.Get(ctx, d)
	if err != nil {
		return "", fmt.Errorf("add %s: %w", abs, err)
	}
	x, err := parseIndex(d, data)
	if err != nil {
		return "", fmt.Errorf("add %s: %w", abs, err)
	}
	w := &walker{seen: map[string]entry{}, limit: maxEntries}
	for _, e := range x.Entries {
		w.seen[e.Path] = e
	}
	// Links on the way are taken, as they are for files that are there.
	dir, err := w.follow(filepath.Dir(abs))
	if err != nil {
		return "", missing(abs, err)
	}
	e := entry{Path: filepath.Join(dir, filepath.Base(abs)), Kind: file, Mode: 0o600, Size: int64(len(content))}
	for part := range slices.Chunk(content, partSize) {
		digest, err := s.Put(ctx, part)
		if err != nil {
			return "", fmt.Errorf("add %s: %w", abs, err)
		}
		e.Parts = append(e.Parts, digest)
	}
	if err := w.put(e); err != nil {
		return "", err
	}
	x.Entries = x.Entries[:0]
	for _, e := range w.seen {
		x.Entries = append(x.Entries, e)
	}
	slices.SortFunc(x.Entries, func(a, b entry) int { return strings.Compare(a.Path, b.Path) })
	if data, err = json.Marshal(x); err != nil {
		return "", err
	}
	digest, err := s.Put(ctx, data)
	if err != nil {
		return "", fmt.Errorf("add %s: list of files: %w", abs, err)
	}
	return digest, nil
}
