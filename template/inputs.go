package template

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"

	"github.com/bakehouse-farm/bakehouse/template/function"
	"github.com/bakehouse-farm/bakehouse/template/limit"
	"github.com/bakehouse-farm/bakehouse/template/schema"
)

// Inputs are the sources of variables' values besides the template itself.
type Inputs struct {
	// Vars are -var arguments, "name=value", in the order given.
	Vars []string
	// VarFiles are -var-file arguments, in the order given.
	VarFiles []string
	// Environ is the environment, in the form of os.Environ.
	Environ []string
	// WarnUndeclared asks for a warning for each value in a variable file whose
	// variable is not declared.
	WarnUndeclared bool
	// AllowUnset leaves variables that nobody gives a value unknown, instead of
	// reporting them.
	AllowUnset bool
}

// A given is a value that somebody gave a variable.
type given struct {
	value cty.Value
	// from says who: "-var", "PKR_VAR_x"; at where it stands, for files.
	from string
	at   *hcl.Range
	// faulty tells that the value could not be read, which has been reported.
	faulty bool
}

// errFaulty stands for an error that has been reported already.
var errFaulty = &hcl.Diagnostic{Severity: hcl.DiagError, Summary: "value could not be read"}

// Variables evaluates every variable. From low to high, values come from the
// default, the environment (PKR_VAR_name), variable files beside the template
// that are read by themselves (*.auto.pkrvars.hcl, then .json; only when the
// template is a folder), -var-file, and -var.
func (t *Template) Variables(in Inputs) (Values, hcl.Diagnostics) {
	if t.legacy {
		return t.legacyVariables(in)
	}
	values := map[string]given{}
	diags := t.fromEnviron(in.Environ, values)

	var auto []string
	if t.folder {
		var more hcl.Diagnostics
		auto, more = t.list(autoNativeSuffix, autoJSONSuffix)
		diags = append(diags, more...)
	}
	for _, name := range append(auto, in.VarFiles...) {
		diags = append(diags, t.fromFile(name, in.WarnUndeclared, values)...)
	}
	diags = append(diags, t.fromFlags(in.Vars, values)...)

	out := Values{vars: map[string]cty.Value{}}
	for _, v := range t.variables {
		if g := values[v.name]; in.AllowUnset && v.def == nil && g.value == cty.NilVal && !g.faulty {
			continue
		}
		value, more := t.evaluateVariable(v, values[v.name], in.Environ)
		if !more.HasErrors() {
			out.vars[v.name] = value
		}
		for _, d := range more {
			if d != errFaulty {
				diags = append(diags, d)
			}
		}
	}
	return out, t.told(scrub(diags, secretsOf(out.vars)))
}

func (t *Template) fromEnviron(environ []string, values map[string]given) hcl.Diagnostics {
	var diags hcl.Diagnostics
	for _, kv := range environ {
		k, raw, _ := strings.Cut(kv, "=")
		name, ok := strings.CutPrefix(k, "PKR_VAR_")
		if v := t.variable(name); ok && v != nil {
			value, more := t.literal(v, raw, k)
			diags = append(diags, more...)
			diags = append(diags, v.take(values, given{value: value, from: k, faulty: more.HasErrors()})...)
		}
	}
	return diags
}

func (t *Template) fromFile(name string, warn bool, values map[string]given) hcl.Diagnostics {
	if ext := filepath.Ext(name); ext != ".hcl" && ext != ".json" {
		return hcl.Diagnostics{failure("Could not guess format of "+name,
			"A variable file must be suffixed with .hcl or .json.")}
	}
	if d := t.unreadable(name); d != nil {
		return hcl.Diagnostics{d}
	}
	body, diags := t.parse(name)
	attrs, more := body.JustAttributes()
	diags = append(diags, more...)
	for _, a := range inOrder(attrs) {
		v := t.variable(a.Name)
		if v == nil {
			if warn {
				d := failureAt(a.NameRange, "Undefined variable", "%s", t.undeclared(a.Name))
				d.Severity = hcl.DiagWarning
				diags = append(diags, d)
			}
			continue
		}
		value, more := a.Expr.Value(nil)
		diags = append(diags, more...)
		diags = append(diags, v.take(values, given{value: value, from: name, at: a.Range.Ptr(), faulty: more.HasErrors()})...)
	}
	return diags
}

