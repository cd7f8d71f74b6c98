package template

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"

	"github.com/bakehouse-farm/bakehouse/template/limit"
	"github.com/bakehouse-farm/bakehouse/template/schema"
)

// WriteDiagnostics writes diagnostics with file, line and the source lines they
// are about, each once. A width of 0 means that lines are not wrapped. Values
// that are sensitive are not shown.
func WriteDiagnostics(w io.Writer, diags hcl.Diagnostics, t *Template, color bool, width int) {
	var files map[string]*hcl.File
	if t != nil {
		files = t.parsed
	}
	for _, d := range diags {
		if _, err := w.Write(shown(excerpt(d, files), files, color, width)); err != nil {
			return // the reader has gone: there is nobody to tell
		}
	}
}

// maxExcerpt is how many bytes of source are shown with a diagnostic.
const maxExcerpt = 4096

// excerpt is d such that little is shown of a file with very long lines, and
// of a block of very many.
func excerpt(d *hcl.Diagnostic, files map[string]*hcl.File) *hcl.Diagnostic {
	if d.Subject == nil || files[d.Subject.Filename] == nil {
		return d
	}
	src := files[d.Subject.Filename].Bytes
	if c := d.Context; c != nil && lines(src, *c) > maxExcerpt {
		short := *d
		short.Context = nil
		d = &short
	}
	if lines(src, *d.Subject) <= maxExcerpt {
		return d
	}
	short := *d
	subject := *d.Subject
	subject.End = subject.Start
	short.Subject = &subject
	if lines(src, subject) > maxExcerpt { // then no more than its place
		short.Detail += fmt.Sprintf("\n\n(Column %d of a line that is too long to be shown.)", subject.Start.Column)
		short.Subject = nil
		short.Summary = fmt.Sprintf("%s: %s", subject, short.Summary)
	}
	return &short
}

// lines is how many bytes the lines have that a range touches.
func lines(src []byte, r hcl.Range) int {
	start, end := min(max(r.Start.Byte, 0), len(src)), min(max(r.End.Byte, 0), len(src))
	if end < start {
		end = start
	}
	from := bytes.LastIndexByte(src[:start], '\n') + 1
	to := bytes.IndexByte(src[end:], '\n')
	if to < 0 {
		to = len(src) - end
	}
	return end + to - from
}

// polish makes diagnostics fit to be shown: each once, with a hint where a name
// is misspelt, and without secrets.
func (e *evaluation) polish(diags hcl.Diagnostics) hcl.Diagnostics {
	var out hcl.Diagnostics
	seen := map[string]bool{}
	for _, d := range e.t.told(diags) {
		if d.Subject != nil && d.Subject.Filename == "" && e.t.faulty {
			continue // of an expression that hcl could not read to its end, which was told
		}
		d = e.hint(d)
		if key := identity(d); !seen[key] {
			seen[key] = true
			out = append(out, d)
		}
	}
	return ordered(scrub(out, e.secrets))
}

// identity tells diagnostics from each other.
func identity(d *hcl.Diagnostic) string {
	at := ""
	if d.Subject != nil {
		at = d.Subject.String()
	}
	return fmt.Sprint(d.Severity, d.Summary, "\x00", d.Detail, "\x00", at)
}

// told are the diagnostics that are worth telling at once, in order: when
// thousands of things are wrong, the first hundred help and the rest hides them.
func (t *Template) told(diags hcl.Diagnostics) hcl.Diagnostics {
	diags = ordered(diags)
	const most = limit.Errors
	if len(diags) <= most {
		return diags
	}
	seen := map[string]bool{}
	left := map[hcl.DiagnosticSeverity]int{hcl.DiagError: most, hcl.DiagWarning: most}
	more := map[hcl.DiagnosticSeverity]int{}
	var out hcl.Diagnostics
	for _, d := range diags {
		key := identity(d)
		if seen[key] {
			continue
		}
		if left[d.Severity] == 0 {
			more[d.Severity]++
			continue
		}
		seen[key] = true
		left[d.Severity]--
		out = append(out, d)
	}
	if n := more[hcl.DiagError]; n > 0 {
		out = append(out, failure("Too many errors", "There are up to %d more; correct these first.", n))
	}
	if n := more[hcl.DiagWarning]; n > 0 {
		d := failure("Too many warnings", "There are up to %d more.", n)
		d.Severity = hcl.DiagWarning
		out = append(out, d)
	}
	return out
}

