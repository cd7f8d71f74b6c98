package schema

import (
	"errors"
	"strconv"

	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"
)

// Render replaces every known string of the arguments by what render makes of
// it. Marks stay. site is as in Reading; late tells that the component renders
// the argument when it runs.
func (a *Arguments) Render(render func(site, s string, late bool) (string, error)) hcl.Diagnostics {
	return a.render("", render)
}

func (a *Arguments) render(site string, render func(site, s string, late bool) (string, error)) hcl.Diagnostics {
	var diags hcl.Diagnostics
	for f, arg := range a.eachAttr() {
		v, err := EachString(arg.value, func(s string) (string, error) { return render(site+f.Name, s, f.Late) })
		if err != nil {
			a.broken[f.Name] = true
			delete(a.attrs, f.Name)
			diags = append(diags, &hcl.Diagnostic{
				Severity: hcl.DiagError, Summary: "Invalid {{ }} expression",
				Detail:  "Argument \"" + f.Name + "\": " + err.Error() + ".",
				Subject: arg.expr.Ptr(),
			})
			continue
		}
		if f.Duration || f.Whole || arg.raw { // now that it is rendered, it can be looked at
			if v, err = f.convert(v, arg.raw); err != nil {
				a.broken[f.Name] = true
				diags = append(diags, &hcl.Diagnostic{
					Severity: hcl.DiagError, Summary: "Incorrect attribute value type",
					Detail:  "Inappropriate value for attribute \"" + f.Name + "\": " + err.Error() + ".",
					Subject: arg.expr.Ptr(),
				})
				if arg.raw { // it is of no type that anybody expects
					delete(a.attrs, f.Name)
					continue
				}
			}
		}
		arg.value, arg.raw = v, false
		a.attrs[f.Name] = arg
	}
	for f, blocks := range a.eachBlock() {
		for i, b := range blocks {
			diags = append(diags, b.render(site+f.Name+"."+strconv.Itoa(i)+".", render)...)
		}
	}
	return diags
}

// ErrUnknown is what the functions given to Render and EachString return for a
// string whose value is not known yet.
var ErrUnknown = errors.New("value is not known yet")

// EachString replaces every known string in v. Marks stay where they are.
func EachString(v cty.Value, f func(string) (string, error)) (cty.Value, error) {
	return cty.Transform(v, func(_ cty.Path, e cty.Value) (cty.Value, error) {
		plain, marks := e.Unmark()
		if plain.Type() != cty.String || plain.IsNull() || !plain.IsKnown() {
			return e, nil
		}
		s, err := f(plain.AsString())
		if errors.Is(err, ErrUnknown) {
			return cty.UnknownVal(cty.String).WithMarks(marks), nil
		}
		if err != nil {
			return e, err
		}
		return cty.StringVal(s).WithMarks(marks), nil
	})
}

// Strings calls see with every known string in v; those below a mark as marked.
func Strings(v cty.Value, see func(s string, marked bool)) { walk(v, false, see) }

func walk(v cty.Value, marked bool, see func(string, bool)) {
	marked = marked || v.IsMarked()
	v, _ = v.Unmark()
	if v.IsNull() || !v.IsKnown() {
		return
	}
	switch {
	case v.Type() == cty.String:
		see(v.AsString(), marked)
	case v.CanIterateElements():
		for it := v.ElementIterator(); it.Next(); {
			_, e := it.Element()
			walk(e, marked, see)
		}
	}
}

// Secrets calls see with every string that is sensitive: marked by its origin,
// or by the component's schema.
func (a *Arguments) Secrets(see func(string)) {
	for f, arg := range a.eachAttr() {
		Strings(arg.value, func(s string, marked bool) {
			if marked || f.Secret {
				see(s)
			}
		})
	}
	for _, blocks := range a.eachBlock() {
		for _, b := range blocks {
			b.Secrets(see)
		}
	}
}

// Files calls see with the names of local files that the arguments name.
func (a *Arguments) Files(see func(name string)) {
	for f, arg := range a.eachAttr() {
		if f.File {
			Strings(arg.value, func(s string, _ bool) { see(s) })
		}
	}
	for _, blocks := range a.eachBlock() {
		for _, b := range blocks {
			b.Files(see)
		}
	}
}

// Value returns an attribute, and whether it is set and without fault.
func (a *Arguments) Value(name string) (cty.Value, bool) {
	arg, ok := a.attrs[name]
	return arg.value, ok && !a.broken[name]
}

// Is tells whether v is known to be the string s.
func Is(v cty.Value, s string) bool {
	v, _ = v.Unmark()
	return v.Type() == cty.String && v.IsKnown() && !v.IsNull() && v.AsString() == s
}
