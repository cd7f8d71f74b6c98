package interpolate

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"text/template"
	"time"
)

// remote are the functions that ask a server, and how many arguments they take,
// at least and at most.
var remote = map[string][2]int{
	"aws_secretsmanager":     {1, 2},
	"aws_secretsmanager_raw": {1, 1},
	"consul_key":             {1, 1},
	"vault":                  {2, 2},
}

// functions are those that Packer gives to every string; what c leaves out is
// there all the same, and says why it cannot be used.
func (c Context) functions() template.FuncMap {
	calls := 0
	f := template.FuncMap{
		"timestamp": func() string { return strconv.FormatInt(c.Time.Unix(), 10) },
		"isotime": func(layout ...string) (string, error) {
			switch len(layout) {
			case 0:
				return c.Time.UTC().Format(time.RFC3339), nil
			case 1:
				return c.Time.UTC().Format(layout[0]), nil
			}
			return "", fmt.Errorf("too many values, 1 needed: %v", layout)
		},
		"strftime": func(pattern string) (string, error) { return Strftime(pattern, c.Time.UTC()) },
		"uuid": func() string {
			calls++
			return UUID(c.Seed, calls)
		},
		"build_name":     func() (string, error) { return known("build_name", c.BuildName) },
		"build_type":     func() (string, error) { return known("build_type", c.BuildType) },
		"packer_version": func() string { return c.Version },
		"pwd":            func() string { return c.Dir },
		"upper":          strings.ToUpper,
		"lower":          strings.ToLower,
		"split":          split,
		"replace": func(old, with string, n int, s string) string {
			return strings.Replace(s, old, with, n)
		},
		"replace_all": func(old, with, s string) string { return strings.ReplaceAll(s, old, with) },
		"sed": func(...string) (string, error) {
			return "", errors.New("template function \"sed\" is deprecated; use \"replace\" or \"replace_all\" instead")
		},
		"user": func(name string) (string, error) {
			if c.User == nil {
				return "", fmt.Errorf("user variables are not allowed here: write ${var.%s}", name)
			}
			if c.Used != nil {
				c.Used(name)
			}
			if c.Unknown[name] {
				return "", ErrUnknown
			}
			v, ok := c.User[name]
			if !ok && !c.Lenient {
				return "", fmt.Errorf("user variable %q is not declared", name)
			}
			return v, nil
		},
		"env": func(name string) (string, error) {
			if c.Env == nil {
				return "", errors.New("env vars are not allowed here: read it in the default of a variable, with env(\"" + name + "\")")
			}
			return c.Env(name), nil
		},
		"template_dir": func() (string, error) {
			if c.TemplateDir == "" {
				return "", errors.New("template_dir is not available here: write ${path.root}")
			}
			return c.TemplateDir, nil
		},
		"build": func(key string) (string, error) {
			if c.Build == nil {
				return "", fmt.Errorf("build variables are not allowed here: write ${build.%s} in a provisioner or post-processor", key)
			}
			v, ok := c.Build[key]
			if !ok {
				return "", fmt.Errorf("no build variable is named %q", key)
			}
			return v, nil
		},
	}
	for name, arguments := range remote {
		f[name] = func(args ...string) (string, error) {
			switch {
			case c.Ask == nil && c.User != nil:
				return "", fmt.Errorf("%s is allowed in \"variables\" only: give its value to a variable there, and write {{user `NAME`}} here", name)
			case c.Ask == nil:
				return "", fmt.Errorf("%s is not allowed in {{ }}: use the function of the same name in ${ }", name)
			case len(args) < arguments[0] || len(args) > arguments[1]:
				return "", fmt.Errorf("wrong number of arguments for %s: %d", name, len(args))
			}
			return c.Ask(name, args...)
		}
	}
	if c.Clean != nil {
		f["clean_resource_name"] = c.Clean
	}
	return f
}

func known(name, value string) (string, error) {
	if value == "" {
		return "", fmt.Errorf("%s is not known here", name)
	}
	return value, nil
}

func split(s, separator string, n int) (string, error) {
	parts := strings.Split(s, separator)
	if n < 0 || n >= len(parts) {
		return "", fmt.Errorf("no part %d: %q has %d parts between %q", n, s, len(parts), separator)
	}
	return parts[n], nil
}

// UUID returns the nth uuid of seed: random to look at (version 4), and always
// the same for the same arguments.
func UUID(seed string, n int) string {
	sum := sha256.Sum256([]byte(seed + "\x00" + strconv.Itoa(n)))
	u := sum[:16]
	u[6] = u[6]&0x0f | 0x40
	u[8] = u[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", u[0:4], u[4:6], u[6:8], u[8:10], u[10:16])
}

// CleanAMIName is clean_resource_name of the amazon builders: whatever may not
// stand in the name of an AMI becomes a dash.
func CleanAMIName(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', strings.ContainsRune("()[] ./-'@_", r):
			return r
		}
		return '-'
	}, s)
}
