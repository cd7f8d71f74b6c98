package template_test

import (
	"context"
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/hcl/v2"
	"golang.org/x/tools/txtar"

	"github.com/bakehouse-farm/bakehouse"
	"github.com/bakehouse-farm/bakehouse/cmd/catalogue"
	"github.com/bakehouse-farm/bakehouse/datasources"
	"github.com/bakehouse-farm/bakehouse/template"
	"github.com/bakehouse-farm/bakehouse/template/templatetest"
)

var pin = template.Pinned{
	Time: time.Date(2024, 2, 29, 12, 5, 6, 0, time.UTC), Seed: "seed",
	RunUUID: "11111111-2222-4333-8444-555555555555",
}

// Each case of testdata/coverage shows some items of docs/items.txt. Its file
// "about" says which, and what is to be seen:
//
//	item:    an item that the case shows
//	since:   the version of Packer that has it, where Debian's has it not
//	differs: why we do not do as Packer does
//	want:    valid, or error or warning and part of the message
//	shows:   part of what the template evaluates to, as JSON without spaces
//
// All of them are also held against Debian's packer: see TestSameVerdictAsPacker.
func TestCoverage(t *testing.T) {
	cases, err := templatetest.Written("testdata/coverage/*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range cases {
		t.Run(c.Name, func(t *testing.T) {
			said, diags, evaluated := bake(t, c)
			for _, line := range c.About {
				word, rest, _ := strings.Cut(line, ": ")
				switch word {
				case "item", "since", "differs":
				case "want":
					kind, text, _ := strings.Cut(rest, " ")
					if diags.HasErrors() != (kind == "error" || kind != "valid" && diags.HasErrors()) {
						t.Errorf("want %s, it says:\n%s", rest, said)
					}
					if kind != "valid" && (!strings.Contains(said, text) || !strings.Contains(strings.ToLower(said), kind+": ")) {
						t.Errorf("want %s, it says:\n%s", rest, said)
					}
				case "shows":
					if !strings.Contains(evaluated, rest) {
						t.Errorf("does not show %s:\n%s%s", rest, said, evaluated)
					}
				default:
					t.Errorf("unknown word %q", word)
				}
			}
			if about(c, "item") == "" || about(c, "want") == "" {
				t.Error("it shows no item, or nothing is wanted")
			}
		})
	}
}

// about is the first line of a case's "about" of that word.
func about(c templatetest.Case, word string) string {
	for _, line := range c.About {
		if rest, ok := strings.CutPrefix(line, word+": "); ok {
			return rest
		}
	}
	return ""
}

