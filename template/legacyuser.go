package template

import (
	"errors"
	"regexp"

	"github.com/hashicorp/hcl/v2"

	"github.com/bakehouse-farm/bakehouse/template/function"
	"github.com/bakehouse-farm/bakehouse/template/interpolate"
)

// renderUser renders what the template says of its user variables, which may
// refer to each other and ask servers.
func (e *evaluation) renderUser() hcl.Diagnostics {
	e.user, e.unknown, e.guarded = map[string]string{}, map[string]bool{}, map[string]bool{}
	for _, v := range e.t.variables {
		if v.sensitive {
			e.guarded[v.name] = true
		}
	}
	var vain error    // of the last lookup
	var secret bool   // the value holds one
	var hide []string // which
	c := interpolate.Context{
		Time: e.scope.pin.Time, Version: e.scope.pin.version(), Dir: e.t.files.Cwd,
		TemplateDir: e.t.files.Abs(e.t.base), User: e.user, Unknown: e.unknown,
		Env:   func(name string) string { return e.scope.env[name] },
		Spend: e.budget.Spend,
		// What is made of something sensitive is sensitive, too.
		Used: func(name string) {
			if e.guarded[name] {
				secret, hide = true, append(hide, e.user[name])
			}
		},
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
	order := inTurn(left)
	errs := map[string]error{}
	causes := map[string]error{}
	for progress := true; progress; {
		progress = false
		for _, name := range order {
			s, ok := left[name]
			if !ok {
				continue
			}
			if err := e.budget.Spend(100 + len(s)/16); err != nil {
				return hcl.Diagnostics{failure("Template goes beyond a limit", "The user variables: %s.", err)}
			}
			c.Seed = e.scope.pin.Seed + "\x00{{}}variable." + name
			vain, secret, hide = nil, false, nil
			value, err := interpolate.Render(s, c)
			switch {
			case errors.Is(err, interpolate.ErrUnknown):
				e.unknown[name] = true
			case err != nil:
				errs[name], causes[name] = function.Discreet(err, hide), vain
				continue // perhaps it refers to one that comes later
			case secret:
				e.guarded[name] = true
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
	for depth := range min(len(errs), 100) {
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

var userMention = regexp.MustCompile("\\buser\\s+(?:`([^`]*)`|\"([^\"]*)\")")

// inTurn are the names of user variables, each after those that it mentions, as
// far as that can be read off their texts.
func inTurn(left map[string]string) []string {
	order := make([]string, 0, len(left))
	seen := map[string]bool{}
	var visit func(name string)
	visit = func(name string) {
		s, ok := left[name]
		if !ok || seen[name] {
			return
		}
		seen[name] = true
		for _, m := range userMention.FindAllStringSubmatch(s, -1) {
			visit(m[1] + m[2])
		}
		order = append(order, name)
	}
	for _, name := range names(left) {
		visit(name)
	}
	return order
}
