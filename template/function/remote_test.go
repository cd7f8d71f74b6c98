package function

import (
	"errors"
	"strings"
	"testing"

	"github.com/zclconf/go-cty/cty"
)

func TestRemote(t *testing.T) {
	refused := errors.New("vault: read a: permission denied")
	secret := func(name string, args []cty.Value) (cty.Value, error) {
		v, err := echo(name, args)
		return v.Mark("told"), err
	}
	tests := []struct {
		name, src string
		ask       func(string, []cty.Value) (cty.Value, error)
		want      cty.Value
		err       string
	}{
		{"nobody to ask", `vault("a", "b")`, nil, cty.NilVal, "no server is asked here"},
		{"refused", `vault("a", "b")`, func(string, []cty.Value) (cty.Value, error) { return cty.NilVal, refused }, cty.NilVal, refused.Error()},
		{"secret answer", `vault("a", "b")`, secret, cty.StringVal("vault a b").Mark("told"), ""},
		{"within others", `upper("x-${vault("a", "b")}")`, secret, cty.StringVal("X-VAULT A B").Mark("told"), ""},
		{"unknown argument", `vault(unknown, "b")`, secret, cty.UnknownVal(cty.String).Mark("told"), ""},
		{"sensitive argument", `consul_key(secret)`, echo, cty.StringVal("consul_key hush").Mark("sensitive"), ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e, _ := world(t)
			e.Ask = tt.ask
			v, err := eval(t, e, tt.src)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Fatalf("error %v, want %q", err, tt.err)
				}
				return
			}
			if err != nil || !v.RawEquals(tt.want) {
				t.Errorf("%#v (%v), want %#v", v, err, tt.want)
			}
		})
	}
}

// What is made of a secret answer is told, so that it is masked, too.
func TestRemoteIsMarked(t *testing.T) {
	e, _ := world(t)
	var marked []string
	e.Ask = func(name string, args []cty.Value) (cty.Value, error) {
		return cty.StringVal("hunter22").Mark("told"), nil
	}
	e.Marked = func(v cty.Value) {
		v, _ = v.Unmark()
		marked = append(marked, v.AsString())
	}
	if _, err := eval(t, e, `base64encode(vault("a", "b"))`); err != nil {
		t.Fatal(err)
	}
	if got, want := strings.Join(marked, " "), "hunter22 aHVudGVyMjI="; got != want {
		t.Errorf("told %q, want %q", got, want)
	}
}
