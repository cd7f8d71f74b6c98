package upgrade

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"

	"github.com/bakehouse-farm/bakehouse/template/legacyjson"
	"github.com/bakehouse-farm/bakehouse/template/schema"
)

// expression translates a value that is meant to be of a type; cty.NilType when
// that is not known. JSON's templates were lax: one string stood for a list of
// one, and "true" for true. HCL is not.
func (t *translator) expression(v legacyjson.Value, want cty.Type, at place) translated {
	element := cty.NilType
	if want != cty.NilType && (want.IsListType() || want.IsSetType() || want.IsMapType()) {
		element = want.ElementType()
	}
	listed := want != cty.NilType && (want.IsListType() || want.IsSetType())
	if listed && v.Kind == legacyjson.String {
		return t.parted(v.Text, element, at)
	}
	if want != cty.NilType && want.IsMapType() && v.Kind == legacyjson.List {
		v = merged(v)
	}
	if listed && v.Kind != legacyjson.List && v.Kind != legacyjson.Null {
		one := t.expression(v, element, at)
		one.source = "[" + one.source + "]"
		return one
	}
	switch v.Kind {
	case legacyjson.Bool:
		if want == cty.String {
			return translated{source: map[bool]string{false: `"0"`, true: `"1"`}[v.True]}
		}
		return translated{source: strconv.FormatBool(v.True)}
	case legacyjson.Number:
		if want == cty.Bool {
			return translated{source: strconv.FormatBool(v.Text != "0")}
		}
		if want == cty.String {
			return translated{source: quote(v.Text)}
		}
		return translated{source: v.Text}
	case legacyjson.String:
		if plain, ok := unquoted(v.Text, want); ok {
			return translated{source: plain}
		}
		return t.text(v.Text, at)
	case legacyjson.List:
		return t.list(v, element, at)
	case legacyjson.Object:
		return t.object(v, element, at)
	}
	return translated{source: "null"}
}

// parted translates a string that stands for a list: its parts between commas.
// What a variable holds may have commas, too.
func (t *translator) parted(s string, element cty.Type, at place) translated {
	if s == "" {
		return translated{source: "[]"}
	}
	if tree, err := parseText(s); err == nil && len(tree.Root.Nodes) == 1 {
		one := t.text(s, at)
		for _, v := range t.variables {
			if one.source != v.ref() {
				continue
			}
			one.source = `split(",", ` + one.source + ")"
			if v.value.Text == "" { // it may be no list at all
				one.source = "compact(" + one.source + ")"
			}
			return one
		}
	}
	var out translated
	var items []string
	for _, item := range commas(s) {
		one := t.expression(legacyjson.Value{Kind: legacyjson.String, Text: item}, element, at)
		items = append(items, one.source)
		out.troubles = append(out.troubles, one.troubles...)
	}
	out.source = "[" + strings.Join(items, ", ") + "]"
	return out
}

// commas cuts s at the commas that do not stand in {{ }}.
func commas(s string) []string {
	var list []string
	from, inside := 0, false
	for i := range len(s) {
		switch {
		case strings.HasPrefix(s[i:], "{{"):
			inside = true
		case strings.HasPrefix(s[i:], "}}"):
			inside = false
		case s[i] == ',' && !inside:
			list = append(list, s[from:i])
			from = i + 1
		}
	}
	return append(list, s[from:])
}

// merged is a list of objects as the one object that JSON's templates took it
// for.
func merged(v legacyjson.Value) legacyjson.Value {
	one := legacyjson.Value{Kind: legacyjson.Object, Range: v.Range}
	at := map[string]int{}
	for _, item := range v.Items {
		if item.Kind != legacyjson.Object {
			return v
		}
		for _, m := range item.Members {
			if i, ok := at[m.Name]; ok {
				one.Members[i] = m
				continue
			}
			at[m.Name] = len(one.Members)
			one.Members = append(one.Members, m)
		}
	}
	return one
}

// unquoted writes a string that is meant to be a number or a boolean as that.
func unquoted(s string, want cty.Type) (string, bool) {
	switch want {
	case cty.Bool:
		if b, err := strconv.ParseBool(s); err == nil {
			return strconv.FormatBool(b), true
		}
	case cty.Number:
		var n json.Number
		if json.Unmarshal([]byte(s), &n) == nil && n != "" {
			return s, true
		}
	}
	return "", false
}

