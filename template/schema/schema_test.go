package schema

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"

	"github.com/bakehouse-farm/bakehouse"
)

type login struct {
	User string `json:"user"`
	Port int    `json:"port"`
}

type disk struct {
	Name string `json:"name" bake:"required"`
	Size *int   `json:"size"`
}

type settings struct {
	login
	Title   string             `json:"title" bake:"required"`
	Port    float64            `json:"port"` // hides login's
	On      *bool              `json:"on"`
	Names   []string           `json:"names"`
	Codes   []int              `json:"codes"`
	Grid    [][]string         `json:"grid"`
	Tags    map[string]string  `json:"tags" bake:"late"`
	Wait    bakehouse.Duration `json:"wait"`
	Any     any                `json:"any"`
	Script  string             `json:"script" bake:"file"`
	Key     string             `json:"key" bake:"secret"`
	Old     string             `json:"old" bake:"deprecated=use title, please"`
	One     disk               `json:"one" bake:"block"`
	Disks   []disk             `json:"disk" bake:"block"`
	private string
	Skipped string
	Ignored string `json:"-"`
}

func decode(t *testing.T, src string, weak bool) (*Arguments, hcl.Diagnostics) {
	t.Helper()
	_ = settings{}.private
	s, err := Of(&settings{})
	if err != nil {
		t.Fatal(err)
	}
	f, diags := hclsyntax.ParseConfig([]byte(src), "a.hcl", hcl.InitialPos)
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	ctx := &hcl.EvalContext{Variables: map[string]cty.Value{
		"unknown": cty.UnknownVal(cty.String),
		"secret":  cty.StringVal("hush").Mark("x"),
	}}
	a, diags := s.Decode(f.Body, Reading{Context: func(string) *hcl.EvalContext { return ctx }, Weak: weak})
	return a, append(diags, a.Missing()...)
}

func said(diags hcl.Diagnostics) string {
	var b strings.Builder
	for _, d := range diags {
		line := 0
		if d.Subject != nil {
			line = d.Subject.Start.Line
		}
		fmt.Fprintf(&b, "%d: %s: %s\n", line, d.Summary, d.Detail)
	}
	return b.String()
}

