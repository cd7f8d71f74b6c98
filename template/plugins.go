package template

import (
	"cmp"
	"path"
	"slices"
	"strings"

	"github.com/hashicorp/go-version"
	"github.com/hashicorp/hcl/v2"

	"github.com/bakehouse-farm/bakehouse/template/known"
	"github.com/bakehouse-farm/bakehouse/template/schema"
)

// A RequiredPlugin is an entry of required_plugins.
type RequiredPlugin struct {
	// Name is what the template calls it, and Source its address, such as
	// "github.com/hashicorp/amazon"; one that is not written is HashiCorp's.
	Name, Source string
	// Version is what the template asks for, such as ">= 1.2, < 2"; may be empty.
	Version string

	at, versionAt, sourceAt hcl.Range
}

// RequiredPlugins lists the plugins that an HCL template requires, sorted by
// what it calls them.
func (t *Template) RequiredPlugins() []RequiredPlugin {
	var list []RequiredPlugin
	for _, p := range t.plugins {
		list = append(list, *p)
	}
	slices.SortFunc(list, func(a, b RequiredPlugin) int { return cmp.Compare(a.Name, b.Name) })
	return list
}

// A Provision is what stands in for a plugin here: components are built in, and
// there are no plugins.
type Provision struct {
	// Built are the components that this farm runs, Lacking those that the plugin
	// has and this farm cannot run yet.
	Built, Lacking []known.Ref
	// Version is the version of the plugin whose language is spoken here; nil when
	// it is not known as of which version the plugin's arguments are.
	Version *version.Version
}

// Provide tells what stands in for a required plugin. It is an error when nobody
// is known to provide such a plugin, or when the template asks for another
// version than the one whose language is spoken. A version that cannot be told
// is none.
func (c Catalogue) Provide(p RequiredPlugin) (Provision, hcl.Diagnostics) {
	var out Provision
	if why := badSource(p.Source); why != "" {
		return out, hcl.Diagnostics{located(failureAt(p.sourceAt, "Invalid plugin source", "%q %s.", p.Source, why))}
	}
	components, ok := known.Plugin(p.Source)
	if !ok {
		d := failureAt(p.sourceAt, "Unknown plugin "+p.Source, "Nobody is known to provide a plugin of that address, and Bakehouse runs no plugins: its components are built in.")
		if near := nearestPlugin(p.Source); near != "" {
			d.Detail += " Did you mean \"" + near + "\"?"
		}
		return out, hcl.Diagnostics{located(d)}
	}
	for _, ref := range components {
		if c.has(ref) {
			out.Built = append(out.Built, ref)
		} else {
			out.Lacking = append(out.Lacking, ref)
		}
		if k, ok := known.Lookup(ref.Kind, ref.Type); ok && out.Version == nil {
			out.Version = pluginVersion(k.AsOf)
		}
	}
	if p.Version == "" {
		return out, nil
	}
	want, diags := constraints(p.Version, p.versionAt)
	if diags.HasErrors() {
		return out, diags
	}
	if out.Version != nil && !want.Check(out.Version) {
		return out, hcl.Diagnostics{located(failureAt(p.versionAt, "Unsupported version of plugin "+p.Name,
			"The template asks for %s %s. Bakehouse speaks the language of %s %s.", p.Source, p.Version, path.Base(p.Source), out.Version))}
	}
	return out, nil
}

// located takes away a place that is none: what was asked for on the command
// line stands in no file.
func located(d *hcl.Diagnostic) *hcl.Diagnostic {
	if d.Subject != nil && d.Subject.Filename == "" {
		d.Subject = nil
	}
	return d
}

func (c Catalogue) has(ref known.Ref) bool {
	ok := false
	switch ref.Kind {
	case known.Builder:
		_, ok = c.Builders[ref.Type]
	case known.Provisioner:
		_, ok = c.Provisioners[ref.Type]
	case known.PostProcessor:
		_, ok = c.PostProcessors[ref.Type]
	case known.DataSource:
		_, ok = c.DataSources[ref.Type]
	}
	return ok
}

// pluginVersion reads "packer-plugin-amazon 1.8.2". What is known as of a version
// of Packer itself has none: plugins were part of it then.
func pluginVersion(asOf string) *version.Version {
	name, v, _ := strings.Cut(asOf, " ")
	if !strings.HasPrefix(name, "packer-plugin-") {
		return nil
	}
	out, err := version.NewVersion(v)
	if err != nil {
		return nil
	}
	return out
}

// nearestPlugin is what a misspelt address was meant to be: the address that is
// nearest, or the plugin of that name from elsewhere.
func nearestPlugin(source string) string {
	all := known.Plugins()
	for _, address := range all {
		if strings.EqualFold(path.Base(address), path.Base(source)) {
			return address
		}
	}
	if near := schema.Nearest(source, all); near != "" {
		return near
	}
	var names []string
	for _, address := range all {
		names = append(names, path.Base(address))
	}
	if near := schema.Nearest(path.Base(source), names); near != "" {
		return all[slices.Index(names, near)]
	}
	return ""
}
