package function

import (
	"fmt"

	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"
)

// remote are the functions that ask a server for a secret.
var remote = map[string]string{
	"aws_secretsmanager":     "AWS Secrets Manager",
	"aws_secretsmanager_raw": "AWS Secrets Manager",
	"consul_key":             "Consul",
	"vault":                  "Vault",
}

// refused is a function that Packer has and that we do not have yet.
func refused(name, server string) function.Function {
	return failing(fmt.Errorf("bakehouse cannot ask %s yet: give the value of %s as a sensitive variable instead (-var, or PKR_VAR_ in the environment)", server, name))
}

// failing takes any arguments and fails.
func failing(err error) function.Function {
	return function.New(&function.Spec{
		VarParam: &function.Parameter{Name: "arguments", Type: cty.DynamicPseudoType, AllowNull: true, AllowDynamicType: true, AllowUnknown: true},
		Type:     function.StaticReturnType(cty.String),
		Impl: func([]cty.Value, cty.Type) (cty.Value, error) {
			return cty.NilVal, err
		},
	})
}