// bake checks a case's template, plans it and evaluates all that runs late.
func bake(t *testing.T, c templatetest.Case) (said string, diags hcl.Diagnostics, evaluated string) {
	t.Helper()
	files := bakehouse.Files{Root: t.TempDir(), Cwd: "/home/me/bake", Home: "/home/me"}
	if err := c.Lay(files.Path(".")); err != nil {
		t.Fatal(err)
	}
	in, sel, _, err := called(c)
	if err != nil {
		t.Fatal(err)
	}
	cat := catalogue.Template()
	cat.DataSources = map[string]datasources.DataSource{
		"null":       cat.DataSources["null"],
		"amazon-ami": told{cat.DataSources["amazon-ami"], func(json.RawMessage) string { return `{"id": "ami-fake"}` }},
		"http": told{cat.DataSources["http"], func(settings json.RawMessage) string {
			var s struct{ URL string }
			if err := json.Unmarshal(settings, &s); err != nil {
				t.Error(err)
			}
			return `{"url": "` + s.URL + `", "body": "body of ` + s.URL + `", "request_headers": {}}`
		}},
	}
	tpl, diags := template.Load(c.Path, files, cat)
	values, more := tpl.Variables(in)
	diags = append(diags, more...)
	diags = append(diags, tpl.Check(values, sel, pin)...)
	var text strings.Builder
	template.WriteDiagnostics(&text, diags, tpl, false, 0)
	if diags.HasErrors() || about(c, "shows") == "" {
		return text.String(), diags, ""
	}
	plan, more := tpl.Plan(context.Background(), values, sel, pin)
	template.WriteDiagnostics(&text, more, tpl, false, 0)
	if more.HasErrors() {
		return text.String(), append(diags, more...), ""
	}
	machine := map[string]string{
		"ID": "i-1", "Host": "10.0.0.9", "Port": "22", "User": "ubuntu", "Password": "pw", "ConnType": "ssh",
		"PackerHTTPIP": "10.0.0.1", "PackerHTTPPort": "8080", "PackerHTTPAddr": "10.0.0.1:8080",
		"SSHPublicKey": "pub", "SSHPrivateKey": "key", "WinRMPassword": "win", "SSHPrivateKeyFile": "id", "SSHAgentAuth": "false",
	}
	for _, name := range []string{"BuildRegion", "SourceAMI", "SourceAMIName", "SourceAMICreationDate", "SourceAMIOwner", "SourceAMIOwnerName"} {
		machine[name] = name
	}
	var shown []any
	add := func(settings json.RawMessage, more hcl.Diagnostics) {
		template.WriteDiagnostics(&text, more, tpl, false, 0)
		diags = append(diags, more...)
		shown = append(shown, settings)
	}
	for _, b := range plan.Builds {
		shown = append(shown, b)
		for _, p := range b.Provisioners {
			add(tpl.Provisioner(plan.Scope, b, p, machine))
		}
		for _, chain := range b.PostProcessors {
			for _, p := range chain {
				add(tpl.PostProcessor(plan.Scope, b, p, machine))
			}
		}
	}
	shown = append(shown, map[string]any{"secrets": plan.Secrets()})
	js, err := json.Marshal(shown)
	if err != nil {
		t.Fatal(err)
	}
	return text.String(), diags, string(js)
}

// told is a data source that answers without asking anybody.
type told struct {
	datasources.DataSource
	answer func(settings json.RawMessage) string
}

func (d told) Read(_ context.Context, settings json.RawMessage, _ bakehouse.Files) (json.RawMessage, error) {
	return json.RawMessage(d.answer(settings)), nil
}

// functionCases are templates that call each function once, as the first row of
// its table does that is no error, if there is one.
func functionCases() ([]templatetest.Case, error) {
	text, err := os.ReadFile("function/testdata/cases.txt")
	if err != nil {
		return nil, err
	}
	type row struct{ name, call, want string }
	var rows []row
	works := map[string]bool{}
	for _, line := range lines(string(text)) {
		name, rest, _ := strings.Cut(line, ": ")
		call, want, ok := strings.Cut(rest, " => ")
		if strings.HasPrefix(line, "#") || !ok || name == "env" {
			continue
		}
		rows = append(rows, row{name, call, want})
		works[name] = works[name] || !strings.HasPrefix(want, "error: ")
	}
	var cases []templatetest.Case
	seen := map[string]bool{}
	for _, r := range rows {
		name, call := r.name, r.call
		fails := strings.HasPrefix(r.want, "error: ")
		if seen[name] || fails && works[name] {
			continue
		}
		seen[name] = true
		want := "want: valid"
		if fails {
			want = "want: error"
		}
		cases = append(cases, templatetest.Case{
			Name: "function/" + name, Path: "t.pkr.hcl",
			About: []string{"item: function " + name, want},
			Files: []txtar.File{
				{Name: "t.pkr.hcl", Data: []byte("locals {\n  x = " + call + "\n}\nsource \"null\" \"a\" {\n  communicator = \"none\"\n}\nbuild {\n  sources = [\"source.null.a\"]\n}\n")},
				{Name: "a.txt", Data: []byte("alpha\n")},
				{Name: "bin", Data: []byte("\xff\xfe")},
				{Name: "list.tpl", Data: []byte("%{ for x in xs ~}\n${upper(x)}\n%{ endfor ~}\n")},
			},
		})
	}
	return cases, nil
}
