package upgrade

import (
	"strings"
	"testing"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"

	"github.com/bakehouse-farm/bakehouse/template/legacyjson"
)

func reader() *translator {
	t := &translator{out: new(strings.Builder)}
	t.root, _ = legacyjson.Parse([]byte("{\"variables\": {\"a\": \"1\", \"my var\": \"2\", \"l\": \"{{timestamp}}{{env `X`}}\"}}"), "t.json")
	t.readVariables()
	return t
}

// Each function of {{ }} has a counterpart at the places where it could stand,
// stays where {{ }} still knows it, or is to be done by hand.
func TestText(t *testing.T) {
	tests := []struct {
		at      placeKind
		in      string
		want    string
		trouble string
	}{
		{inSource, `plain ${x} %{y} "q" \`, `"plain $${x} %%{y} \"q\" \\"`, ""},
		{inSource, "{{user `a`}}", `var.a`, ""},
		{inSource, `{{ user "my var" }}!`, `"${var.my_var}!"`, ""},
		{inSource, "{{user `l`}}", `local.l`, ""},
		{inSource, "{{user `none`}}", "\"{{user `none`}}\"", "declares no variable"},
		{inSource, "{{user build_name}}", "\"{{user build_name}}\"", "not written out"},
		{inSource, "{{timestamp}}", `local.timestamp`, ""},
		{inSource, "{{isotime}}", `legacy_isotime()`, ""},
		{inSource, "{{isotime `2006`}}-{{uuid}}", `"${legacy_isotime("2006")}-${uuidv4()}"`, ""},
		{inSource, "{{strftime `%Y`}}", `legacy_strftime("%Y")`, ""},
		{inSource, "{{strftime}}", `"{{strftime}}"`, ""},
		{inSource, "{{pwd}}{{template_dir}}{{packer_version}}", `"${path.cwd}${path.root}${packer.version}"`, ""},
		{inSource, "{{build_name}}", `"{{build_name}}"`, ""},
		{inSource, "{{build `ID`}}", "\"{{build `ID`}}\"", "provisioners and post-processors only"},
		{inSource, "{{env `X`}}", "\"{{env `X`}}\"", `"variables" only`},
		{inSource, "{{vault `a` `b`}}", "\"{{vault `a` `b`}}\"", `"variables" only`},
		{inSource, "{{sed `a` `b`}}", "\"{{sed `a` `b`}}\"", "taken away"},
		{inSource, "{{user `a` | clean_resource_name}}", "\"{{ clean_resource_name `${var.a}` }}\"", ""},
		{inSource, "{{isotime | clean_resource_name}}", `"{{isotime | clean_resource_name}}"`, ""},
		{inSource, "{{ .HTTPIP }}:{{.HTTPPort}} {{user `a`}}", `"{{ .HTTPIP }}:{{.HTTPPort}} ${var.a}"`, ""},
		{inSource, "{{replace `a` `b` -1 (user `a`)}}", `replace(var.a, "a", "b")`, ""},
		{inSource, "{{replace `a` `b` 1 (user `a`)}}", "\"{{ replace `a` `b` 1 `${var.a}` }}\"", ""},
		{inSource, "{{user `a` | replace_all `x` `y` | upper}}", `upper(replace(var.a, "x", "y"))`, ""},
		{inSource, "{{split (user `a`) `-` 0}}", `split("-", var.a)[0]`, ""},
		{inSource, "{{`{{`}} x", "\"{{`{{`}} x\"", ""},
		{inSource, "{{printf `%s` (user `a`)}}", "\"{{ printf `%s` `${var.a}` }}\"", ""},
		{inSource, "a {{- /* c */ -}} b", `"ab"`, ""},
		{inSource, "a {{- user `a` -}} b{{.X}}", `"a${var.a}b{{.X}}"`, ""},
		{inSource, "a {{- .X -}} {{user `a`}}", `"a{{ .X }}${var.a}"`, ""},
		{inSource, "{{if .X}}{{upper `x`}}{{end}}", "\"{{if .X}}{{upper `x`}}{{end}}\"", ""},
		{inSource, "{{if .X}}{{user `a`}}{{end}}", "\"{{if .X}}{{user `a`}}{{end}}\"", "user does not work"},
		{inSource, "{{range .X}}{{with .Y}}{{env `a`}}{{end}}{{end}}", "\"{{range .X}}{{with .Y}}{{env `a`}}{{end}}{{end}}\"", "env does not work"},
		{inSource, "{{$x := user `a`}}{{$x}}", "\"{{$x := user `a`}}{{$x}}\"", "no variables within a string"},
		{inSource, "{{", `"{{"`, "stays"},
		{inSource, "{{end}}", `"{{end}}"`, "stays"},
		{inPart, "{{build `ID`}} {{build_name}} {{build_type}}", `"${build.ID} ${build.name} ${source.type}"`, ""},
		{inPart, "{{build `a b`}}", "\"{{build `a b`}}\"", "not written out"},
		{inOverride, "{{build_name}} {{user `a`}}", `"{{build_name}} ${var.a}"`, ""},
		{inOverride, "{{build `ID`}}", "\"{{build `ID`}}\"", "before there is a build"},
		{inDefault, "x-{{env `X`}}", `"x-${env("X")}"`, ""},
		{inLocal, "{{env `X` | lower}}", `lower(var.env_X)`, ""},
		{inLocal, "{{vault `a/b` `c`}}", `vault("a/b", "c")`, ""},
		{inLocal, "{{consul_key `a/b`}}", `consul_key("a/b")`, ""},
		{inLocal, "{{aws_secretsmanager `a`}}", `aws_secretsmanager("a", null)`, ""},
		{inLocal, "{{aws_secretsmanager `a` `b`}}", `aws_secretsmanager("a", "b")`, ""},
		{inLocal, "{{aws_secretsmanager_raw `a`}}", `aws_secretsmanager_raw("a")`, ""},
		{inLocal, "{{.Vars}}", `"{{.Vars}}"`, "no component renders it"},
		{inName, "{{user `a`}}s", `"${var.a}s"`, ""},
	}
	for _, tt := range tests {
		t.Run(tt.in, func(t *testing.T) {
			got := reader().text(tt.in, place{tt.at})
			if got.source != tt.want {
				t.Errorf("got  %s\nwant %s", got.source, tt.want)
			}
			if said := strings.Join(got.troubles, "\n"); (tt.trouble == "") != (said == "") || !strings.Contains(said, tt.trouble) {
				t.Errorf("troubles %q, want %q", said, tt.trouble)
			}
			if _, diags := hclsyntax.ParseExpression([]byte(got.source), "x", hcl.InitialPos); diags.HasErrors() {
				t.Error(diags)
			}
		})
	}
}

// Whatever the text is, what comes back is an expression of HCL.
func FuzzText(f *testing.F) {
	for _, s := range []string{"", "{{user `a`}}", "a{{- .B -}}c", "{{`}}`}}${x}", "{{if .X}}{{end}}", "{{/**/}}", "{{\"\\\"}}\" | upper}}%{", "{{' '}}", "{{1|split `a` `b`}}", "{{(.X).Y}}"} {
		for at := inDefault; at <= inName; at++ {
			f.Add(s, int(at))
		}
	}
	f.Fuzz(func(t *testing.T, s string, at int) {
		got := reader().text(s, place{placeKind(at)})
		if _, diags := hclsyntax.ParseExpression([]byte(got.source), "x", hcl.InitialPos); diags.HasErrors() {
			t.Errorf("%q became %s: %s", s, got.source, diags)
		}
	})
}

func TestIdentifier(t *testing.T) {
	taken := map[string]bool{"x": true, "x_2": true}
	for in, want := range map[string]string{"web": "web", "a b": "a_b", "9x": "_9x", "": "_", "x": "x_3", "é-1": "é-1", "-a": "_-a", "a.b/c": "a_b_c"} {
		if got := identifier(in, func(s string) bool { return taken[s] }); got != want {
			t.Errorf("identifier(%q) = %q, want %q", in, got, want)
		}
	}
}
