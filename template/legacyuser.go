package template

import (
	"errors"

	"github.com/hashicorp/hcl/v2"

	"github.com/bakehouse-farm/bakehouse/template/interpolate"
)

// renderUser renders what the template says of its user variables, which may
// refer to each other and ask servers.
func (e *evaluation) renderUser() hcl.Diagnostics {
	e.user, e.unknown = map[string]string{}, map[string]bool{}
	var vain error  // of the last lookup
	var secret bool // the value holds one
	c := interpolate.Context{
		Time: e.scope.pin.Time, Version: e.scope.pin.version(), Dir: e.t.files.Cwd,
		TemplateDir: e.t.files.Abs(e.t.base), User: e.user, Unknown: e.unknown,
		Env: func(name string) string { return e.scope.env[name] },
		Ask: func(name string, args ...string) (s string, err error) {
			secret = secret || lookups[name].secret
			s, err = e.ask(name, args...)
			vain = err
			return s, err
		},
	}
	left := map[string]string{}
	for name, v := range e.scope.vars {
		plain, _ := v.Unmark()
		switch {
		case !plain.IsKnown() || plain.IsNull():
			e.user[name] = ""
		case e.scope.raw[name]:
			left[name] = plain.AsString()
		default:
			e.user[name] = plain.AsString()
		}
	}
	errs := map[string]error{}
	causes := map[string]error{}
	for progress := true; progress; {
		progress = false
		for name, s := range left {
			c.Seed = e.scope.pin.Seed + "\x00{{}}variable." + name
			vain, secret = nil, false
			value, err := interpolate.Render(s, c)
			switch {
			case errors.Is(err, interpolate.ErrUnknown):
				e.unknown[name] = true
			case err != nil:
				errs[name], causes[name] = err, vain
				continue // perhaps it refers to one that comes later
			case secret:
				e.secret(value)
			}
			e.user[name] = value
			delete(left, name)
			progress = true
		}
	}
	var diags hcl.Diagnostics
	for _, v := range e.t.variables {
		if _, ok := left[v.name]; ok {
			e.user[v.name] = ""
			if consequence(errs, v.name) {
				continue // what it refers to is reported
			}
			d := failureAt(v.at, "Invalid value for user variable \""+v.name+"\"", "%s", e.whyUser(errs[v.name]))
			if causes[v.name] != nil {
				d.Extra = causes[v.name]
			}
			diags = append(diags, d)
			continue
		}
		if v.sensitive {
			e.secret(e.user[v.name])
		}
	}
	return diags
}

// consequence tells whether a user variable has no value only because one that
// it refers to has an error of its own.
func consequence(errs map[string]error, name string) bool {
	for depth := range len(errs) {
		m := undeclared.FindStringSubmatch(errs[name].Error())
		if m == nil {
			return depth > 0
		}
		if name = m[1]; errs[name] == nil {
			return false
		}
	}
	return false // a circle
}
