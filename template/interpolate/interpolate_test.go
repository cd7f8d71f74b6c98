package interpolate

import (
	"strings"
	"testing"
	"time"

	"github.com/bakehouse-farm/bakehouse/template/limit"
)

var noon = time.Date(2024, 2, 29, 12, 5, 6, 0, time.UTC)

func TestRender(t *testing.T) {
	hcl := Context{
		Time: noon, Seed: "s", BuildName: "web", BuildType: "amazon-ebs", Version: "1.16.0", Dir: "/home/me",
		Data: map[string]any{"Vars": "A='b' ", "Path": "/tmp/x.sh", "Tags": map[string]string{"Name": "base"}},
	}
	legacy := hcl
	legacy.User = map[string]string{"region": "eu-west-1", "empty": ""}
	legacy.TemplateDir = "/srv/t"
	legacy.Build = map[string]string{"ID": "i-1"}
	legacy.Env = func(n string) string { return "env of " + n }
	amazon := hcl
	amazon.Clean = CleanAMIName
	tests := []struct {
		in   string
		c    Context
		want string
		err  string
	}{
		{in: "plain ${x}", c: hcl, want: "plain ${x}"},
		{in: "a-{{timestamp}}", c: hcl, want: "a-1709208306"},
		{in: "{{ isotime }}", c: hcl, want: "2024-02-29T12:05:06Z"},
		{in: "{{isotime \"20060102-0304\"}}", c: hcl, want: "20240229-1205"},
		{in: "{{isotime | clean_resource_name}}", c: amazon, want: "2024-02-29T12-05-06Z"},
		{in: "{{isotime | clean_resource_name}}", c: hcl, err: `function "clean_resource_name" not defined`},
		{in: "{{strftime \"%Y%m%d %j %U %V\"}}", c: hcl, want: "20240229 060 08 09"},
		{in: "{{strftime \"%Q\"}}", c: hcl, err: "knows no %Q"},
		{in: "{{build_name}}.{{build_type}}", c: hcl, want: "web.amazon-ebs"},
		{in: "{{build_name}}", c: Context{}, err: "build_name is not known here"},
		{in: "{{pwd}} {{packer_version}}", c: hcl, want: "/home/me 1.16.0"},
		{in: "{{upper build_name}}{{lower \"ABC\"}}", c: hcl, want: "WEBabc"},
		{in: "{{split build_type \"-\" 1}}", c: hcl, want: "ebs"},
		{in: "{{split build_type \"-\" 2}}", c: hcl, err: "no part 2"},
		{in: "{{build_type | replace_all \"a\" \"o\"}}", c: hcl, want: "omozon-ebs"},
		{in: "{{build_type | replace \"a\" \"o\" 1}}", c: hcl, want: "omazon-ebs"},
		{in: "{{.Vars}}sudo {{ .Path }}", c: hcl, want: "A='b' sudo /tmp/x.sh"},
		{in: "{{.Tags.Name}}", c: hcl, want: "base"},
		{in: "{{.Nope}}", c: hcl, want: "<no value>"},
		{in: "{{.Nope}}", c: Context{}, want: "<no value>"},
		{in: "{{user `region`}}", c: legacy, want: "eu-west-1"},
		{in: "[{{user `empty`}}]", c: legacy, want: "[]"},
		{in: "{{user `regoin`}}", c: legacy, err: `"regoin" is not declared`},
		{in: "{{user `region`}}", c: hcl, err: "error calling user: user variables are not allowed here"},
		{in: "{{env `HOME`}}", c: hcl, err: "env vars are not allowed here"},
		{in: "{{env `HOME`}}", c: legacy, want: "env of HOME"},
		{in: "{{template_dir}}", c: legacy, want: "/srv/t"},
		{in: "{{template_dir}}", c: hcl, err: "path.root"},
		{in: "{{build `ID`}}", c: legacy, want: "i-1"},
		{in: "{{build `Nope`}}", c: legacy, err: `"Nope"`},
		{in: "{{build `ID`}}", c: hcl, err: "build.ID"},
		{in: "{{sed \"s/a/b/\" \"a\"}}", c: legacy, err: "deprecated"},
		{in: "{{vault `a` `b`}}", c: hcl, err: "vault is not allowed"},
		{in: "{{ nope }}", c: hcl, err: `function "nope" not defined`},
		{in: "{{ .Vars", c: hcl, err: "unclosed action"},
	}
	for _, tt := range tests {
		got, err := Render(tt.in, tt.c)
		switch {
		case tt.err != "":
			if err == nil || !strings.Contains(err.Error(), tt.err) {
				t.Errorf("Render(%q): error %v, want %q", tt.in, err, tt.err)
			}
		case err != nil:
			t.Errorf("Render(%q): %v", tt.in, err)
		case got != tt.want:
			t.Errorf("Render(%q) = %q, want %q", tt.in, got, tt.want)
		}
	}
}

