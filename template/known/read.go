package known

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/zclconf/go-cty/cty"

	"github.com/bakehouse-farm/bakehouse/template/schema"
)

// The arguments of components stand in text files, one for each plugin: those
// in data/1.6.6 were told by Packer 1.6.6 itself, and those in data/added, which
// are read after them, say what has been added since and what no plugin tells
// about its arguments. data/README.md describes their lines.

// A definition is what the files say of one component, or of a set of arguments
// that several have in common.
type definition struct {
	// name is the base name of the files that it is in.
	name   string
	fields []*field
	// outputs are what a data source answers.
	outputs []*field
	rules   []rule
}

// A field is an argument. A block has members.
type field struct {
	name, typ string
	flags     []string
	// deprecated is the warning that setting it gives.
	deprecated string
	members    []*field
}

// A fault is a mistake in the data. As that is part of the program, a test
// finds it, and nobody else sees it.
type fault struct {
	file string
	line int
	what string
}

func (f fault) String() string { return fmt.Sprintf("%s:%d: %s", f.file, f.line, f.what) }

// define reads what is said of a component, or of a set when kind is "set".
func define(name, kind, typ string) *definition {
	d := &definition{name: name}
	for _, folder := range []string{"data/1.6.6", "data/added"} {
		file := path.Join(folder, name+".txt")
		text, err := data.ReadFile(file)
		if err != nil {
			continue // not everything has been added to
		}
		d.read(file, string(text), kind, typ)
	}
	return d
}

func (d *definition) read(file, text, kind, typ string) {
	wanted := false
	// open are the lists of members that lines of each depth belong to.
	open := []*[]*field{&d.fields}
	n := 0
	for line := range strings.Lines(text) {
		n++
		if line[0] == '\t' && !wanted { // most lines are about something else
			continue
		}
		words := strings.Fields(line)
		if len(words) == 0 || words[0] == "#" {
			continue
		}
		depth := len(line) - len(strings.TrimLeft(line, "\t"))
		if depth == 0 {
			wanted = words[0] == kind && slices.Contains(words[1:], typ)
			continue
		}
		fail := func(what string) { panic(fault{file, n, what}) }
		if depth > len(open) {
			fail("too deep")
		}
		open = open[:depth]
		into := open[depth-1]
		switch words[0] {
		case "+":
			set := define(d.name, "set", words[1])
			if set.empty() {
				set = define("sets", "set", words[1])
			}
			if set.empty() {
				fail("no such set")
			}
			for _, f := range set.fields {
				put(into, f)
			}
			d.rules = append(d.rules, set.rules...)
		case "-":
			i := find(*into, words[1])
			if i < 0 {
				fail("there is no " + words[1])
			}
			*into = slices.Delete(*into, i, i+1)
		case "!":
			r, err := parseRule(words[1:])
			if err != nil {
				fail(err.Error())
			}
			d.rules = append(d.rules, r)
		case ">":
			d.outputs = append(d.outputs, &field{name: words[1], typ: words[2], flags: words[3:]})
		default:
			if len(words) < 2 {
				fail("argument without type")
			}
			open = append(open, d.argument(into, words, fail))
		}
	}
}

// argument adds an argument to a list, or changes one that is in it, and
// returns the list of its members.
func (d *definition) argument(into *[]*field, words []string, fail func(string)) *[]*field {
	f := &field{name: words[0], typ: words[1]}
	flags := words[2:]
	if i := slices.Index(flags, "deprecated:"); i >= 0 {
		f.deprecated = strings.Join(flags[i+1:], " ")
		flags = flags[:i]
	}
	f.flags = flags
	i := find(*into, f.name)
	switch {
	case f.typ == "." && i < 0:
		fail("there is no " + f.name)
	case f.typ == ".":
		old := (*into)[i]
		f.typ, f.members = old.typ, old.members
		f.flags = append(slices.Clone(old.flags), f.flags...)
		(*into)[i] = f // a set that others use, too, stays as it is
	default:
		put(into, f)
	}
	return &f.members
}

// put adds a field, instead of one of the same name if there is one.
func put(into *[]*field, f *field) {
	if i := find(*into, f.name); i >= 0 {
		(*into)[i] = f
		return
	}
	*into = append(*into, f)
}

func (d *definition) empty() bool { return d.fields == nil && d.rules == nil }

func find(list []*field, name string) int {
	return slices.IndexFunc(list, func(f *field) bool { return f.name == name })
}

// schemaOf makes a schema of fields.
func schemaOf(fields []*field) *schema.Schema {
	list := make([]schema.Field, 0, len(fields))
	for _, f := range fields {
		list = append(list, f.schema())
	}
	return schema.New(list)
}

func (f *field) schema() schema.Field {
	s := schema.Field{Name: f.name, Deprecated: f.deprecated}
	switch f.typ {
	case "block", "blocks":
		s.Block, s.Many = schemaOf(f.members), f.typ == "blocks"
	case "duration":
		s.Type, s.Duration = cty.String, true
	default:
		s.Type = typeOf(f.typ)
		s.Whole = true // as Packer has it, but where a flag says otherwise
	}
	for _, flag := range f.flags {
		switch flag {
		case "required":
			s.Required = true
		case "file":
			s.File = true
		case "secret":
			s.Secret = true
		case "late":
			s.Late = true
		case "fraction":
			s.Whole = false
		default:
			panic(fmt.Sprintf("argument %s: unknown flag %q", f.name, flag))
		}
	}
	return s
}

func typeOf(s string) cty.Type {
	switch s {
	case "string":
		return cty.String
	case "number":
		return cty.Number
	case "bool":
		return cty.Bool
	case "any":
		return cty.DynamicPseudoType
	}
	inner := strings.TrimSuffix(s[strings.IndexByte(s, '(')+1:], ")")
	switch {
	case strings.HasPrefix(s, "list("):
		return cty.List(typeOf(inner))
	case strings.HasPrefix(s, "map("):
		return cty.Map(typeOf(inner))
	}
	panic(fmt.Sprintf("unknown type %q", s))
}
