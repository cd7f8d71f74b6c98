package buildlog_test

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/bakehouse-farm/bakehouse"
)

// Whatever a store loses of a log that has ended is noticed by who knows where
// it ended, and the rest is read.
func TestALostEndIsNamed(t *testing.T) {
	remove := func(t *testing.T, path string) {
		t.Helper()
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	tests := []struct {
		name    string
		do      func(t *testing.T, path func(int) string)
		missing string // at the end
		bad     string // what reading says
		left    []string
	}{
		{"nothing", func(*testing.T, func(int) string) {}, "", "", []string{"line 1", "line 2", "line 3"}},
		{
			"last", func(t *testing.T, path func(int) string) { remove(t, path(3)) },
			"01/00000003: it is missing", "",
			[]string{"line 1", "line 2"},
		},
		{
			"all but one", func(t *testing.T, path func(int) string) { remove(t, path(2)); remove(t, path(3)) },
			"01/00000002: it and the next 1 are missing", "",
			[]string{"line 1"},
		},
		{
			"all", func(t *testing.T, path func(int) string) { remove(t, path(1)); remove(t, path(2)); remove(t, path(3)) },
			"01/00000001: it and the next 2 are missing", "", nil,
		},
		{"last is cut short", func(t *testing.T, path func(int) string) {
			if err := os.Truncate(path(3), 20); err != nil {
				t.Fatal(err)
			}
		}, "", "01/00000003", []string{"line 1", "line 2"}},
		{"last is empty", func(t *testing.T, path func(int) string) {
			if err := os.Truncate(path(3), 0); err != nil {
				t.Fatal(err)
			}
		}, "", "01/00000003", []string{"line 1", "line 2"}},
		{"last is that of another step", func(t *testing.T, path func(int) string) {
			other := strings.Replace(path(1), "/01/", "/02/", 1)
			if err := os.Rename(other, path(3)); err != nil {
				t.Fatal(err)
			}
		}, "02/00000001: it is missing", "01/00000003", []string{"line 1", "line 2"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, dir, other := folder(t)
			path := chunks(t, s, dir, 3)
			st := openStep(t, s, "02", nil)
			st.Say("of another step")
			closeStep(t, st)
			if diff := cmp.Diff(bakehouse.LogEnd{Chunks: map[string]int{"02": 1}}, st.End()); diff != "" {
				t.Errorf("end of a step (-want +got):\n%s", diff)
			}
			end, err := s.End(t.Context(), build)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(bakehouse.LogEnd{Chunks: map[string]int{"01": 3, "02": 1}}, end); diff != "" {
				t.Errorf("end (-want +got):\n%s", diff)
			}
			tt.do(t, path)
			missing, err := other().Missing(t.Context(), build, end)
			if err != nil {
				t.Fatal(err)
			}
			if tt.missing == "" && len(missing) > 0 || tt.missing != "" && (len(missing) != 1 || !strings.Contains(missing[0].Error(), tt.missing)) {
				t.Errorf("missing: %v, want %q", missing, tt.missing)
			}
			lines, bad := both(t, s)
			if tt.bad == "" && len(bad[0]) > 0 || tt.bad != "" && (len(bad[0]) != 1 || !strings.Contains(bad[0][0].Error(), tt.bad)) {
				t.Errorf("read: %v, want %q", bad[0], tt.bad)
			}
			left := slices.DeleteFunc(lines[0], func(l string) bool { return l == "of another step" })
			if !slices.Equal(left, tt.left) {
				t.Errorf("read %q, want %q", left, tt.left)
			}
		})
	}
}

// What a retry adds to a log that had ended is no trouble.
func TestALogMayGrowBehindItsEnd(t *testing.T) {
	s, dir, _ := folder(t)
	chunks(t, s, dir, 1)
	end, err := s.End(t.Context(), build)
	if err != nil {
		t.Fatal(err)
	}
	chunks(t, s, dir, 3)
	if missing, err := s.Missing(t.Context(), build, end); err != nil || len(missing) > 0 {
		t.Errorf("missing: %v, %v", missing, err)
	}
}
