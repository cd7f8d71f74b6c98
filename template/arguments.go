package template

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"

	"github.com/bakehouse-farm/bakehouse/template/interpolate"
	"github.com/bakehouse-farm/bakehouse/template/known"
	"github.com/bakehouse-farm/bakehouse/template/schema"
)

// definitionOf returns what configures a part, or what is to be said about
// there being nothing.
func (e *evaluation) definitionOf(p *part) (*definition, *hcl.Diagnostic) {
	from, kind := e.t.cat.Provisioners, known.Provisioner
	if p.kind == "post-processor" {
		from, kind = e.t.cat.PostProcessors, known.PostProcessor
	}
	return e.define(kind, p.typ, p.typeAt, from[p.typ], names(from))
}

// sourceArguments evaluates the settings of a build's builder.
func (e *evaluation) sourceArguments(c chosen) (*schema.Arguments, hcl.Diagnostics) {
	src := c.use.source
	def, d := e.define(known.Builder, src.typ, src.typeAt, e.t.cat.Builders[src.typ], names(e.t.cat.Builders))
	if d != nil {
		return nil, hcl.Diagnostics{d}
	}
	e.lacks(def, src.typeAt, c.name)
	if def.schema == nil {
		return nil, nil
	}
	ctx := e.root()
	body := c.use.source.body
	if c.use.extra != nil {
		body = hcl.MergeBodies([]hcl.Body{body, c.use.extra})
	}
	// Two uses of one source are two sites: they are two builds.
	site := c.site() + ".source"
	e.needs(def.schema.Variables(body), c.name)
	args, diags := def.schema.Decode(e.expand(body, ctx), e.reading(ctx, site))
	args.Range = c.use.source.block
	diags = def.dated(diags)
	diags = append(diags, args.Render(e.render(site, e.context(c.use, nil)))...)
	args.Secrets(e.secret)
	diags = append(diags, args.Missing()...)
	return args, append(diags, e.findings(def, args)...)
}

// context is what {{ }} in the settings of a build's components may see.
// build is nil in a builder.
func (e *evaluation) context(u use, build map[string]string) interpolate.Context {
	c := interpolate.Context{BuildName: u.source.name, BuildType: u.source.typ}
	if strings.HasPrefix(u.source.typ, "amazon-") && build == nil {
		c.Clean = interpolate.CleanAMIName
	}
	if e.t.legacy {
		c.Build = build
	}
	return c
}

// partArguments evaluates the arguments of a provisioner or post-processor for
// one build. build is nil while nothing is known of the machine.
func (e *evaluation) partArguments(p *part, c chosen, build map[string]string) (*schema.Arguments, hcl.Diagnostics) {
	def, d := e.definitionOf(p)
	if d != nil {
		return nil, hcl.Diagnostics{d}
	}
	e.lacks(def, p.typeAt, c.name)
	e.needs(p.refs, c.name)
	if def.schema == nil {
		return nil, nil
	}
	ctx := e.root().NewChild()
	ctx.Variables = map[string]cty.Value{
		"source": cty.ObjectVal(map[string]cty.Value{
			"type": cty.StringVal(c.use.source.typ),
			"name": cty.StringVal(c.use.name),
		}),
		"build": e.buildObject(c.use, build),
	}
	site := fmt.Sprintf("%s.%s.%d.%d", c.site(), p.kind, p.index[0], p.index[1])
	e.needs(def.schema.Variables(p.body), c.name)
	args, diags := def.schema.Decode(e.expand(p.body, ctx), e.reading(ctx, site))
	args.Range = p.at
	diags = def.dated(diags)
	if p.override != cty.NilVal {
		diags = append(diags, e.override(args, p, c.use)...)
	}
	render := e.render(site, e.context(c.use, orEmpty(build)))
	if e.t.legacy && build == nil {
		known, there := render, e.buildObject(c.use, nil)
		render = func(arg, s string, late bool) (string, error) {
			calls := callsBuild.FindAllStringSubmatch(s, -1)
			for _, call := range calls {
				if name := call[1] + call[2]; !there.Type().HasDynamicTypes() && !there.Type().HasAttribute(name) {
					return "", fmt.Errorf("no builder tells a build %q", name)
				}
			}
			if len(calls) > 0 && !late {
				return "", schema.ErrUnknown
			}
			return known(arg, s, late)
		}
	}
	diags = append(diags, args.Render(render)...)
	args.Secrets(e.secret)
	diags = append(diags, args.Missing()...)
	return args, append(diags, e.findings(def, args)...)
}

