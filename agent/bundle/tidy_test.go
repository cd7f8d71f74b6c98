package bundle_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bakehouse-farm/bakehouse"
	"github.com/bakehouse-farm/bakehouse/agent/bundle"
	"github.com/bakehouse-farm/bakehouse/agent/secret"
)

// A shelf is a store in a folder.
func shelf(t *testing.T) (s *bundle.Store, dir string) {
	t.Helper()
	keys, err := secret.Generate()
	if err != nil {
		t.Fatal(err)
	}
	dir = t.TempDir()
	b, err := bundle.OpenBucket(t.Context(), "file://"+dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return bundle.New(b, keys), dir
}

// packed packs a folder with one file.
func packed(t *testing.T, s *bundle.Store, content string) bundle.Digest {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "f"), []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	d, _, err := s.Pack(t.Context(), bakehouse.Files{Cwd: dir, Home: dir}, []string{dir}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// Bundles that were not used for a while go, and those that a step uses stay,
// also when the disk is full.
func TestTidy(t *testing.T) {
	never := func() bool { return false }
	always := func() bool { return true }
	tests := []struct {
		name string
		full func() bool
		want string // what goes, of: old, older, young, younger, held (old, but used now)
	}{
		{"room", never, "older old"},
		{"full", always, "older old young younger"},
		{"full until one is gone", func() func() bool { n := 0; return func() bool { n++; return n < 2 } }(), "older old young"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, _ := shelf(t)
			cache := t.TempDir()
			names := map[bundle.Digest]string{}
			all := map[string]bundle.Digest{}
			for name, age := range map[string]time.Duration{"old": 25 * time.Hour, "older": 30 * time.Hour, "young": time.Hour, "younger": time.Minute, "held": 40 * time.Hour} {
				d := packed(t, s, name)
				names[d], all[name] = name, d
				done, err := bundle.Use(t.Context(), d, cache)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := s.Unpack(t.Context(), d, cache); err != nil {
					t.Fatal(err)
				}
				if name == "held" {
					t.Cleanup(done)
				} else {
					done()
				}
				at := time.Now().Add(-age)
				if err := os.Chtimes(filepath.Join(cache, string(d)+".used"), at, at); err != nil {
					t.Fatal(err)
				}
			}
			removed, err := bundle.Tidy(cache, 24*time.Hour, tt.full)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, d := range removed {
				got = append(got, names[d])
			}
			if want := strings.Fields(tt.want); !slices.Equal(got, want) {
				t.Errorf("removed %v, want %v", got, want)
			}
			for name, d := range all {
				_, err := os.Stat(filepath.Join(cache, string(d)))
				if gone := os.IsNotExist(err); gone != slices.Contains(got, name) {
					t.Errorf("%s: gone %v, said %v", name, gone, got)
				}
				root, err := s.Unpack(t.Context(), d, cache) // again
				if err != nil || root == "" {
					t.Errorf("%s cannot be unpacked again: %v", name, err)
				}
			}
		})
	}
}
