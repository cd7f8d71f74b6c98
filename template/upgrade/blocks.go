package upgrade

import (
	"path"
	"slices"
	"strings"

	"github.com/zclconf/go-cty/cty"

	"github.com/bakehouse-farm/bakehouse"
	"github.com/bakehouse-farm/bakehouse/template/known"
	"github.com/bakehouse-farm/bakehouse/template/legacyjson"
	"github.com/bakehouse-farm/bakehouse/template/schema"
)

// writePacker writes what the template wants of Packer.
func (t *translator) writePacker() {
	version, asked := t.root.Member("min_packer_version")
	plugins := t.plugins()
	if !asked && len(plugins) == 0 {
		return
	}
	t.annotate(aboutPacker)
	t.line("packer {")
	if asked {
		t.line("required_version = %s", quote(">= "+version.Text))
	}
	if len(plugins) > 0 {
		t.line("required_plugins {")
		for _, p := range plugins {
			t.line("%s = {\nsource = %s\nversion = \"~> 1\"\n}", path.Base(p), quote(p))
		}
		t.line("}")
	}
	t.line("}\n")
}

// plugins lists the plugins that provide what the template uses, sorted.
func (t *translator) plugins() []string {
	var list []string
	add := func(kind known.Kind, v legacyjson.Value) {
		typ, _ := v.Member("type")
		if v.Kind == legacyjson.String {
			typ = v
		}
		if c, ok := known.Lookup(kind, typ.Text); ok && c.Plugin != "" {
			list = append(list, strings.ToLower(c.Plugin))
		}
	}
	for _, s := range t.sources {
		add(known.Builder, s.config)
	}
	provisioners, _ := t.root.Member("provisioners")
	for _, p := range provisioners.Items {
		add(known.Provisioner, p)
	}
	if cleanup, ok := t.root.Member("error-cleanup-provisioner"); ok {
		add(known.Provisioner, cleanup)
	}
	chains, _ := t.root.Member("post-processors")
	for _, p := range chains.Items {
		add(known.PostProcessor, p)
		for _, one := range p.Items {
			add(known.PostProcessor, one)
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// schema returns the arguments of a component; nil when they are not known.
func (t *translator) schema(kind known.Kind, typ string) *schema.Schema {
	own := map[known.Kind]map[string]bakehouse.Component{
		known.Builder:       t.options.Catalogue.Builders,
		known.Provisioner:   t.options.Catalogue.Provisioners,
		known.PostProcessor: t.options.Catalogue.PostProcessors,
	}
	if c, ok := own[kind][typ]; ok {
		if s, err := schema.Of(c.Settings()); err == nil {
			return s
		}
	}
	if c, ok := known.Lookup(kind, typ); ok {
		return c.Schema()
	}
	return nil
}

func (t *translator) writeSources() {
	if len(t.sources) > 0 {
		t.annotate(aboutSources)
	}
	for _, s := range t.sources {
		t.line("source %s %s {", quote(s.typ), quote(s.name))
		t.body(without(s.config.Members, "type", "name"), t.schema(known.Builder, s.typ), place{inSource})
		t.line("}\n")
	}
}

func without(members []legacyjson.Member, names ...string) []legacyjson.Member {
	return slices.DeleteFunc(slices.Clone(members), func(m legacyjson.Member) bool {
		return slices.Contains(names, m.Name)
	})
}

func (t *translator) writeBuild() {
	t.annotate(aboutBuild)
	t.line("build {")
	if d, ok := t.root.Member("description"); ok && d.Text != "" {
		t.line("description = %s\n", quote(d.Text))
	}
	var refs []string
	for _, s := range t.sources {
		refs = append(refs, quote("source."+s.ref()))
	}
	if sources := strings.Join(refs, ", "); len(sources) > 72 && len(refs) > 1 {
		t.line("sources = [\n%s,\n]", strings.Join(refs, ",\n"))
	} else {
		t.line("sources = [%s]", sources)
	}
	provisioners, _ := t.root.Member("provisioners")
	for _, p := range provisioners.Items {
		t.line("")
		t.part("provisioner", known.Provisioner, p)
	}
	if cleanup, ok := t.root.Member("error-cleanup-provisioner"); ok && cleanup.Kind == legacyjson.Object {
		t.line("")
		t.part("error-cleanup-provisioner", known.Provisioner, cleanup)
	}
	chains, _ := t.root.Member("post-processors")
	for _, p := range chains.Items {
		if p.Kind == legacyjson.List && len(p.Items) == 0 {
			continue
		}
		t.line("")
		if p.Kind == legacyjson.List && len(p.Items) == 1 {
			p = p.Items[0]
		}
		if p.Kind != legacyjson.List {
			t.part("post-processor", known.PostProcessor, p)
			continue
		}
		t.line("post-processors {")
		for i, one := range p.Items {
			if i > 0 {
				t.line("")
			}
			t.part("post-processor", known.PostProcessor, one)
		}
		t.line("}")
	}
	t.line("}")
}

// part writes a provisioner or a post-processor.
func (t *translator) part(block string, kind known.Kind, v legacyjson.Value) {
	typ, _ := v.Member("type")
	if v.Kind == legacyjson.String {
		typ = v
	}
	rest := without(v.Members, "type")
	if len(rest) == 0 {
		t.line("%s %s {}", block, quote(typ.Text))
		return
	}
	s := t.schema(kind, typ.Text)
	t.line("%s %s {", block, quote(typ.Text))
	for _, m := range rest {
		switch m.Name {
		case "only", "except":
			t.selection(m)
		case "override":
			if kind == known.Provisioner {
				t.override(m, s)
				continue
			}
			t.body([]legacyjson.Member{m}, s, place{inPart})
		case "max_retries":
			t.attribute(m.Name, m.Value, cty.Number, place{inName})
		case "keep_input_artifact":
			t.attribute(m.Name, m.Value, cty.Bool, place{inName})
		case "pause_before", "timeout", "name":
			t.attribute(m.Name, m.Value, cty.String, place{inName})
		default:
			t.body([]legacyjson.Member{m}, s, place{inPart})
		}
	}
	t.line("}")
}

// selection writes "only" and "except", which name sources in HCL.
func (t *translator) selection(m legacyjson.Member) {
	list := m.Value.Items
	if m.Value.Kind == legacyjson.String {
		list = []legacyjson.Value{m.Value}
	}
	var names []string
	for _, one := range list {
		name := one.Text
		if s, ok := t.sourceNamed(name); ok {
			name = s.ref()
		} else {
			t.note(one.Range, "No such builder", "%q names the builder %q, which the template does not have.", m.Name, one.Text)
		}
		names = append(names, quote(name))
	}
	t.line("%s = [%s]", m.Name, strings.Join(names, ", "))
}

// override writes what is different for single sources. It is a value, so that
// blocks in it are objects.
func (t *translator) override(m legacyjson.Member, s *schema.Schema) {
	t.line("override = {")
	for _, one := range m.Value.Members {
		name := one.Name
		if found, ok := t.sourceNamed(name); ok {
			name = found.name
		} else {
			t.note(one.At, "No such builder", "\"override\" names the builder %q, which the template does not have.", name)
		}
		t.line("%s = {", key(name))
		for _, arg := range one.Value.Members {
			want := cty.NilType
			if s != nil {
				if f, ok := fold(s, arg.Name); ok && f.Block == nil {
					want, arg.Name = f.Type, f.Name
				}
			}
			t.attribute(key(arg.Name), arg.Value, want, place{inOverride})
		}
		t.line("}")
	}
	t.line("}")
}
