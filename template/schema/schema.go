// Package schema knows which arguments a component takes: it derives that from
// the component's settings and decodes blocks of a template by it.
package schema

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/ext/dynblock"
	"github.com/zclconf/go-cty/cty"

	"github.com/bakehouse-farm/bakehouse"
)

// A Schema lists the arguments of a block.
type Schema struct {
	Fields []Field
	byName map[string]int
}

// A Field is one argument.
type Field struct {
	Name string
	// Type is what a value is converted to; cty.DynamicPseudoType takes any.
	Type cty.Type
	// Block is the schema of a nested block; nil for an attribute. Many tells
	// that it may be repeated.
	Block *Schema
	Many  bool
	// Whole tells that numbers must be integers, Duration that strings must be
	// durations.
	Whole, Duration bool

	Required, File, Late, Secret bool
	// Deprecated is the warning that setting it gives; empty for none.
	Deprecated string
}

// Of derives the schema from a component's settings struct (or a pointer to it), whose
// tags are those of bakehouse.Component. An error tells of a mistake in the
// component, not in a template.
func Of(settings any) (*Schema, error) {
	t := reflect.TypeOf(settings)
	if t != nil && t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t == nil || t.Kind() != reflect.Struct {
		return nil, fmt.Errorf("settings must be a struct, not %T", settings)
	}
	return of(t, nil)
}

// New returns the schema of these fields. Of two of the same name the last one
// counts.
func New(fields []Field) *Schema {
	s := &Schema{byName: make(map[string]int, len(fields))}
	for _, f := range fields {
		if at, ok := s.byName[f.Name]; ok {
			s.Fields[at] = f
			continue
		}
		s.byName[f.Name] = len(s.Fields)
		s.Fields = append(s.Fields, f)
	}
	return s
}

func of(t reflect.Type, outer []reflect.Type) (*Schema, error) {
	for _, o := range outer {
		if o == t {
			return nil, fmt.Errorf("%v contains itself", t)
		}
	}
	s := &Schema{byName: map[string]int{}}
	if err := s.add(t, append(outer, t)); err != nil {
		return nil, err
	}
	return s, nil
}

func (s *Schema) add(t reflect.Type, outer []reflect.Type) error {
	for i := range t.NumField() {
		sf := t.Field(i)
		name, _, _ := strings.Cut(sf.Tag.Get("json"), ",")
		if sf.Anonymous && name == "" {
			ft := sf.Type
			if ft.Kind() == reflect.Pointer {
				ft = ft.Elem()
			}
			if err := s.add(ft, outer); err != nil {
				return err
			}
			continue
		}
		if name == "" || name == "-" || !sf.IsExported() {
			continue
		}
		f, err := field(name, sf, outer)
		if err != nil {
			return err
		}
		// As in encoding/json, what an outer struct declares hides what it embeds.
		if at, ok := s.byName[name]; ok {
			if len(sf.Index) == 1 {
				s.Fields[at] = f
			}
			continue
		}
		s.byName[name] = len(s.Fields)
		s.Fields = append(s.Fields, f)
	}
	return nil
}

func field(name string, sf reflect.StructField, outer []reflect.Type) (Field, error) {
	f := Field{Name: name}
	block := false
	for tag := sf.Tag.Get("bake"); tag != ""; {
		var one string
		if strings.HasPrefix(tag, "deprecated=") { // the last one: its text may have commas
			f.Deprecated, tag = strings.TrimPrefix(tag, "deprecated="), ""
			break
		}
		one, tag, _ = strings.Cut(tag, ",")
		switch one {
		case "required":
			f.Required = true
		case "block":
			block = true
		case "file":
			f.File = true
		case "late":
			f.Late = true
		case "secret":
			f.Secret = true
		default:
			return f, fmt.Errorf("field %s: unknown tag bake:%q", name, one)
		}
	}
	ft := sf.Type
	if block {
		if ft.Kind() == reflect.Slice {
			f.Many = true
			ft = ft.Elem()
		}
		if ft.Kind() == reflect.Pointer {
			ft = ft.Elem()
		}
		if ft.Kind() != reflect.Struct {
			return f, fmt.Errorf("field %s: a block must be a struct or a slice of structs, not %v", name, sf.Type)
		}
		var err error
		if f.Block, err = of(ft, outer); err != nil {
			return f, fmt.Errorf("block %s: %w", name, err)
		}
		return f, nil
	}
	var ok bool
	if f.Type, ok = f.typeOf(ft); !ok {
		return f, fmt.Errorf("field %s: templates have no arguments of type %v", name, sf.Type)
	}
	return f, nil
}

