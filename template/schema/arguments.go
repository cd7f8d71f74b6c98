package schema

import (
	"encoding/json"
	"fmt"
	"regexp"
	"sort"
	"strconv"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"
	ctyjson "github.com/zclconf/go-cty/cty/json"
)

// Arguments are what a block sets, evaluated and converted.
type Arguments struct {
	schema *Schema
	// Range is where a missing argument would stand.
	Range hcl.Range
	attrs map[string]argument
	// blocks are the nested blocks by name, in order.
	blocks map[string][]*Arguments
	// broken are the arguments about which an error has been reported already.
	broken map[string]bool
}

type argument struct {
	value cty.Value
	// name is where its name stands, expr its value.
	name, expr hcl.Range
	// raw tells that the value is to be converted when its {{ }} are rendered.
	raw bool
}

// A Reading says how to read a block.
type Reading struct {
	// Context returns what the expression of the argument called site may see.
	// The site is the argument's dotted path within the block.
	Context func(site string) *hcl.EvalContext
	// Weak takes values as loosely as Packer's JSON templates do: a single value
	// for a list, "1" for true.
	Weak bool
}

// internal are the arguments that every component of Packer accepts, because
// Packer hands them to its plugins that way. They have no effect in a template.
var internal = []string{
	"packer_build_name", "packer_builder_type", "packer_core_version", "packer_debug",
	"packer_force", "packer_on_error", "packer_user_variables", "packer_sensitive_variables",
}

// Decode reads a block. Arguments that cannot be read are reported and left
// out, the rest is in the result, which is never nil.
func (s *Schema) Decode(body hcl.Body, r Reading) (*Arguments, hcl.Diagnostics) {
	bs := s.Body()
	for _, name := range internal {
		if _, ok := s.byName[name]; !ok {
			bs.Attributes = append(bs.Attributes, hcl.AttributeSchema{Name: name})
		}
	}
	return s.decode(body, bs, r, "")
}

func (s *Schema) decode(body hcl.Body, bs *hcl.BodySchema, r Reading, site string) (*Arguments, hcl.Diagnostics) {
	content, diags := body.Content(bs)
	a := s.none(content.MissingItemRange)
	for _, d := range diags {
		// Whoever misspelt an argument has not forgotten it.
		if m := meant.FindStringSubmatch(d.Detail); m != nil {
			a.broken[m[1]] = true
		}
	}
	for _, f := range s.Fields {
		if f.Block != nil {
			continue
		}
		attr, ok := content.Attributes[f.Name]
		if !ok {
			continue
		}
		v, more := attr.Expr.Value(r.Context(site + f.Name))
		diags = append(diags, more...)
		if more.HasErrors() {
			a.broken[f.Name] = true
			continue
		}
		diags = append(diags, a.set(f, v, attr.NameRange, attr.Expr.Range(), r.Weak, attr.Expr, r.Context(site+f.Name))...)
	}
	seen := map[string]int{}
	for _, b := range content.Blocks {
		f, ok := s.Field(b.Type)
		if !ok {
			continue
		}
		n := seen[f.Name]
		seen[f.Name]++
		if n > 0 && !f.Many {
			diags = append(diags, &hcl.Diagnostic{
				Severity: hcl.DiagError,
				Summary:  fmt.Sprintf("Duplicate %s block", f.Name),
				Detail:   fmt.Sprintf("Only one block of type %q is allowed. The first one is at %s.", f.Name, a.blocks[f.Name][0].Range),
				Subject:  b.DefRange.Ptr(),
			})
			continue
		}
		inner, more := f.Block.decode(b.Body, f.Block.Body(), r, site+f.Name+"."+strconv.Itoa(n)+".")
		inner.Range = b.DefRange
		diags = append(diags, more...)
		a.blocks[f.Name] = append(a.blocks[f.Name], inner)
		if f.Deprecated != "" {
			diags = append(diags, deprecated(f, b.DefRange))
		}
	}
	return a, diags
}

// meant finds the argument that hcl suggests for one that does not exist.
var meant = regexp.MustCompile(`Did you mean (?:to define (?:a block of type|argument) )?"([^"]+)"\?`)

