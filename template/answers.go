package template

import (
	"context"
	"errors"
	"fmt"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"

	"github.com/bakehouse-farm/bakehouse"
	"github.com/bakehouse-farm/bakehouse/datasources"
	fn "github.com/bakehouse-farm/bakehouse/template/function"
	"github.com/bakehouse-farm/bakehouse/template/interpolate"
)

// An answer is what a function was told that asked a server. It is kept in the
// scope, so that whatever is evaluated later sees what the plan saw: also that
// there was nothing, for try() has then gone another way.
type answer struct {
	Value string         `json:"value,omitempty"`
	Error string         `json:"error,omitempty"`
	Kind  bakehouse.Kind `json:"kind,omitempty"`
}

func (a answer) result() (string, error) {
	if a.Error == "" {
		return a.Value, nil
	}
	return "", &unanswered{&bakehouse.Error{Kind: a.Kind, Err: errors.New(a.Error)}}
}

// unanswered is the error of a function that asked a server in vain.
type unanswered struct{ err *bakehouse.Error }

func (u *unanswered) Error() string { return u.err.Error() }
func (u *unanswered) Unwrap() error { return u.err }

// lookups are the functions that ask, and whether their answers are secrets. A
// key of Consul is not: it has no other place for plain configuration. Mark
// what is secret there as a sensitive local.
var lookups = map[string]struct {
	secret bool
	ask    func(ctx context.Context, l datasources.Lookup, args []string) (string, error)
}{
	"vault": {true, func(ctx context.Context, l datasources.Lookup, args []string) (string, error) {
		return l.Vault(ctx, args[0], args[1])
	}},
	"consul_key": {false, func(ctx context.Context, l datasources.Lookup, args []string) (string, error) {
		return l.ConsulKey(ctx, args[0])
	}},
	"aws_secretsmanager": {true, func(ctx context.Context, l datasources.Lookup, args []string) (string, error) {
		return l.SecretsManager(ctx, args[0], args[1])
	}},
	"aws_secretsmanager_raw": {true, func(ctx context.Context, l datasources.Lookup, args []string) (string, error) {
		return l.SecretsManagerRaw(ctx, args[0])
	}},
}

// ask answers a function, once for the same arguments: from what the scope
// knows, or by asking the server. While nobody may be asked, the error is
// interpolate.ErrUnknown.
func (e *evaluation) ask(name string, args ...string) (string, error) {
	return e.askQuietly(name, args, nil)
}

// askQuietly is ask, whose error does not tell those arguments that hide holds.
func (e *evaluation) askQuietly(name string, args, hide []string) (string, error) {
	how := lookups[name]
	if name == "aws_secretsmanager" && len(args) == 1 {
		args = append(args, "")
	}
	question := fmt.Sprintf("%s %q", name, args)
	a, asked := e.scope.answers[question]
	if !asked {
		if e.ctx == nil {
			return "", interpolate.ErrUnknown
		}
		a = e.inquire(name, args, hide)
		if e.scope.answers == nil {
			e.scope.answers = map[string]answer{}
		}
		e.scope.answers[question] = a
	}
	if how.secret {
		e.secret(a.Value)
	}
	return a.result()
}

func (e *evaluation) inquire(name string, args, hide []string) answer {
	if e.t.cat.Lookup == nil {
		return answer{Error: name + " cannot be asked from here", Kind: bakehouse.Invalid}
	}
	value, err := lookups[name].ask(e.ctx, e.t.cat.Lookup, args)
	if err == nil {
		return answer{Value: value}
	}
	err = fn.Discreet(err, hide)
	a := answer{Error: err.Error(), Kind: bakehouse.KindOf(err)}
	if !a.Kind.Final() && e.trouble == nil {
		e.trouble = &unanswered{&bakehouse.Error{Kind: bakehouse.Trouble, Err: err}}
	}
	return a
}

// askValue is ask for functions of HCL.
func (e *evaluation) askValue(name string, args []cty.Value) (cty.Value, error) {
	v, err := cty.UnknownVal(cty.String), error(interpolate.ErrUnknown)
	var plain, hide []string
	for _, arg := range args {
		arg, marks := arg.Unmark()
		if len(marks) > 0 && arg.IsKnown() && !arg.IsNull() {
			hide = append(hide, arg.AsString())
		}
		switch {
		case !arg.IsKnown():
		case arg.IsNull():
			plain = append(plain, "")
		default:
			plain = append(plain, arg.AsString())
		}
	}
	if len(plain) == len(args) {
		var s string
		if s, err = e.askQuietly(name, plain, hide); err == nil {
			v = cty.StringVal(s)
		}
	}
	if err != nil && !errors.Is(err, interpolate.ErrUnknown) {
		return cty.NilVal, err
	}
	if lookups[name].secret {
		v = v.Mark(sensitive)
	}
	return v, nil
}

// interrupted says that what was evaluated cannot be relied on: a server did not
// answer, or there was no more time to ask it, and a try() may have hidden that.
// Packer goes on with what try() falls back to; but an image that differs
// because a server was away for a moment is worse than one that comes later.
func (e *evaluation) interrupted() hcl.Diagnostics {
	var err error = e.trouble
	if e.trouble == nil {
		if e.ctx == nil || e.ctx.Err() == nil {
			return nil
		}
		err = context.Cause(e.ctx)
	}
	d := failure("A server did not answer", "%s.", err)
	d.Extra = err
	return hcl.Diagnostics{d}
}

// causeOf is the error behind a diagnostic when it is the world's doing: a data
// source, or a function that asks a server.
func causeOf(d *hcl.Diagnostic) error {
	if err, ok := d.Extra.(error); ok {
		return err
	}
	call, ok := hcl.DiagnosticExtra[hclsyntax.FunctionCallDiagExtra](d)
	if !ok {
		return nil
	}
	err := call.FunctionCallError()
	var u *unanswered
	if errors.As(err, &u) {
		return u
	}
	var inner hcl.Diagnostics // of a templatefile
	if errors.As(err, &inner) {
		for _, d := range inner {
			if cause := causeOf(d); cause != nil {
				return cause
			}
		}
	}
	return nil
}
