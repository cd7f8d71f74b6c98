package template

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"

	"github.com/bakehouse-farm/bakehouse/template/function"
	"github.com/bakehouse-farm/bakehouse/template/interpolate"
	"github.com/bakehouse-farm/bakehouse/template/schema"
)

// A legacyBuild is what a legacy template says besides its builders. Its parts
// are read when the values of the user variables are known.
type legacyBuild struct {
	provisioners []part
	cleanup      *part
	chains       [][]part
	// mentions are the user variables that the components use.
	mentions []mention
}

// loadLegacy reads a JSON template of Packer's older kind.
func (t *Template) loadLegacy(path string) hcl.Diagnostics {
	body, diags := t.parseLegacy(path)
	if diags.HasErrors() {
		return diags
	}
	b := &build{at: body.rng, legacy: &legacyBuild{}}
	for _, m := range body.members {
		var more hcl.Diagnostics
		name := rootKey(m.name)
		if name != "" && isNull(m.value) {
			continue // as if it were not there
		}
		switch name {
		case "variables":
			more = t.legacyDeclare(m.value)
		case "sensitive-variables":
			// after the variables, wherever it stands
		case "builders":
			more = t.legacyBuilders(m.value)
		case "provisioners":
			b.legacy.provisioners, more = legacyParts("provisioner", m.value)
		case "error-cleanup-provisioner":
			var p part
			p, more = legacyPart("provisioner", m.value)
			p.index[0] = -1
			if p.typ != "" {
				b.legacy.cleanup = &p
			}
		case "post-processors":
			b.legacy.chains, more = legacyChains(m.value)
		case "min_packer_version":
			more = legacyText(m.value, func(s string) hcl.Diagnostics {
				return requireLeast(s, m.value.Range())
			})
		case "description":
			more = legacyText(m.value, func(s string) hcl.Diagnostics { t.description = s; return nil })
		case "push":
			_, more = objectBody(m.value)
		default:
			if strings.HasPrefix(m.name, "_") {
				more = legacyText(m.value, func(string) hcl.Diagnostics { return nil })
			} else {
				d := failureAt(m.at, "Unknown root level key in template: '"+m.name+"'", "Comments may be written as keys that start with an underscore.")
				if near := schema.Nearest(m.name, rootKeys); near != "" {
					d.Detail = fmt.Sprintf("Did you mean %q? ", near) + d.Detail
				}
				more = hcl.Diagnostics{d}
			}
		}
		diags = append(diags, more...)
		switch name {
		case "builders", "provisioners", "error-cleanup-provisioner", "post-processors":
			b.legacy.mentions = append(b.legacy.mentions, mentions(m.value)...)
		}
	}
	for _, m := range body.members {
		if rootKey(m.name) == "sensitive-variables" && !isNull(m.value) {
			diags = append(diags, t.legacySensitive(m.value)...)
		}
	}
	t.builds = append(t.builds, b)
	return diags
}

var rootKeys = []string{
	"min_packer_version", "description", "variables", "sensitive-variables", "builders", "provisioners",
	"error-cleanup-provisioner", "post-processors", "push",
}

// rootKey is the key of a legacy template that name is, in whatever case it is
// written, or nothing.
func rootKey(name string) string {
	for _, key := range rootKeys {
		if strings.EqualFold(name, key) {
			return key
		}
	}
	return ""
}

func isNull(x hcl.Expression) bool {
	v, diags := x.Value(nil)
	return !diags.HasErrors() && v.IsNull()
}

func (t *Template) parseLegacy(path string) (*jsonBody, hcl.Diagnostics) {
	file, diags := t.parseJSON(path)
	if diags.HasErrors() {
		if strings.HasSuffix(path, ".hcl") {
			diags = hcl.Diagnostics{failure("Not a template", "%s is taken for a JSON template, because its name does not end in %s. Rename it if it is HCL.", path, nativeSuffix)}
		}
		return nil, diags
	}
	return objectBody(file)
}

