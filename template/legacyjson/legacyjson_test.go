package legacyjson

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/hashicorp/hcl/v2"
)

func TestParse(t *testing.T) {
	v, diags := Parse([]byte(`{"z": [1, 1.50, -2e3, 12345678901234567890], "a": {"t": true, "n": null, "s": "${x} {{y}} \u00e9\n"}, "f": false}`), "t.json")
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	want := Value{Kind: Object, Members: []Member{
		{Name: "z", Value: Value{Kind: List, Items: []Value{{Kind: Number, Text: "1"}, {Kind: Number, Text: "1.5"}, {Kind: Number, Text: "-2000"}, {Kind: Number, Text: "12345678901234567890"}}}},
		{Name: "a", Value: Value{Kind: Object, Members: []Member{
			{Name: "t", Value: Value{Kind: Bool, True: true}}, {Name: "n"}, {Name: "s", Value: Value{Kind: String, Text: "${x} {{y}} é\n"}},
		}}},
		{Name: "f", Value: Value{Kind: Bool}},
	}}
	if diff := cmp.Diff(want, v, cmpopts.IgnoreTypes(hcl.Range{})); diff != "" {
		t.Error(diff)
	}
	if m, ok := v.Member("a"); !ok || m.Kind != Object {
		t.Error("member a:", m, ok)
	}
	if _, ok := v.Member("b"); ok {
		t.Error("there is no member b")
	}
}

func TestWhere(t *testing.T) {
	v, _ := Parse([]byte("{\n  \"a\": [\n    5]}"), "t.json")
	if got := v.Members[0].Value.Items[0].Range.String(); !strings.HasPrefix(got, "t.json:3,5") {
		t.Error("5 is at", got)
	}
}

func TestRefused(t *testing.T) {
	tests := []struct{ name, in, want string }{
		{"list", `[]`, "is an object"},
		{"nothing", ``, "t.json"},
		{"cut off", `{"a": `, "t.json:1"},
		{"comment", "{\n// x\n}", "t.json:2"},
		{"twice", `{"a": {"b": 1, "b": 2}}`, "duplicate field: b"},
		{"two", `{} {}`, "t.json:1"},
		{"deep", strings.Repeat("[", 1e6), "too deep"},
		{"deep but for texts", `{"a": "` + strings.Repeat(`[\"`, 5000) + `"`, "t.json:1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, diags := Parse([]byte(tt.in), "t.json")
			if !diags.HasErrors() || !strings.Contains(diags.Error(), tt.want) {
				t.Errorf("got %v, want %q", diags, tt.want)
			}
		})
	}
}
