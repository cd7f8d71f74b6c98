package known_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/bakehouse-farm/bakehouse/builders/amazon"
	"github.com/bakehouse-farm/bakehouse/template/known"
	"github.com/bakehouse-farm/bakehouse/template/schema"
)

var kinds = []known.Kind{known.Builder, known.Provisioner, known.PostProcessor, known.DataSource}

// Every file of arguments can be read, and whose version is named has some.
func TestEverythingCanBeRead(t *testing.T) {
	for _, kind := range kinds {
		for _, typ := range known.Types(kind) {
			c, ok := known.Lookup(kind, typ)
			if !ok {
				t.Fatalf("%s %s is listed, and not found", kind, typ)
			}
			s := c.Schema()
			if (s != nil) != (c.AsOf != "") {
				t.Errorf("%s %s: as of %q, and a schema: %v", kind, typ, c.AsOf, s != nil)
			}
			if s != nil && len(s.Fields) == 0 {
				t.Errorf("%s %s takes no arguments", kind, typ)
			}
			if o := c.Outputs(); kind == known.DataSource && c.AsOf != "" && (o == nil || len(o.Fields) == 0) {
				t.Errorf("%s %s answers nothing", kind, typ)
			}
		}
	}
}

// The numbers of arguments are those of the plugin's own description.
func TestNumbersOfArguments(t *testing.T) {
	for _, tt := range []struct {
		kind known.Kind
		typ  string
		want int
	}{
		{known.Builder, "amazon-ebs", 148},
		{known.Builder, "amazon-ebssurrogate", 152},
		{known.Builder, "amazon-ebsvolume", 117},
		{known.Builder, "amazon-chroot", 69},
		{known.Builder, "amazon-instance", 152},
		{known.PostProcessor, "amazon-import", 37},
		{known.DataSource, "amazon-ami", 20},
		{known.DataSource, "amazon-secretsmanager", 20},
		{known.DataSource, "amazon-parameterstore", 18},
		{known.Builder, "null", 49},
		{known.Builder, "file", 3},
		{known.Provisioner, "shell", 18},
		{known.Provisioner, "shell-local", 13},
		{known.Provisioner, "powershell", 21},
		{known.Provisioner, "windows-shell", 11},
		{known.Provisioner, "windows-restart", 5},
		{known.Provisioner, "file", 6},
		{known.Provisioner, "breakpoint", 2},
		{known.Provisioner, "sleep", 1},
		{known.Provisioner, "hcp-sbom", 11},
		{known.PostProcessor, "shell-local", 13},
		{known.PostProcessor, "compress", 5},
		{known.PostProcessor, "checksum", 2},
		{known.PostProcessor, "provenance", 22},
	} {
		c, _ := known.Lookup(tt.kind, tt.typ)
		if s := c.Schema(); len(s.Fields) != tt.want {
			t.Errorf("%s %s has %d arguments, want %d: %v", tt.kind, tt.typ, len(s.Fields), tt.want, s.Names())
		}
	}
}

// What is known of amazon-ebs is what the builder that we have takes.
func TestAmazonEBSIsOurs(t *testing.T) {
	ours, err := schema.Of(new(amazon.EBS).Settings())
	if err != nil {
		t.Fatal(err)
	}
	c, _ := known.Lookup(known.Builder, "amazon-ebs")
	if diff := cmp.Diff(shape(ours), shape(c.Schema())); diff != "" {
		t.Error(diff)
	}
}

// shape is the arguments of a schema and their types.
func shape(s *schema.Schema) map[string]any {
	m := map[string]any{}
	for _, f := range s.Fields {
		switch {
		case f.Block != nil:
			m[f.Name] = shape(f.Block)
		case f.Duration:
			m[f.Name] = "duration"
		default:
			m[f.Name] = f.Type.FriendlyName()
		}
	}
	return m
}