func (s *Schema) none(rng hcl.Range) *Arguments {
	return &Arguments{
		schema: s, Range: rng,
		attrs: map[string]argument{}, blocks: map[string][]*Arguments{}, broken: map[string]bool{},
	}
}

func (a *Arguments) set(f Field, v cty.Value, name, expr hcl.Range, weak bool, e hcl.Expression, ctx *hcl.EvalContext) hcl.Diagnostics {
	if weak && hasTemplate(v) {
		a.attrs[f.Name] = argument{v, name, expr, true}
		if f.Deprecated != "" {
			return hcl.Diagnostics{deprecated(f, name)}
		}
		return nil
	}
	conv, err := f.convert(v, weak)
	if err == nil && !weak {
		err = nullWithin(conv)
	}
	if err != nil {
		a.broken[f.Name] = true
		return hcl.Diagnostics{{
			Severity: hcl.DiagError,
			Summary:  "Incorrect attribute value type",
			Detail:   fmt.Sprintf("Inappropriate value for attribute %q: %s.", f.Name, err),
			Subject:  expr.Ptr(), Expression: e, EvalContext: ctx,
		}}
	}
	if conv.IsNull() { // as if it were not there
		delete(a.attrs, f.Name)
		return nil
	}
	a.attrs[f.Name] = argument{conv, name, expr, false}
	if f.Deprecated != "" {
		return hcl.Diagnostics{deprecated(f, name)}
	}
	return nil
}

func deprecated(f Field, at hcl.Range) *hcl.Diagnostic {
	return &hcl.Diagnostic{
		Severity: hcl.DiagWarning,
		Summary:  fmt.Sprintf("Argument %q is deprecated", f.Name),
		Detail:   f.Deprecated,
		Subject:  at.Ptr(),
	}
}

// Override sets the members of an object over what the block says, as a
// provisioner's override does.
func (a *Arguments) Override(obj cty.Value, at hcl.Range, weak bool) hcl.Diagnostics {
	obj, marks := obj.Unmark()
	if obj.IsNull() {
		return nil // it overrides nothing
	}
	if ty := obj.Type(); !obj.IsKnown() || (!ty.IsObjectType() && !ty.IsMapType()) {
		return hcl.Diagnostics{{
			Severity: hcl.DiagError, Summary: "Invalid override",
			Detail:  "An override must be an object that holds arguments of the block.",
			Subject: at.Ptr(),
		}}
	}
	var diags hcl.Diagnostics
	for it := obj.ElementIterator(); it.Next(); {
		k, v := it.Element()
		name := k.AsString()
		v = v.WithMarks(marks)
		f, ok := a.schema.Field(name)
		if !ok && weak {
			f, ok = a.schema.fieldFold(name)
		}
		switch {
		case v.IsNull(): // as if it were not there
		case !ok:
			d := &hcl.Diagnostic{
				Severity: hcl.DiagError, Summary: "Unsupported argument in override",
				Detail:  fmt.Sprintf("An argument named %q is not expected here.", name),
				Subject: at.Ptr(),
			}
			if s := Nearest(name, a.schema.Names()); s != "" {
				d.Detail += fmt.Sprintf(" Did you mean %q?", s)
			}
			diags = append(diags, d)
		case f.Block != nil:
			diags = append(diags, a.overrideBlock(f, v, at, weak)...)
		default:
			diags = append(diags, a.set(f, v, at, at, weak, nil, nil)...)
		}
	}
	return diags
}

func (a *Arguments) overrideBlock(f Field, v cty.Value, at hcl.Range, weak bool) hcl.Diagnostics {
	list := []cty.Value{v}
	if ty := v.Type(); v.IsKnown() && !v.IsNull() && (ty.IsTupleType() || ty.IsListType()) {
		list = v.AsValueSlice()
	}
	var diags hcl.Diagnostics
	var blocks []*Arguments
	for _, one := range list {
		inner := f.Block.none(at)
		diags = append(diags, inner.Override(one, at, weak)...)
		blocks = append(blocks, inner)
	}
	a.blocks[f.Name] = blocks
	return diags
}

