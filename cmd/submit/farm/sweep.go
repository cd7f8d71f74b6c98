package farm

import (
	"context"
	"time"
)

const sweepType = "Sweep"

// SweepRequest asks for a sweep (workflows.SweepRequest).
type SweepRequest struct {
	Regions []string `json:"regions,omitempty"`
	DryRun  bool     `json:"dry_run,omitempty"`
}

// Found is one thing that a build owns, and what the sweep did about it.
type Found struct {
	Build   string    `json:"build"`
	Source  string    `json:"source,omitempty"`
	Region  string    `json:"region"`
	Kind    string    `json:"kind"`
	ID      string    `json:"id"`
	Expires time.Time `json:"expires"`
	Fate    string    `json:"fate"`
	Lost    bool      `json:"lost,omitempty"`
	Removed bool      `json:"removed,omitempty"`
	Error   string    `json:"error,omitempty"`
}

// Sweep finds and removes what no living build owns, now, and returns what it
// found. One sweep of a pool runs at a time: another is joined.
func (f *Farm) Sweep(ctx context.Context, pool string, r SweepRequest) ([]Found, error) {
	var out struct {
		Found []Found `json:"found"`
	}
	err := f.once(ctx, "sweep-"+pool, pool, r.DryRun, sweepType, r, &out)
	return out.Found, err
}

// SweepEvery has a pool swept again and again. Zero ends that; ending what was
// not begun is no error.
func (f *Farm) SweepEvery(ctx context.Context, pool string, every time.Duration, r SweepRequest) error {
	return f.repeat(ctx, "sweep-"+pool, pool, every, sweepType, r)
}
