package template

import (
	"encoding/json"

	"github.com/zclconf/go-cty/cty"
)

// Values are the evaluated variables of a template. The zero value has none.
// It marshals to JSON and back without loss, types and sensitive marks
// included; the JSON holds secrets.
type Values struct {
	vars map[string]cty.Value
	// env are the environment variables that a legacy template's variables read.
	env map[string]string
	// raw tells which variables of a legacy template are yet to be rendered.
	raw map[string]bool
}

type valuesJSON struct {
	Vars map[string]frozen `json:"vars"`
	Env  map[string]string `json:"env,omitempty"`
	Raw  map[string]bool   `json:"raw,omitempty"`
}

// MarshalJSON writes what UnmarshalJSON reads.
func (v Values) MarshalJSON() ([]byte, error) {
	vars, err := freezeAll(v.vars)
	if err != nil {
		return nil, err
	}
	return json.Marshal(valuesJSON{vars, v.env, v.raw})
}

// UnmarshalJSON reads what MarshalJSON writes.
func (v *Values) UnmarshalJSON(b []byte) error {
	var in valuesJSON
	if err := json.Unmarshal(b, &in); err != nil {
		return err
	}
	vars, err := thawAll(in.Vars)
	if err != nil {
		return err
	}
	*v = Values{vars, in.Env, in.Raw}
	return nil
}

// A Scope holds what later expressions may see: the evaluated variables, locals
// and data, the answers of servers, and what was pinned. It marshals as Values does.
type Scope struct {
	vars, locals map[string]cty.Value
	// data by "type.name"
	data map[string]cty.Value
	env  map[string]string
	raw  map[string]bool
	pin  Pinned
	// answers are what functions were told that asked a server, by the question.
	answers map[string]answer
}

type scopeJSON struct {
	Vars   map[string]frozen `json:"vars"`
	Locals map[string]frozen `json:"locals"`
	Data   map[string]frozen `json:"data"`
	Env    map[string]string `json:"env,omitempty"`
	Raw    map[string]bool   `json:"raw,omitempty"`
	Pinned Pinned            `json:"pinned"`
	// Answers hold secrets, as the values do.
	Answers map[string]answer `json:"answers,omitempty"`
}

// MarshalJSON writes what UnmarshalJSON reads.
func (s Scope) MarshalJSON() ([]byte, error) {
	out := scopeJSON{Env: s.env, Raw: s.raw, Pinned: s.pin, Answers: s.answers}
	var err error
	if out.Vars, err = freezeAll(s.vars); err != nil {
		return nil, err
	}
	if out.Locals, err = freezeAll(s.locals); err != nil {
		return nil, err
	}
	if out.Data, err = freezeAll(s.data); err != nil {
		return nil, err
	}
	return json.Marshal(out)
}

// UnmarshalJSON reads what MarshalJSON writes.
func (s *Scope) UnmarshalJSON(b []byte) error {
	var in scopeJSON
	if err := json.Unmarshal(b, &in); err != nil {
		return err
	}
	out := Scope{env: in.Env, raw: in.Raw, pin: in.Pinned, answers: in.Answers}
	var err error
	if out.vars, err = thawAll(in.Vars); err != nil {
		return err
	}
	if out.locals, err = thawAll(in.Locals); err != nil {
		return err
	}
	if out.data, err = thawAll(in.Data); err != nil {
		return err
	}
	*s = out
	return nil
}
