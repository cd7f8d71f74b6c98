package template

import (
	"os"
	"regexp"

	"github.com/hashicorp/hcl/v2"
	hcljson "github.com/hashicorp/hcl/v2/json"
	"github.com/zclconf/go-cty/cty"

	"github.com/bakehouse-farm/bakehouse/template/schema"
)

// parseJSON reads a file as one JSON value.
func (t *Template) parseJSON(name string) (hcl.Expression, hcl.Diagnostics) {
	src, err := os.ReadFile(t.files.Path(name))
	if err != nil {
		return nil, hcl.Diagnostics{failure("Cannot read a file", "%s: %s.", name, reason(err))}
	}
	t.parsed[name] = &hcl.File{Bytes: src, Body: hcl.EmptyBody()}
	if d := tooDeep(src, name); d != nil {
		return nil, hcl.Diagnostics{d}
	}
	return hcljson.ParseExpression(src, name)
}

var envCall = regexp.MustCompile("\\benv\\s+(?:`([^`]*)`|\"([^\"]*)\")")

// envCalls are the names that s may ask the environment for, on whatever branch
// it does.
func envCalls(s string) []string {
	var names []string
	for _, m := range envCall.FindAllStringSubmatch(s, -1) {
		names = append(names, m[1]+m[2])
	}
	return names
}

func looseString(v cty.Value) (string, error) {
	s, err := schema.Loose(v, cty.String)
	if err != nil {
		return "", err
	}
	return s.AsString(), nil
}
