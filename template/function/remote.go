package function

import (
	"errors"

	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"
)

// remote are the parameters of the functions that ask a server.
var remote = map[string][]function.Parameter{
	"aws_secretsmanager":     {word("name"), nullable(word("key"))},
	"aws_secretsmanager_raw": {word("name")},
	"consul_key":             {word("key")},
	"vault":                  {word("path"), word("key")},
}

// word is a string that may not be known yet: the answer is not known then,
// either, but whether it is a secret is. It may be a secret itself: the answer
// is one, too, then.
func word(name string) function.Parameter {
	return function.Parameter{Name: name, Type: cty.String, AllowUnknown: true, AllowMarked: true}
}

func nullable(p function.Parameter) function.Parameter {
	p.AllowNull = true
	return p
}

var errAlone = errors.New("no server is asked here, because this is evaluated where the template is submitted")

func (e Env) remote() map[string]function.Function {
	f := map[string]function.Function{}
	for name, params := range remote {
		f[name] = function.New(&function.Spec{
			Params: params,
			Type:   function.StaticReturnType(cty.String),
			Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
				if e.Ask == nil {
					return cty.NilVal, errAlone
				}
				v, err := e.Ask(name, args)
				if err != nil {
					return cty.NilVal, err
				}
				return v.WithSameMarks(args...), nil
			},
		})
	}
	return f
}
