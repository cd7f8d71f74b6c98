package activities

import (
	"context"
	"errors"
	"slices"

	"go.temporal.io/sdk/activity"

	"github.com/bakehouse-farm/bakehouse"
	"github.com/bakehouse-farm/bakehouse/builders"
)

// A Fate is what the farm knows of a build.
type Fate string

// The fates.
const (
	// Living: the build runs, waits, or is kept for a retry.
	Living Fate = "living"
	// Ended: the build has ended and did itself what was to be done; what it
	// left was left on purpose, or was reported.
	Ended Fate = "ended"
	// Broken: the build was terminated, or timed out as a workflow: it never got
	// to its clean-up.
	Broken Fate = "broken"
	// Unknown: the farm knows nothing of it: it has forgotten, or lost its
	// database, or the build belongs to another farm.
	Unknown Fate = "unknown"
)

// A Farm knows its builds.
type Farm interface {
	// Fate tells what has become of a build.
	Fate(ctx context.Context, id bakehouse.BuildID) (Fate, error)
}

// FindOwned lists what builds own in the regions; all regions when there are
// none.
func (a *Activities) FindOwned(ctx context.Context, regions []string) ([]builders.Owned, error) {
	return sweeping(ctx, func(ctx context.Context) (all []builders.Owned, err error) {
		for _, s := range a.sweepers() {
			where := regions
			if len(where) == 0 {
				if where, err = s.Regions(ctx); err != nil {
					return nil, err
				}
			}
			for _, region := range where {
				owned, err := s.Owned(ctx, region)
				if err != nil {
					return nil, err
				}
				all = append(all, owned...)
			}
		}
		return all, nil
	})
}

// Fates tells what has become of builds.
func (a *Activities) Fates(ctx context.Context, ids []bakehouse.BuildID) (map[bakehouse.BuildID]Fate, error) {
	return sweeping(ctx, func(ctx context.Context) (map[bakehouse.BuildID]Fate, error) {
		if a.Farm == nil {
			return nil, bakehouse.Errorf(bakehouse.Invalid, "this agent cannot ask the farm")
		}
		fates := map[bakehouse.BuildID]Fate{}
		for _, id := range ids {
			fate, err := a.Farm.Fate(ctx, id)
			if err != nil {
				return nil, err
			}
			fates[id] = fate
		}
		return fates, nil
	})
}

// SweepBuild removes what a build has in a region, but its results.
func (a *Activities) SweepBuild(ctx context.Context, region string, id bakehouse.BuildID) error {
	_, err := sweeping(ctx, func(ctx context.Context) (struct{}, error) {
		var errs []error
		for _, s := range a.sweepers() {
			errs = append(errs, s.Sweep(ctx, region, id))
		}
		return struct{}{}, errors.Join(errs...)
	})
	return err
}

// sweepers are the builders that can sweep, in the order of their types.
func (a *Activities) sweepers() []builders.Sweeper {
	var types []string
	for typ := range a.Builders {
		types = append(types, typ)
	}
	slices.Sort(types)
	var out []builders.Sweeper
	for _, typ := range types {
		if s, ok := a.Builders[typ].(builders.Sweeper); ok {
			out = append(out, s)
		}
	}
	return out
}

// sweeping runs what belongs to no build, and so has no log. It beats as every
// step does.
func sweeping[T any](ctx context.Context, do func(context.Context) (T, error)) (T, error) {
	step, let := context.WithCancelCause(context.WithoutCancel(ctx))
	done := make(chan struct{})
	go beat(ctx, let, done)
	out, err := do(step)
	close(done)
	if err != nil {
		activity.GetLogger(ctx).Warn("sweep has trouble", "error", err)
	}
	err = verdict(step, err)
	let(nil)
	return out, err
}
