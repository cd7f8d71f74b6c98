package limit

import (
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Data looks at a document in JSON, or in YAML's bracketed style, that is about
// to be read, and says whether it nests too deep or has a number that is too long.
func Data(src string) error {
	depth, run := 0, 0
	quoted := false
	for i := 0; i < len(src); i++ {
		c := src[i]
		if !quoted && c >= '0' && c <= '9' {
			if run++; run > Bits {
				return fmt.Errorf("a number may be written with %d digits; one has more", Bits)
			}
			continue
		}
		run = 0
		switch {
		case c == '"':
			quoted = !quoted
		case quoted && c == '\\':
			i++
		case quoted:
		case c == '[' || c == '{':
			if depth++; depth > Depth {
				return fmt.Errorf("brackets may nest %d deep; here they nest deeper", Depth)
			}
		case c == ']' || c == '}':
			depth = max(0, depth-1)
		}
	}
	return nil
}

// YAML looks at a YAML document that is about to be read: its aliases may make
// a giant of a few lines.
func YAML(src string) error {
	if err := Data(src); err != nil {
		return err
	}
	if !strings.Contains(src, "*") || !strings.Contains(src, "&") {
		return nil
	}
	var doc yaml.Node
	if err := yaml.Unmarshal([]byte(src), &doc); err != nil {
		return nil // whoever reads it says what is wrong
	}
	sizes := map[*yaml.Node]int{}
	var size func(n *yaml.Node) int
	size = func(n *yaml.Node) int {
		if s, ok := sizes[n]; ok {
			return s
		}
		sizes[n] = 0 // within itself, which is an error that the reader finds
		s := 1
		for _, c := range n.Content {
			s = min(s+size(c), Elements+1)
		}
		if n.Kind == yaml.AliasNode && n.Alias != nil {
			s = min(s+size(n.Alias), Elements+1)
		}
		sizes[n] = s
		return s
	}
	if size(&doc) > Elements {
		return fmt.Errorf("a value may have %d elements, those within its elements included; with its aliases, this one has more", Elements)
	}
	return nil
}