func TestDecode(t *testing.T) {
	tests := []struct {
		name, src string
		weak      bool
		json      string
		unknown   []string
		said      string
	}{
		{
			name: "types", src: "title = 5\nport = 1.5\non = \"false\"\nnames = [1, \"b\"]\ncodes = [\"0\", 2]\ngrid = [[\"a\"], []]\ntags = { a = true }\nwait = \"90s\"\nany = { x = [1, null] }\n",
			json: `{"any":{"x":[1,null]},"codes":[0,2],"grid":[["a"],[]],"names":["1","b"],"on":false,"port":1.5,"tags":{"a":"true"},"title":"5","wait":"90s"}`,
		},
		{name: "null is unset", src: "title = \"x\"\nnames = null\n", json: `{"title":"x"}`},
		{name: "null is missing", src: "title = null\n", json: `{}`, unknown: []string{"title"}, said: "1: Missing required argument: The argument \"title\" is required, but no definition was found.\n"},
		{name: "internal", src: "title = \"x\"\npacker_debug = true\n", json: `{"title":"x"}`},
		{
			name: "unknown", src: "title = \"x${unknown}\"\ntags = { a = unknown, b = \"c\" }\ndisk {\n name = unknown\n}\n",
			json: `{"disk":[{}]}`, unknown: []string{"title", "tags", "disk.name"},
		},
		{
			name: "blocks", src: "title = \"x\"\none {\n name = \"1\"\n}\ndisk {\n name = \"2\"\n size = 8\n}\ndisk {\n name = \"3\"\n}\n",
			json: `{"disk":[{"name":"2","size":8},{"name":"3"}],"one":{"name":"1"},"title":"x"}`,
		},
		{
			name: "one too many", src: "title = \"x\"\none {\n name = \"1\"\n}\none {\n name = \"2\"\n}\n",
			json: `{"one":{"name":"1"},"title":"x"}`, said: "5: Duplicate one block: Only one block of type \"one\" is allowed. The first one is at a.hcl:2,1-4.\n",
		},
		{
			name: "misspelt is not missing", src: "titel = \"x\"\n", json: `{}`, unknown: []string{"title"},
			said: "1: Unsupported argument: An argument named \"titel\" is not expected here. Did you mean \"title\"?\n",
		},
		{
			name: "wrong types", src: "title = []\nnames = \"a\"\ncodes = [1.5]\nwait = \"soon\"\ntags = { a = [] }\non = \"maybe\"\n",
			json: `{}`, unknown: []string{"codes", "names", "on", "tags", "title", "wait"},
			said: "1: Incorrect attribute value type: Inappropriate value for attribute \"title\": string required, but have tuple.\n" +
				"6: Incorrect attribute value type: Inappropriate value for attribute \"on\": a bool is required.\n" +
				"2: Incorrect attribute value type: Inappropriate value for attribute \"names\": list of string required, but have string.\n" +
				"3: Incorrect attribute value type: Inappropriate value for attribute \"codes\": a whole number is required.\n" +
				"5: Incorrect attribute value type: Inappropriate value for attribute \"tags\": element \"a\": string required, but have tuple.\n" +
				"4: Incorrect attribute value type: Inappropriate value for attribute \"wait\": a duration is required, such as \"90s\", \"5m\" or \"1h30m\".\n",
		},
		{
			name: "weak", weak: true, src: "title = true\nnames = \"a\"\ncodes = 1\non = \"1\"\nport = \"\"\ngrid = \"\"\n",
			json: `{"codes":[1],"grid":[],"names":["a"],"on":true,"port":0,"title":"1"}`,
		},
		{
			name: "commas", weak: true, src: "title = \"a,b\"\nnames = \"a, b,\"\ncodes = \"1,2\"\n",
			json: `{"codes":[1,2],"names":["a"," b",""],"title":"a,b"}`,
		},
		{
			name: "deprecated", src: "title = \"x\"\nold = \"y\"\n", json: `{"old":"y","title":"x"}`,
			said: "2: Argument \"old\" is deprecated: use title, please\n",
		},
		{name: "marks do not show", src: "title = secret\n", json: `{"title":"hush"}`},
		{
			name: "block written as map", src: "title = \"x\"\ndisk = { name = \"1\" }\n", json: `{"title":"x"}`, unknown: []string{"disk"},
			said: "2: Unsupported argument: An argument named \"disk\" is not expected here. Did you mean to define a block of type \"disk\"?\n",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a, diags := decode(t, tt.src, tt.weak)
			js, unknown, err := a.JSON()
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.json, string(js)); diff != "" {
				t.Errorf("settings (-want +got)\n%s", diff)
			}
			if diff := cmp.Diff(tt.unknown, unknown); diff != "" {
				t.Errorf("unknown (-want +got)\n%s", diff)
			}
			if diff := cmp.Diff(tt.said, said(diags)); diff != "" {
				t.Errorf("diagnostics (-want +got)\n%s", diff)
			}
		})
	}
}

func TestWhere(t *testing.T) {
	a, _ := decode(t, "title = \"x\"\ndisk {\n name = \"a\"\n}\ndisk {\n size = 1\n name = \"b\"\n}\n", false)
	for name, line := range map[string]int{
		"title": 1, "disk": 2, "disk.name": 3, "disk.size": 2, "disk.1": 5, "disk.1.name": 7, "disk.7.name": 2,
	} {
		if got := a.Where(name).Start.Line; got != line {
			t.Errorf("%s is in line %d, want %d", name, got, line)
		}
	}
}

