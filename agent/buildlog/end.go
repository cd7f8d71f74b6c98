package buildlog

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/bakehouse-farm/bakehouse"
)

// End tells how much there is of a build's log now. Compared with it later
// (Missing), what is missing behind the last chunk is noticed, which nothing in
// the log itself can tell: so it is kept where the log is not.
//
// A chunk that is there is whole and in its place, as it is sealed under its
// name; so counting them is enough.
func (s *Store) End(ctx context.Context, build bakehouse.BuildID) (bakehouse.LogEnd, error) {
	prefix, err := buildPrefix(build)
	if err != nil {
		return bakehouse.LogEnd{}, err
	}
	places, err := s.list(ctx, prefix, nil)
	if err != nil {
		return bakehouse.LogEnd{}, err
	}
	end := bakehouse.LogEnd{Chunks: map[string]int{}}
	for _, p := range places {
		end.Chunks[p.step] = p.seq // they are listed in their order
	}
	return end, nil
}

// Missing returns an error of kind bakehouse.Failed for each step of which
// chunks are missing behind the last one that is there; end is what End said
// when the build ended. What came later, of a retry, is no error. What is
// missing in the middle is for Read to tell.
func (s *Store) Missing(ctx context.Context, build bakehouse.BuildID, end bakehouse.LogEnd) ([]error, error) {
	now, err := s.End(ctx, build)
	if err != nil {
		return nil, err
	}
	var missing []error
	for _, step := range slices.Sorted(maps.Keys(end.Chunks)) {
		have, had := now.Chunks[step], end.Chunks[step]
		if have >= had {
			continue
		}
		first := fmt.Sprintf("read log logs/%s/%s/%08d", build, step, have+1)
		if have+1 == had {
			missing = append(missing, bakehouse.Errorf(bakehouse.Failed, "%s: it is missing; the log of the step ended with it", first))
			continue
		}
		missing = append(missing, bakehouse.Errorf(bakehouse.Failed, "%s: it and the next %d are missing; the log of the step ended with them", first, had-have-1))
	}
	return missing, nil
}

// End is that of the step alone, as far as this attempt knows of it.
func (st *Step) End() bakehouse.LogEnd {
	st.mu.Lock()
	defer st.mu.Unlock()
	end := bakehouse.LogEnd{Chunks: map[string]int{}}
	if st.next > 1 {
		end.Chunks[st.name] = st.next - 1
	}
	return end
}
