package main

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/bakehouse-farm/bakehouse/agent/bundle"
	"github.com/bakehouse-farm/bakehouse/agent/secret"
	"github.com/bakehouse-farm/bakehouse/cmd/catalogue"
	"github.com/bakehouse-farm/bakehouse/template"
)

// A template from the standard input is on the agent what it was here, with the
// files that it names; nothing is written into the current folder for it.
func TestStdinTravels(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "run.sh", "true\n")
	write(t, dir, "unnamed", "x")
	t.Chdir(dir)
	source := `{"builders": [{"type": "null", "communicator": "none"}], "provisioners": [{"type": "shell", "script": "run.sh"}]}`
	var out bytes.Buffer
	c := &console{in: strings.NewReader(source), out: &out, err: &out}
	b := new(build)
	d, err := b.prepare(c, b.look.ui(c), stdin)
	if err != nil {
		t.Fatalf("%v: %s", err, &out)
	}
	keys, err := secret.Generate()
	if err != nil {
		t.Fatal(err)
	}
	bucket, err := bundle.OpenBucket(t.Context(), "mem://")
	if err != nil {
		t.Fatal(err)
	}
	defer bucket.Close()
	store := bundle.New(bucket, keys)
	packed, _, _, err := d.pack(t.Context(), store, nil)
	if err != nil {
		t.Fatal(err)
	}
	again, _, _, err := d.pack(t.Context(), store, nil)
	if err != nil || again != packed {
		t.Errorf("packed again: %s, not %s: %v", again, packed, err)
	}
	there := d.files
	if there.Root, err = store.Unpack(t.Context(), packed, t.TempDir()); err != nil {
		t.Fatal(err)
	}
	tpl, diags := template.Load(d.path, there, catalogue.Template())
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	names, diags := tpl.Select(d.values, d.selection)
	if diff := cmp.Diff(d.builds, names); diff != "" || diags.HasErrors() {
		t.Errorf("builds (-here +there):\n%s%v", diff, diags)
	}
	if diags := tpl.Check(d.values, d.selection, d.pinned); diags.HasErrors() {
		t.Error(diags)
	}
	for name, want := range map[string]bool{"run.sh": true, "unnamed": false} {
		if _, err := os.Stat(there.Path(name)); (err == nil) != want {
			t.Errorf("%s travels: %t, want %t", name, err == nil, want)
		}
	}
	if _, err := os.Stat("-"); err == nil {
		t.Error("a file was left in the current folder")
	}
	if got := d.title(); got != "template" {
		t.Errorf("title %q", got)
	}
}
