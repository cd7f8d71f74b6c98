package bakehouse_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/bakehouse-farm/bakehouse"

// may says which rooms of the house each room may enter, besides itself and
// what lies below it. A package not listed takes the rule of the folder above.
// Test files are free.
var may = map[string][]string{
	"":                              {}, // the words: standard library only
	"internal/proc":                 {}, // standard library only: the runner is made of it
	"communicator":                  {""},
	"communicator/ssh":              {"", "communicator"},
	"communicator/runner":           {},
	"communicator/communicatortest": {"", "communicator", "internal/proc"},
	"template":                      {"", "datasources"},
	"template/interpolate":          {""},
	"template/legacyjson":           {},
	"template/fix":                  {"template/legacyjson"},
	"template/upgrade":              {"", "template"},
	"template/known":                {"", "communicator"},
	"datasources":                   {""},
	"builders":                      {"", "communicator", "template/interpolate", "datasources"},
	"provisioners":                  {"", "communicator", "template/interpolate"},
	"postprocessors":                {"", "template/interpolate"},
	"agent/secret":                  {""},
	"agent/bundle":                  {"", "agent/secret"},
	"agent/buildlog":                {"", "agent/secret", "communicator"},
	"timeline":                      {""},
	"activities":                    {"", "builders", "communicator", "provisioners", "postprocessors", "template", "agent/secret", "agent/bundle", "agent/buildlog", "timeline"},
	"workflows":                     {"", "activities", "builders", "postprocessors", "template"},
	"agent":                         {"", "workflows", "activities", "builders", "provisioners", "postprocessors", "template", "timeline"},
	"localcloud":                    {""},
	"localcloud/sandbox":            {"", "internal/proc"},
	"laboratory":                    {"", "localcloud"},
	"cmd/runner":                    {"communicator/runner", "internal/proc"},
	"cmd/localcloud":                {"", "localcloud"},
}

// One direction: cmd → agent → workflows → activities → builders and their
// kin → the words.
func TestImportsGoOneWay(t *testing.T) {
	err := filepath.WalkDir(".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if name != "." && (strings.HasPrefix(d.Name(), ".") || d.Name() == "bin" || d.Name() == "testdata" || name == filepath.Join("deploy", "temporal", "dev")) {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		pkg := strings.TrimPrefix(filepath.ToSlash(filepath.Dir(name)), ".")
		allowed, ruled := rule(pkg)
		if !ruled {
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		for _, spec := range file.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			if pkg == "" && strings.Contains(strings.SplitN(imported, "/", 2)[0], ".") {
				t.Errorf("%s imports %s: the root package uses the standard library only", name, imported)
			}
			if pkg == "workflows" && strings.HasPrefix(imported, "github.com/aws/") {
				t.Errorf("%s imports %s: workflows never reach a cloud SDK", name, imported)
			}
			if imported != module && !strings.HasPrefix(imported, module+"/") {
				continue
			}
			target := strings.TrimPrefix(strings.TrimPrefix(imported, module), "/")
			if !permitted(pkg, target, allowed) {
				t.Errorf("%s imports %s, which the table in this test does not allow", name, imported)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// rule returns the entry of the nearest folder that has one.
func rule(pkg string) ([]string, bool) {
	if pkg == "" {
		return may[""], true
	}
	for p := pkg; p != "."; p = path.Dir(p) {
		if allowed, ok := may[p]; ok {
			return allowed, true
		}
	}
	return nil, false
}

func permitted(pkg, target string, allowed []string) bool {
	top := pkg
	for p := range may {
		if p != "" && (pkg == p || strings.HasPrefix(pkg, p+"/")) && len(p) < len(top) {
			top = p
		}
	}
	if target != "" && (target == top || strings.HasPrefix(target, top+"/")) {
		return true
	}
	for _, a := range allowed {
		if target == a || a != "" && strings.HasPrefix(target, a+"/") {
			return true
		}
	}
	return false
}
