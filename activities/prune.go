package activities

import (
	"context"
	"time"

	"github.com/bakehouse-farm/bakehouse"
	"github.com/bakehouse-farm/bakehouse/agent/buildlog"
	"github.com/bakehouse-farm/bakehouse/agent/bundle"
)

// Needs is what submissions and builds need of the store.
type Needs struct {
	// Blobs are the names that they know.
	Blobs []bundle.Digest
	// Logs are the builds, and the submissions, whose logs are kept.
	Logs map[bakehouse.BuildID]bool
}

// A Memory knows what the farm remembers.
type Memory interface {
	Farm
	// Needs tells what is needed by submissions and builds that run, wait or are
	// kept, or that have ended since a time. An error means that it is not known.
	Needs(ctx context.Context, since time.Time) (Needs, error)
}

// Pruned tells what was removed from the store.
type Pruned struct {
	Blobs bundle.Pruned   `json:"blobs"`
	Logs  buildlog.Pruned `json:"logs"`
}

// Prune removes from the store what was written before a time and nothing needs.
func (a *Activities) Prune(ctx context.Context, before time.Time, dry bool) (Pruned, error) {
	return sweeping(ctx, func(ctx context.Context) (Pruned, error) {
		var done Pruned
		farm, ok := a.Farm.(Memory)
		if !ok {
			return done, bakehouse.Errorf(bakehouse.Invalid, "this agent cannot ask the farm")
		}
		var needs Needs
		var err error
		done.Blobs, err = a.Bundles.Prune(ctx, before, dry, func(ctx context.Context) ([]bundle.Digest, error) {
			needs, err = farm.Needs(ctx, before)
			return needs.Blobs, err
		})
		if err != nil {
			return done, err
		}
		done.Logs, err = a.Logs.Prune(ctx, before, dry, func(ctx context.Context, id bakehouse.BuildID) (bool, error) {
			if needs.Logs[id] {
				return true, nil
			}
			fate, err := farm.Fate(ctx, id)
			return fate == Living, err
		})
		return done, err
	})
}
