// Package upgrade writes a JSON template of Packer's older kind anew in HCL, so
// that it makes the same builds.
package upgrade

import (
	"fmt"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/hashicorp/hcl/v2/hclwrite"

	"github.com/bakehouse-farm/bakehouse/template"
	"github.com/bakehouse-farm/bakehouse/template/legacyjson"
)

// Options say how to write.
type Options struct {
	// Catalogue lists the components whose arguments are known besides those that
	// Packer's plugins are known to have. It may be empty.
	Catalogue template.Catalogue
	// Annotate puts comments that explain HCL over the blocks.
	Annotate bool
}

// HCL writes the template src anew. The name stands for it in diagnostics and
// in comments.
//
// What has no counterpart in HCL stays as {{ }}, under a comment that says why,
// and a warning says so, too. Such a template has to be finished by hand. Errors
// tell that src is no template; then there is no result.
func HCL(src []byte, name string, o Options) ([]byte, hcl.Diagnostics) {
	root, diags := legacyjson.Parse(src, name)
	if diags.HasErrors() {
		return nil, diags
	}
	t := &translator{name: name, options: o, root: root, out: new(strings.Builder)}
	t.template()
	out := hclwrite.Format([]byte(t.out.String()))
	if _, broken := hclsyntax.ParseConfig(out, name+".pkr.hcl", hcl.InitialPos); broken.HasErrors() {
		return nil, append(diags, &hcl.Diagnostic{
			Severity: hcl.DiagError, Summary: "Cannot write the template in HCL",
			Detail: fmt.Sprintf("What was made of %s is no HCL, which is a mistake of ours: %s.", name, broken),
		})
	}
	return out, append(diags, t.notes...)
}

// A translator holds what is known of the template while it is written.
type translator struct {
	name    string
	options Options
	root    legacyjson.Value

	out   *strings.Builder
	notes hcl.Diagnostics

	variables []*variable
	byName    map[string]*variable
	sources   []source
	// timestamp tells that the local of that name is used; stamp is its name.
	timestamp bool
	stamp     string
	// environ are the variables of the environment that locals need, and by which
	// input variable they reach them; environUsed is their order, environSecret
	// tells which a sensitive local is made of.
	environ       map[string]string
	environUsed   []string
	environSecret map[string]bool
}

func (t *translator) line(format string, args ...any) {
	fmt.Fprintf(t.out, format+"\n", args...)
}

// note warns of something that cannot be as it was.
func (t *translator) note(at hcl.Range, summary, detail string, args ...any) {
	t.notes = append(t.notes, &hcl.Diagnostic{
		Severity: hcl.DiagWarning, Summary: summary, Detail: fmt.Sprintf(detail, args...), Subject: at.Ptr(),
	})
}

func (t *translator) template() {
	t.readVariables()
	t.readSources()

	// What comes first depends on what is used further down.
	written := t.apart(func() { t.writeSources(); t.writeBuild() })
	locals := t.apart(t.writeLocals)
	t.timestamp = strings.Contains(written+locals, "local."+t.stamp)
	declared := t.apart(t.writeVariables)

	t.annotate(aboutFile)
	t.comments()
	t.writePacker()
	t.out.WriteString(declared)
	if t.timestamp {
		t.annotate(aboutTimestamp)
		t.line("locals {\n%s = regex_replace(timestamp(), \"[- TZ:]\", \"\")\n}\n", t.stamp)
	}
	if locals != "" {
		t.annotate(aboutLocals)
		t.out.WriteString(locals)
	}
	t.out.WriteString(written)
}

// apart returns what write writes.
func (t *translator) apart(write func()) string {
	before := t.out
	t.out = new(strings.Builder)
	write()
	written := t.out.String()
	t.out = before
	return written
}

// comments keeps what the template says under keys that begin with "_".
func (t *translator) comments() {
	said := false
	for _, m := range t.root.Members {
		if strings.HasPrefix(m.Name, "_") && m.Value.Kind == legacyjson.String {
			t.comment(m.Value.Text)
			said = true
		}
	}
	if said {
		t.line("")
	}
}

func (t *translator) comment(text string) {
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\r\n ")
		t.line("%s", strings.TrimRight("# "+line, " "))
	}
}

func (t *translator) annotate(text string) {
	if t.options.Annotate {
		t.comment(strings.TrimSpace(text))
		t.line("")
	}
}
