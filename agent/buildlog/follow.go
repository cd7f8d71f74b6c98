package buildlog

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/bakehouse-farm/bakehouse"
)

const (
	firstPoll = 100 * time.Millisecond
	lastLook  = 5 * time.Second
)

// Follow returns the lines of a build's log as they come, those that are there
// first, and none twice. Lines of steps that run side by side are mixed, in the
// order of time. It looks every 100 ms while lines come, and less and less
// often, down to once in poll (zero: a second), while none do.
//
// When ctx ends it looks once more, for at most five seconds, and ends: so
// whoever learns that a build has ended cancels ctx and misses nothing. An error
// does not end it, but tells that lines may come late or, where a chunk is
// damaged, never.
func (s *Store) Follow(ctx context.Context, build bakehouse.BuildID, poll time.Duration) iter.Seq2[Line, error] {
	if poll <= 0 {
		poll = time.Second
	}
	return func(yield func(Line, error) bool) {
		prefix, err := buildPrefix(build)
		if err != nil {
			yield(Line{}, err)
			return
		}
		seen := map[string]int{}
		wait := min(firstPoll, poll)
		timer := time.NewTimer(0)
		defer timer.Stop()
		for {
			select {
			case <-timer.C:
			case <-ctx.Done():
				last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastLook)
				defer cancel()
				s.fresh(last, prefix, seen, yield)
				return
			}
			came, ok := s.fresh(ctx, prefix, seen, yield)
			if !ok {
				return
			}
			wait = min(wait*3/2, poll)
			if came {
				wait = min(firstPoll, poll)
			}
			timer.Reset(wait)
		}
	}
}

// fresh gives out what is behind seen. came tells whether there was anything,
// ok whether more is wanted.
func (s *Store) fresh(ctx context.Context, prefix string, seen map[string]int, yield func(Line, error) bool) (came, ok bool) {
	places, err := s.list(ctx, prefix, seen)
	if err != nil {
		if ctx.Err() != nil {
			return false, true // the last look is still to come
		}
		return false, yield(Line{}, err)
	}
	type dated struct {
		Line
		order time.Time
	}
	var lines []dated
	var bad []error
	var late time.Time // the latest time so far of the step
	stuck := ""        // the step of which a chunk could not be read for now
	for i := 0; i < len(places); i++ {
		p := places[i]
		if i > 0 && places[i-1].step != p.step {
			late = time.Time{}
		}
		if p.step == stuck {
			continue
		}
		if p.seq > seen[p.step]+1 {
			// A list is not made in an instant: what came meanwhile may be missing in
			// it. What is really missing will not come, as chunks come in order.
			between := place{chunkKey(prefix, p.step, seen[p.step]+1), p.step, seen[p.step] + 1}
			there, err := s.bucket.Exists(ctx, between.key)
			switch {
			case err != nil:
				bad = append(bad, fmt.Errorf("read log %s: %w", between.key, err))
				stuck = p.step
				continue
			case there:
				places = slices.Insert(places, i, between)
				i--
				continue
			}
			bad = append(bad, gap(prefix, p.step, seen[p.step], p.seq))
		}
		c, there, err := s.get(ctx, p.key)
		if err != nil {
			if ctx.Err() == nil {
				bad = append(bad, err)
			}
			if !bakehouse.KindOf(err).Final() {
				stuck = p.step // its lines must not come out of order
				continue
			}
		}
		seen[p.step] = p.seq
		if !there {
			continue
		}
		for _, e := range c.Entries {
			for _, l := range e.lines(p.step) {
				// The clocks of two agents may differ: within a step, the order
				// of chunks decides.
				if l.Time.After(late) {
					late = l.Time
				}
				lines = append(lines, dated{l, late})
			}
		}
	}
	slices.SortStableFunc(lines, func(a, b dated) int { return a.order.Compare(b.order) })
	for _, l := range lines {
		if !yield(l.Line, nil) {
			return true, false
		}
	}
	for _, err := range bad {
		if !yield(Line{}, err) {
			return true, false
		}
	}
	return len(lines) > 0, true
}
