package function

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"

	"github.com/bakehouse-farm/bakehouse/template/limit"
	"github.com/bakehouse-farm/bakehouse/template/schema"
)

// bounded is fn within the limits of package limit: what it takes and what it
// gives counts, and where it could make something enormous of little, that is
// foreseen. What it returns is told to see, if that is not nil.
func bounded(name string, fn function.Function, b *limit.Budget, see func(cty.Value)) function.Function {
	open := func(p function.Parameter) function.Parameter {
		p.AllowMarked = true // fn itself takes the marks off and puts them back
		return p
	}
	foresee := foreseen[name]
	spec := &function.Spec{
		Description: fn.Description(),
		Type: func(args []cty.Value) (cty.Type, error) {
			if len(args) > limit.Arguments {
				return cty.NilType, fmt.Errorf("a function takes at most %d arguments here; this call has %d", limit.Arguments, len(args))
			}
			for _, a := range args {
				if err := b.Weigh(a); err != nil {
					return cty.NilType, err
				}
			}
			if foresee != nil {
				work, err := foresee(args)
				if err == nil {
					err = b.Spend(work)
				}
				if err != nil {
					return cty.NilType, err
				}
			}
			ty, err := fn.ReturnTypeForValues(args)
			return ty, discreet(err, args)
		},
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			v, err := fn.Call(args)
			if err == nil {
				err = b.Weigh(v)
			}
			if err == nil && see != nil && v.ContainsMarked() {
				see(v)
			}
			return v, discreet(err, args)
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

// discreet is err, unless it tells the text of a sensitive argument. Short ones
// could not be found in it later on. What it wraps stays within reach of
// errors.As.
func discreet(err error, args []cty.Value) error {
	if err == nil {
		return nil
	}
	var hide []string
	for _, a := range args {
		schema.Strings(a, func(s string, marked bool) {
			if marked {
				hide = append(hide, s)
			}
		})
	}
	quiet := Discreet(err, hide)
	if quiet.Error() == err.Error() {
		return err
	}
	var arg function.ArgError
	if errors.As(err, &arg) {
		return function.NewArgError(arg.Index, quiet)
	}
	return quiet
}

// Discreet is err in words that tell none of the secrets: long ones are
// replaced, and where a short one appears, nothing is said of what happened,
// because it could not be told from other text. The result wraps err.
func Discreet(err error, secrets []string) error {
	const long = 4 // bytes; shorter ones are part of many words
	text := err.Error()
	for _, s := range secrets {
		if s == "" || !strings.Contains(err.Error(), s) {
			continue
		}
		if len(s) < long {
			return &reticent{"it fails with this sensitive value; what it says would show the value", err}
		}
		text = strings.ReplaceAll(text, s, "<sensitive>")
	}
	if text == err.Error() {
		return err
	}
	return &reticent{text, err}
}

// reticent is an error in other words.
type reticent struct {
	text string
	err  error
}

func (r *reticent) Error() string { return r.text }
func (r *reticent) Unwrap() error { return r.err }

// foreseen say, by a function's name, what a call will cost besides its
// arguments and result, and refuse it when the result would be too large.
var foreseen = map[string]func(args []cty.Value) (work int, err error){
	"bcrypt": func(args []cty.Value) (int, error) {
		cost := numberArg(args, 1, 10)
		if cost > maxBcrypt {
			return 0, function.NewArgErrorf(1, "a cost of %d takes too long to compute; at most %d is allowed here", cost, maxBcrypt)
		}
		return 200 << max(cost, 4), nil
	},
	"distinct":   square(0),
	"format":     func(args []cty.Value) (int, error) { return formatted(args, 1) },
	"formatlist": func(args []cty.Value) (int, error) { return formatted(args, longest(args)) },
	"indent": func(args []cty.Value) (int, error) {
		return fits(numberArg(args, 0, 0), strings.Count(textArg(args, 1), "\n"))
	},
	"join":       joined,
	"jsondecode": func(args []cty.Value) (int, error) { return 0, limit.Data(textArg(args, 0)) },
	"parseint":   func(args []cty.Value) (int, error) { return 0, limit.Digits(textArg(args, 0)) },
	"regex":      func(args []cty.Value) (int, error) { return matching(textArg(args, 0), textArg(args, 1)), nil },
	"regex_replace": func(args []cty.Value) (int, error) {
		return matched(textArg(args, 0), textArg(args, 1), textArg(args, 2))
	},
	"regexall": func(args []cty.Value) (int, error) {
		s, pattern := textArg(args, 1), textArg(args, 0)
		groups := strings.Count(pattern, "(") + 1
		if groups*(len(s)+1) > limit.Elements && groups*matches(pattern, s, limit.Elements/groups+1) > limit.Elements {
			return 0, fmt.Errorf("the matches of its groups are more than the %d elements that a value may have", limit.Elements)
		}
		return matching(pattern, s), nil
	},
	"replace": func(args []cty.Value) (int, error) {
		s, old, with := textArg(args, 0), textArg(args, 1), textArg(args, 2)
		return fits(strings.Count(s, old), len(with))
	},
	"rsadecrypt": func(args []cty.Value) (int, error) {
		if n := len(textArg(args, 1)); n > maxKey {
			return 0, function.NewArgErrorf(1, "a private key may have %d bytes; this one has %d", maxKey, n)
		}
		return limit.PerBuild / 10, nil
	},
	"setproduct": func(args []cty.Value) (int, error) {
		n := 1
		for i := range args {
			if n *= count(args, i); n > limit.Elements/max(1, len(args)) {
				return 0, fmt.Errorf("the product of these has more than the %d elements that a value may have", limit.Elements)
			}
		}
		return n * len(args), nil
	},
	"templatefile": func(args []cty.Value) (int, error) { return 1000, nil },
	"yamldecode":   func(args []cty.Value) (int, error) { return 0, limit.YAML(textArg(args, 0)) },
}

const (
	maxBcrypt = 16
	maxKey    = 16 << 10
)

// textArg is the string that an argument is known to be, or nothing.
func textArg(args []cty.Value, i int) string {
	if i >= len(args) {
		return ""
	}
	v, _ := args[i].Unmark()
	if v.IsNull() || !v.IsKnown() || v.Type() != cty.String {
		return ""
	}
	return v.AsString()
}

// numberArg is the whole number that an argument is known to be, or otherwise.
func numberArg(args []cty.Value, i, otherwise int) int {
	if i >= len(args) {
		return otherwise
	}
	v, _ := args[i].Unmark()
	if v.IsNull() || !v.IsKnown() || v.Type() != cty.Number {
		return otherwise
	}
	n, _ := v.AsBigFloat().Int64()
	return int(min(max(n, -limit.Text), limit.Text+1))
}

// count is how many elements an argument is known to have, or none.
func count(args []cty.Value, i int) int {
	v, _ := args[i].Unmark()
	if v.IsNull() || !v.IsKnown() || !v.CanIterateElements() {
		return 0
	}
	return v.LengthInt()
}

func longest(args []cty.Value) int {
	n := 1
	for i := range args {
		n = max(n, count(args, i))
	}
	return n
}

// fits says whether n pieces of size bytes are within the limit of a text.
func fits(n, size int) (int, error) {
	if n > 0 && size > limit.Text/n {
		return 0, fmt.Errorf("the result would have more than the %d bytes that a text may have", limit.Text)
	}
	return 0, nil
}

// square is for functions that compare all elements with each other.
func square(i int) func([]cty.Value) (int, error) {
	return func(args []cty.Value) (int, error) {
		n := count(args, i)
		return n * n / 16, nil
	}
}

func joined(args []cty.Value) (int, error) {
	n := 0
	for i := 1; i < len(args); i++ {
		n += count(args, i)
	}
	return fits(n, len(textArg(args, 0)))
}

// formatted bounds what n uses of a format become: the widths that it asks for,
// and the arguments that it uses again and again.
func formatted(args []cty.Value, n int) (int, error) {
	layout := textArg(args, 0)
	total := 0
	for _, digits := range runs.FindAllString(layout, -1) {
		width, err := strconv.Atoi(digits)
		if err != nil || width > limit.Text {
			width = limit.Text
		}
		if total += width; total > limit.Text {
			break
		}
	}
	if strings.Contains(layout, "[") {
		widest := 0
		for i := 1; i < len(args); i++ {
			widest = max(widest, len(textArg(args, i)))
		}
		if _, err := fits(strings.Count(layout, "["), widest); err != nil {
			return 0, err
		}
	}
	return fits(n, total+len(layout))
}

var runs = regexp.MustCompile(`[0-9]+`)

// matching is what it takes to match a pattern against s.
func matching(pattern, s string) int { return len(pattern) * len(s) / 64 }

// matches counts how often a pattern matches in s, up to most.
func matches(pattern, s string, most int) int {
	re, err := regexp.Compile(pattern)
	if err != nil {
		return 0 // the function says what is wrong
	}
	n := 0
	for n < most {
		at := re.FindStringIndex(s)
		if at == nil {
			break
		}
		n++
		next := max(at[1], 1)
		if next > len(s) {
			break
		}
		s = s[next:]
	}
	return n
}

// matched bounds what replacing all matches makes of s.
func matched(s, pattern, with string) (int, error) {
	refs := strings.Count(with, "$")
	if (len(s)+1)*len(with)+refs*len(s) > limit.Text {
		if size := matches(pattern, s, limit.Text/max(1, len(with))+1)*len(with) + refs*len(s); size > limit.Text {
			return fits(1, size)
		}
	}
	return matching(pattern, s), nil
}