func (t *Template) legacyDeclare(x hcl.Expression) hcl.Diagnostics {
	body, diags := objectBody(x)
	for _, m := range body.members {
		v := &variable{name: m.name, typ: cty.String, at: m.at}
		if !isNull(m.value) {
			v.def = m.value
			diags = append(diags, legacyText(m.value, func(string) hcl.Diagnostics { return nil })...)
		}
		diags = append(diags, t.addVariable(v)...)
	}
	return diags
}

func (t *Template) legacySensitive(x hcl.Expression) hcl.Diagnostics {
	list, diags := hcl.ExprList(x)
	if diags.HasErrors() {
		return hcl.Diagnostics{failureAt(x.Range(), "Not a list", "A list of names of variables is required here.")}
	}
	for _, one := range list {
		if isNull(one) {
			continue
		}
		diags = append(diags, legacyText(one, func(name string) hcl.Diagnostics {
			v := t.variable(name)
			if v == nil {
				return nil // Packer does not mind
			}
			v.sensitive = true
			return nil
		})...)
	}
	return diags
}

func legacyText(x hcl.Expression, use func(string) hcl.Diagnostics) hcl.Diagnostics {
	v, diags := x.Value(nil)
	if diags.HasErrors() {
		return diags
	}
	if v.IsNull() || v.Type() != cty.String {
		return hcl.Diagnostics{failureAt(x.Range(), "Not a string", "A string is required here.")}
	}
	return use(v.AsString())
}

// looseText is a string, or a number or truth taken for one; empty for null.
func looseText(x hcl.Expression) (string, hcl.Diagnostics) {
	v, diags := x.Value(nil)
	if diags.HasErrors() || v.IsNull() {
		return "", diags
	}
	s, err := looseString(v)
	if err != nil {
		return "", hcl.Diagnostics{failureAt(x.Range(), "Not a string", "A string is required here.")}
	}
	return s, nil
}

func (t *Template) legacyBuilders(x hcl.Expression) hcl.Diagnostics {
	list, diags := hcl.ExprList(x)
	if diags.HasErrors() {
		return hcl.Diagnostics{failureAt(x.Range(), "Not a list", "A list of builders is required here.")}
	}
	for _, one := range list {
		body, more := objectBody(one)
		diags = append(diags, more...)
		c := &component{kind: "source", body: body, block: body.rng, typeAt: body.rng}
		m, ok := body.take("type")
		if ok {
			c.typeAt = m.value.Range()
			c.typ, more = looseText(m.value)
			diags = append(diags, more...)
		}
		if c.typ == "" {
			diags = append(diags, failureAt(c.typeAt, "builder misses key 'type'", "Every builder has a type, such as \"amazon-ebs\"."))
			continue
		}
		c.name = c.typ
		if m, ok := body.take("name"); ok {
			name, more := looseText(m.value)
			diags = append(diags, more...)
			c.name = cmp.Or(name, c.typ)
		}
		body.fold = true
		for _, other := range t.sources {
			if other.name == c.name {
				diags = append(diags, failureAt(c.typeAt, "builder with name '"+c.name+"' already exists",
					"The other is at %s. Give each builder a \"name\" of its own.", other.block))
			}
		}
		t.sources = append(t.sources, c)
	}
	return diags
}

func legacyParts(kind string, x hcl.Expression) ([]part, hcl.Diagnostics) {
	list, diags := hcl.ExprList(x)
	if diags.HasErrors() {
		return nil, hcl.Diagnostics{failureAt(x.Range(), "Not a list", "A list is required here.")}
	}
	var parts []part
	for _, one := range list {
		p, more := legacyPart(kind, one)
		diags = append(diags, more...)
		if p.typ != "" {
			parts = append(parts, p)
		}
	}
	return parts, diags
}