// unreadable says why there is no variable file of that name.
func (t *Template) unreadable(name string) *hcl.Diagnostic {
	info, err := os.Stat(t.files.Path(name))
	switch {
	case err != nil:
		return failure("Cannot read variable file "+name, "%s: %s.", name, reason(err))
	case info.IsDir():
		return failure("Cannot read variable file "+name, "%s is a folder.", name)
	case t.legacy && strings.HasSuffix(name, ".hcl"):
		return failure("Cannot read variable file "+name, "A JSON template of the older kind takes variable files in JSON only.")
	}
	return nil
}

// undeclared says that a variable is not there, and what would help.
func (t *Template) undeclared(name string) string {
	var names []string
	for _, v := range t.variables {
		names = append(names, v.name)
	}
	s := fmt.Sprintf("The variable %q is not declared in the template.", name)
	if near := schema.Nearest(name, names); near != "" {
		return s + fmt.Sprintf(" Did you mean %q?", near)
	}
	return s + fmt.Sprintf(" To declare it, add: variable %q { type = string }", name)
}

func (t *Template) fromFlags(vars []string, values map[string]given) hcl.Diagnostics {
	var diags hcl.Diagnostics
	for _, kv := range vars {
		name, raw, ok := strings.Cut(kv, "=")
		v := t.variable(name)
		switch {
		case !ok:
			diags = append(diags, failure("Invalid -var option", "-var %q must be of the form name=value.", kv))
		case v == nil:
			diags = append(diags, failure("Undefined -var variable", "%s", t.undeclared(name)))
		default:
			value, more := t.literal(v, raw, "-var "+name)
			diags = append(diags, more...)
			diags = append(diags, v.take(values, given{value: value, from: "-var", faulty: more.HasErrors()})...)
		}
	}
	return diags
}

// take makes g the variable's value, over what was given before. It must be of
// the variable's type, also where another value wins in the end.
func (v *variable) take(values map[string]given, g given) hcl.Diagnostics {
	var diags hcl.Diagnostics
	if !g.faulty {
		if _, err := v.convert(g.value); err != nil {
			g.faulty = true
			diags = append(diags, v.mismatch(g, err))
		}
	}
	values[v.name] = g
	return diags
}

// mismatch says that a value is not of the variable's type.
func (v *variable) mismatch(g given, err error) *hcl.Diagnostic {
	d := failureAt(v.at, "Invalid value for variable",
		"The value that %s gives variable %q is not compatible with its type: %s.", g.from, v.name, err)
	if g.at != nil {
		d.Subject = g.at
	}
	return d
}

// literal is what raw means for a variable: itself where the variable is a
// string or a number or says nothing, else an expression.
func (t *Template) literal(v *variable, raw, from string) (cty.Value, hcl.Diagnostics) {
	if v.typ == cty.NilType && v.def == nil || v.typ == cty.String || v.typ == cty.Number || v.stringDefault() {
		return cty.StringVal(raw), nil
	}
	name := "<value of " + from + ">"
	if d := limit.Source([]byte(raw), name); d != nil {
		return cty.DynamicVal, v.hide(hcl.Diagnostics{d})
	}
	if !v.sensitive {
		t.parsed[name] = &hcl.File{Bytes: []byte(raw), Body: hcl.EmptyBody()}
	}
	expr, diags := hclsyntax.ParseExpression([]byte(raw), name, hcl.InitialPos)
	if !diags.HasErrors() {
		diags = append(diags, limit.Instrument(expr, t.budget)...)
	}
	if diags.HasErrors() {
		return cty.DynamicVal, v.hide(diags)
	}
	value, diags := expr.Value(nil)
	return value, v.hide(diags)
}

