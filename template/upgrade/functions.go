package upgrade

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// A function is one of {{ }}.
type function struct {
	// stays tells that {{ }} in the arguments of an HCL template knows it, too.
	stays bool
	// hcl translates a call. A result of errStays says that HCL has no
	// counterpart, though {{ }} may have one.
	hcl func(t *translator, args []operand, at place) (string, error)
}

var errStays = errors.New("HCL has no such function")

// functions are all that templates could call.
var functions = map[string]function{
	"user":                   {false, user},
	"env":                    {false, env},
	"build":                  {false, buildValue},
	"template_dir":           {false, constant("path.root", inLocal, inSource, inPart, inOverride, inName)},
	"pwd":                    {true, constant("path.cwd", inLocal, inSource, inPart, inOverride, inName)},
	"packer_version":         {true, constant("packer.version", inLocal, inSource, inPart, inOverride, inName)},
	"build_name":             {true, constant("build.name", inPart)},
	"build_type":             {true, constant("source.type", inPart)},
	"timestamp":              {true, timestamp},
	"isotime":                {true, named("legacy_isotime", 0, 1)},
	"strftime":               {true, named("legacy_strftime", 1, 1)},
	"uuid":                   {true, named("uuidv4", 0, 0)},
	"upper":                  {true, named("upper", 1, 1)},
	"lower":                  {true, named("lower", 1, 1)},
	"replace_all":            {true, replaceAll},
	"replace":                {true, replace},
	"split":                  {true, split},
	"clean_resource_name":    {true, nil},
	"vault":                  {false, lookup("vault", 2, 2)},
	"consul_key":             {false, lookup("consul_key", 1, 1)},
	"aws_secretsmanager":     {false, lookup("aws_secretsmanager", 1, 2)},
	"aws_secretsmanager_raw": {false, lookup("aws_secretsmanager_raw", 1, 1)},
	"sed": {false, func(*translator, []operand, place) (string, error) {
		return "", errors.New("sed has been taken away; use replace or regex_replace")
	}},
}

// call translates the call of a function.
func (t *translator) call(name string, args []operand, at place) (operand, error) {
	f, ok := functions[name]
	if !ok {
		if at.kind == inSource || at.kind == inPart || at.kind == inOverride {
			// A function of Go's own, such as printf, or of the component's.
			f = function{stays: true}
		} else {
			return operand{}, fmt.Errorf("there is no function %s", name)
		}
	}
	o := operand{call: name}
	for _, a := range args {
		o.call += " " + a.call
		o.changed = o.changed || a.changed
	}
	why := errStays
	if f.hcl != nil {
		source, err := f.hcl(t, args, at)
		if err == nil {
			result := expression(source)
			if f.stays && !o.changed {
				// Within a call that stays, it may stay, too.
				result.call, result.changed = "("+o.call+")", false
			}
			return result, nil
		}
		why = err
	}
	if !f.stays || at.kind == inDefault || at.kind == inName {
		return operand{}, why
	}
	return o, nil
}

// hclOf are the sources of arguments in HCL.
func hclOf(args []operand) ([]string, error) {
	var list []string
	for _, a := range args {
		if a.hcl == "" {
			return nil, errStays
		}
		list = append(list, a.hcl)
	}
	return list, nil
}

func count(name string, args []operand, least, most int) error {
	if len(args) < least || len(args) > most {
		return fmt.Errorf("%s does not take %d arguments", name, len(args))
	}
	return nil
}

// constant stands for a value of HCL that is known at some places.
func constant(source string, places ...placeKind) func(*translator, []operand, place) (string, error) {
	return func(_ *translator, args []operand, at place) (string, error) {
		for _, p := range places {
			if p == at.kind {
				return source, count(source, args, 0, 0)
			}
		}
		return "", errStays
	}
}

// named stands for a function of HCL that takes the same arguments.
func named(name string, least, most int) func(*translator, []operand, place) (string, error) {
	return func(_ *translator, args []operand, at place) (string, error) {
		if at.kind == inDefault {
			return "", errors.New("a default may call env only")
		}
		if err := count(name, args, least, most); err != nil {
			return "", err
		}
		list, err := hclOf(args)
		return name + "(" + strings.Join(list, ", ") + ")", err
	}
}

func lookup(name string, least, most int) func(*translator, []operand, place) (string, error) {
	ask := named(name, least, most)
	return func(t *translator, args []operand, at place) (string, error) {
		if at.kind != inLocal {
			return "", fmt.Errorf("%s could be called in \"variables\" only", name)
		}
		if name == "aws_secretsmanager" && len(args) == 1 {
			args = append(args, operand{hcl: "null"})
		}
		return ask(t, args, at)
	}
}

func user(t *translator, args []operand, _ place) (string, error) {
	if len(args) != 1 || !args[0].literal {
		return "", errors.New("the name of the variable is not written out")
	}
	v := t.byName[args[0].text]
	if v == nil {
		return "", fmt.Errorf("the template declares no variable %q", args[0].text)
	}
	return v.ref(), nil
}

func env(t *translator, args []operand, at place) (string, error) {
	if len(args) != 1 || !args[0].literal {
		return "", errors.New("the name in the environment is not written out")
	}
	switch at.kind {
	case inDefault:
		return "env(" + quote(args[0].text) + ")", nil
	case inLocal:
		if v, ok := t.environ[args[0].text]; ok {
			t.useEnviron(args[0].text)
			return "var." + v, nil
		}
	}
	return "", errors.New("env could be called in \"variables\" only")
}

func (t *translator) useEnviron(name string) {
	for _, used := range t.environUsed {
		if used == name {
			return
		}
	}
	t.environUsed = append(t.environUsed, name)
}

func buildValue(_ *translator, args []operand, at place) (string, error) {
	if at.kind == inOverride {
		return "", errors.New("HCL evaluates \"override\" before there is a build")
	}
	if at.kind != inPart {
		return "", errors.New("build could be called in provisioners and post-processors only")
	}
	if len(args) != 1 || !args[0].literal || !hclsyntax.ValidIdentifier(args[0].text) {
		return "", errors.New("what it asks of the build is not written out")
	}
	return "build." + args[0].text, nil
}

func timestamp(t *translator, args []operand, at place) (string, error) {
	if at.kind == inDefault || len(args) > 0 {
		return "", errors.New("a default may call env only")
	}
	t.timestamp = true
	return "local." + t.stamp, nil
}

// replaceAll takes what to replace first; HCL takes the text first.
func replaceAll(t *translator, args []operand, at place) (string, error) {
	if err := count("replace_all", args, 3, 3); err != nil {
		return "", err
	}
	return named("replace", 3, 3)(t, []operand{args[2], args[0], args[1]}, at)
}

// replace is as replaceAll when it counts without end.
func replace(t *translator, args []operand, at place) (string, error) {
	if err := count("replace", args, 4, 4); err != nil {
		return "", err
	}
	if n, err := strconv.Atoi(args[2].text); err != nil || n >= 0 {
		return "", errStays
	}
	return replaceAll(t, []operand{args[0], args[1], args[3]}, at)
}

func split(t *translator, args []operand, at place) (string, error) {
	if err := count("split", args, 3, 3); err != nil {
		return "", err
	}
	if !args[2].number || args[2].text == "" {
		return "", errStays
	}
	list, err := named("split", 2, 2)(t, []operand{args[1], args[0]}, at)
	return list + "[" + args[2].text + "]", err
}
