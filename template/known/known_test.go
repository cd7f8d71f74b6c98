package known_test

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/bakehouse-farm/bakehouse/template/known"
)

func TestLookup(t *testing.T) {
	for _, tt := range []struct {
		kind         known.Kind
		typ          string
		ok           bool
		plugin, asOf string
	}{
		{known.Builder, "qemu", true, "github.com/hashicorp/qemu", "Packer 1.6.6"},
		{known.Builder, "amazon-chroot", true, "github.com/hashicorp/amazon", "packer-plugin-amazon 1.8.2"},
		{known.Provisioner, "file", true, "", "Packer 1.16.0"},
		{known.PostProcessor, "qemu", false, "", ""},
		{known.DataSource, "http", true, "", "Packer 1.16.0"},
		{known.DataSource, "git-commit", true, "github.com/ethanmdavidson/git", ""},
		{known.Builder, "qemo", false, "", ""},
		{known.Builder, "", false, "", ""},
	} {
		c, ok := known.Lookup(tt.kind, tt.typ)
		if ok != tt.ok {
			t.Errorf("%s %q: found %v", tt.kind, tt.typ, ok)
		}
		if ok && (c.Kind != tt.kind || c.Type != tt.typ || c.Plugin != tt.plugin || c.AsOf != tt.asOf) {
			t.Errorf("%s %q: %+v", tt.kind, tt.typ, c)
		}
	}
}

// Every type is provided by one plugin only.
func TestTypesAreUnique(t *testing.T) {
	for _, kind := range []known.Kind{known.Builder, known.Provisioner, known.PostProcessor, known.DataSource} {
		types := known.Types(kind)
		if len(types) < 5 || len(slices.Compact(slices.Clone(types))) != len(types) || !slices.IsSorted(types) {
			t.Errorf("%s: %v", kind, types)
		}
	}
}

func TestPlugin(t *testing.T) {
	want := []known.Ref{
		{Kind: known.Builder, Type: "docker"},
		{Kind: known.PostProcessor, Type: "docker-import"},
		{Kind: known.PostProcessor, Type: "docker-push"},
		{Kind: known.PostProcessor, Type: "docker-save"},
		{Kind: known.PostProcessor, Type: "docker-tag"},
	}
	got, ok := known.Plugin("github.com/hashicorp/docker")
	if diff := cmp.Diff(want, got); diff != "" || !ok {
		t.Error(ok, diff)
	}
	for source, n := range map[string]int{
		"github.com/Hashicorp/Qemu":            1,
		"github.com/hashicorp/digitalocean":    2, // it has moved
		"github.com/digitalocean/digitalocean": 2,
		"github.com/hashicorp/exoscale":        1,
		"github.com/exoscale/exoscale":         2, // named twice in the index
		"packer":                               0,
		"":                                     0,
		"github.com/hashicorp/nope":            0,
	} {
		got, ok := known.Plugin(source)
		if len(got) != n || ok != (n > 0) {
			t.Errorf("%q provides %v, %v", source, got, ok)
		}
	}
	for _, source := range known.Plugins() {
		if _, ok := known.Plugin(source); !ok {
			t.Errorf("%s is listed and not known", source)
		}
	}
}
