package farm

import (
	"context"
	"time"
)

const pruneType = "Prune"

// PruneRequest asks for a prune (workflows.PruneRequest).
type PruneRequest struct {
	OlderThan time.Duration `json:"older_than"`
	DryRun    bool          `json:"dry_run,omitempty"`
}

// Pruned tells what was removed from the store, or would have been.
type Pruned struct {
	Blobs struct {
		Blobs int   `json:"blobs"`
		Bytes int64 `json:"bytes"`
		Kept  int   `json:"kept"`
	} `json:"blobs"`
	Logs struct {
		Logs  int   `json:"logs"`
		Bytes int64 `json:"bytes"`
		Kept  int   `json:"kept"`
	} `json:"logs"`
}

// Prune removes from the farm's store what nothing needs and is old, now. An
// agent of the pool does it. One prune of a pool runs at a time: another is joined.
func (f *Farm) Prune(ctx context.Context, pool string, r PruneRequest) (Pruned, error) {
	var done Pruned
	err := f.once(ctx, "prune-"+pool, pool, r.DryRun, pruneType, r, &done)
	return done, err
}

// PruneEvery has a pool prune the store again and again. Zero ends that; ending
// what was not begun is no error.
func (f *Farm) PruneEvery(ctx context.Context, pool string, every time.Duration, r PruneRequest) error {
	return f.repeat(ctx, "prune-"+pool, pool, every, pruneType, r)
}
