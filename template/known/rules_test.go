package known

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/bakehouse-farm/bakehouse"
)

func TestRules(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "there.txt"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		rule, settings, unknown string
		want                    []string // "FIELD: MESSAGE"
	}{
		{"need a", `{"a": "x"}`, "", nil},
		{"need a", `{"a": ""}`, "", []string{"a: a must be set"}},
		{"need a", `{"a": 0}`, "", []string{"a: a must be set"}},
		{"need a", `{"a": false}`, "", []string{"a: a must be set"}},
		{"need a", `{"a": []}`, "", []string{"a: a must be set"}},
		{"need a", `{}`, "a", nil},
		{"need a", `{}`, "a.b", nil},
		{"need a : say so", `{}`, "", []string{"a: say so"}},
		{"need a b", `{"b": true}`, "", nil},
		{"need a b", `{}`, "", []string{"a: one of a, b must be set"}},
		{"need a b", `{}`, "b", nil},
		{"need a $SET", `{}`, "", nil},
		{"need a $UNSET", `{}`, "", []string{"a: a must be set"}},
		{"need a ~/there.txt", `{}`, "", nil},
		{"need a ~/gone.txt", `{}`, "", []string{"a: a must be set"}},
		{"need a.b", `{"a": {"b": 1}}`, "", nil},
		{"need a.b", `{"a": [{"b": 1}]}`, "", nil},
		{"need a.b", `{"a": {}}`, "", []string{"a.b: a.b must be set"}},
		{"need a.b", `{}`, "a", nil},
		{"one a b", `{"a": 1}`, "", nil},
		{"one a b", `{"a": 1, "b": 1}`, "", []string{"b: only one of a, b can be set"}},
		{"with a b", `{"b": 1}`, "", nil},
		{"with a b c", `{"a": 1, "b": 1}`, "", []string{"a: c must be set when a is"}},
		{"in a x y", `{"a": "y"}`, "", nil},
		{"in a x y", `{}`, "", nil},
		{"in a x y", `{"a": "z"}`, "", []string{`a: a must be one of x, y, not "z"`}},
		{"in a x y", `{"a": "z"}`, "a", nil},
		{"never a", `{"a": "z"}`, "", []string{"a: a cannot be set"}},
		{"exists a", `{"a": "there.txt"}`, "", nil},
		{"exists a", `{"a": "*.txt"}`, "", nil},
		{"exists as", `{"as": ["there.txt", "gone", "*.gone"]}`, "", []string{"as: Bad a 'gone': no such file or directory", "as: Bad a '*.gone': no such file or directory"}},
		{"every a b", `{"a": [{"b": 1}, {"b": ""}]}`, "", []string{"a.1: b must be set in every a"}},
		{"every a b", `{}`, "", nil},
		{"order a 5 b 10", `{}`, "", nil},
		{"order a 5 b 10", `{"a": 11}`, "", []string{"a: a must be less than b"}},
		{"order a 5 b 10", `{"b": 4}`, "", []string{"a: a must be less than b"}},
		{"order a 5 b 10", `{"b": 4}`, "a", nil},
		{"when b need a", `{}`, "", nil},
		{"when b need a", `{"b": 1}`, "", []string{"a: a must be set"}},
		{"when b need a", `{}`, "b", nil},
		{"when b=x need a", `{"b": "y"}`, "", nil},
		{"unless b=x need a", `{"b": "y"}`, "", []string{"a: a must be set"}},
		{"unless b=x unless c need a", `{"c": 1}`, "", nil},
		{"warn need a", `{}`, "", []string{"a: warning: a must be set"}},
		{"communicator", `{"communicator": "none"}`, "", nil},
		{"communicator none", `{}`, "", nil},
		{"communicator", `{"communicator": "winrm", "winrm_username": "u"}`, "", nil},
		{"communicator", `{"communicator": "telnet"}`, "", []string{"communicator: Communicator type telnet is invalid"}},
	} {
		t.Run(tt.rule+" "+tt.settings, func(t *testing.T) {
			r, err := parseRule(strings.Fields(tt.rule))
			if err != nil {
				t.Fatal(err)
			}
			s := &settings{
				raw: json.RawMessage(tt.settings), files: bakehouse.Files{Cwd: dir, Home: dir},
				getenv: func(name string) string { return map[string]string{"SET": "x"}[name] },
			}
			if err := json.Unmarshal(s.raw, &s.values); err != nil {
				t.Fatal(err)
			}
			if tt.unknown != "" {
				s.unknown = []string{tt.unknown}
			}
			var got []string
			for _, f := range r.check(s) {
				line := f.Field + ": "
				if f.Warning {
					line += "warning: "
				}
				got = append(got, line+f.Message)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
	for _, bad := range []string{"", "wish a", "need", "one a", "when", "when a", "in a", "order a b c d"} {
		if r, err := parseRule(strings.Fields(bad)); err == nil {
			t.Errorf("%q is a rule: %+v", bad, r)
		}
	}
}

// Rules are about arguments that there are.
func TestRulesNameArguments(t *testing.T) {
	for _, kind := range []Kind{Builder, Provisioner, PostProcessor, DataSource} {
		for _, typ := range Types(kind) {
			c, _ := Lookup(kind, typ)
			if c.def == nil {
				continue
			}
			has := func(name string) bool {
				fields := c.def.fields
				for part := range strings.SplitSeq(name, ".") {
					i := find(fields, part)
					if i < 0 {
						return false
					}
					fields = fields[i].members
				}
				return true
			}
			for _, r := range c.def.rules {
				var args []string
				switch r.verb {
				case "in", "exists":
					args = r.args[:1]
				case "order":
					args = []string{r.args[0], r.args[2]}
				case "every":
					for _, arg := range r.args[1:] {
						args = append(args, r.args[0]+"."+arg)
					}
				case "communicator":
					args = []string{"communicator"}
				default:
					args = append(args, r.args...)
				}
				for _, w := range r.when {
					args = append(args, w.arg)
				}
				for _, arg := range args {
					if !strings.ContainsAny(arg, "$~") && !has(arg) {
						t.Errorf("%s %s has no argument %s, which a rule names", kind, typ, arg)
					}
				}
			}
		}
	}
}
