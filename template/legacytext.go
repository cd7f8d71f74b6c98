package template

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/hashicorp/hcl/v2"
	hcljson "github.com/hashicorp/hcl/v2/json"
	"github.com/zclconf/go-cty/cty"

	"github.com/bakehouse-farm/bakehouse/template/limit"
	"github.com/bakehouse-farm/bakehouse/template/schema"
)

// parseJSON reads a file as one JSON value.
func (t *Template) parseJSON(name string) (hcl.Expression, hcl.Diagnostics) {
	src, err := t.source, error(nil)
	if src == nil || name != t.path {
		src, err = t.readFile(name)
	}
	if err != nil {
		return nil, hcl.Diagnostics{failure("Cannot read a file", "%s: %s.", name, reason(err))}
	}
	t.parsed[name] = &hcl.File{Bytes: src, Body: hcl.EmptyBody()}
	if d := limit.JSON(src, name, false); d != nil {
		return nil, hcl.Diagnostics{d}
	}
	return hcljson.ParseExpression(src, name)
}

// strictMeta checks the arguments that every post-processor of a legacy template
// takes: unlike those of provisioners, Packer does not convert them.
func strictMeta(attrs hcl.Attributes) hcl.Diagnostics {
	var diags hcl.Diagnostics
	wrong := func(x hcl.Expression, what string) {
		diags = append(diags, failureAt(x.Range(), "Incorrect attribute value type", "%s is required here.", what))
	}
	for _, a := range inOrder(attrs) {
		v, more := a.Expr.Value(nil)
		diags = append(diags, more...)
		if more.HasErrors() || v.IsNull() {
			continue
		}
		switch a.Name {
		case "name":
			if v.Type() != cty.String {
				wrong(a.Expr, "A string")
			}
		case "keep_input_artifact":
			if v.Type() != cty.Bool {
				wrong(a.Expr, "true or false")
			}
		case "only", "except":
			if !v.Type().IsTupleType() {
				wrong(a.Expr, "A list of names of builders")
				continue
			}
			for _, name := range v.AsValueSlice() {
				if !name.IsNull() && name.Type() != cty.String {
					wrong(a.Expr, "A list of names of builders")
				}
			}
		}
	}
	return diags
}

var envCall = regexp.MustCompile("\\benv\\s+(?:`([^`]*)`|\"([^\"]*)\")")

// envCalls are the names that s may ask the environment for, on whatever branch
// it does.
func envCalls(s string) []string {
	var names []string
	for _, m := range envCall.FindAllStringSubmatch(s, -1) {
		names = append(names, m[1]+m[2])
	}
	return names
}

func looseString(v cty.Value) (string, error) {
	s, err := schema.Loose(v, cty.String)
	if err != nil {
		return "", err
	}
	return s.AsString(), nil
}

var (
	userCall   = regexp.MustCompile("\\{\\{-?\\s*user\\s+(?:`([^`]*)`|\"([^\"]*)\")\\s*-?\\}\\}")
	undeclared = regexp.MustCompile(`user variable "([^"]*)" is not declared`)
)

// insertUser puts the values of user variables into a string whose other {{ }}
// the component renders when it runs, and which knows no user variables then.
func (e *evaluation) insertUser(s string, used func(name string)) (string, error) {
	if !e.t.legacy {
		return s, nil
	}
	var err error
	s = userCall.ReplaceAllStringFunc(s, func(call string) string {
		m := userCall.FindStringSubmatch(call)
		name := m[1] + m[2]
		if e.unknown[name] {
			err = schema.ErrUnknown
		}
		value := e.user[name] // nothing, if it is not declared
		used(name)
		// What the value holds is not to be rendered again.
		return strings.ReplaceAll(value, "{{", "{{`{{`}}")
	})
	s = nestedUser(s, func(name string) string {
		if e.unknown[name] {
			err = schema.ErrUnknown
		}
		used(name)
		return e.user[name]
	})
	return s, err
}

// whyUser says why a user variable could not be rendered.
func (e *evaluation) whyUser(err error) string {
	m := undeclared.FindStringSubmatch(err.Error())
	if m != nil && e.t.variable(m[1]) != nil {
		return fmt.Sprintf("it refers to the user variable %q, which has no value: do they refer to each other in a circle?", m[1])
	}
	return err.Error() + "."
}
