package function

import (
	"github.com/hashicorp/hcl/v2/ext/typeexpr"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
	"github.com/zclconf/go-cty/cty/function"
)

// watched is fn, whose marked results are told to see.
func watched(fn function.Function, see func(cty.Value)) function.Function {
	open := func(p function.Parameter) function.Parameter {
		p.AllowMarked = true // fn itself takes the marks off and puts them back
		return p
	}
	spec := &function.Spec{
		Description: fn.Description(),
		Type: func(args []cty.Value) (cty.Type, error) {
			return fn.ReturnTypeForValues(args)
		},
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			v, err := fn.Call(args)
			if err == nil && v.ContainsMarked() {
				see(v)
			}
			return v, err
		},
	}
	for _, p := range fn.Params() {
		spec.Params = append(spec.Params, open(p))
	}
	if p := fn.VarParam(); p != nil {
		o := open(*p)
		spec.VarParam = &o
	}
	return function.New(spec)
}

// convertFunc is typeexpr's, which takes no marked value.
var convertFunc = function.New(&function.Spec{
	Params: []function.Parameter{
		{Name: "value", Type: cty.DynamicPseudoType, AllowNull: true, AllowDynamicType: true, AllowMarked: true, AllowUnknown: true},
		{Name: "type", Type: typeexpr.TypeConstraintType},
	},
	Type: func(args []cty.Value) (cty.Type, error) {
		want := typeexpr.TypeConstraintFromVal(args[1])
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