func legacyPart(kind string, x hcl.Expression) (part, hcl.Diagnostics) {
	p := part{kind: kind, at: x.StartRange(), typeAt: x.StartRange()}
	such := map[string]string{"provisioner": "shell", "post-processor": "manifest"}[kind]
	if kind == "post-processor" { // a post-processor may be no more than its type
		if v, more := x.Value(nil); !more.HasErrors() && v.Type() == cty.String && !v.IsNull() {
			p.typ, p.body = v.AsString(), &jsonBody{rng: x.Range()}
			if p.typ == "" {
				return p, hcl.Diagnostics{failureAt(x.Range(), "post-processor misses its type", "A post-processor is a type, such as \"manifest\", or an object that has one.")}
			}
			return p, nil
		}
	}
	body, diags := objectBody(x)
	p.body = body
	if m, ok := body.take("type"); ok {
		var more hcl.Diagnostics
		p.typeAt = m.value.Range()
		p.typ, more = looseText(m.value)
		diags = append(diags, more...)
	}
	if p.typ == "" && !diags.HasErrors() {
		diags = append(diags, failureAt(p.typeAt, kind+" misses key 'type'", "Every %s has a type, such as %q.", kind, such))
	}
	return p, diags
}

func legacyChains(x hcl.Expression) ([][]part, hcl.Diagnostics) {
	list, diags := hcl.ExprList(x)
	if diags.HasErrors() {
		return nil, hcl.Diagnostics{failureAt(x.Range(), "Not a list", "A list is required here.")}
	}
	var chains [][]part
	for _, one := range list {
		if _, not := hcl.ExprList(one); !not.HasErrors() {
			chain, more := legacyParts("post-processor", one)
			diags = append(diags, more...)
			chains = append(chains, chain)
			continue
		}
		p, more := legacyPart("post-processor", one)
		diags = append(diags, more...)
		if p.typ != "" {
			chains = append(chains, []part{p})
		}
	}
	return chains, diags
}

// legacyOutline reads the one build that a legacy template is.
func (e *evaluation) legacyOutline(b *build) (*outline, hcl.Diagnostics) {
	o := &outline{}
	var diags hcl.Diagnostics
	if len(e.t.sources) == 0 && !e.t.faulty {
		diags = append(diags, failureAt(b.at, "at least one builder must be defined", "The key \"builders\" holds no builder."))
	}
	builders := map[string]bool{}
	for i, c := range e.t.sources {
		u := use{source: c, name: c.name, at: c.block, index: i}
		secret := false
		name, err := interpolate.Render(c.name, interpolate.Context{
			Time: e.scope.pin.Time, Seed: e.scope.pin.Seed, User: e.user, Unknown: e.unknown, Version: e.scope.pin.version(),
			Spend: e.budget.Spend, Used: func(name string) { secret = secret || e.guarded[name] }, Lenient: true,
		})
		if secret {
			diags = append(diags, failureAt(c.block, "A name cannot be sensitive",
				"Names are shown, and cannot be hidden: this one is made of a sensitive value."))
		}
		if err != nil {
			diags = append(diags, failureAt(c.block, "Invalid builder name", "%s.", err))
		} else if name != c.name {
			named := *c
			named.name = name
			u.source, u.name = &named, name
		}
		builders[u.name] = true
		o.uses = append(o.uses, u)
	}
	read := func(raw part) *part {
		p, more := e.partOf(&raw, e.root())
		diags = append(diags, more...)
		for _, name := range append(append([]string{}, p.only...), p.except...) {
			if !builders[name] {
				diags = append(diags, failureAt(p.at, p.kind+" refers to builder '"+name+"', which does not exist", "\"only\" and \"except\" list names of builders."))
			}
		}
		for _, name := range overridden(p.override) {
			if !builders[name] {
				diags = append(diags, failureAt(p.overrideAt, p.kind+" overrides builder '"+name+"', which does not exist", "The keys of \"override\" are names of builders."))
			}
		}
		return p
	}
	for i, raw := range b.legacy.provisioners {
		p := read(raw)
		p.index[0] = i
		o.provisioners = append(o.provisioners, p)
	}
	if b.legacy.cleanup != nil {
		o.cleanup = read(*b.legacy.cleanup)
	}
	for _, raw := range b.legacy.chains {
		var chain []*part
		for _, one := range raw {
			chain = append(chain, read(one))
		}
		o.chain(chain)
	}
	return o, diags
}

