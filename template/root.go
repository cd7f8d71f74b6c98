package template

import (
	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/gohcl"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
)

// rootSchema are the blocks that may stand at the top of a file.
var rootSchema = &hcl.BodySchema{Blocks: []hcl.BlockHeaderSchema{
	{Type: "packer"},
	{Type: "source", LabelNames: []string{"type", "name"}},
	{Type: "variable", LabelNames: []string{"name"}},
	{Type: "variables"},
	{Type: "locals"},
	{Type: "local", LabelNames: []string{"name"}},
	{Type: "data", LabelNames: []string{"type", "name"}},
	{Type: "build"},
	{Type: "hcp_packer_registry"},
	{Type: "communicator", LabelNames: []string{"type", "name"}},
}}

// read makes the model from the files of a template.
func (t *Template) read(bodies []hcl.Body) hcl.Diagnostics {
	var diags hcl.Diagnostics
	for _, body := range bodies {
		content, more := body.Content(rootSchema)
		diags = append(diags, more...)
		for _, b := range content.Blocks {
			switch b.Type {
			case "packer":
				diags = append(diags, t.readPacker(b)...)
			case "source", "data":
				diags = append(diags, t.readComponent(b)...)
			case "variable":
				diags = append(diags, t.readVariable(b)...)
			case "variables":
				diags = append(diags, t.readVariables(b)...)
			case "locals":
				diags = append(diags, t.readLocals(b)...)
			case "local":
				diags = append(diags, t.readLocal(b)...)
			case "build":
				t.builds = append(t.builds, &build{body: b.Body, at: b.DefRange})
			case "hcp_packer_registry":
				diags = append(diags, registryIgnored(b.DefRange))
			}
		}
	}
	return diags
}

func registryIgnored(at hcl.Range) *hcl.Diagnostic {
	d := failureAt(at, "hcp_packer_registry is ignored",
		"Bakehouse does not publish to the HCP Packer registry: the build runs as if this block were not there.")
	d.Severity = hcl.DiagWarning
	return d
}

func (t *Template) readComponent(b *hcl.Block) hcl.Diagnostics {
	c := &component{
		kind: b.Type, typ: b.Labels[0], name: b.Labels[1], body: b.Body,
		block: b.DefRange, typeAt: b.LabelRanges[0],
	}
	if diags := identifier(b, 1); diags != nil {
		return diags
	}
	list := &t.sources
	if b.Type == "data" {
		list = &t.data
	}
	if other, ok := t.named[b.Type+"."+c.ref()].(*component); ok {
		return hcl.Diagnostics{failureAt(b.DefRange, "Duplicate "+b.Type+" block",
			"This %s block has the same type and name as the one at %s. Every %s must have a name of its own within its type.",
			b.Type, other.block, b.Type)}
	}
	*list = append(*list, c)
	t.named[b.Type+"."+c.ref()] = c
	return nil
}

// identifier checks that a label can be referred to.
func identifier(b *hcl.Block, label int) hcl.Diagnostics {
	if hclsyntax.ValidIdentifier(b.Labels[label]) {
		return nil
	}
	return hcl.Diagnostics{failureAt(b.LabelRanges[label], "Invalid "+b.Type+" name",
		"%q is not an identifier: a name must start with a letter or underscore and may contain only letters, digits, underscores, and dashes.", b.Labels[label])}
}

func (t *Template) readLocals(b *hcl.Block) hcl.Diagnostics {
	attrs, diags := b.Body.JustAttributes()
	for _, a := range inOrder(attrs) {
		diags = append(diags, t.addLocal(&local{name: a.Name, expr: a.Expr, at: a.Range})...)
	}
	return diags
}

func (t *Template) readLocal(b *hcl.Block) hcl.Diagnostics {
	diags := identifier(b, 0)
	content, more := b.Body.Content(&hcl.BodySchema{Attributes: []hcl.AttributeSchema{
		{Name: "expression", Required: true}, {Name: "sensitive"},
	}})
	diags = append(diags, more...)
	l := &local{name: b.Labels[0], at: b.DefRange}
	if a, ok := content.Attributes["sensitive"]; ok {
		diags = append(diags, gohcl.DecodeExpression(a.Expr, nil, &l.sensitive)...)
	}
	if a, ok := content.Attributes["expression"]; ok {
		l.expr = a.Expr
	} else {
		l.expr = hcl.StaticExpr(cty.DynamicVal, b.DefRange) // reported as missing
	}
	return append(diags, t.addLocal(l)...)
}

func (t *Template) addLocal(l *local) hcl.Diagnostics {
	if other, ok := t.named["local."+l.name].(*local); ok {
		return hcl.Diagnostics{failureAt(l.at, "Duplicate local definition",
			"Local %q is already defined at %s.", l.name, other.at)}
	}
	t.locals = append(t.locals, l)
	t.named["local."+l.name] = l
	return nil
}
