package template

import "testing"

func TestNestedUser(t *testing.T) {
	values := map[string]string{"name": `a "web"`, "other": "x"}
	tests := []struct{ in, want string }{
		{"plain", "plain"},
		{"{{ .SourceAMI }} and {{isotime}}", "{{ .SourceAMI }} and {{isotime}}"},
		{"{{clean_resource_name (user `name`)}}-{{ .BuildRegion }}", `{{clean_resource_name "a \"web\""}}-{{.BuildRegion}}`},
		{"{{user `other` | upper}}", `{{"x" | upper}}`},
		{"{{if .X}}{{lower (user `other`)}}{{end}}", `{{if .X}}{{lower "x"}}{{end}}`},
		{"{{lower (upper (user `other`))}}", `{{lower (upper "x")}}`},
		{"{{lower (user `missing`)}}", "{{lower (user `missing`)}}"},
		{"{{broken user", "{{broken user"},
	}
	for _, tt := range tests {
		got := nestedUser(tt.in, func(name string) (string, bool) { v, ok := values[name]; return v, ok })
		if got != tt.want {
			t.Errorf("%s: %s, want %s", tt.in, got, tt.want)
		}
	}
}