// A uuid differs from call to call and from seed to seed, and stays when the
// same string is rendered again.
func TestUUIDsArePinned(t *testing.T) {
	render := func(seed string) string {
		t.Helper()
		s, err := Render("{{uuid}} {{uuid}}", Context{Seed: seed})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	a := render("a")
	if a != render("a") {
		t.Error("the same seed gave other uuids")
	}
	if a == render("b") {
		t.Error("another seed gave the same uuids")
	}
	if first, second, _ := strings.Cut(a, " "); first == second {
		t.Error("two calls gave the same uuid")
	}
}

func TestStrftime(t *testing.T) {
	at := time.Date(2023, 1, 1, 0, 3, 4, 0, time.UTC) // a Sunday
	for pattern, want := range map[string]string{
		"%A %a %B %b %h":    "Sunday Sun January Jan Jan",
		"%C %d %e %j":       "20 01  1 001",
		"%F %T %D %R":       "2023-01-01 00:03:04 01/01/23 00:03",
		"%H %I %k %l %p":    "00 12  0 12 AM",
		"%M %m %S %%":       "03 01 04 %",
		"%u %w %U %V":       "7 0 01 52",
		"%Y %y %Z %z %n%t.": "2023 23 UTC +0000 \n\t.",
		"%c|%v|%X|%x|%r":    "Sun Jan  1 00:03:04 2023| 1-Jan-2023|00:03:04|01/01/23|12:03:04 AM",
	} {
		if got, err := Strftime(pattern, at); err != nil || got != want {
			t.Errorf("Strftime(%q) = %q, %v; want %q", pattern, got, err, want)
		}
	}
	if _, err := Strftime("%", at); err == nil {
		t.Error("a lone % is accepted")
	}
}

func FuzzRender(f *testing.F) {
	for _, s := range []string{
		"{{timestamp}} {{ .Vars }} {{user `x`}}", "{{range $i, $x := .List}}{{$i}}{{break}}{{else}}{{continue}}{{end}}",
		"{{define \"a\"}}{{template \"a\" .}}{{end}}{{template \"a\"}}", "{{block \"b\" .}}{{range 1000000}}{{end}}{{end}}",
		"{{with $x := printf \"%*d\" 9 1}}{{len $x}}{{end}}", "{{index .List 0 | html | js}}{{slice `abc` 1}}{{and 1 (or 0 .Vars)}}", "{{replace_all `` `x` `abc`}}{{split `a-b` `-` 1}}",
		"{{isotime `2006` | upper}}{{strftime `%Y`}}{{build `ID`}}{{vault `a` `b`}}{{env `HOME`}}{{uuid}}{{- /* c */ -}}", "{{call .F}}{{printf `%[1]*d` 99999999}}",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		start := time.Now()
		for _, c := range []Context{{}, {
			Time: start, User: map[string]string{"x": "y"}, Data: map[string]any{"Vars": "v", "List": []string{"a", "b"}},
			Env: func(name string) string { return name }, Ask: func(name string, _ ...string) (string, error) { return name, nil },
			Build: map[string]string{"ID": "i-1"}, TemplateDir: "/t", Clean: strings.ToLower,
		}} {
			known := c.Check(s)
			out, err := Render(s, c)
			if known != nil && err == nil && strings.Contains(s, "{{") {
				t.Errorf("Check says %v, Render makes %q", known, out)
			}
			if len(out) > limit.Rendered {
				t.Errorf("makes %d bytes", len(out))
			}
		}
		if d := time.Since(start); d > 30*time.Second {
			t.Errorf("took %s", d)
		}
	})
}
