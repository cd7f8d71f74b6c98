package fix

import (
	"fmt"
	"strings"

	"github.com/hashicorp/hcl/v2"

	"github.com/bakehouse-farm/bakehouse/template/legacyjson"
)

// Dangling finds "only", "except" and "override" that name a builder which the
// template does not have: fixers rename types, and with them builders without a
// name of their own. Builders whose names are computed make that unknowable;
// then nothing is found.
func Dangling(src []byte, name string) hcl.Diagnostics {
	root, diags := legacyjson.Parse(src, name)
	if diags.HasErrors() {
		return diags
	}
	have := map[string]bool{}
	builders, _ := root.Member("builders")
	for _, b := range builders.Items {
		v, ok := b.Member("name")
		if !ok {
			v, _ = b.Member("type")
		}
		if strings.Contains(v.Text, "{{") {
			return nil
		}
		have[v.Text] = true
	}
	see := func(kind string, block legacyjson.Value) {
		for _, what := range []string{"only", "except"} {
			list, _ := block.Member(what)
			for _, one := range list.Items {
				if one.Kind == legacyjson.String && !have[one.Text] {
					diags = append(diags, dangling(one.Range, kind, what, one.Text))
				}
			}
		}
		override, _ := block.Member("override")
		for _, m := range override.Members {
			if kind == "provisioner" && !have[m.Name] {
				diags = append(diags, dangling(m.At, kind, "override", m.Name))
			}
		}
	}
	list, _ := root.Member("provisioners")
	for _, p := range list.Items {
		see("provisioner", p)
	}
	list, _ = root.Member("post-processors")
	for _, p := range list.Items {
		see("post-processor", p)
		for _, one := range p.Items {
			see("post-processor", one)
		}
	}
	return diags
}

func dangling(at hcl.Range, kind, what, name string) *hcl.Diagnostic {
	return &hcl.Diagnostic{
		Severity: hcl.DiagError, Subject: at.Ptr(),
		Summary: fmt.Sprintf("%s refers to builder '%s', which does not exist", kind, name),
		Detail:  fmt.Sprintf("%q lists names of builders; one without a name is called by its type.", what),
	}
}
