package template

import (
	"maps"
	"math/big"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"

	"github.com/bakehouse-farm/bakehouse"
	"github.com/bakehouse-farm/bakehouse/template/interpolate"
	"github.com/bakehouse-farm/bakehouse/template/limit"
	"github.com/bakehouse-farm/bakehouse/template/schema"
)

// An outline is what a build block says, short of the components' arguments.
type outline struct {
	index       int // of the build block
	name        string
	description string
	// mentions are the sources that it names, "type.name", also those that are
	// not there.
	mentions     []string
	uses         []use
	provisioners []*part
	cleanup      *part
	chains       [][]*part
}

// A use is one source of a build block: it becomes one build.
type use struct {
	source *component
	// name is the source's name within the build block.
	name string
	// extra are the arguments that the build block adds; may be nil.
	extra hcl.Body
	at    hcl.Range
	index int
}

// key is what only and except of a block name.
func (u use) key(legacy bool) string {
	if legacy {
		return u.name
	}
	return u.source.typ + "." + u.name
}

// shown is the build's name as the user sees it.
func (o *outline) shown(u use, legacy bool) BuildName {
	switch {
	case legacy && u.name == u.source.typ:
		return u.name
	case o.name != "":
		return o.name + "." + u.source.typ + "." + u.name
	}
	return u.source.typ + "." + u.name
}

// A part is a provisioner or a post-processor of a build block.
type part struct {
	kind, typ  string
	body       hcl.Body
	at, typeAt hcl.Range
	index      [2]int
	meta
}

// meta are the arguments that every provisioner or post-processor takes.
type meta struct {
	name         string
	only, except []string
	override     cty.Value
	overrideAt   hcl.Range
	// refs are what override refers to.
	refs                 []hcl.Traversal
	pauseBefore, timeout bakehouse.Duration
	maxRetries           int
	continueOnError      bool
	keep                 *bool
}

// appliesTo tells whether only and except let the part run for a source.
func (m meta) appliesTo(key string) bool {
	contains := func(list []string) bool {
		for _, s := range list {
			if s == key {
				return true
			}
		}
		return false
	}
	if len(m.only) > 0 {
		return contains(m.only)
	}
	return !contains(m.except)
}

var typeLabel = []string{"type"}

var buildSchema = &hcl.BodySchema{
	Attributes: []hcl.AttributeSchema{{Name: "name"}, {Name: "description"}, {Name: "sources"}, {Name: "from"}},
	Blocks: []hcl.BlockHeaderSchema{
		{Type: "source", LabelNames: []string{"reference"}},
		{Type: "provisioner", LabelNames: typeLabel},
		{Type: "error-cleanup-provisioner", LabelNames: typeLabel},
		{Type: "post-processor", LabelNames: typeLabel},
		{Type: "post-processors"},
		{Type: "hcp_packer_registry"},
	},
}

var chainSchema = &hcl.BodySchema{Blocks: []hcl.BlockHeaderSchema{{Type: "post-processor", LabelNames: typeLabel}}}

var (
	provisionerMeta   = attributes("name", "only", "except", "override", "pause_before", "max_retries", "timeout", "continue_on_error")
	legacyMeta        = attributes("only", "except", "override", "pause_before", "max_retries", "timeout")
	postProcessorMeta = attributes("name", "only", "except", "keep_input_artifact")
)

func attributes(names ...string) *hcl.BodySchema {
	s := &hcl.BodySchema{}
	for _, n := range names {
		s.Attributes = append(s.Attributes, hcl.AttributeSchema{Name: n})
	}
	return s
}

// outlines reads the build blocks. A template without any is an error.
func (e *evaluation) outlines() ([]*outline, hcl.Diagnostics) {
	var diags hcl.Diagnostics
	if len(e.t.builds) == 0 && e.t.faulty {
		return nil, nil // it may be in what could not be read
	}
	if len(e.t.builds) == 0 {
		d := failure("Missing build block", "A build block with one or more sources is required for executing a build: build { sources = [\"source.TYPE.NAME\"] }.")
		if e.t.first != "" {
			d.Subject = &hcl.Range{Filename: e.t.first, Start: hcl.InitialPos, End: hcl.InitialPos}
		}
		return nil, hcl.Diagnostics{d}
	}
	var all []*outline
	builds := 0
	for i, b := range e.t.builds {
		read := e.outline
		if b.legacy != nil {
			read = e.legacyOutline
		}
		o, more := read(b)
		diags = append(diags, more...)
		o.index = i
		all = append(all, o)
		if builds += len(o.uses); builds > limit.Builds {
			return nil, append(diags, failureAt(b.at, "Template has too many builds", "A template may have %d builds: each source of a build block is one.", limit.Builds))
		}
	}
	return all, diags
}

