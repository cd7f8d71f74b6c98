package template

import (
	"context"
	"fmt"
	"strings"
	"testing"
)

func TestNestedUser(t *testing.T) {
	values := map[string]string{"name": `a "web"`, "other": "x"}
	tests := []struct{ in, want string }{
		{"plain", "plain"},
		{"{{ .SourceAMI }} and {{isotime}}", "{{ .SourceAMI }} and {{isotime}}"},
		{"{{clean_resource_name (user `name`)}}-{{ .BuildRegion }}", `{{clean_resource_name "a \"web\""}}-{{.BuildRegion}}`},
		{"{{user `other` | upper}}", `{{"x" | upper}}`},
		{"{{if .X}}{{lower (user `other`)}}{{end}}", `{{if .X}}{{lower "x"}}{{end}}`},
		{"{{lower (upper (user `other`))}}", `{{lower (upper "x")}}`},
		{"{{lower (user `missing`)}}", `{{lower ""}}`},
		{"{{broken user", "{{broken user"},
	}
	for _, tt := range tests {
		got := nestedUser(tt.in, func(name string) string { return values[name] })
		if got != tt.want {
			t.Errorf("%s: %s, want %s", tt.in, got, tt.want)
		}
	}
}

// A user variable that nobody declared is an empty string, and a warning with its
// place, wherever a component uses it; among the variables, it is an error, and
// one that is given with -var is as good as declared.
func TestUndeclaredUser(t *testing.T) {
	const template = "-- args --\npath t.json\n%s-- t.json --\n{\n\"variables\": {\"region\": \"eu\"},\n\"builders\": [{\"type\": \"null\", \"communicator\": \"none\", \"name\": \"n{{user `regoin`}}\"}],\n" +
		"\"provisioners\": [{\"type\": \"shell\",\n\"inline\": [\"a {{user `regoin`}}.\", \"{{user `regoin` | upper}}.\"],\n\"execute_command\": \"x{{user `regoin`}} {{user `zip` | lower}}{{.Path}}\"}]\n}\n"
	tests := []struct {
		name, args string
		want       string
		warnings   []string
	}{
		{
			"nowhere", "", `{"execute_command":"x {{\"\" | lower}}{{.Path}}","inline":["a .","."]}`,
			[]string{`t.json:3,`, `Did you mean "region"?`, `t.json:5,12`, `t.json:5,36`, `t.json:6,`, `There is no user variable "zip"`, `To declare it`},
		},
		{
			"given", "-var regoin=us\n-var zip=Z\n", `{"execute_command":"xus {{\"Z\" | lower}}{{.Path}}","inline":["a us.","US."]}`, nil,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := with(t, fmt.Sprintf(template, tt.args))
			tpl := mustLoad(t, s)
			values, diags := tpl.Variables(s.in)
			if diags.HasErrors() {
				t.Fatal(diags)
			}
			diags = tpl.Check(values, Selection{}, pinned)
			said := ""
			for _, d := range diags {
				said += d.Error() + "\n"
			}
			if diags.HasErrors() || (len(diags) > 0) != (len(tt.warnings) > 0) {
				t.Errorf("said %s", said)
			}
			for _, want := range tt.warnings {
				if !strings.Contains(said, want) {
					t.Errorf("said %s, want %s", said, want)
				}
			}
			plan, diags := tpl.Plan(context.Background(), throughJSON(t, values), Selection{}, pinned)
			if diags.HasErrors() {
				t.Fatal(diags)
			}
			b := plan.Builds[0]
			settings, diags := tpl.Provisioner(plan.Scope, b, b.Provisioners[0], nil)
			if diags.HasErrors() || string(settings) != tt.want {
				t.Errorf("%s (%v), want %s", settings, diags, tt.want)
			}
		})
	}
}
