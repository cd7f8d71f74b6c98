package function

import (
	"github.com/hashicorp/hcl/v2/ext/typeexpr"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
	"github.com/zclconf/go-cty/cty/function"

	"github.com/bakehouse-farm/bakehouse/template/limit"
)

// convert is typeexpr's, which takes no marked value.
func (e Env) convert() function.Function {
	return function.New(&function.Spec{
		Params: []function.Parameter{
			{Name: "value", Type: cty.DynamicPseudoType, AllowNull: true, AllowDynamicType: true, AllowMarked: true, AllowUnknown: true},
			{Name: "type", Type: typeexpr.TypeConstraintType},
		},
		Type: func(args []cty.Value) (cty.Type, error) {
			want := typeexpr.TypeConstraintFromVal(args[1])
			if err := e.Budget.Weigh(args[0]); err != nil {
				return cty.NilType, err
			}
			if n := count(args, 0); n > limit.Arguments && want.HasDynamicTypes() {
				// Finding a type for all of them compares each with each.
				return cty.NilType, function.NewArgErrorf(1, "%d elements are too many to find a type for: say which type they shall have", n)
			}
			v, err := convert.Convert(args[0], want)
			if err != nil {
				return cty.NilType, function.NewArgError(0, err)
			}
			return v.Type(), nil
		},
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			v, err := convert.Convert(args[0], typeexpr.TypeConstraintFromVal(args[1]))
			if err != nil {
				return cty.NilVal, function.NewArgError(0, err)
			}
			return v, nil
		},
	})
}