func (e *evaluation) outline(b *build) (*outline, hcl.Diagnostics) {
	o := &outline{}
	ctx := e.root()
	content, diags := e.expand(b.body, ctx).Content(buildSchema)
	if a, ok := content.Attributes["name"]; ok {
		more := e.into(a, ctx, cty.String, func(v cty.Value) { o.name = v.AsString() })
		diags = append(diags, more...)
	}
	if a, ok := content.Attributes["description"]; ok {
		diags = append(diags, e.into(a, ctx, cty.String, func(v cty.Value) { o.description = v.AsString() })...)
	}
	if a, ok := content.Attributes["sources"]; ok {
		diags = append(diags, e.listed(a, ctx, o)...)
	}
	mentioned := content.Attributes["sources"] != nil
	for _, block := range content.Blocks {
		switch block.Type {
		case "source":
			mentioned = true
			diags = append(diags, e.use(block, ctx, o)...)
		case "provisioner":
			p, more := e.part(block, ctx)
			diags = append(diags, more...)
			p.index[0] = len(o.provisioners)
			o.provisioners = append(o.provisioners, p)
		case "error-cleanup-provisioner":
			p, more := e.part(block, ctx)
			diags = append(diags, more...)
			if o.cleanup != nil {
				diags = append(diags, failureAt(block.DefRange, "Duplicate error-cleanup-provisioner",
					"Only one error-cleanup-provisioner is allowed in a build block; the first is at %s.", o.cleanup.at))
				continue
			}
			p.index[0] = -1
			o.cleanup = p
		case "post-processor":
			p, more := e.part(block, ctx)
			diags = append(diags, more...)
			o.chain([]*part{p})
		case "post-processors":
			inner, more := block.Body.Content(chainSchema)
			diags = append(diags, more...)
			var chain []*part
			for _, one := range inner.Blocks {
				p, more := e.part(one, ctx)
				diags = append(diags, more...)
				chain = append(chain, p)
			}
			if len(chain) > 0 {
				o.chain(chain)
			}
		case "hcp_packer_registry":
			diags = append(diags, registryIgnored(block.DefRange))
		}
	}
	if !mentioned {
		diags = append(diags, failureAt(b.at, "missing source reference",
			"A build block must name at least one source: sources = [\"source.TYPE.NAME\"]."))
	}
	return o, diags
}

func (o *outline) chain(parts []*part) {
	for i, p := range parts {
		p.index = [2]int{len(o.chains), i}
	}
	o.chains = append(o.chains, parts)
}

// into evaluates an attribute that shapes the build and so has to be known. A
// null is as if the attribute were not there, where Packer takes one: for lists,
// and in legacy templates.
func (e *evaluation) into(a *hcl.Attribute, ctx *hcl.EvalContext, typ cty.Type, set func(cty.Value)) hcl.Diagnostics {
	v, diags := a.Expr.Value(e.at(ctx, "build."+a.Name))
	if diags.HasErrors() {
		return diags
	}
	if a.Name == "name" && v.ContainsMarked() {
		// Names go where nothing is masked: into tags, lists, the farm's database.
		return append(diags, failureAt(a.Expr.Range(), "A name cannot be sensitive",
			"Names are shown, and cannot be hidden: this one is made of a sensitive value."))
	}
	v, _ = v.UnmarkDeep()
	if e.t.legacy {
		var err error
		if v, err = schema.EachString(v, func(s string) (string, error) { return e.render("build", interpolate.Context{})(a.Name, s, false) }); err != nil {
			return append(diags, failureAt(a.Expr.Range(), "Invalid {{ }} expression", "Argument %q: %s.", a.Name, err))
		}
	}
	conv, err := limit.Convert(v, typ)
	if err != nil && e.t.legacy {
		conv, err = schema.Loose(v, typ)
	}
	switch {
	case err != nil:
		return append(diags, failureAt(a.Expr.Range(), "Incorrect attribute value type",
			"Inappropriate value for attribute %q: %s.", a.Name, err))
	case !conv.IsWhollyKnown():
		return append(diags, failureAt(a.Expr.Range(), "Value is not known yet",
			"The argument %q shapes the build: it cannot depend on what is known only later, such as the clock, a data source or the machine.", a.Name))
	case !e.t.legacy && a.Name != "keep_input_artifact" && hasNull(conv):
		return append(diags, failureAt(a.Expr.Range(), "Unsuitable value type",
			"The argument %q must not be null, nor hold a null: leave it out instead.", a.Name))
	case !conv.IsNull():
		set(conv)
	}
	return diags
}

