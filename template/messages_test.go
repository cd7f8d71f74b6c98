package template_test

import (
	"bytes"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/hcl/v2"

	"github.com/bakehouse-farm/bakehouse/template"
)

// nowhere are the messages about what stands in no file.
var nowhere = regexp.MustCompile(`^(` + strings.Join([]string{
	`Cannot read (a file|the template|variable file)`, `Could not find any config file`, `Could not guess format`,
	`Invalid -(only|except) pattern`, `Invalid -var option`, `Undefined -var variable`, `Not a template`,
}, "|") + `)`)

// Whatever is wrong with a template is shown with file, line and the line itself,
// says what is wrong, and what would be right. All templates of the corpus that
// are wrong are looked at; of every kind of message, one is kept in
// testdata/messages.golden for whoever wants to read how we speak.
func TestMessages(t *testing.T) {
	cases, err := answers()
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[string]string{}
	several := 0
	for _, c := range cases {
		errs := 0
		for _, d := range c.diags {
			if d.Severity == hcl.DiagError {
				errs++
			}
			var text bytes.Buffer
			template.WriteDiagnostics(&text, hcl.Diagnostics{d}, nil, false, 0)
			switch {
			case nowhere.MatchString(d.Summary):
			case d.Subject == nil:
				t.Errorf("%s: %q is nowhere", c.Name, d.Error())
			case !strings.Contains(c.text, fmt.Sprintf("on %s line %d", d.Subject.Filename, d.Subject.Start.Line)):
				t.Errorf("%s: %q is not shown with its place:\n%s", c.Name, d.Error(), c.text)
			}
			if strings.TrimSpace(d.Summary) == "" || strings.Contains(d.Error(), "%!") {
				t.Errorf("%s: %q says nothing", c.Name, d.Error())
			}
			kind := kindOf(d)
			if _, known := kinds[kind]; !known {
				kinds[kind] = c.Name + "\n" + text.String()
			}
		}
		if strings.Contains(c.text, "(source code not available)") {
			t.Errorf("%s: a line is not shown:\n%s", c.Name, c.text)
		}
		if errs > 1 {
			several++
		}
	}
	if several < 100 {
		t.Errorf("of %d templates, %d have several errors told at once", len(cases), several)
	}
	var got bytes.Buffer
	for _, c := range cases { // in the order of the corpus, with their lines
		for _, d := range c.diags {
			kind := kindOf(d)
			if _, new := kinds[kind]; new {
				delete(kinds, kind)
				fmt.Fprintf(&got, "== %s\n%s\n", c.Name, one(c.text, d))
			}
		}
	}
	const name = "testdata/messages.golden"
	if updating() {
		if err := os.WriteFile(name, got.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got.String()); diff != "" {
		t.Errorf("(-want +got; -update writes it)\n%s", diff)
	}
}

// kindOf is a message without the names in it.
func kindOf(d *hcl.Diagnostic) string {
	return names.ReplaceAllString(d.Summary, "…")
}

var names = regexp.MustCompile("\"[^\"]*\"|'[^']*'|`[^`]*`|[0-9]+|^(Unknown source) .*|template has duplicate field: .*|required variable not set: .*|Invalid value for .* variable")

// one is the part of a text that is about one diagnostic.
func one(text string, d *hcl.Diagnostic) string {
	parts := slices.DeleteFunc(regexp.MustCompile(`(?m)^(Error|Warning): `).Split(text, -1), func(s string) bool { return s == "" })
	for _, p := range parts {
		if strings.HasPrefix(p, d.Summary) {
			return strings.TrimSpace(p) + "\n"
		}
	}
	return d.Error() + "\n"
}