// legacyVariables gives the user variables of a legacy template their values:
// the template's, then -var-file, then -var. All of them may hold {{ }}: that is
// rendered later, but for the environment, which is read now.
func (t *Template) legacyVariables(in Inputs) (Values, hcl.Diagnostics) {
	var diags hcl.Diagnostics
	out := Values{vars: map[string]cty.Value{}, env: map[string]string{}, raw: map[string]bool{}}
	set := func(name, value string) {
		// Like Packer, we do not mind one that is not declared: it can be used.
		out.vars[name] = cty.StringVal(value)
		if v := t.variable(name); v != nil && v.sensitive {
			out.vars[name] = out.vars[name].Mark(sensitive)
		}
		out.raw[name] = true
	}
	for _, v := range t.variables {
		if v.def == nil {
			continue
		}
		value, more := text(v.def)
		diags = append(diags, more...)
		if !more.HasErrors() {
			set(v.name, value)
		}
	}
	for _, name := range in.VarFiles {
		if d := t.unreadable(name); d != nil {
			diags = append(diags, d)
			continue
		}
		file, more := t.parseJSON(name)
		diags = append(diags, more...)
		if more.HasErrors() {
			continue
		}
		body, more := objectBody(file)
		diags = append(diags, more...)
		for _, m := range body.members {
			value := ""
			if !isNull(m.value) {
				diags = append(diags, legacyText(m.value, func(s string) hcl.Diagnostics { value = s; return nil })...)
			}
			set(m.name, value)
			if t.variable(m.name) == nil && in.WarnUndeclared {
				d := failureAt(m.at, "Undefined variable", "%s", t.undeclared(m.name))
				d.Severity = hcl.DiagWarning
				diags = append(diags, d)
			}
		}
	}
	for _, kv := range in.Vars {
		name, value, ok := strings.Cut(kv, "=")
		if !ok {
			diags = append(diags, failure("Invalid -var option", "-var %q must be of the form name=value.", kv))
			continue
		}
		set(name, value)
	}
	for _, v := range t.variables {
		value, ok := out.vars[v.name]
		switch {
		case !ok && v.def == nil && in.AllowUnset:
		case !ok && v.def == nil:
			diags = append(diags, failureAt(v.at, "required variable not set: "+v.name, "Set it with -var %s=VALUE or in a variable file (-var-file).", v.name))
		case ok && out.raw[v.name]:
			// Rendering finds out which of the environment it needs.
			plain, _ := value.Unmark()
			_, _ = interpolate.Render(plain.AsString(), interpolate.Context{
				User: map[string]string{}, BuildName: "-", BuildType: "-",
				Env: func(name string) string {
					out.env[name] = function.Getenv(in.Environ, name)
					return out.env[name]
				},
			})
			for _, name := range envCalls(plain.AsString()) {
				out.env[name] = function.Getenv(in.Environ, name)
			}
		}
	}
	return out, t.told(scrub(diags, secretsOf(out.vars)))
}

// text is a value of a legacy template as a string.
func text(x hcl.Expression) (string, hcl.Diagnostics) {
	v, diags := x.Value(nil)
	if diags.HasErrors() || v.IsNull() {
		return "", diags
	}
	s, err := looseString(v)
	if err != nil {
		return "", append(diags, failureAt(x.Range(), "Not a string", "A variable of a JSON template is a string."))
	}
	return s, diags
}
