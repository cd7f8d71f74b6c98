package schema

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/agext/levenshtein"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"

	"github.com/bakehouse-farm/bakehouse/template/limit"
)

func (f Field) convert(v cty.Value, weak bool) (cty.Value, error) {
	if weak {
		if f.Duration {
			v = Nanoseconds(v)
		}
		v = loosen(parted(v, f.Type), f.Type)
	}
	v, err := limit.Convert(v, f.Type)
	if err != nil {
		var pe cty.PathError
		if errors.As(err, &pe) && len(pe.Path) > 0 {
			return v, fmt.Errorf("element %s: %w", elementName(pe.Path), err)
		}
		return v, err
	}
	if !f.Whole && !f.Duration {
		return v, nil
	}
	plain, _ := v.UnmarkDeep()
	return v, cty.Walk(plain, func(_ cty.Path, e cty.Value) (bool, error) {
		if !e.IsKnown() || e.IsNull() {
			return false, nil
		}
		switch {
		case f.Whole && e.Type() == cty.Number && !e.AsBigFloat().IsInt():
			return false, errors.New("a whole number is required")
		case f.Duration && e.Type() == cty.String && !strings.Contains(e.AsString(), "{{"):
			if _, err := time.ParseDuration(e.AsString()); err != nil {
				return false, errors.New("a duration is required, such as \"90s\", \"5m\" or \"1h30m\"")
			}
		}
		return true, nil
	})
}

// hasTemplate tells whether a known string in v has {{ }} to be rendered.
func hasTemplate(v cty.Value) bool {
	found := false
	Strings(v, func(s string, _ bool) { found = found || strings.Contains(s, "{{") })
	return found
}

// nullWithin is an error when an element of v is null: an argument may be null,
// which means that it is not set, but a list of strings holds strings.
func nullWithin(v cty.Value) error {
	if v.IsNull() || v.Type().HasDynamicTypes() {
		return nil
	}
	plain, _ := v.UnmarkDeep()
	return cty.Walk(plain, func(p cty.Path, e cty.Value) (bool, error) {
		if len(p) > 0 && e.IsKnown() && e.IsNull() {
			return false, fmt.Errorf("element %s: a null is not allowed", elementName(p))
		}
		return true, nil
	})
}

func elementName(p cty.Path) string {
	var b strings.Builder
	for _, step := range p {
		switch s := step.(type) {
		case cty.GetAttrStep:
			fmt.Fprintf(&b, ".%s", s.Name)
		case cty.IndexStep:
			if s.Key.Type() == cty.String {
				fmt.Fprintf(&b, "[%q]", s.Key.AsString())
			} else {
				fmt.Fprintf(&b, "[%s]", s.Key.AsBigFloat().Text('f', -1))
			}
		}
	}
	return strings.TrimPrefix(b.String(), ".")
}

// loosen brings v nearer to what is wanted, as Packer's weak decoding does for
// JSON templates, where everything that comes out of {{user}} is a string.
func loosen(v cty.Value, want cty.Type) cty.Value {
	plain, marks := v.Unmark()
	is := plain.Type()
	if !plain.IsKnown() && want.IsListType() && is.IsPrimitiveType() {
		return cty.UnknownVal(want).WithMarks(marks)
	}
	if plain.IsNull() || !plain.IsKnown() {
		return v
	}
	switch {
	case want.IsListType() && is.IsPrimitiveType():
		return cty.TupleVal([]cty.Value{loosen(plain, want.ElementType())}).WithMarks(marks)
	case want == cty.String && is == cty.Bool: // as Packer's decoder has it
		return cty.StringVal(map[bool]string{false: "0", true: "1"}[plain.True()]).WithMarks(marks)
	case want.IsListType() && is.IsTupleType() && plain.LengthInt() > 0:
		elems := plain.AsValueSlice()
		for i := range elems {
			elems[i] = loosen(elems[i], want.ElementType())
		}
		return cty.TupleVal(elems).WithMarks(marks)
	case want.IsListType() && is.Equals(cty.EmptyObject):
		return cty.ListValEmpty(want.ElementType()).WithMarks(marks)
	case want.IsMapType() && is.IsTupleType():
		return merged(plain.AsValueSlice(), want).WithMarks(marks)
	case want.IsMapType() && is.IsObjectType() && plain.LengthInt() > 0:
		elems := plain.AsValueMap()
		for k, e := range elems {
			elems[k] = loosen(e, want.ElementType())
		}
		return cty.ObjectVal(elems).WithMarks(marks)
	case want == cty.Bool && is == cty.String:
		if plain.AsString() == "" {
			return cty.False.WithMarks(marks)
		}
		if b, err := strconv.ParseBool(plain.AsString()); err == nil {
			return cty.BoolVal(b).WithMarks(marks)
		}
	case want == cty.Bool && is == cty.Number:
		return cty.BoolVal(plain.AsBigFloat().Sign() != 0).WithMarks(marks)
	case want == cty.Number && is == cty.Bool:
		if plain.True() {
			return cty.NumberIntVal(1).WithMarks(marks)
		}
		return cty.NumberIntVal(0).WithMarks(marks)
	case want == cty.Number && is == cty.String && plain.AsString() == "":
		return cty.NumberIntVal(0).WithMarks(marks)
	}
	return v
}

// parted is a string where a list is wanted, parted at its commas: that is how
// Packer reads the arguments of components in JSON, "us-east-1,us-west-2".
func parted(v cty.Value, want cty.Type) cty.Value {
	plain, marks := v.Unmark()
	if !want.IsListType() || plain.Type() != cty.String || plain.IsNull() || !plain.IsKnown() {
		return v
	}
	if plain.AsString() == "" {
		return cty.EmptyTupleVal.WithMarks(marks)
	}
	var list []cty.Value
	for _, s := range strings.Split(plain.AsString(), ",") {
		list = append(list, cty.StringVal(s))
	}
	return cty.TupleVal(list).WithMarks(marks)
}

// Nanoseconds is v, or where v is a number that number as a duration: to Packer's decoder, a
// duration is a number of nanoseconds, if it is not a string.
func Nanoseconds(v cty.Value) cty.Value {
	plain, marks := v.Unmark()
	if ty := plain.Type(); plain.IsNull() || !plain.IsKnown() || ty != cty.Number && ty != cty.Bool {
		return v
	}
	n, _ := loosen(plain, cty.Number).AsBigFloat().Int64()
	return cty.StringVal(strconv.FormatInt(n, 10) + "ns").WithMarks(marks)
}

// merged is a list of objects as one, where it is that.
func merged(list []cty.Value, want cty.Type) cty.Value {
	all := map[string]cty.Value{}
	for _, one := range list {
		plain, marks := one.Unmark()
		if plain.IsNull() || !plain.IsKnown() || !plain.Type().IsObjectType() {
			return cty.TupleVal(list)
		}
		for k, e := range plain.AsValueMap() {
			all[k] = loosen(e, want.ElementType()).WithMarks(marks)
		}
	}
	if len(all) == 0 {
		return cty.MapValEmpty(want.ElementType())
	}
	return cty.ObjectVal(all)
}

// Nearest returns the name that given was probably meant to be, or nothing.
func Nearest(given string, names []string) string {
	best, at := "", len(given)
	for _, name := range names {
		// The same measure as hcl's own suggestions.
		if d := levenshtein.Distance(given, name, nil); d < 3 && d < at {
			best, at = name, d
		}
	}
	return best
}

// Loose converts v as loosely as Packer's JSON templates are read.
func Loose(v cty.Value, want cty.Type) (cty.Value, error) {
	return convert.Convert(loosen(v, want), want)
}
