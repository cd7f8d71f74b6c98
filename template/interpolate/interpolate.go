// Package interpolate renders the {{ }} expressions that Packer's templates
// carry inside strings: {{timestamp}}, {{ .Vars }}, {{build_name}} and their like.
//
// It is Go's text/template with Packer's functions, whose clock and random
// numbers are fixed by the Context, so that rendering a string again gives the
// same result.
package interpolate

import (
	"errors"
	"fmt"
	"maps"
	"strings"
	"text/template"
	"time"
)

// A Context is what the expressions of one string may see. The zero value has
// no clock: set at least Time when the string may come from a user.
type Context struct {
	// Time is what timestamp, isotime and strftime tell, in UTC.
	Time time.Time
	// Seed is what uuid is derived from: the same Seed gives the same uuids.
	// Use a Seed for each string whose uuid shall differ from others.
	Seed string
	// BuildName and BuildType are build_name and build_type.
	BuildName, BuildType string
	// Version is packer_version.
	Version string
	// Dir is pwd.
	Dir string
	// Data holds the members of the dot: Data["Vars"] is {{ .Vars }}. A member
	// that is missing renders as "<no value>".
	Data map[string]any

	// Used is told the name of each user variable that a string uses; may be nil.
	Used func(name string)
	// Spend counts what rendering costs against a budget, whose end is an error;
	// nil leaves it at the limits of a single string.
	Spend func(work int) error
	// Clean is clean_resource_name; nil when the component does not have it.
	Clean func(string) string
	// User are the user variables of a legacy JSON template; nil in HCL, where
	// they are not allowed.
	User map[string]string
	// Lenient tells that a user variable which is not in User renders as nothing
	// instead of being an error.
	Lenient bool
	// Unknown are the user variables whose values are not known yet: what refers
	// to one renders as ErrUnknown.
	Unknown map[string]bool
	// Ask answers the functions that ask a server: vault, consul_key,
	// aws_secretsmanager and aws_secretsmanager_raw. Its error may be ErrUnknown.
	// Nil where they are not allowed, which is everywhere but in the variables of a
	// legacy JSON template.
	Ask func(function string, args ...string) (string, error)
	// Env looks up an environment variable; nil where that is not allowed, which
	// is everywhere but in the variables of a legacy JSON template.
	Env func(name string) string
	// TemplateDir is the folder of a legacy JSON template; empty in HCL, where
	// template_dir is an error.
	TemplateDir string
	// Build are the members of build "Key" in a legacy JSON template; nil in HCL
	// and in builders.
	Build map[string]string
}

// ErrUnknown is the error of Render for a string whose value is not known yet.
var ErrUnknown = errors.New("value is not known yet")

// Render renders s. The error says where in s it went wrong, and why.
func Render(s string, c Context) (string, error) {
	if !strings.Contains(s, "{{") {
		return s, nil
	}
	t, err := parsed(s, c.bounds().bound(c.functions()))
	if err != nil {
		return "", err
	}
	// A nil map would turn a missing member into an error.
	data := map[string]any{}
	maps.Copy(data, c.Data)
	var b output
	if err := t.Execute(&b, data); err != nil {
		return "", readable(err)
	}
	return b.String(), nil
}

// Check says whether s is well-formed and calls only functions that exist.
func Check(s string) error { return Context{}.Check(s) }

// Check is Check, but knows the functions that there are only in some contexts.
func (c Context) Check(s string) error {
	_, err := parsed(s, c.bounds().bound(c.functions()))
	return err
}

// readable takes away what text/template says of the template's empty name.
func readable(err error) error {
	if errors.Is(err, ErrUnknown) {
		return ErrUnknown
	}
	var exec template.ExecError
	if errors.As(err, &exec) {
		if inner := errors.Unwrap(exec.Err); inner != nil && strings.Contains(exec.Err.Error(), "error calling") {
			return fmt.Errorf("%s", afterColon(exec.Err.Error(), "error calling"))
		}
		return fmt.Errorf("%s", afterColon(exec.Err.Error(), ">: "))
	}
	return fmt.Errorf("%s", strings.TrimPrefix(strings.TrimPrefix(err.Error(), "template: "), ":"))
}

func afterColon(s, from string) string {
	if i := strings.Index(s, from); i >= 0 {
		return strings.TrimPrefix(s[i:], ">: ")
	}
	return s
}
