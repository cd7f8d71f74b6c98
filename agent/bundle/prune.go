package bundle

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"regexp"
	"strings"
	"time"

	"gocloud.dev/blob"
	"gocloud.dev/gcerrors"

	"github.com/bakehouse-farm/bakehouse"
)

const (
	// Grace is the least age at which Prune removes a blob.
	Grace = 24 * time.Hour
	// refreshAfter is the age at which Put writes a blob again that is there.
	// What lies between it and Grace is how long a submission may take from its
	// first blob until the farm knows of it, and how much clocks may differ.
	refreshAfter = Grace / 2
)

// digests finds names of blobs in a text.
var digests = regexp.MustCompile(`[a-z0-9]+-[0-9a-f]{64}`)

// Digests returns what may be the names of blobs in a text. One that is none
// does no harm.
func Digests(text []byte) []Digest {
	var out []Digest
	for _, d := range digests.FindAll(text, -1) {
		out = append(out, Digest(d))
	}
	return out
}

// Pruned tells what Prune removed, or would have removed.
type Pruned struct {
	Blobs int   `json:"blobs"`
	Bytes int64 `json:"bytes"`
	Kept  int   `json:"kept"` // blobs
}

// Prune removes the blobs that were written before a time, at least Grace ago,
// and that nothing needs: neither roots, which is asked for the names of the
// blobs that something needs, nor what their content names, as the index of a
// bundle names the parts of its files. With dry it only counts. When a root
// cannot be read, nothing is removed.
//
// A submission may begin meanwhile. Old blobs are listed first, then roots is
// asked, then they are removed. So a submission that the farm knew of by then
// keeps its blobs, as it is among the roots. One that it did not know of has
// put its blobs less than Grace-refreshAfter ago, as Put comes just before the
// farm hears of it; and Put writes anew what is older than refreshAfter, so its
// blobs are newer than Grace and were not listed, or Put writes them after they
// were listed. That is why the age is looked at once more right before a blob
// is removed. Between that look and the removal lie milliseconds in which Put
// may write in vain: then the plan of the submission fails, as it misses a
// blob, and sending it again succeeds. No running build is ever harmed.
func (s *Store) Prune(ctx context.Context, before time.Time, dry bool, roots func(context.Context) ([]Digest, error)) (Pruned, error) {
	var done Pruned
	if time.Since(before) < Grace {
		return done, bakehouse.Errorf(bakehouse.Invalid, "prune: blobs are kept for %s at least", Grace)
	}
	type old struct {
		key  string
		size int64
	}
	var found []old
	for it := s.bucket.List(&blob.ListOptions{Prefix: prefix}); ; {
		obj, err := it.Next(ctx)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return done, fmt.Errorf("prune: list blobs: %w", err)
		}
		if _, ok := parseKey(obj.Key); !ok {
			continue // nothing of ours
		}
		if !obj.ModTime.Before(before) {
			done.Kept++
			continue
		}
		found = append(found, old{obj.Key, obj.Size})
	}
	names, err := roots(ctx)
	if err != nil {
		return Pruned{}, fmt.Errorf("prune: %w", err)
	}
	needed, err := s.needed(ctx, names)
	if err != nil {
		return Pruned{}, fmt.Errorf("prune: %w", err)
	}
	for _, o := range found {
		if d, _ := parseKey(o.key); needed[d] {
			done.Kept++
			continue
		}
		gone, err := s.remove(ctx, o.key, before, dry)
		if err != nil {
			return done, fmt.Errorf("prune: %w", err)
		}
		if !gone {
			done.Kept++
			continue
		}
		done.Blobs++
		done.Bytes += o.size
	}
	return done, nil
}

// needed returns the roots and what their content names.
func (s *Store) needed(ctx context.Context, roots []Digest) (map[Digest]bool, error) {
	needed := map[Digest]bool{}
	read := map[Digest]bool{}
	for _, d := range roots {
		if read[d] {
			continue
		}
		read[d], needed[d] = true, true
		data, err := s.Get(ctx, d)
		switch {
		case bakehouse.KindOf(err) == bakehouse.NotFound, bakehouse.KindOf(err) == bakehouse.Invalid:
			continue // what is not there needs nothing
		case err != nil:
			return nil, fmt.Errorf("what blob %s needs is not known: %w", d, err)
		}
		for _, part := range Digests(data) {
			needed[part] = true
		}
	}
	return needed, nil
}

// remove removes a blob, unless it has been written since.
func (s *Store) remove(ctx context.Context, key string, before time.Time, dry bool) (bool, error) {
	if dry {
		return true, nil
	}
	now, err := s.bucket.Attributes(ctx, key)
	if gcerrors.Code(err) == gcerrors.NotFound {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	if !now.ModTime.Before(before) {
		return false, nil
	}
	if err := s.bucket.Delete(ctx, key); err != nil && gcerrors.Code(err) != gcerrors.NotFound {
		return false, err
	}
	return true, nil
}

// parseKey is the inverse of Digest.key.
func parseKey(key string) (Digest, bool) {
	id, rest, ok := strings.Cut(strings.TrimPrefix(key, prefix), "/")
	if !ok {
		return "", false
	}
	d := Digest(id + "-" + path.Base(rest))
	want, err := d.key()
	return d, err == nil && want == key
}
