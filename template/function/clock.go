package function

import (
	"math/big"
	"time"

	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"

	"github.com/bakehouse-farm/bakehouse/template/interpolate"
)

func (e Env) clock() map[string]function.Function {
	at := func(format func(layout ...string) (string, error)) func([]cty.Value, cty.Type) (cty.Value, error) {
		return func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			if e.Time.IsZero() {
				return cty.UnknownVal(cty.String), nil
			}
			layout := make([]string, len(args))
			for i, a := range args {
				layout[i] = a.AsString()
			}
			s, err := format(layout...)
			if err != nil {
				return cty.NilVal, err
			}
			return cty.StringVal(s), nil
		}
	}
	now := e.Time.UTC()
	return map[string]function.Function{
		"timestamp": function.New(&function.Spec{
			Type: function.StaticReturnType(cty.String),
			Impl: at(func(...string) (string, error) { return now.Format(time.RFC3339), nil }),
		}),
		"legacy_isotime": function.New(&function.Spec{
			VarParam: &function.Parameter{Name: "format", Type: cty.String},
			Type:     function.StaticReturnType(cty.String),
			Impl: at(func(layout ...string) (string, error) {
				switch len(layout) {
				case 0:
					return now.Format(time.RFC3339), nil
				case 1:
					return now.Format(layout[0]), nil
				}
				return "", function.NewArgErrorf(1, "too many arguments: legacy_isotime takes one format or none")
			}),
		}),
		"legacy_strftime": function.New(&function.Spec{
			VarParam: &function.Parameter{Name: "format", Type: cty.String},
			Type:     function.StaticReturnType(cty.String),
			Impl: at(func(layout ...string) (string, error) {
				if len(layout) != 1 {
					return "", function.NewArgErrorf(0, "legacy_strftime takes one format")
				}
				return interpolate.Strftime(layout[0], now)
			}),
		}),
	}
}

// Random returns the functions whose results are random, but always the same
// for the same Seed and site. A site is a place in the template: give each its
// own, and no two places see the same random value.
func (e Env) Random(site string) map[string]function.Function {
	calls := 0
	return map[string]function.Function{
		"uuidv4": function.New(&function.Spec{
			Type: function.StaticReturnType(cty.String),
			Impl: func([]cty.Value, cty.Type) (cty.Value, error) {
				if e.Seed == "" {
					return cty.UnknownVal(cty.String), nil
				}
				calls++
				return cty.StringVal(interpolate.UUID(e.Seed+"\x00"+site, calls)), nil
			},
		}),
	}
}

var moment = cty.Object(map[string]cty.Type{
	"year": cty.Number, "year_day": cty.Number, "day": cty.Number,
	"month": cty.Number, "month_name": cty.String,
	"weekday": cty.Number, "weekday_name": cty.String,
	"hour": cty.Number, "minute": cty.Number, "second": cty.Number,
	"rfc3339": cty.String, "iso_year": cty.Number, "iso_week": cty.Number,
})

func momentVal(t time.Time) cty.Value {
	n := func(i int) cty.Value { return cty.NumberIntVal(int64(i)) }
	isoYear, isoWeek := t.ISOWeek()
	return cty.ObjectVal(map[string]cty.Value{
		"year": n(t.Year()), "year_day": n(t.YearDay()), "day": n(t.Day()),
		"month": n(int(t.Month())), "month_name": cty.StringVal(t.Month().String()),
		"weekday": n(int(t.Weekday())), "weekday_name": cty.StringVal(t.Weekday().String()),
		"hour": n(t.Hour()), "minute": n(t.Minute()), "second": n(t.Second()),
		"rfc3339":  cty.StringVal(t.Format(time.RFC3339)),
		"iso_year": n(isoYear), "iso_week": n(isoWeek),
	})
}

var rfc3339Parse = function.New(&function.Spec{
	Params: []function.Parameter{{Name: "timestamp", Type: cty.String}},
	Type:   function.StaticReturnType(moment),
	Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
		t, err := time.Parse(time.RFC3339, args[0].AsString())
		if err != nil {
			return cty.NilVal, function.NewArgErrorf(0, "not a valid RFC 3339 timestamp such as 2006-01-02T15:04:05Z")
		}
		return momentVal(t), nil
	},
})

var unixParse = function.New(&function.Spec{
	Params: []function.Parameter{{Name: "seconds", Type: cty.Number}},
	Type:   function.StaticReturnType(moment),
	Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
		n, accuracy := args[0].AsBigFloat().Int64()
		if accuracy != big.Exact {
			return cty.NilVal, function.NewArgErrorf(0, "must be a whole number of seconds")
		}
		return momentVal(time.Unix(n, 0).UTC()), nil
	},
})