func (t *translator) list(v legacyjson.Value, element cty.Type, at place) translated {
	var out translated
	var items []string
	long := 0
	for _, one := range v.Items {
		item := t.expression(one, element, at)
		items = append(items, item.source)
		out.troubles = append(out.troubles, item.troubles...)
		long += len(item.source) + 2
	}
	out.source = "[" + strings.Join(items, ", ") + "]"
	if long > 72 && len(items) > 1 {
		out.source = "[\n" + strings.Join(items, ",\n") + ",\n]"
	}
	return out
}

func (t *translator) object(v legacyjson.Value, element cty.Type, at place) translated {
	if len(v.Members) == 0 {
		return translated{source: "{}"}
	}
	var out translated
	var b strings.Builder
	b.WriteString("{\n")
	for _, m := range v.Members {
		value := t.expression(m.Value, element, at)
		out.troubles = append(out.troubles, value.troubles...)
		fmt.Fprintf(&b, "%s = %s\n", key(m.Name), value.source)
	}
	b.WriteString("}")
	out.source = b.String()
	return out
}

// key writes the name of something in an object.
func key(name string) string {
	if hclsyntax.ValidIdentifier(name) {
		return name
	}
	return quote(name)
}

// warn makes warnings of troubles.
func (t *translator) warn(at hcl.Range, troubles []string) {
	for _, one := range troubles {
		summary, detail, _ := strings.Cut(one, ": ")
		t.note(at, summary, "%s", detail)
	}
}

// attribute writes one argument.
func (t *translator) attribute(name string, v legacyjson.Value, want cty.Type, at place) {
	value := t.expression(v, want, at)
	t.warn(v.Range, value.troubles)
	t.say(value.troubles)
	t.line("%s = %s", name, value.source)
}

// body writes the arguments of a component or of a block in one. The schema is
// nil when they are not known; then objects that hold more than plain values
// are taken for blocks, as most are.
func (t *translator) body(members []legacyjson.Member, s *schema.Schema, at place) {
	for _, m := range members {
		if !hclsyntax.ValidIdentifier(m.Name) {
			t.note(m.At, "Not an argument", "HCL takes no name like %q: it is left out.", m.Name)
			t.comment(fmt.Sprintf("To be done by hand: %q is left out, because it is no name.", m.Name))
			continue
		}
		var field schema.Field
		known := false
		if s != nil {
			field, known = fold(s, m.Name)
		}
		if known {
			m.Name = field.Name
		}
		switch {
		case known && field.Block != nil && t.blocks(m, field.Block, at):
		case known && field.Block == nil:
			t.attribute(m.Name, m.Value, field.Type, at)
		case known:
			t.attribute(m.Name, m.Value, cty.NilType, at)
		case blockish(m.Value) && t.blocks(m, nil, at):
		default:
			t.attribute(m.Name, m.Value, cty.NilType, at)
		}
	}
}

// fold finds a field, whatever letters its name is written in, as Packer does in
// JSON.
func fold(s *schema.Schema, name string) (schema.Field, bool) {
	if f, ok := s.Field(name); ok {
		return f, true
	}
	for _, f := range s.Fields {
		if strings.EqualFold(f.Name, name) {
			return f, true
		}
	}
	return schema.Field{}, false
}

// blocks writes an object as a block and a list of objects as many. It does not
// when that is not what the value is.
func (t *translator) blocks(m legacyjson.Member, s *schema.Schema, at place) bool {
	list := m.Value.Items
	switch m.Value.Kind {
	case legacyjson.Null:
		return true // a block that is not there
	case legacyjson.Object:
		list = []legacyjson.Value{m.Value}
	case legacyjson.List:
		for _, one := range list {
			if one.Kind != legacyjson.Object {
				return false
			}
		}
	default:
		return false
	}
	for _, one := range list {
		if len(one.Members) == 0 {
			t.line("%s {}", m.Name)
			continue
		}
		t.line("%s {", m.Name)
		t.body(one.Members, s, at)
		t.line("}")
	}
	return true
}

// blockish tells of values that most probably are blocks.
func blockish(v legacyjson.Value) bool {
	nested := func(v legacyjson.Value) bool { return v.Kind == legacyjson.Object || v.Kind == legacyjson.List }
	switch v.Kind {
	case legacyjson.Object:
		for _, m := range v.Members {
			if nested(m.Value) {
				return true
			}
		}
	case legacyjson.List:
		return len(v.Items) > 0 && v.Items[0].Kind == legacyjson.Object
	}
	return false
}
