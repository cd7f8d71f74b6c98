package known

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/bakehouse-farm/bakehouse"
	"github.com/bakehouse-farm/bakehouse/communicator"
)

// A rule is what must hold of arguments, beyond their types. It stands behind
// "!" in the files of arguments, with the words that Packer has for the finding
// behind a colon:
//
//	need A B $C ~/d    at least one of the arguments A and B is set, or the
//	                   environment variable C is, or the file is there
//	one A B            at most one of them is set
//	with A B C         when A is set, so are B and C
//	in A x y           A is one of these words, if it is set
//	order A 1 B 9      A, or 1 when it is not set, is not more than B, or 9
//	exists A           the files and folders that A names are there
//	never A            A is not set
//	every A B C        each of the blocks A has B and C set
//	communicator X     the arguments of the communicator are right; X is the one
//	                   that is used when the template does not say
//	when A=x RULE      the rule holds only when A is x; "when A": when A is set;
//	unless A=x RULE    the reverse
//	warn RULE          it is a warning only
//
// An argument is set when it is not empty: Packer cannot tell "", 0, false and
// an empty list from nothing. What is not known yet breaks no rule.
type rule struct {
	when []condition
	verb string
	args []string
	text string
	warn bool
}

type condition struct {
	arg, value string
	not        bool
}

func parseRule(words []string) (rule, error) {
	var r rule
	if i := slices.Index(words, ":"); i >= 0 {
		r.text = strings.Join(words[i+1:], " ")
		words = words[:i]
	}
	for len(words) > 0 {
		switch words[0] {
		case "warn":
			r.warn = true
			words = words[1:]
			continue
		case "when", "unless":
			if len(words) < 2 {
				return r, errors.New("condition without argument")
			}
			arg, value, _ := strings.Cut(words[1], "=")
			r.when = append(r.when, condition{arg, value, words[0] == "unless"})
			words = words[2:]
			continue
		}
		break
	}
	if len(words) == 0 {
		return r, errors.New("rule without verb")
	}
	r.verb, r.args = words[0], words[1:]
	least, ok := map[string]int{"need": 1, "one": 2, "with": 2, "in": 2, "exists": 1, "never": 1, "every": 2, "order": 4, "communicator": 0}[r.verb]
	switch {
	case !ok:
		return r, fmt.Errorf("unknown rule %q", r.verb)
	case len(r.args) < least:
		return r, fmt.Errorf("rule %q needs %d arguments", r.verb, least)
	}
	if r.verb == "order" {
		for _, n := range []string{r.args[1], r.args[3]} {
			if _, err := strconv.ParseFloat(n, 64); err != nil {
				return r, fmt.Errorf("%q is no number", n)
			}
		}
	}
	return r, nil
}

// A case in question: the settings of one component, and the computer whose
// files they name.
type settings struct {
	raw     json.RawMessage
	values  map[string]any
	unknown []string
	files   bakehouse.Files
	getenv  func(string) string
}

// value returns an argument by its dotted name; of several blocks, the first.
func (s *settings) value(name string) any {
	var v any = s.values
	for part := range strings.SplitSeq(name, ".") {
		if list, ok := v.([]any); ok && len(list) > 0 {
			v = list[0]
		}
		m, ok := v.(map[string]any)
		if !ok {
			return nil
		}
		v = m[part]
	}
	return v
}

func (s *settings) text(name string) string {
	switch v := s.value(name).(type) {
	case nil:
		return ""
	case string:
		return v
	default:
		return fmt.Sprint(v)
	}
}

// number is the value of an argument, or otherwise when it is not set.
func (s *settings) number(name, otherwise string) float64 {
	if n, ok := s.value(name).(float64); ok && n != 0 {
		return n
	}
	n, _ := strconv.ParseFloat(otherwise, 64) // parseRule has looked at it
	return n
}

// texts are the strings that an argument holds.
func (s *settings) texts(name string) []string {
	switch v := s.value(name).(type) {
	case string:
		return []string{v}
	case []any:
		var list []string
		for _, one := range v {
			if t, ok := one.(string); ok {
				list = append(list, t)
			}
		}
		return list
	}
	return nil
}

func (s *settings) set(name string) bool {
	switch v := s.value(name).(type) {
	case string:
		return v != ""
	case bool:
		return v
	case float64:
		return v != 0
	case []any:
		return len(v) > 0
	case map[string]any:
		return len(v) > 0
	}
	return false
}

// given tells whether an argument is set, an environment variable ($NAME), or a
// file is there (~/NAME).
func (s *settings) given(name string) bool {
	if env, ok := strings.CutPrefix(name, "$"); ok {
		return s.getenv(env) != ""
	}
	if strings.HasPrefix(name, "~/") {
		_, err := os.Stat(s.files.Path(name))
		return err == nil
	}
	return s.set(name)
}