// hasNull tells whether v is null, or one of its elements is. A list that is
// null as a whole is an empty one.
func hasNull(v cty.Value) bool {
	if v.IsNull() {
		return v.Type().IsPrimitiveType()
	}
	return v.Type().IsListType() && slices.ContainsFunc(v.AsValueSlice(), cty.Value.IsNull)
}

// listed reads the argument sources of a build block.
func (e *evaluation) listed(a *hcl.Attribute, ctx *hcl.EvalContext, o *outline) hcl.Diagnostics {
	exprs, not := hcl.ExprList(a.Expr)
	if not.HasErrors() { // not written out: a variable, a function
		return e.into(a, ctx, cty.List(cty.String), func(v cty.Value) {
			for _, s := range v.AsValueSlice() {
				if !s.IsNull() {
					exprs = append(exprs, hcl.StaticExpr(s, a.Expr.Range()))
				}
			}
		}).Extend(e.references(exprs, ctx, o))
	}
	return e.references(exprs, ctx, o)
}

func (e *evaluation) references(exprs []hcl.Expression, ctx *hcl.EvalContext, o *outline) hcl.Diagnostics {
	var diags hcl.Diagnostics
	for _, x := range exprs {
		// source.TYPE.NAME may stand there without quotes.
		if way, not := hcl.AbsTraversalForExpr(x); !not.HasErrors() && (way.RootName() == "source" || way.RootName() == "sources") {
			typ, _ := attrStep(way, 1)
			name, _ := attrStep(way, 2)
			diags = append(diags, e.refer(typ+"."+name, x.Range(), o, "", nil)...)
			continue
		}
		attr := &hcl.Attribute{Name: "sources", Expr: x}
		diags = append(diags, e.into(attr, ctx, cty.String, func(v cty.Value) {
			diags = append(diags, e.refer(v.AsString(), x.Range(), o, "", nil)...)
		})...)
	}
	return diags
}

// use reads a source block within a build block.
func (e *evaluation) use(b *hcl.Block, ctx *hcl.EvalContext, o *outline) hcl.Diagnostics {
	content, rest, diags := b.Body.PartialContent(attributes("name"))
	name := ""
	if a, ok := content.Attributes["name"]; ok {
		diags = append(diags, e.into(a, ctx, cty.String, func(v cty.Value) { name = v.AsString() })...)
	}
	return append(diags, e.refer(b.Labels[0], b.LabelRanges[0], o, name, rest)...)
}

// refer adds the source that ref names to the build block.
func (e *evaluation) refer(ref string, at hcl.Range, o *outline, name string, extra hcl.Body) hcl.Diagnostics {
	parts := strings.Split(ref, ".")
	if len(parts) > 2 { // whatever stands before the type, as in Packer
		parts = parts[1:]
	}
	if len(parts) < 2 || parts[0] == "" || parts[1] == "" {
		return hcl.Diagnostics{failureAt(at, "Invalid source reference",
			"%q must be of the form source.TYPE.NAME or TYPE.NAME.", ref)}
	}
	want := parts[0] + "." + parts[1]
	o.mentions = append(o.mentions, want)
	var known []string
	for _, s := range e.t.sources {
		if s.ref() == want {
			u := use{source: s, name: name, extra: extra, at: at, index: len(o.uses)}
			if name == "" {
				u.name = s.name
			}
			o.uses = append(o.uses, u)
			return nil
		}
		known = append(known, s.ref())
	}
	d := failureAt(at, "Unknown source "+want, "No source block of that type and name is in the template.")
	if near := schema.Nearest(want, known); near != "" {
		d.Detail += " Did you mean \"source." + near + "\"?"
	} else if len(known) > 0 {
		d.Detail += " Known: " + strings.Join(known, ", ") + "."
	}
	return hcl.Diagnostics{d}
}

// part reads a provisioner or post-processor block, but for the component's
// own arguments.
func (e *evaluation) part(b *hcl.Block, ctx *hcl.EvalContext) (*part, hcl.Diagnostics) {
	return e.partOf(&part{kind: b.Type, typ: b.Labels[0], body: b.Body, at: b.DefRange, typeAt: b.LabelRanges[0]}, ctx)
}

