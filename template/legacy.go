package template

import "github.com/hashicorp/hcl/v2"

func (t *Template) loadLegacy(path string) hcl.Diagnostics {
	return hcl.Diagnostics{failure("Not an HCL template", "%s: legacy JSON templates are not read yet: convert it with packer hcl2_upgrade to %s.", path, nativeSuffix)}
}

func (t *Template) legacyVariables(in Inputs) (Values, hcl.Diagnostics) { return Values{}, nil }
