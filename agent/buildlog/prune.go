package buildlog

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"gocloud.dev/blob"
	"gocloud.dev/gcerrors"

	"github.com/bakehouse-farm/bakehouse"
)

// Pruned tells what Prune removed, or would have removed.
type Pruned struct {
	Logs  int   `json:"logs"`
	Bytes int64 `json:"bytes"`
	Kept  int   `json:"kept"` // logs
}

// Prune removes the logs of builds to which nothing was added since a time and
// that nothing needs, as living tells: it is asked for each just before it goes.
// With dry it only counts.
//
// The ID of a submission, under which its plan keeps a log, comes again when it
// is sent again. From then on living says so. Between its answer and the
// removal lie milliseconds; no agent plans and stores the first line in that
// time unless it was started before.
func (s *Store) Prune(ctx context.Context, before time.Time, dry bool, living func(context.Context, bakehouse.BuildID) (bool, error)) (Pruned, error) {
	var done Pruned
	type chunk struct {
		place
		size int64
	}
	logs := map[bakehouse.BuildID][]chunk{}
	newest := map[bakehouse.BuildID]time.Time{}
	for it := s.bucket.List(&blob.ListOptions{Prefix: "logs/"}); ; {
		obj, err := it.Next(ctx)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return done, fmt.Errorf("prune: list logs: %w", err)
		}
		build, _, _ := strings.Cut(strings.TrimPrefix(obj.Key, "logs/"), "/")
		id := bakehouse.BuildID(build)
		prefix, err := buildPrefix(id)
		if err != nil {
			continue // nothing of ours
		}
		if step, seq, ok := parseKey(prefix, obj.Key); ok {
			logs[id] = append(logs[id], chunk{place{obj.Key, step, seq}, obj.Size})
			if obj.ModTime.After(newest[id]) {
				newest[id] = obj.ModTime
			}
		}
	}
	for id, chunks := range logs {
		if !newest[id].Before(before) {
			done.Kept++
			continue
		}
		lives, err := living(ctx, id)
		if err != nil {
			return done, fmt.Errorf("prune: log of %s: %w", id, err)
		}
		if lives {
			done.Kept++
			continue
		}
		// From the end: what is left when this is cut off is the beginning of a log.
		slices.SortFunc(chunks, func(a, b chunk) int {
			return cmp.Or(strings.Compare(a.step, b.step), cmp.Compare(b.seq, a.seq))
		})
		for _, c := range chunks {
			if !dry {
				if err := s.bucket.Delete(ctx, c.key); err != nil && gcerrors.Code(err) != gcerrors.NotFound {
					return done, fmt.Errorf("prune: log of %s: %w", id, err)
				}
			}
			done.Bytes += c.size
		}
		done.Logs++
	}
	return done, nil
}