func (e *evaluation) partOf(p *part, ctx *hcl.EvalContext) (*part, hcl.Diagnostics) {
	metas := provisionerMeta
	if e.t.legacy {
		metas = legacyMeta
	}
	if p.kind == "post-processor" {
		metas = postProcessorMeta
	}
	content, rest, diags := p.body.PartialContent(metas)
	p.body = rest
	if b, ok := rest.(*jsonBody); ok {
		b.fold = true
		if p.kind == "post-processor" {
			diags = append(diags, strictMeta(content.Attributes)...)
		}
	}
	text := func(into *string) func(cty.Value) { return func(v cty.Value) { *into = v.AsString() } }
	list := func(into *[]string) func(cty.Value) {
		return func(v cty.Value) {
			for _, s := range v.AsValueSlice() {
				text := "" // which a null is in a legacy template; HCL has none
				if !s.IsNull() {
					text = s.AsString()
				}
				*into = append(*into, text)
			}
		}
	}
	for _, a := range inOrder(content.Attributes) {
		var more hcl.Diagnostics
		switch a.Name {
		case "name":
			more = e.into(a, ctx, cty.String, text(&p.name))
		case "only":
			more = e.into(a, ctx, cty.List(cty.String), list(&p.only))
		case "except":
			more = e.into(a, ctx, cty.List(cty.String), list(&p.except))
		case "pause_before":
			more = e.duration(a, ctx, &p.pauseBefore)
		case "timeout":
			more = e.duration(a, ctx, &p.timeout)
		case "max_retries":
			exact := big.Exact
			more = e.into(a, ctx, cty.Number, func(v cty.Value) {
				var n int64
				n, exact = v.AsBigFloat().Int64()
				p.maxRetries = int(n)
			})
			if exact != big.Exact {
				more = append(more, failureAt(a.Expr.Range(), "Unsuitable value type", "The argument \"max_retries\" must be a whole number."))
			}
		case "continue_on_error":
			more = e.into(a, ctx, cty.Bool, func(v cty.Value) { p.continueOnError = v.True() })
		case "keep_input_artifact":
			more = e.into(a, ctx, cty.Bool, func(v cty.Value) {
				keep := v.True()
				p.keep = &keep
			})
		case "override":
			p.overrideAt, p.refs = a.Expr.Range(), a.Expr.Variables()
			p.override, more = a.Expr.Value(e.at(ctx, "override"))
			if list, ok := soleElement(p.override); ok && e.t.legacy {
				p.override = list
			}
			if !more.HasErrors() {
				more = append(more, shapeOfOverride(p.override, p.overrideAt)...)
			}
			if more.HasErrors() {
				p.override = cty.NilVal
			}
		}
		diags = append(diags, more...)
	}
	if len(p.only) > 0 && len(p.except) > 0 {
		diags = append(diags, failureAt(p.at, "Both only and except are set", "Only one of \"only\" or \"except\" may be specified."))
	}
	return p, diags
}

// shapeOfOverride checks that an override holds an object for each source that
// it names. An empty list is an empty object, as in Packer.
func shapeOfOverride(v cty.Value, at hcl.Range) hcl.Diagnostics {
	wrong := hcl.Diagnostics{failureAt(at, "provisioner's override block must be an HCL object",
		"An override is an object whose keys are the names of sources: { NAME = { argument = value } }.")}
	v, _ = v.Unmark()
	ty := v.Type()
	if v.IsNull() || !v.IsKnown() || ty.Equals(cty.EmptyTuple) {
		return nil
	}
	if !ty.IsObjectType() && !ty.IsMapType() {
		return wrong
	}
	for it := v.ElementIterator(); it.Next(); {
		_, one := it.Element()
		if ty := one.Type(); ty != cty.DynamicPseudoType && !ty.IsObjectType() && !ty.IsMapType() {
			return wrong
		}
	}
	return nil
}

// soleElement is the one element of a list that has one.
func soleElement(v cty.Value) (cty.Value, bool) {
	if v.IsMarked() || !v.Type().IsTupleType() || v.LengthInt() != 1 {
		return v, false
	}
	return v.Index(cty.Zero), true
}

// overridden are the sources that an override names.
func overridden(v cty.Value) []string {
	if v == cty.NilVal {
		return nil
	}
	v, _ = v.Unmark()
	if v.IsNull() || !v.IsKnown() || !v.Type().IsObjectType() {
		return nil
	}
	return slices.Sorted(maps.Keys(v.Type().AttributeTypes()))
}

func (e *evaluation) duration(a *hcl.Attribute, ctx *hcl.EvalContext, into *bakehouse.Duration) hcl.Diagnostics {
	var bad hcl.Diagnostics
	if v, more := a.Expr.Value(nil); e.t.legacy && !more.HasErrors() {
		a.Expr = hcl.StaticExpr(schema.Nanoseconds(v), a.Expr.Range())
	}
	diags := e.into(a, ctx, cty.String, func(v cty.Value) {
		if v.AsString() == "" && !e.t.legacy {
			return
		}
		d, err := time.ParseDuration(v.AsString())
		if err != nil {
			bad = append(bad, failureAt(a.Expr.Range(), "Failed to parse "+a.Name+" duration",
				"%q is not a duration such as \"90s\", \"5m\" or \"1h30m\".", v.AsString()))
		}
		*into = bakehouse.Duration(d)
	})
	return append(diags, bad...)
}
