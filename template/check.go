package template

import (
	"context"
	"encoding/json"
	"os"

	"github.com/hashicorp/hcl/v2"

	"github.com/bakehouse-farm/bakehouse/template/schema"
)

// Check finds everything wrong that can be found without network: data sources
// are not asked, and what depends on them or on the machine is not known. That
// the selection leaves no build is no error here, as in Packer.
//
// A component that Packer or a plugin for it has, but this farm cannot run, is
// checked as far as it is known, and a warning says so.
func (t *Template) Check(v Values, sel Selection, pin Pinned) hcl.Diagnostics {
	return t.evaluation(v, pin).check(sel)
}

// CheckBuild is Check for a template that is about to be built: what this farm
// cannot run is an error when a selected build needs it.
func (t *Template) CheckBuild(v Values, sel Selection, pin Pinned) hcl.Diagnostics {
	e := t.evaluation(v, pin)
	e.building = true
	return e.check(sel)
}

// CheckAsking is Check that really reads the data sources, and asks the servers
// that functions ask, from this computer and with the credentials that its
// environment holds. Nothing of what they say is kept. A data source that this
// farm cannot read is an error.
func (t *Template) CheckAsking(ctx context.Context, v Values, sel Selection, pin Pinned) hcl.Diagnostics {
	e := t.evaluation(v, pin)
	e.within(ctx)
	diags := e.check(sel)
	for _, d := range t.data {
		if e.mute["data."+d.ref()] != nil {
			diags = append(diags, failureAt(d.block, "Data source was not read", "This farm cannot read data sources of type %q yet.", d.typ))
		}
	}
	return ordered(diags)
}

func (e *evaluation) check(sel Selection) hcl.Diagnostics {
	diags := e.valuate()
	diags = append(diags, e.each(sel, func(chosen, *part, *schema.Arguments) {})...)
	diags = append(diags, e.strays()...)
	return e.polish(append(diags, e.reportGaps()...))
}

// each evaluates the components of the selected builds as far as they are known
// and calls see with each: with a nil part for the builder. Components whose
// arguments could not be read at all are left out.
func (e *evaluation) each(sel Selection, see func(chosen, *part, *schema.Arguments)) hcl.Diagnostics {
	outlines, diags := e.outlines()
	list, except, more := e.choose(outlines, sel)
	diags = append(diags, more...)
	for _, c := range list {
		args, more := e.sourceArguments(c)
		diags = append(diags, more...)
		if args != nil {
			see(c, nil, args)
		}
		for _, p := range e.parts(c, except) {
			args, more := e.partArguments(p, c, nil)
			diags = append(diags, more...)
			if args != nil {
				see(c, p, args)
			}
		}
	}
	return diags
}

// parts are the provisioners and post-processors that apply to a build.
func (e *evaluation) parts(c chosen, except *matcher) []*part {
	key := c.use.key(e.t.legacy)
	var list []*part
	for _, p := range c.outline.provisioners {
		if p.appliesTo(key) {
			list = append(list, p)
		}
	}
	if p := c.outline.cleanup; p != nil && p.appliesTo(key) {
		list = append(list, p)
	}
	for _, chain := range c.outline.chains {
		list = append(list, sequence(chain, key, except)...)
	}
	return list
}

// sequence is what is left of a sequence of post-processors for one source. One
// that -except names ends it there.
func sequence(chain []*part, key string, except *matcher) []*part {
	var list []*part
	for _, p := range chain {
		if !p.appliesTo(key) {
			continue
		}
		name := p.name
		if name == "" {
			name = p.typ
		}
		if except.match(name) {
			break
		}
		list = append(list, p)
	}
	return list
}

// LocalFiles names the local files and folders that the selected builds need on
// the agent, as the template writes them, and that exist: those that arguments
// name and those that functions read. The template's own files, which travel
// anyway, are not all in it.
func (t *Template) LocalFiles(v Values, sel Selection, pin Pinned) []string {
	e := t.evaluation(v, pin)
	var list []string
	seen := map[string]bool{}
	add := func(name string) {
		if name == "" || seen[name] {
			return
		}
		seen[name] = true
		if _, err := os.Stat(t.files.Path(name)); err == nil {
			list = append(list, name)
		}
	}
	e.reads = add
	_ = e.valuate()
	_ = e.each(sel, func(_ chosen, p *part, args *schema.Arguments) {
		// What is downloaded is on the machine; a file of that name here is none
		// of the build's business.
		if d, ok := args.Value("direction"); ok && p != nil && p.typ == "file" && schema.Is(d, "download") {
			return
		}
		args.Files(add)
	})
	return list
}

// Writes collects what writes says that the post-processors of all builds will
// write. Post-processors whose arguments are not known yet are asked with what
// is known of them.
func (t *Template) Writes(v Values, pin Pinned, writes func(typ string, settings json.RawMessage) []string) []string {
	e := t.evaluation(v, pin)
	_ = e.valuate()
	var list []string
	seen := map[string]bool{}
	_ = e.each(Selection{}, func(_ chosen, p *part, args *schema.Arguments) {
		if p == nil || p.kind != "post-processor" {
			return
		}
		settings, _, err := args.JSON()
		if err != nil {
			return
		}
		for _, name := range writes(p.typ, settings) {
			if !seen[name] {
				seen[name] = true
				list = append(list, name)
			}
		}
	})
	return list
}