func TestRenderSecretsFiles(t *testing.T) {
	a, diags := decode(t, "title = \"{{t}}\"\ntags = { a = \"{{late}}\" }\nscript = \"{{t}}.sh\"\nkey = \"k\"\nnames = [\"a\", secret]\ndisk {\n name = \"{{t}}\"\n}\n", false)
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	var sites []string
	more := a.Render(func(site, s string, late bool) (string, error) {
		sites = append(sites, site)
		if late {
			return s, nil
		}
		if s == "k" {
			return "", fmt.Errorf("no keys")
		}
		return strings.ReplaceAll(s, "{{t}}", "T"), nil
	})
	if got := said(more); got != "4: Invalid {{ }} expression: Argument \"key\": no keys.\n" {
		t.Error(got)
	}
	js, _, _ := a.JSON()
	if want := `{"disk":[{"name":"T"}],"names":["a","hush"],"script":"T.sh","tags":{"a":"{{late}}"},"title":"T"}`; string(js) != want {
		t.Errorf("%s\nwant %s", js, want)
	}
	var secrets, files []string
	a.Secrets(func(s string) { secrets = append(secrets, s) })
	a.Files(func(s string) { files = append(files, s) })
	if diff := cmp.Diff([]string{"hush"}, secrets); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"T.sh"}, files); diff != "" {
		t.Error(diff)
	}
	if sites[len(sites)-1] != "disk.0.name" {
		t.Errorf("sites %v", sites)
	}
}

// In JSON templates everything that {{ }} makes is a string: what it stands for
// is seen when it is rendered.
func TestRenderThenConvert(t *testing.T) {
	src := "title = \"{{1}}\"\nport = \"{{1}}2\"\non = \"{{1}}\"\nnames = \"{{a,b}},c\"\ncodes = [\"{{1}}\", 2]\ngrid = \"{{a,b}}\"\nwait = \"{{1}}s\"\ndisk {\n name = \"x\"\n size = \"{{1}}0\"\n}\n"
	if _, diags := decode(t, src, false); len(diags) != 6 {
		t.Errorf("HCL takes no strings for numbers, booleans and lists: %v", diags)
	}
	a, diags := decode(t, src+"tags = \"{{1}}\"\n", true)
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	more := a.Render(func(_, s string, _ bool) (string, error) {
		if strings.Contains(s, "unknown") {
			return "", ErrUnknown
		}
		return strings.NewReplacer("{{", "", "}}", "").Replace(s), nil
	})
	if got, want := said(more), "12: Incorrect attribute value type: Inappropriate value for attribute \"tags\": map of string required, but have string.\n"; got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
	js, _, err := a.JSON()
	if want := `{"codes":[1,2],"disk":[{"name":"x","size":10}],"grid":[["a"],["b"]],"names":["a","b","c"],"on":true,"port":12,"title":"1","wait":"1s"}`; err != nil || string(js) != want {
		t.Errorf("%v %s\nwant %s", err, js, want)
	}

	a, _ = decode(t, "title = \"x\"\nport = \"{{unknown}}\"\nnames = \"{{unknown}}\"\ncodes = [\"{{unknown}}\", 1]\n", true)
	if diags := a.Render(func(_, s string, _ bool) (string, error) {
		if strings.Contains(s, "unknown") {
			return "", ErrUnknown
		}
		return s, nil
	}); diags.HasErrors() {
		t.Fatal(diags)
	}
	if _, unknown, err := a.JSON(); err != nil || !cmp.Equal(unknown, []string{"names", "codes", "port"}, cmpopts.SortSlices(strings.Compare)) {
		t.Errorf("unknown: %v %v", unknown, err)
	}
}

func TestBadSettings(t *testing.T) {
	for name, bad := range map[string]any{
		"nothing":   nil,
		"no struct": new(int),
		"tag": &struct {
			A string `json:"a" bake:"requierd"`
		}{},
		"channel": &struct {
			A chan int `json:"a"`
		}{},
		"block": &struct {
			A string `json:"a" bake:"block"`
		}{},
	} {
		if _, err := Of(bad); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestNearest(t *testing.T) {
	for given, want := range map[string]string{"regoin": "region", "x": "", "shel": "shell", "ab": ""} {
		if got := Nearest(given, []string{"region", "shell", "instance_type"}); got != want {
			t.Errorf("Nearest(%q) = %q, want %q", given, got, want)
		}
	}
}
