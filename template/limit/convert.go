package limit

import (
	"fmt"

	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
)

// long is how many elements a tuple or an object may have before cty's way of
// making a list or map of it, which takes the square of that, is too slow.
const long = 500

// mixed is how many elements of different types a function may be given at once.
const mixed = 20_000

// Convert is convert.Convert, in linear time for long tuples and objects too,
// and within the limits of numbers.
func Convert(v cty.Value, want cty.Type) (cty.Value, error) {
	if err := Convertible(v, want); err != nil {
		return v, err
	}
	plain, marks := v.Unmark()
	is := plain.Type()
	if !want.IsCollectionType() || want.HasDynamicTypes() || plain.IsNull() || !plain.IsKnown() || !is.IsTupleType() && !is.IsObjectType() ||
		is.IsTupleType() == want.IsMapType() || plain.LengthInt() <= long {
		return convert.Convert(v, want)
	}
	if is.IsObjectType() {
		members := make(map[string]cty.Value, plain.LengthInt())
		for it := plain.ElementIterator(); it.Next(); {
			k, e := it.Element()
			conv, err := Convert(e, want.ElementType())
			if err != nil {
				return v, cty.Path{cty.IndexStep{Key: k}}.NewError(err)
			}
			members[k.AsString()] = conv
		}
		return cty.MapVal(members).WithMarks(marks), nil
	}
	elements := make([]cty.Value, 0, plain.LengthInt())
	for it := plain.ElementIterator(); it.Next(); {
		k, e := it.Element()
		conv, err := Convert(e, want.ElementType())
		if err != nil {
			return v, cty.Path{cty.IndexStep{Key: k}}.NewError(err)
		}
		elements = append(elements, conv)
	}
	if want.IsSetType() {
		return cty.SetVal(elements).WithMarks(marks), nil
	}
	return cty.ListVal(elements).WithMarks(marks), nil
}

// shorten makes lists of long tuples that functions are given, which hcl would
// convert in a time that grows with the square of their length.
func shorten(v cty.Value) (cty.Value, error) {
	plain, marks := v.Unmark()
	if !plain.IsKnown() || plain.IsNull() || !plain.Type().IsTupleType() {
		return v, nil
	}
	types := plain.Type().TupleElementTypes()
	if len(types) <= long {
		return v, nil
	}
	for _, ty := range types {
		if !ty.IsPrimitiveType() || ty != types[0] {
			if len(types) > mixed {
				return v, fmt.Errorf("a function takes at most %d elements of different types; this argument has %d", mixed, len(types))
			}
			return v, nil
		}
	}
	return cty.ListVal(plain.AsValueSlice()).WithMarks(marks), nil
}
