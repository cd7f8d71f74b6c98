// Package known lists the components that Packer and its plugins have, and the
// arguments that they take, whether or not this farm can run them. It lets a
// template be checked that is to be baked elsewhere, and lets a misspelt type
// be told from one that is merely missing here.
//
// What it knows is data (see the folder data), which is read when it is asked
// for: a template that uses nothing of it pays nothing.
package known

import (
	"embed"
	"encoding/json"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/bakehouse-farm/bakehouse"
	"github.com/bakehouse-farm/bakehouse/template/schema"
)

// A Kind is what a component is for.
type Kind string

// The kinds of components.
const (
	Builder       Kind = "builder"
	Provisioner   Kind = "provisioner"
	PostProcessor Kind = "post-processor"
	DataSource    Kind = "data source"
)

// A Ref names a component.
type Ref struct {
	Kind Kind
	// Type is the name that templates use, such as "qemu".
	Type string
}

// A Component is a component that Packer or a plugin for it has.
type Component struct {
	Ref
	// Plugin is the address of the plugin that provides it, such as
	// "github.com/hashicorp/qemu"; empty when Packer itself does.
	Plugin string
	// AsOf names the version whose arguments are known, such as "Packer 1.6.6".
	// It is empty when only the name is known.
	AsOf string

	// def is what the files of arguments say; nil when only the name is known.
	def *definition
}

// Schema returns the arguments that the component takes; nil when only its name
// is known.
func (c *Component) Schema() *schema.Schema {
	if c.def == nil {
		return nil
	}
	return schemaOf(c.def.fields)
}

// Outputs returns what a data source answers; nil when that is not known.
func (c *Component) Outputs() *schema.Schema {
	if c.def == nil || c.def.outputs == nil {
		return nil
	}
	return schemaOf(c.def.outputs)
}

// Check says what is wrong with settings as far as the component is known,
// where Packer itself would say so without network. It is that of
// bakehouse.Component.
func (c *Component) Check(raw json.RawMessage, unknown []string, files bakehouse.Files) []bakehouse.Finding {
	if c.def == nil {
		return nil
	}
	s := &settings{raw: raw, unknown: unknown, files: files, getenv: os.Getenv}
	if err := json.Unmarshal(raw, &s.values); err != nil {
		return []bakehouse.Finding{{Message: "Settings cannot be checked: " + err.Error()}}
	}
	var found []bakehouse.Finding
	for _, r := range c.def.rules {
		found = append(found, r.check(s)...)
	}
	if more := checks(c.Ref); more != nil {
		found = append(found, more(s)...)
	}
	return found
}

// core stands for the address of a plugin in the index, for the
// components that are compiled into Packer.
const core = "packer"

//go:embed data
var data embed.FS

// Lookup finds a component. It is false for a type that nobody is known to
// provide.
func Lookup(kind Kind, typ string) (*Component, bool) {
	for _, p := range index() {
		if slices.Contains(p.components, Ref{kind, typ}) {
			c := &Component{Ref: Ref{kind, typ}, Plugin: p.address, AsOf: p.asOf}
			if c.Plugin == core {
				c.Plugin = ""
			}
			if c.AsOf != "" {
				c.def = define(path.Base(p.address), word(kind), typ)
			}
			return c, true
		}
	}
	return nil, false
}

// Types lists the types of all components of a kind, sorted.
func Types(kind Kind) []string {
	var list []string
	for _, p := range index() {
		for _, c := range p.components {
			if c.Kind == kind {
				list = append(list, c.Type)
			}
		}
	}
	slices.Sort(list)
	return list
}

// Plugin lists what the plugin of that address provides: as required_plugins
// writes it, "github.com/hashicorp/qemu", in upper or lower case. Addresses that
// a plugin had before it moved are known, too. ok is false when no such plugin
// is known.
func Plugin(source string) (components []Ref, ok bool) {
	for _, p := range index() {
		if p.is(source) {
			components = append(components, p.components...)
		}
	}
	return components, components != nil
}

// Plugins lists the addresses of all known plugins, each under the newest
// address that it has, sorted.
func Plugins() []string {
	var list []string
	for _, p := range index() {
		if p.address != core {
			list = append(list, p.address)
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// A plugin is one entry of the index.
type plugin struct {
	address string
	also    []string
	asOf    string
	// components are in the order of the index.
	components []Ref
}

func (p plugin) is(source string) bool {
	same := func(address string) bool { return strings.EqualFold(address, source) }
	return p.address != core && (same(p.address) || slices.ContainsFunc(p.also, same))
}

// word is what stands for a kind in our files.
func word(k Kind) string {
	if k == DataSource {
		return "data"
	}
	return string(k)
}

// index reads the list of plugins. It is our own file: a test reads it, too.
func index() []plugin {
	text, err := data.ReadFile("data/plugins.txt")
	if err != nil {
		panic(err) // it is part of the program
	}
	var list []plugin
	for line := range strings.Lines(string(text)) {
		words := strings.Fields(line)
		if len(words) == 0 || words[0] == "#" {
			continue
		}
		if line[0] != '\t' {
			list = append(list, plugin{address: words[0], asOf: strings.Join(words[1:], " ")})
			continue
		}
		p := &list[len(list)-1]
		if words[0] == "also" {
			p.also = words[1:]
			continue
		}
		kind := Kind(words[0])
		if words[0] == word(DataSource) {
			kind = DataSource
		}
		for _, typ := range words[1:] {
			p.components = append(p.components, Ref{kind, typ})
		}
	}
	return list
}