// hide keeps the text of a sensitive value out of what is said about it.
func (v *variable) hide(diags hcl.Diagnostics) hcl.Diagnostics {
	if !v.sensitive || !diags.HasErrors() {
		return diags
	}
	return hcl.Diagnostics{failureAt(v.at, "Invalid value for variable", "The value given for the sensitive variable %q is not a valid expression.", v.name)}
}

// stringDefault tells whether the variable is a string or a number because its
// default is one.
func (v *variable) stringDefault() bool {
	if v.typ != cty.NilType || v.def == nil {
		return false
	}
	value, _ := v.def.Value(&hcl.EvalContext{Functions: function.InDefaults(nil)})
	return value.Type() == cty.String || value.Type() == cty.Number
}

func (t *Template) evaluateVariable(v *variable, g given, environ []string) (cty.Value, hcl.Diagnostics) {
	var diags hcl.Diagnostics
	typ := v.typ
	if v.faulty {
		return cty.DynamicVal, append(diags, errFaulty)
	}
	if v.def != nil {
		def, more := v.def.Value(&hcl.EvalContext{Functions: function.InDefaults(environ)})
		diags = append(diags, more...)
		if more.HasErrors() {
			return cty.DynamicVal, diags
		}
		if typ != cty.NilType {
			conv, err := v.convert(def)
			if err != nil {
				return cty.DynamicVal, append(diags, v.badDefaultType(err))
			}
			def = conv
		} else if ty := def.Type(); ty.IsPrimitiveType() {
			typ = ty
		}
		if g.value == cty.NilVal {
			g = given{value: def, from: "default", at: v.def.Range().Ptr()}
		}
	}
	if g.faulty {
		return cty.DynamicVal, append(diags, errFaulty)
	}
	if g.value == cty.NilVal {
		return cty.DynamicVal, append(diags, failureAt(v.at, fmt.Sprintf("Unset variable %q", v.name),
			"A variable must be set or have a default value. Set it with -var %s=VALUE, in a variable file (-var-file), or as PKR_VAR_%s in the environment.", v.name, v.name))
	}
	value, err := v.convert(g.value)
	if v.typ == cty.NilType && typ != cty.NilType {
		value, err = convert.Convert(g.value, typ)
	}
	if err != nil {
		return cty.DynamicVal, append(diags, v.mismatch(g, err))
	}
	if v.sensitive {
		value = value.Mark(sensitive)
	}
	return value, append(diags, t.validate(v, value, g)...)
}

func (v *variable) convert(value cty.Value) (cty.Value, error) {
	if v.typ == cty.NilType {
		return value, nil
	}
	if v.optional != nil && !value.IsNull() {
		value = v.optional.Apply(value)
	}
	value, err := limit.Convert(value, v.typ)
	if err == nil {
		var single *limit.Budget
		err = single.Weigh(value)
	}
	return value, err
}

func (t *Template) validate(v *variable, value cty.Value, g given) hcl.Diagnostics {
	if len(v.validations) == 0 {
		return nil
	}
	var diags hcl.Diagnostics
	ctx := &hcl.EvalContext{
		Variables: map[string]cty.Value{"var": cty.ObjectVal(map[string]cty.Value{v.name: value})},
		Functions: function.All(function.Env{Files: t.files, Base: t.base}),
	}
	for _, rule := range v.validations {
		ok, more := rule.condition.Value(ctx)
		ok, _ = ok.UnmarkDeep()
		diags = append(diags, more...)
		if more.HasErrors() || !ok.IsKnown() {
			continue
		}
		ok, err := convert.Convert(ok, cty.Bool)
		if err != nil || ok.IsNull() {
			diags = append(diags, failureAt(rule.condition.Range(), "Invalid variable validation result",
				"The condition of a validation must be true or false."))
			continue
		}
		if ok.False() {
			d := failureAt(v.at, "Invalid value for "+v.name+" variable",
				"%s\n\nThis was checked by the validation rule at %s.", rule.message, rule.at)
			if g.at != nil {
				d.Subject = g.at
			}
			diags = append(diags, d)
		}
	}
	return diags
}