// open tells whether an argument's value is not known yet, or that of
// something in it, or that of the block that it is in.
func (s *settings) open(names ...string) bool {
	return slices.ContainsFunc(names, func(name string) bool {
		return slices.ContainsFunc(s.unknown, func(u string) bool {
			return u == name || strings.HasPrefix(u, name+".") || strings.HasPrefix(name, u+".")
		})
	})
}

// check returns what breaks the rule.
func (r rule) check(s *settings) []bakehouse.Finding {
	for _, c := range r.when {
		if s.open(c.arg) {
			return nil
		}
		holds := s.set(c.arg)
		if c.value != "" {
			holds = s.text(c.arg) == c.value
		}
		if holds == c.not {
			return nil
		}
	}
	found := r.broken(s)
	for i := range found {
		found[i].Warning = found[i].Warning || r.warn
	}
	return found
}

func (r rule) broken(s *settings) []bakehouse.Finding {
	if r.verb == "communicator" {
		return s.communicator(r.args)
	}
	args := r.args
	switch r.verb {
	case "in", "exists", "every":
		args = r.args[:1]
	case "order":
		args = []string{r.args[0], r.args[2]}
	}
	if s.open(args...) {
		return nil
	}
	a := args[0]
	say := func(format string, words ...any) []bakehouse.Finding {
		f := bakehouse.Finding{Field: a, Message: r.text}
		if r.text == "" {
			f.Message = fmt.Sprintf(format, words...)
		}
		return []bakehouse.Finding{f}
	}
	switch r.verb {
	case "need":
		for _, arg := range args {
			if s.given(arg) {
				return nil
			}
		}
		args = slices.DeleteFunc(slices.Clone(args), func(arg string) bool { return strings.ContainsAny(arg, "$~") })
		if len(args) > 1 {
			return say("one of %s must be set", strings.Join(args, ", "))
		}
		return say("%s must be set", a)
	case "one":
		set := slices.DeleteFunc(slices.Clone(args), func(arg string) bool { return !s.set(arg) })
		if len(set) > 1 {
			a = set[1]
			return say("only one of %s can be set", strings.Join(args, ", "))
		}
	case "with":
		if !s.set(a) {
			return nil
		}
		for _, other := range args[1:] {
			if !s.set(other) {
				return say("%s must be set when %s is", other, a)
			}
		}
	case "in":
		if v := s.text(a); v != "" && !slices.Contains(r.args[1:], v) {
			return say("%s must be one of %s, not %q", a, strings.Join(r.args[1:], ", "), v)
		}
	case "never":
		if s.set(a) {
			return say("%s cannot be set", a)
		}
	case "order":
		if s.number(args[0], r.args[1]) > s.number(args[1], r.args[3]) {
			return say("%s must be less than %s", args[0], args[1])
		}
	case "exists":
		return s.exist(a, r.text)
	case "every":
		return s.every(a, r.args[1:], say)
	}
	return nil
}

// every looks into each of some blocks for arguments that are not set.
func (s *settings) every(name string, args []string, say func(string, ...any) []bakehouse.Finding) []bakehouse.Finding {
	blocks, ok := s.value(name).([]any)
	if one := s.value(name); !ok && one != nil {
		blocks = []any{one}
	}
	var found []bakehouse.Finding
	for i, b := range blocks {
		m, _ := b.(map[string]any)
		inner := &settings{values: m}
		for _, arg := range args {
			if !inner.set(arg) {
				f := say("%s must be set in every %s", arg, name)[0]
				f.Field = fmt.Sprintf("%s.%d", name, i)
				found = append(found, f)
			}
		}
	}
	return found
}

func (s *settings) exist(name, text string) []bakehouse.Finding {
	var found []bakehouse.Finding
	for _, file := range s.texts(name) {
		if file == "" {
			continue
		}
		if strings.ContainsAny(file, "*?[") {
			if match, err := filepath.Glob(s.files.Path(file)); err != nil || len(match) > 0 {
				continue
			}
		}
		_, err := os.Stat(s.files.Path(file))
		if err == nil {
			continue
		}
		var perr *os.PathError
		if errors.As(err, &perr) {
			err = perr.Err // the path on an agent means nothing to anyone
		}
		f := bakehouse.Finding{Field: name, Message: text}
		if text == "" {
			f.Message = fmt.Sprintf("Bad %s '%s': %v", strings.TrimSuffix(name, "s"), file, err)
		}
		found = append(found, f)
	}
	return found
}

// communicator checks the arguments of the communicator, but not whether this
// farm has it, and the ciphers: it cannot run the component anyway.
func (s *settings) communicator(otherwise []string) []bakehouse.Finding {
	var c communicator.Settings
	if err := json.Unmarshal(s.raw, &c); err != nil {
		return nil // the types have been complained about
	}
	if c.Communicator == "" && len(otherwise) > 0 {
		c.Communicator = otherwise[0]
	}
	found := communicator.CheckSettings(c, s.files, s.unknown...)
	return slices.DeleteFunc(found, func(f bakehouse.Finding) bool {
		return f.NotYet || strings.HasSuffix(f.Message, " is not known here")
	})
}