// hint names what a reference to something that is not there was meant to be.
func (e *evaluation) hint(d *hcl.Diagnostic) *hcl.Diagnostic {
	if d.Summary == "Unknown variable" {
		return misplaced(d)
	}
	if d.Summary != "Unsupported attribute" || d.Expression == nil {
		return d
	}
	x, ok := d.Expression.(*hclsyntax.ScopeTraversalExpr)
	if !ok {
		return d
	}
	name, ok := attrStep(x.Traversal, 1)
	if !ok {
		return d
	}
	var what string
	var have []string
	switch x.Traversal.RootName() {
	case "var":
		what = "variable"
		for _, v := range e.t.variables {
			have = append(have, v.name)
		}
	case "local":
		what = "local"
		for _, l := range e.t.locals {
			have = append(have, l.name)
		}
	case "data":
		what = "data source"
		second, _ := attrStep(x.Traversal, 2)
		name += "." + second
		for _, c := range e.t.data {
			have = append(have, c.ref())
		}
	case "build":
		better := *d
		better.Detail = fmt.Sprintf("No builder tells a build.%s.", name)
		if near := schema.Nearest(name, standard); near != "" {
			better.Detail += fmt.Sprintf(" Did you mean build.%s?", near)
		}
		return &better
	default:
		return d
	}
	for _, h := range have {
		if h == name {
			return d // it is there; what is missing is something within it
		}
	}
	better := *d
	better.Detail = fmt.Sprintf("There is no %s named %q in the template.", what, name)
	if near := schema.Nearest(name, have); near != "" {
		better.Detail += fmt.Sprintf(" Did you mean %q?", near)
	}
	return &better
}

// elsewhere says of what HCL dialects have where Packer has it, if anywhere.
var elsewhere = map[string]string{
	"build":  "build is known in provisioners and post-processors only: elsewhere, there is no machine yet.",
	"source": "source is known in the provisioners and post-processors of a build block only.",
	"each":   "Packer has no for_each. Within a dynamic block, the element is called as the block is, such as provisioner.value, or as its argument \"iterator\" says.",
	"count":  "Packer has no count: repeat the block, or use a dynamic block.",
	"data":   "data sources are not known here.",
	"local":  "locals are not known here.",
	"module": "Packer has no modules.",
	"self":   "Packer has no self.",
}

// misplaced says where a variable is known that is not known here.
func misplaced(d *hcl.Diagnostic) *hcl.Diagnostic {
	x, ok := d.Expression.(*hclsyntax.ScopeTraversalExpr)
	if !ok || elsewhere[x.Traversal.RootName()] == "" {
		return d
	}
	better := *d
	better.Detail = elsewhere[x.Traversal.RootName()]
	return &better
}

// secretsOf are the sensitive strings in values.
func secretsOf(values map[string]cty.Value) map[string]bool {
	secrets := map[string]bool{}
	for _, v := range values {
		schema.Strings(v, func(s string, marked bool) {
			if marked {
				secrets[s] = true
			}
		})
	}
	return secrets
}

// scrub takes secrets out of the words of diagnostics: a function may have
// quoted its argument. Short ones are found in quotes only, since they are part
// of other words everywhere.
func scrub(diags hcl.Diagnostics, secrets map[string]bool) hcl.Diagnostics {
	var pairs []string
	longest := slices.SortedFunc(maps.Keys(secrets), func(a, b string) int {
		return cmp.Or(len(b)-len(a), strings.Compare(a, b))
	})
	for _, s := range longest {
		switch {
		case s == "":
		case len(s) >= 4:
			pairs = append(pairs, s, "<sensitive>")
		default:
			pairs = append(pairs, strconv.Quote(s), "<sensitive>", "'"+s+"'", "<sensitive>", "`"+s+"`", "<sensitive>")
		}
	}
	if len(pairs) == 0 {
		return diags
	}
	clean := strings.NewReplacer(pairs...)
	for i, d := range diags {
		d := *d
		d.Summary, d.Detail = clean.Replace(d.Summary), clean.Replace(d.Detail)
		diags[i] = &d
	}
	return diags
}
