package templatetest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
)

// A node is a value of a JSON text, by where it stands.
type node struct {
	from, to int
	kind     string // as in values
	members  []member
	items    []node
}

// A member is a key and its value; from is where the key begins.
type member struct {
	key      string
	from, to int // of the key, with its quotes
	value    node
}

// mutateJSON lists what can be broken in a template in JSON, of either kind.
func mutateJSON(src []byte) ([]edit, error) {
	dec := json.NewDecoder(bytes.NewReader(src))
	dec.UseNumber()
	root, err := parse(dec, src)
	if err != nil {
		return nil, err
	}
	edits := root.mutate(src, "")
	names := map[byte]string{',': "comma", ':': "colon", '{': "brace", '}': "closing brace", '[': "bracket", ']': "closing bracket", '"': "quote"}
	quoted := false
	for i, c := range src {
		if c == '"' && (i == 0 || src[i-1] != '\\') {
			quoted = !quoted
		}
		if name, ok := names[c]; ok && (!quoted || c == '"') {
			at := fmt.Sprintf("at byte %d", i)
			edits = append(edits,
				edit{name + " lost", at, i, i + 1, ""},
				edit{"punctuation doubled", name + " " + at, i, i, string(c)})
		}
	}
	return append(edits, edit{"comment", "at the end", len(src), len(src), "// why\n"}), nil
}

// parse reads one value. The decoder's offset tells where it stands.
func parse(dec *json.Decoder, src []byte) (node, error) {
	t, err := dec.Token()
	if err != nil {
		return node{}, err
	}
	end := int(dec.InputOffset())
	n := node{to: end}
	switch v := t.(type) {
	case json.Delim:
		n.from = end - 1
		for dec.More() {
			if v == '[' {
				item, err := parse(dec, src)
				if err != nil {
					return node{}, err
				}
				n.items = append(n.items, item)
				continue
			}
			key, err := dec.Token()
			if err != nil {
				return node{}, err
			}
			m := member{key: key.(string), to: int(dec.InputOffset())}
			m.from = m.to - len(strconv.Quote(m.key))
			if m.value, err = parse(dec, src); err != nil {
				return node{}, err
			}
			n.members = append(n.members, m)
		}
		if _, err := dec.Token(); err != nil {
			return node{}, err
		}
		n.to = int(dec.InputOffset())
		n.kind = map[json.Delim]string{'[': "list", '{': "object"}[v]
	case string:
		n.kind = "string"
		n.from = end - 1
		for n.from--; src[n.from] != '"' || src[n.from-1] == '\\'; n.from-- {
		}
	case json.Number:
		n.kind, n.from = "number", end-len(v)
	case bool:
		n.kind, n.from = "bool", end-len(strconv.FormatBool(v))
	case nil:
		n.kind, n.from = "null", end-len("null")
	}
	return n, nil
}

func (n node) mutate(src []byte, path string) []edit {
	var edits []edit
	cut := func(i, last, from, to int, kind, what string) {
		switch { // with one of its commas
		case i < last:
			for src[to] != ',' {
				to++
			}
			to++
		case i > 0:
			for src[from-1] != ',' {
				from--
			}
			from--
		}
		edits = append(edits, edit{kind, what, from, to, ""})
	}
	replace := func(what string, v node) {
		for _, other := range values {
			if other.kind != v.kind {
				edits = append(edits, edit{"make " + other.kind, what, v.from, v.to, other.json})
			}
		}
		edits = append(edits,
			edit{"put into a list", what, v.from, v.to, "[" + string(src[v.from:v.to]) + "]"},
			edit{"make list of nothing", what, v.from, v.to, "[]"},
			edit{"make object of nothing", what, v.from, v.to, "{}"},
			edit{"make empty string", what, v.from, v.to, `""`})
	}
	for i, m := range n.members {
		what := path + "." + m.key
		cut(i, len(n.members)-1, m.from, m.value.to, "drop key", what)
		edits = append(edits,
			edit{"rename key", what, m.from, m.to, strconv.Quote(m.key + "x")},
			edit{"key not an identifier", what, m.from, m.to, strconv.Quote("1 " + m.key)},
			edit{"key twice", what, m.value.to, m.value.to, "," + string(src[m.from:m.value.to])},
			edit{"key in upper case", what, m.from, m.to, string(bytes.ToUpper(src[m.from:m.to]))})
		replace(what, m.value)
		edits = append(edits, m.value.mutate(src, what)...)
	}
	for i, item := range n.items {
		what := fmt.Sprintf("%s[%d]", path, i)
		cut(i, len(n.items)-1, item.from, item.to, "drop item", what)
		edits = append(edits, edit{"item twice", what, item.to, item.to, "," + string(src[item.from:item.to])})
		replace(what, item)
		edits = append(edits, item.mutate(src, what)...)
	}
	if n.kind == "string" && n.to-n.from > 2 {
		edits = append(edits, edit{"string misspelt", path, n.to - 1, n.to - 1, "x"})
	}
	return edits
}