// Names returns the names of all arguments.
func (s *Schema) Names() []string {
	names := make([]string, len(s.Fields))
	for i, f := range s.Fields {
		names[i] = f.Name
	}
	return names
}

// Missing reports required arguments that nobody has set.
func (a *Arguments) Missing() hcl.Diagnostics {
	var diags hcl.Diagnostics
	for _, f := range a.schema.Fields {
		_, set := a.attrs[f.Name]
		if !f.Required || set || a.broken[f.Name] || len(a.blocks[f.Name]) > 0 {
			continue
		}
		a.broken[f.Name] = true
		d := &hcl.Diagnostic{
			Severity: hcl.DiagError, Summary: "Missing required argument",
			Detail:  fmt.Sprintf("The argument %q is required, but no definition was found.", f.Name),
			Subject: a.Range.Ptr(),
		}
		if f.Block != nil {
			d.Summary = fmt.Sprintf("Insufficient %s blocks", f.Name)
			d.Detail = fmt.Sprintf("At least 1 %q block is required.", f.Name)
		}
		diags = append(diags, d)
	}
	for _, blocks := range a.eachBlock() {
		for _, b := range blocks {
			diags = append(diags, b.Missing()...)
		}
	}
	return diags
}

// eachBlock yields the nested blocks in the schema's order.
func (a *Arguments) eachBlock() func(yield func(Field, []*Arguments) bool) {
	return func(yield func(Field, []*Arguments) bool) {
		for _, f := range a.schema.Fields {
			if blocks := a.blocks[f.Name]; len(blocks) > 0 && !yield(f, blocks) {
				return
			}
		}
	}
}

// eachAttr yields the attributes that are set, in the schema's order.
func (a *Arguments) eachAttr() func(yield func(Field, argument) bool) {
	return func(yield func(Field, argument) bool) {
		for _, f := range a.schema.Fields {
			if arg, ok := a.attrs[f.Name]; ok && !yield(f, arg) {
				return
			}
		}
	}
}

// Where returns the range of the argument of a dotted name, or of the innermost
// block on the way to it that exists.
func (a *Arguments) Where(name string) hcl.Range {
	first, rest, _ := strings.Cut(name, ".")
	if arg, ok := a.attrs[first]; ok {
		return hcl.RangeBetween(arg.name, arg.expr)
	}
	if blocks := a.blocks[first]; len(blocks) > 0 {
		// "mappings.1.device_name" names one of several blocks.
		index, inner, indexed := strings.Cut(rest, ".")
		if n, err := strconv.Atoi(index); err == nil && n >= 0 && n < len(blocks) {
			if !indexed {
				return blocks[n].Range
			}
			return blocks[n].Where(inner)
		}
		if rest != "" {
			return blocks[0].Where(rest)
		}
		return blocks[0].Range
	}
	return a.Range
}

// JSON returns what is set as an object in the shape of the settings, and the
// dotted names of the arguments whose values are not known yet, which are
// absent from it, as are those that an error was reported about.
func (a *Arguments) JSON() (settings json.RawMessage, unknown []string, err error) {
	obj, unknown, err := a.object("")
	if err != nil {
		return nil, nil, err
	}
	settings, err = json.Marshal(obj)
	return settings, unknown, err
}

func (a *Arguments) object(path string) (map[string]any, []string, error) {
	obj := map[string]any{}
	var unknown []string
	for name := range a.broken {
		unknown = append(unknown, path+name)
	}
	sort.Strings(unknown)
	for f, arg := range a.eachAttr() {
		v, _ := arg.value.UnmarkDeep()
		if !v.IsWhollyKnown() {
			unknown = append(unknown, path+f.Name)
			continue
		}
		obj[f.Name] = ctyjson.SimpleJSONValue{Value: v}
	}
	for f, blocks := range a.eachBlock() {
		var list []map[string]any
		for _, b := range blocks {
			inner, more, err := b.object(path + f.Name + ".")
			if err != nil {
				return nil, nil, err
			}
			list = append(list, inner)
			unknown = append(unknown, more...)
		}
		if f.Many {
			obj[f.Name] = list
		} else {
			obj[f.Name] = list[0]
		}
	}
	return obj, unknown, nil
}
