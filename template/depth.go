package template

import "github.com/hashicorp/hcl/v2"

// TooDeep says that src nests brackets deeper than Load takes; nil if it does
// not. Whoever parses templates without Load must ask first: the parser recurses
// with its input.
func TooDeep(src []byte, name string) *hcl.Diagnostic { return tooDeep(src, name) }