var (
	durationType = reflect.TypeFor[bakehouse.Duration]()
	rawType      = reflect.TypeFor[json.RawMessage]()
)

func (f *Field) typeOf(t reflect.Type) (cty.Type, bool) {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch t {
	case durationType:
		f.Duration = true
		return cty.String, true
	case rawType:
		return cty.DynamicPseudoType, true
	}
	switch t.Kind() {
	case reflect.String:
		return cty.String, true
	case reflect.Bool:
		return cty.Bool, true
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		f.Whole = true
		return cty.Number, true
	case reflect.Float32, reflect.Float64:
		return cty.Number, true
	case reflect.Interface:
		return cty.DynamicPseudoType, true
	case reflect.Slice, reflect.Array:
		e, ok := f.typeOf(t.Elem())
		if e == cty.DynamicPseudoType {
			return e, ok
		}
		return cty.List(e), ok
	case reflect.Map:
		e, ok := f.typeOf(t.Elem())
		if e == cty.DynamicPseudoType {
			return e, ok && t.Key().Kind() == reflect.String
		}
		return cty.Map(e), ok && t.Key().Kind() == reflect.String
	}
	return cty.NilType, false
}

// fieldFold is Field, but upper and lower case make no difference.
func (s *Schema) fieldFold(name string) (Field, bool) {
	for _, f := range s.Fields {
		if strings.EqualFold(f.Name, name) {
			return f, true
		}
	}
	return Field{}, false
}

// Field returns the field of that name.
func (s *Schema) Field(name string) (Field, bool) {
	i, ok := s.byName[name]
	if !ok {
		return Field{}, false
	}
	return s.Fields[i], true
}

// Body returns the schema in the form that hcl.Body takes. Nothing in it is
// required: what is missing is found by Arguments.Missing, after overrides.
func (s *Schema) Body() *hcl.BodySchema {
	b := &hcl.BodySchema{}
	for _, f := range s.Fields {
		if f.Block != nil {
			b.Blocks = append(b.Blocks, hcl.BlockHeaderSchema{Type: f.Name})
		} else {
			b.Attributes = append(b.Attributes, hcl.AttributeSchema{Name: f.Name})
		}
	}
	return b
}

// Variables returns the references in a body of this schema, dynamic blocks
// included, so that what it depends on can be evaluated first.
func (s *Schema) Variables(body hcl.Body) []hcl.Traversal {
	return s.variables(dynblock.WalkVariables(body))
}

func (s *Schema) variables(node dynblock.WalkVariablesNode) []hcl.Traversal {
	refs, children := node.Visit(s.Body())
	for _, c := range children {
		if f, ok := s.Field(c.BlockTypeName); ok && f.Block != nil {
			refs = append(refs, f.Block.variables(c.Node)...)
		}
	}
	return refs
}

// Object is the type of a value that has every argument as an attribute.
func (s *Schema) Object() cty.Type {
	attrs := make(map[string]cty.Type, len(s.Fields))
	for _, f := range s.Fields {
		switch {
		case f.Block == nil:
			attrs[f.Name] = f.Type
		case f.Many:
			attrs[f.Name] = cty.List(f.Block.Object())
		default:
			attrs[f.Name] = f.Block.Object()
		}
	}
	return cty.Object(attrs)
}
