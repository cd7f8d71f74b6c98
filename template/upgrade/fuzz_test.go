package upgrade_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/bakehouse-farm/bakehouse/template/upgrade"
)

// Whatever is given, there is HCL or a reason why there is none, and that is
// never a mistake of ours.
func FuzzHCL(f *testing.F) {
	names, err := filepath.Glob("testdata/*.json")
	if err != nil || len(names) == 0 {
		f.Fatal("the corpus is not there", err)
	}
	for _, name := range names {
		src, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(src)
	}
	f.Add([]byte(`{"builders": 5, "provisioners": {"type": 1}, "post-processors": [[[]], null, 1], "variables": [], "sensitive-variables": {}}`))
	f.Add([]byte(`{"builders": [{"type": "${x}", "name": "\"\n"}, {"type": "amazon-ebs", "tags": [1], "source_ami_filter": [5]}], "_": "a\r\n\u0000b", "description": 5}`))
	o := upgrade.Options{Catalogue: components()}
	f.Fuzz(func(t *testing.T, src []byte) {
		out, diags := upgrade.HCL(src, "t.json", o)
		for _, d := range diags {
			if d.Summary == "Cannot write the template in HCL" {
				t.Errorf("%s\n%s", d.Detail, out)
			}
		}
		if (out == nil) != diags.HasErrors() {
			t.Errorf("%v with %q", diags, out)
		}
	})
}
