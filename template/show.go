package template

import (
	"fmt"
	"math/big"
	"slices"
	"strconv"
	"strings"

	"github.com/zclconf/go-cty/cty"
)

// Hidden is shown in the place of what is sensitive, and Unknown in the place of
// a value that is not known yet.
const (
	Hidden  = "<sensitive>"
	Unknown = "<unknown>"
)

// Show returns a value as Packer's console prints it: a string as it is, a
// number or a bool as it would be written, a list or an object over several
// lines, with the strings in it quoted and without the members that are null.
// Of a value that is sensitive nothing is shown, not even its shape. A value
// that is not known, or holds something that is not, is Unknown altogether.
func Show(v cty.Value) string {
	plain, _ := v.UnmarkDeep()
	switch {
	case !plain.IsWhollyKnown():
		return Unknown
	case v.IsMarked():
		return Hidden
	case plain.Type() == cty.String && !plain.IsNull():
		return plain.AsString()
	}
	var b strings.Builder
	show(&b, v, "")
	return b.String()
}

// show writes a value that is known. indent stands before each further line.
func show(b *strings.Builder, v cty.Value, indent string) {
	if v.IsMarked() {
		b.WriteString(strconv.Quote(Hidden))
		return
	}
	switch ty := v.Type(); {
	case v.IsNull():
		b.WriteString("null")
	case ty == cty.String:
		b.WriteString(strconv.Quote(v.AsString()))
	case ty == cty.Number:
		b.WriteString(showNumber(v.AsBigFloat()))
	case ty == cty.Bool:
		b.WriteString(strconv.FormatBool(v.True()))
	case ty.IsObjectType(), ty.IsMapType():
		showMembers(b, v.AsValueMap(), indent)
	case v.CanIterateElements():
		showElements(b, v, indent)
	default: // a capsule: what a function such as convert takes, but no value
		fmt.Fprintf(b, "<%s>", ty.FriendlyName())
	}
}

// showNumber shows a whole number as such as long as it fits into 64 bits, and
// any other as Go prints a float64.
func showNumber(f *big.Float) string {
	if n, accuracy := f.Int64(); accuracy == big.Exact {
		return strconv.FormatInt(n, 10)
	}
	x, _ := f.Float64()
	return fmt.Sprint(x)
}

func showMembers(b *strings.Builder, members map[string]cty.Value, indent string) {
	var names []string
	for name, v := range members {
		if v.IsMarked() || !v.IsNull() {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		b.WriteString("{}")
		return
	}
	slices.Sort(names)
	b.WriteString("{\n")
	for _, name := range names {
		b.WriteString(indent + "  " + strconv.Quote(name) + " = ")
		show(b, members[name], indent+"  ")
		b.WriteByte('\n')
	}
	b.WriteString(indent + "}")
}

func showElements(b *strings.Builder, v cty.Value, indent string) {
	if v.LengthInt() == 0 {
		b.WriteString("[]")
		return
	}
	b.WriteString("[\n")
	for it := v.ElementIterator(); it.Next(); {
		_, e := it.Element()
		b.WriteString(indent + "  ")
		show(b, e, indent+"  ")
		b.WriteString(",\n")
	}
	b.WriteString(indent + "]")
}
