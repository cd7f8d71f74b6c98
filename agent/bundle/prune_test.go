package bundle_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/bakehouse-farm/bakehouse"
	"github.com/bakehouse-farm/bakehouse/agent/bundle"
)

// age makes all blobs of a store older.
func age(t *testing.T, dir string, by time.Duration) {
	t.Helper()
	err := filepath.WalkDir(filepath.Join(dir, "blobs"), func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		at := time.Now().Add(-by)
		return os.Chtimes(name, at, at)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// countBlobs counts them.
func countBlobs(t *testing.T, dir string) int {
	t.Helper()
	n := 0
	_ = filepath.WalkDir(filepath.Join(dir, "blobs"), func(_ string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			n++
		}
		return err
	})
	return n
}

// What is old goes, unless something needs it, or what that is made of.
func TestPrune(t *testing.T) {
	const year = 365 * 24 * time.Hour
	s, dir := shelf(t)
	two := packed(t, s, "shared") // another folder, the same content
	one := packed(t, s, "shared")
	lost := packed(t, s, "lost")
	values, err := s.Put(t.Context(), []byte("values"))
	if err != nil {
		t.Fatal(err)
	}
	age(t, dir, year)
	young, err := s.Put(t.Context(), []byte("young"))
	if err != nil {
		t.Fatal(err)
	}
	roots := func(context.Context) ([]bundle.Digest, error) { return []bundle.Digest{one, values}, nil }
	before := time.Now().Add(-90 * 24 * time.Hour)

	dry, err := s.Prune(t.Context(), before, true, roots)
	if err != nil || countBlobs(t, dir) != 7 {
		t.Fatalf("dry run left %d of 7 blobs: %v", countBlobs(t, dir), err)
	}
	done, err := s.Prune(t.Context(), before, false, roots)
	if err != nil || done != dry || done.Blobs != 3 || done.Kept != 4 || done.Bytes == 0 {
		t.Errorf("pruned %+v, dry run %+v, %v", done, dry, err)
	}
	for name, d := range map[string]bundle.Digest{"one": one, "values": values, "young": young} {
		if _, err := s.Get(t.Context(), d); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := s.Unpack(t.Context(), one, t.TempDir()); err != nil {
		t.Errorf("bundle that is needed: %v", err)
	}
	for name, d := range map[string]bundle.Digest{"two": two, "lost": lost} {
		if _, err := s.Get(t.Context(), d); bakehouse.KindOf(err) != bakehouse.NotFound {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// What is put while a prune goes on stays, whether or not it was there.
func TestPutWhilePruning(t *testing.T) {
	s, dir := shelf(t)
	old, err := s.Put(t.Context(), []byte("used once more"))
	if err != nil {
		t.Fatal(err)
	}
	age(t, dir, 30*24*time.Hour)
	done, err := s.Prune(t.Context(), time.Now().Add(-bundle.Grace-time.Minute), false, func(ctx context.Context) ([]bundle.Digest, error) {
		// The farm has been asked; now somebody submits.
		_, err := s.Put(ctx, []byte("used once more"))
		return nil, err
	})
	if err != nil || done.Blobs != 0 || done.Kept != 1 {
		t.Errorf("pruned %+v, %v", done, err)
	}
	if _, err := s.Get(t.Context(), old); err != nil {
		t.Error(err)
	}
}

// When it is not known what is needed, all of it stays.
func TestPruneInDoubt(t *testing.T) {
	s, dir := shelf(t)
	d := packed(t, s, "needed")
	age(t, dir, 30*24*time.Hour)
	before := time.Now().Add(-bundle.Grace - time.Minute)
	away := func(context.Context) ([]bundle.Digest, error) { return nil, errors.New("the farm is away") }
	if _, err := s.Prune(t.Context(), before, false, away); err == nil || !strings.Contains(err.Error(), "away") {
		t.Errorf("pruned without the farm: %v", err)
	}
	if _, err := s.Prune(t.Context(), time.Now(), false, away); bakehouse.KindOf(err) != bakehouse.Invalid {
		t.Errorf("pruned what is young: %v", err)
	}
	id, sum, _ := strings.Cut(string(d), "-")
	if err := os.Truncate(filepath.Join(dir, "blobs", id, sum[:2], sum), 30); err != nil {
		t.Fatal(err)
	}
	age(t, dir, 30*24*time.Hour)
	if _, err := s.Prune(t.Context(), before, false, func(context.Context) ([]bundle.Digest, error) { return []bundle.Digest{d}, nil }); err == nil {
		t.Error("pruned what a damaged bundle may need")
	}
	if n := countBlobs(t, dir); n != 2 {
		t.Errorf("%d blobs are left of 2", n)
	}
}
