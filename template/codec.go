package template

import (
	"encoding/json"
	"fmt"

	"github.com/zclconf/go-cty/cty"
	ctyjson "github.com/zclconf/go-cty/cty/json"
)

// mark is the mark of values that must not be shown.
type mark struct{}

var sensitive = mark{}

// A frozen is a value in JSON: with its type, because JSON would forget it, and
// with the places in it that are sensitive.
type frozen struct {
	Type      cty.Type        `json:"type"`
	Value     json.RawMessage `json:"value"`
	Sensitive [][]step        `json:"sensitive,omitempty"`
}

// A step is one step of the way into a value: the name of an attribute, a key
// of a map, or a place in a list.
type step struct {
	Attr string   `json:"attr,omitempty"`
	Key  *string  `json:"key,omitempty"`
	At   *float64 `json:"at,omitempty"`
}

func freeze(v cty.Value) (frozen, error) {
	plain, marks := v.UnmarkDeepWithPaths()
	f := frozen{Type: plain.Type()}
	if !plain.IsWhollyKnown() {
		return f, fmt.Errorf("value is not known")
	}
	var err error
	if f.Value, err = ctyjson.Marshal(plain, plain.Type()); err != nil {
		return f, err
	}
	for _, m := range marks {
		way := []step{}
		for _, s := range m.Path {
			switch s := s.(type) {
			case cty.GetAttrStep:
				way = append(way, step{Attr: s.Name})
			case cty.IndexStep:
				switch s.Key.Type() {
				case cty.String:
					k := s.Key.AsString()
					way = append(way, step{Key: &k})
				case cty.Number:
					n, _ := s.Key.AsBigFloat().Float64()
					way = append(way, step{At: &n})
				}
			}
		}
		f.Sensitive = append(f.Sensitive, way)
	}
	return f, nil
}

func (f frozen) thaw() (cty.Value, error) {
	v, err := ctyjson.Unmarshal(f.Value, f.Type)
	if err != nil || len(f.Sensitive) == 0 {
		return v, err
	}
	var marks []cty.PathValueMarks
	for _, way := range f.Sensitive {
		var p cty.Path
		for _, s := range way {
			switch {
			case s.Key != nil:
				p = p.IndexString(*s.Key)
			case s.At != nil:
				p = p.Index(cty.NumberFloatVal(*s.At))
			default:
				p = p.GetAttr(s.Attr)
			}
		}
		marks = append(marks, cty.PathValueMarks{Path: p, Marks: cty.NewValueMarks(sensitive)})
	}
	return v.MarkWithPaths(marks), nil
}

func freezeAll(m map[string]cty.Value) (map[string]frozen, error) {
	out := make(map[string]frozen, len(m))
	for name, v := range m {
		f, err := freeze(v)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		out[name] = f
	}
	return out, nil
}

func thawAll(m map[string]frozen) (map[string]cty.Value, error) {
	out := make(map[string]cty.Value, len(m))
	for name, f := range m {
		v, err := f.thaw()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		out[name] = v
	}
	return out, nil
}
