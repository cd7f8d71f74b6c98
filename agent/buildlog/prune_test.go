package buildlog_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/bakehouse-farm/bakehouse"
)

// Logs to which nothing was added for long go, but those of who lives.
func TestPrune(t *testing.T) {
	s, dir, _ := folder(t)
	for id, last := range map[bakehouse.BuildID]time.Duration{
		"old": 100 * 24 * time.Hour, "lives": 100 * 24 * time.Hour, "goes-on": time.Hour, "young": time.Hour,
	} {
		for i, step := range []string{"01-a", "02-b"} {
			st, err := s.Step(t.Context(), id, step, nil)
			if err != nil {
				t.Fatal(err)
			}
			st.Say("said")
			closeStep(t, st)
			at := time.Now().Add(-last)
			if i == 0 && id == "goes-on" {
				at = at.Add(-100 * 24 * time.Hour) // its newest line counts
			}
			if err := os.Chtimes(filepath.Join(dir, "logs", string(id), step, "00000001"), at, at); err != nil {
				t.Fatal(err)
			}
		}
	}
	lines := func(id bakehouse.BuildID) (n int) {
		for _, err := range s.Read(t.Context(), id) {
			if err != nil {
				t.Fatal(err)
			}
			n++
		}
		return n
	}
	before := time.Now().Add(-90 * 24 * time.Hour)
	lives := func(_ context.Context, id bakehouse.BuildID) (bool, error) {
		if id != "old" && id != "lives" {
			t.Errorf("asked for %s, which is young", id)
		}
		return id == "lives", nil
	}
	if _, err := s.Prune(t.Context(), before, false, func(context.Context, bakehouse.BuildID) (bool, error) {
		return false, errors.New("the farm is away")
	}); err == nil {
		t.Error("pruned without the farm")
	}
	dry, err := s.Prune(t.Context(), before, true, lives)
	if err != nil || lines("old") != 2 {
		t.Fatalf("dry run left %d of 2 lines: %v", lines("old"), err)
	}
	done, err := s.Prune(t.Context(), before, false, lives)
	if err != nil || done != dry || done.Logs != 1 || done.Kept != 3 || done.Bytes == 0 {
		t.Errorf("pruned %+v, dry run %+v, %v", done, dry, err)
	}
	for id, want := range map[bakehouse.BuildID]int{"old": 0, "lives": 2, "goes-on": 2, "young": 2} {
		if n := lines(id); n != want {
			t.Errorf("%s has %d lines, want %d", id, n, want)
		}
	}
}
