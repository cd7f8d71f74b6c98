package interpolate

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

func TestRemote(t *testing.T) {
	variables := Context{
		User: map[string]string{"region": "eu-west-1", "pw": ""}, Unknown: map[string]bool{"pw": true},
		Ask: func(name string, args ...string) (string, error) {
			switch args[0] {
			case "none":
				return "", errors.New("there is nothing")
			case "later":
				return "", ErrUnknown
			}
			return fmt.Sprintf("%s%q", name, args), nil
		},
	}
	builders := variables
	builders.Ask = nil
	tests := []struct {
		in, want, err string
		c             Context
		unknown       bool
	}{
		{in: "{{vault `a` `b`}}", c: variables, want: `vault["a" "b"]`},
		{in: "<{{vault `a` `b` | upper}}>", c: variables, want: `<VAULT["A" "B"]>`},
		{in: "{{vault (user `region`) `b`}}", c: variables, want: `vault["eu-west-1" "b"]`},
		{in: "{{vault `a`}}", c: variables, err: "wrong number of arguments for vault: 1"},
		{in: "{{vault `a` `b` `c`}}", c: variables, err: "wrong number of arguments for vault: 3"},
		{in: "{{consul_key `a`}}", c: variables, want: `consul_key["a"]`},
		{in: "{{consul_key `none`}}", c: variables, err: "there is nothing"},
		{in: "{{consul_key}}", c: variables, err: "wrong number of arguments for consul_key: 0"},
		{in: "{{aws_secretsmanager `a`}}", c: variables, want: `aws_secretsmanager["a"]`},
		{in: "{{aws_secretsmanager `a` `b`}}", c: variables, want: `aws_secretsmanager["a" "b"]`},
		{in: "{{aws_secretsmanager_raw `a`}}", c: variables, want: `aws_secretsmanager_raw["a"]`},
		{in: "x-{{consul_key `later`}}", c: variables, unknown: true},
		{in: "x-{{user `pw` | upper}}", c: variables, unknown: true},
		{in: "x-{{user `pw`}}", c: builders, unknown: true},
		{in: "{{vault `a` `b`}}", c: builders, err: "vault is allowed in \"variables\" only"},
		{in: "{{vault `a` `b`}}", c: Context{}, err: "use the function of the same name in ${ }"},
	}
	for _, tt := range tests {
		got, err := Render(tt.in, tt.c)
		switch {
		case tt.unknown:
			if !errors.Is(err, ErrUnknown) {
				t.Errorf("Render(%q) = %q, %v; want ErrUnknown", tt.in, got, err)
			}
		case tt.err != "":
			if err == nil || !strings.Contains(err.Error(), tt.err) {
				t.Errorf("Render(%q): error %v, want %q", tt.in, err, tt.err)
			}
		case err != nil || got != tt.want:
			t.Errorf("Render(%q) = %q (%v), want %q", tt.in, got, err, tt.want)
		}
	}
}
