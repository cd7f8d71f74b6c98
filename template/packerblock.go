package template

import (
	"net/url"
	"strings"

	"github.com/hashicorp/go-version"
	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/gohcl"
)

// readPacker checks a packer block, and takes the plugins that it requires.
func (t *Template) readPacker(b *hcl.Block) hcl.Diagnostics {
	content, diags := b.Body.Content(&hcl.BodySchema{
		Attributes: []hcl.AttributeSchema{{Name: "required_version"}},
		Blocks:     []hcl.BlockHeaderSchema{{Type: "required_plugins"}},
	})
	if a, ok := content.Attributes["required_version"]; ok {
		var want *string // a null asks for nothing
		more := gohcl.DecodeExpression(a.Expr, nil, &want)
		if !more.HasErrors() && want != nil {
			more = append(more, requireVersion(*want, a.Expr.Range())...)
		}
		diags = append(diags, more...)
	}
	for _, required := range content.Blocks {
		attrs, more := required.Body.JustAttributes()
		diags = append(diags, more...)
		for _, a := range inOrder(attrs) {
			if other, ok := t.named["plugin."+a.Name].(*RequiredPlugin); ok {
				diags = append(diags, failureAt(a.NameRange, "Duplicate required plugin",
					"Plugin %q is already required at %s.", a.Name, other.at))
				continue
			}
			p, more := requirePlugin(a)
			diags = append(diags, more...)
			t.named["plugin."+a.Name] = p
			t.plugins = append(t.plugins, p)
		}
	}
	return diags
}

func constraints(want string, at hcl.Range) (version.Constraints, hcl.Diagnostics) {
	c, err := version.NewConstraint(want)
	if err != nil {
		return nil, hcl.Diagnostics{failureAt(at, "Invalid version constraint",
			"%q is not a version constraint such as \">= 1.2.0, < 2\".", want)}
	}
	for _, one := range c {
		if one.Prerelease() {
			return nil, hcl.Diagnostics{failureAt(at, "Invalid version constraint",
				"%q asks for a prerelease, which a constraint cannot do.", want)}
		}
	}
	return c, nil
}

func requireVersion(want string, at hcl.Range) hcl.Diagnostics {
	c, diags := constraints(want, at)
	if diags != nil {
		return diags
	}
	if !c.Check(version.Must(version.NewVersion(PackerVersion))) {
		return hcl.Diagnostics{failureAt(at, "Unsupported Packer Core version",
			"The template asks for Packer %s. Bakehouse speaks the language of Packer %s.", want, PackerVersion)}
	}
	return nil
}

// requireLeast checks the least version that a legacy template asks for.
func requireLeast(want string, at hcl.Range) hcl.Diagnostics {
	if want == "" {
		return nil
	}
	least, err := version.NewVersion(want)
	if err != nil {
		return hcl.Diagnostics{failureAt(at, "Invalid version", "%q is not a version such as \"1.2.0\".", want)}
	}
	if version.Must(version.NewVersion(PackerVersion)).LessThan(least) {
		return hcl.Diagnostics{failureAt(at, "Unsupported Packer Core version",
			"The template asks for Packer %s or newer. Bakehouse speaks the language of Packer %s.", want, PackerVersion)}
	}
	return nil
}

// requirePlugin reads one entry of required_plugins. Components are built in:
// which of them are there shows when they are used.
func requirePlugin(a *hcl.Attribute) (*RequiredPlugin, hcl.Diagnostics) {
	r := &RequiredPlugin{Name: a.Name, Source: "github.com/hashicorp/" + a.Name, at: a.Range, versionAt: a.Range, sourceAt: a.Range}
	pairs, diags := hcl.ExprMap(a.Expr)
	if diags.HasErrors() {
		return r, hcl.Diagnostics{failureAt(a.Expr.Range(), "Invalid required_plugins object",
			"Plugin %q must be an object with a version and a source: %s = { version = \">= 1.0.0\", source = \"github.com/hashicorp/%s\" }.", a.Name, a.Name, a.Name)}
	}
	for _, p := range pairs {
		key := hcl.ExprAsKeyword(p.Key)
		if key == "" {
			_ = gohcl.DecodeExpression(p.Key, nil, &key)
		}
		var value string
		if more := gohcl.DecodeExpression(p.Value, nil, &value); more.HasErrors() {
			diags = append(diags, more...)
			continue
		}
		switch key {
		case "version":
			_, more := constraints(value, p.Value.Range())
			diags = append(diags, more...)
			r.Version, r.versionAt = value, p.Value.Range()
		case "source":
			if why := badSource(value); why != "" {
				diags = append(diags, failureAt(p.Value.Range(), "Invalid plugin source", "%q %s.", value, why))
			}
			r.Source, r.sourceAt = value, p.Value.Range()
		default:
			diags = append(diags, failureAt(p.Key.Range(), "Invalid required_plugins object",
				"A required plugin has a version and a source, but no %q.", key))
		}
	}
	return r, diags
}

// badSource says what is wrong with where a plugin is said to come from.
func badSource(s string) string {
	parts := strings.Split(s, "/")
	u, err := url.Parse(s)
	last := parts[len(parts)-1]
	switch {
	case err != nil:
		return "is not an address"
	case u.Scheme != "":
		return "must not have a scheme such as https"
	case u.RawQuery != "":
		return "must not have a query"
	case len(parts) < 3 || len(parts) > 16:
		return "must be of the form host/namespace/name, such as github.com/hashicorp/amazon"
	case strings.HasPrefix(last, "packer-plugin-"), strings.HasPrefix(last, "packer-"):
		return "must name the plugin without the prefix \"packer-plugin-\""
	}
	for _, p := range parts {
		if p == "" || strings.ContainsAny(p, " \t") {
			return "must be of the form host/namespace/name, such as github.com/hashicorp/amazon"
		}
	}
	return ""
}
