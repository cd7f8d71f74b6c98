package bundle_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/bakehouse-farm/bakehouse"
)

// A file that is nowhere but in the caller's memory travels with the others,
// also when the way to it leads through a link.
func TestAdd(t *testing.T) {
	s, _ := newStore(t)
	dir := t.TempDir()
	write(t, dir, map[string]string{"real/a": "one", "real/-": "old", "link": "->real"})
	files := bakehouse.Files{Cwd: filepath.Join(dir, "link")}
	d, _, err := s.Pack(t.Context(), files, []string{"a"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	big := bytes.Repeat([]byte("{}\n"), 3<<20) // in more than one part
	added, err := s.Add(t.Context(), d, files, "-", big)
	if err != nil {
		t.Fatal(err)
	}
	again, err := s.Add(t.Context(), added, files, "-", big)
	if err != nil || again != added {
		t.Errorf("the same again: %s, not %s: %v", again, added, err)
	}
	there := bakehouse.Files{Root: unpack(t, s, added, t.TempDir()), Cwd: files.Cwd}
	got := map[string]bool{}
	for name, want := range map[string][]byte{"a": []byte("one"), "-": big} {
		content, err := os.ReadFile(there.Path(name))
		got[name] = err == nil && bytes.Equal(content, want)
	}
	if diff := cmp.Diff(map[string]bool{"a": true, "-": true}, got); diff != "" {
		t.Errorf("files as they should be (-want +got):\n%s", diff)
	}
	// The first bundle is what it was.
	before := bakehouse.Files{Root: unpack(t, s, d, t.TempDir()), Cwd: files.Cwd}
	if _, err := os.Stat(before.Path("-")); err == nil {
		t.Error("the bundle that was added to has changed")
	}
	if _, err := s.Add(t.Context(), d, bakehouse.Files{Cwd: "/no/such/folder"}, "-", big); bakehouse.KindOf(err) != bakehouse.NotFound {
		t.Errorf("in a folder that is not there: %v", err)
	}
}