// callsBuild finds {{build `ID`}} in a legacy template.
var callsBuild = regexp.MustCompile("{{[^}]*\\bbuild\\s+(?:`([^`]*)`|\"([^\"]*)\")")

func orEmpty(m map[string]string) map[string]string {
	if m == nil {
		return map[string]string{}
	}
	return m
}

// site tells a build from all others of the template, also from a second one
// of the same name.
func (c chosen) site() string {
	return fmt.Sprintf("%d.%d.%s", c.outline.index, c.use.index, c.name)
}

// override applies what the block says about one source.
func (e *evaluation) override(args *schema.Arguments, p *part, u use) hcl.Diagnostics {
	obj, marks := p.override.Unmark()
	ty := obj.Type()
	if obj.IsNull() || !obj.IsKnown() {
		return nil
	}
	if !ty.IsObjectType() && !ty.IsMapType() { // which partOf has reported
		return nil
	}
	byName := obj.AsValueMap()
	for _, name := range []string{u.name, u.source.name} {
		if v, ok := byName[name]; ok {
			// Packer knows no types here, also in HCL: it takes values as loosely as
			// in a legacy template.
			return args.Override(v.WithMarks(marks), p.overrideAt, true)
		}
	}
	return nil
}

// logins are the members of build that let somebody in.
var logins = []string{"Password", "SSHPrivateKey", "WinRMPassword"}

// standard are the members of build that every machine has.
var standard = []string{
	"name", "ID", "Host", "Port", "User", "Password", "ConnType", "PackerRunUUID",
	"PackerHTTPIP", "PackerHTTPPort", "PackerHTTPAddr", "SSHPublicKey", "SSHPrivateKey", "WinRMPassword",
	"SSHPrivateKeyFile", "SSHAgentAuth",
}

// generated are those that builders add, by the beginning of their type.
var generated = map[string][]string{
	"amazon-": {
		"BuildRegion", "SourceAMI", "SourceAMIName", "SourceAMICreationDate",
		"SourceAMIOwner", "SourceAMIOwnerName", "Device", "MountPath",
	},
	"null": {},
	"file": {},
}

// buildObject is what expressions see as build. While nothing is known of the
// machine, it has the members that there will be, unknown. Which ones that are
// is not known of every builder: then any name will do.
func (e *evaluation) buildObject(u use, known map[string]string) cty.Value {
	obj := map[string]cty.Value{}
	if known != nil {
		for _, name := range standard {
			obj[name] = cty.StringVal("")
		}
		obj["name"] = cty.StringVal(u.source.name)
		obj["PackerRunUUID"] = cty.StringVal(e.scope.pin.RunUUID)
		for name, s := range known {
			obj[name] = cty.StringVal(s)
			if s != "" && slices.Contains(logins, name) {
				obj[name] = obj[name].Mark(sensitive)
				e.secret(s)
			}
		}
		return cty.ObjectVal(obj)
	}
	for prefix, more := range generated {
		if strings.HasPrefix(u.source.typ, prefix) {
			for _, name := range append(append([]string{}, standard...), more...) {
				obj[name] = cty.UnknownVal(cty.String)
			}
			return cty.ObjectVal(obj)
		}
	}
	return cty.DynamicVal
}

// settled returns the settings of arguments that must all be known by now.
func settled(args *schema.Arguments) ([]byte, hcl.Diagnostics) {
	settings, unknown, err := args.JSON()
	if err == nil && len(unknown) > 0 {
		err = errors.New("these arguments are still not known: " + strings.Join(unknown, ", "))
	}
	if err != nil {
		return nil, hcl.Diagnostics{failureAt(args.Range, "Settings cannot be evaluated", "%s.", err)}
	}
	return settings, nil
}
