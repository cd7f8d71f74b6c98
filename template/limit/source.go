package limit

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// bracket is how much of Chain an open bracket takes, so that one number
// bounds how deep the parsers recurse.
const bracket = Chain / Depth

// Source looks at a file in HCL before it is parsed, and says where it goes
// beyond a limit; nil when it does not.
func Source(src []byte, name string) *hcl.Diagnostic {
	return look(src, name, hclsyntax.LexConfig)
}

// Template looks at an HCL template, such as templatefile reads, as Source does
// at a file.
func Template(src []byte, name string) *hcl.Diagnostic {
	return look(src, name, hclsyntax.LexTemplate)
}

func look(src []byte, name string, lex func([]byte, string, hcl.Pos) (hclsyntax.Tokens, hcl.Diagnostics)) *hcl.Diagnostic {
	if d := size(src, name); d != nil {
		return d
	}
	if d := words(src, name); d != nil {
		return d
	}
	if !suspicious(src) {
		return nil
	}
	tokens, _ := lex(src, name, hcl.InitialPos)
	return nesting(tokens)
}

func size(src []byte, name string) *hcl.Diagnostic {
	if len(src) <= File {
		return nil
	}
	return &hcl.Diagnostic{
		Severity: hcl.DiagError, Summary: "File is too large",
		Detail: fmt.Sprintf("%s has %d bytes; a file may have %d.", name, len(src), File),
	}
}

// words counts at least as many words and signs as a parser will find.
func words(src []byte, name string) *hcl.Diagnostic {
	n, within := 0, false
	for _, c := range src {
		switch {
		case c == ' ' || c == '\t' || c == '\r':
			within = false
		case c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c >= 0x80:
			if !within {
				n++
			}
			within = true
		default:
			n++
			within = false
		}
	}
	if n <= Words {
		return nil
	}
	return &hcl.Diagnostic{
		Severity: hcl.DiagError, Summary: "File has too much in it",
		Detail: fmt.Sprintf("%s has %d words and signs; a file may have %d.", name, n, Words),
	}
}

// suspicious tells whether src might go beyond a limit at all: most files have
// too few brackets and operators for that, and need no second look.
func suspicious(src []byte) bool {
	n, name := 0, 0
	for _, c := range src {
		switch {
		case c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c >= 0x80:
			if name++; name > Name {
				return true
			}
			continue
		case c == '-' && name > 0: // within a name, or an operator
			n++
			if name++; name > Name {
				return true
			}
			continue
		}
		name = 0
		switch c {
		case '(', '[', '{', '"', '<', '+', '-', '*', '/', '%', '!', '=', '>', '?', '&', '|', '.', ']':
			n++
		}
	}
	// A bracket is two characters at least, or one that is never closed.
	return n > Depth
}

// nesting follows the brackets and operators of tokens.
func nesting(tokens hclsyntax.Tokens) *hcl.Diagnostic {
	type level struct {
		open hclsyntax.TokenType
		ops  int // operators since the last comma
	}
	levels := []level{{}}
	total := 0
	heads := false // the word after %{
	for i, t := range tokens {
		top := &levels[len(levels)-1]
		switch t.Type {
		case hclsyntax.TokenOParen, hclsyntax.TokenOBrack, hclsyntax.TokenOBrace, hclsyntax.TokenOQuote,
			hclsyntax.TokenOHeredoc, hclsyntax.TokenTemplateInterp:
			levels = append(levels, level{open: t.Type})
			total += bracket
		case hclsyntax.TokenTemplateControl:
			// %{ if } and %{ for } last until their %{ end… }.
			heads = true
			levels = append(levels, level{open: t.Type})
			total += bracket
		case hclsyntax.TokenNumberLit:
			if len(t.Bytes) > Bits {
				return at(t.Range, "Number is too long", "A number may be written with %d digits; this one has %d.", Bits, len(t.Bytes))
			}
		case hclsyntax.TokenIdent:
			if len(t.Bytes) > Name {
				return at(t.Range, "Name is too long", "A name may have %d bytes; this one has %d.", Name, len(t.Bytes))
			}
			if !heads {
				break
			}
			switch string(t.Bytes) {
			case "if", "for":
				// The level of the block goes below the level of its head.
				levels = append(levels[:len(levels)-1], level{open: hclsyntax.TokenIdent}, levels[len(levels)-1])
				total += bracket
			case "endif", "endfor":
				if n := len(levels) - 2; n > 0 && levels[n].open == hclsyntax.TokenIdent {
					total -= bracket + levels[n].ops
					levels = append(levels[:n], levels[n+1])
				}
			}
		case hclsyntax.TokenCParen, hclsyntax.TokenCBrack, hclsyntax.TokenCBrace, hclsyntax.TokenCQuote,
			hclsyntax.TokenCHeredoc, hclsyntax.TokenTemplateSeqEnd:
			if t.Type == hclsyntax.TokenCQuote || t.Type == hclsyntax.TokenCHeredoc {
				// What was not ended within a string ends with it.
				for len(levels) > 1 && top.open == hclsyntax.TokenIdent {
					total -= bracket + top.ops
					levels = levels[:len(levels)-1]
					top = &levels[len(levels)-1]
				}
			}
			if len(levels) > 1 {
				total -= bracket + top.ops
				levels = levels[:len(levels)-1]
			}
			if t.Type == hclsyntax.TokenCBrack { // an index may be followed by another
				levels[len(levels)-1].ops++
				total++
			}
		case hclsyntax.TokenComma:
			total -= top.ops
			top.ops = 0
		case hclsyntax.TokenNewline:
			if top.open != hclsyntax.TokenOParen && top.open != hclsyntax.TokenOBrack {
				total -= top.ops
				top.ops = 0
			}
		case hclsyntax.TokenPlus, hclsyntax.TokenMinus, hclsyntax.TokenStar, hclsyntax.TokenSlash, hclsyntax.TokenPercent,
			hclsyntax.TokenBang, hclsyntax.TokenAnd, hclsyntax.TokenOr, hclsyntax.TokenEqualOp, hclsyntax.TokenNotEqual,
			hclsyntax.TokenLessThan, hclsyntax.TokenLessThanEq, hclsyntax.TokenGreaterThan, hclsyntax.TokenGreaterThanEq,
			hclsyntax.TokenQuestion, hclsyntax.TokenDot:
			top.ops++
			total++
		}
		if t.Type != hclsyntax.TokenTemplateControl {
			heads = false
		}
		if total > Chain {
			return at(tokens[i].Range, "Template nests too deep",
				"Brackets and strings may nest %d deep, and %d operators may follow each other in one expression; here it is more.", Depth, Chain)
		}
	}
	return nil
}

func at(rng hcl.Range, summary, detail string, args ...any) *hcl.Diagnostic {
	return &hcl.Diagnostic{Severity: hcl.DiagError, Summary: summary, Detail: fmt.Sprintf(detail, args...), Subject: rng.Ptr()}
}

// JSON looks at a JSON file before it is parsed, as Source does at one in HCL.
// templates tells that its strings are HCL templates.
func JSON(src []byte, name string, templates bool) *hcl.Diagnostic {
	if d := size(src, name); d != nil {
		return d
	}
	if d := words(src, name); d != nil {
		return d
	}
	depth, line, start, digits := 0, 1, 0, 0
	where := func(i int) hcl.Range {
		p := hcl.Pos{Line: line, Column: i - start + 1, Byte: i}
		return hcl.Range{Filename: name, Start: p, End: p}
	}
	for i := 0; i < len(src); i++ {
		if c := src[i]; c >= '0' && c <= '9' {
			if digits++; digits > Bits {
				return at(where(i), "Number is too long", "A number may be written with %d digits; this one has more.", Bits)
			}
			continue
		}
		if c := src[i] | 0x20; c == 'e' && digits > 0 && exponent(src[i+1:]) {
			return at(where(i), "Number is too long", "A number may have about 3,000 digits; written down, this one has more.")
		}
		digits = 0
		switch src[i] {
		case '{', '[':
			if depth++; depth > Depth {
				return at(where(i), "Template nests too deep", "Brackets may nest %d deep; here they nest deeper.", Depth)
			}
		case '}', ']':
			depth = max(0, depth-1)
		case '\n':
			line, start = line+1, i+1
		case '"':
			end := i + 1
			for end < len(src) && src[end] != '"' && src[end] != '\n' {
				if src[end] == '\\' {
					end++
				}
				end++
			}
			end = min(end, len(src))
			if templates && suspicious(src[i:end]) {
				if d := inString(src[i:min(end+1, len(src))], where(i)); d != nil {
					return d
				}
			}
			i = end
			if i < len(src) && src[i] == '\n' {
				i--
			}
		}
	}
	return nil
}

// exponent tells whether what follows the e of a number is too great.
func exponent(src []byte) bool {
	n := 0
	for i, c := range src {
		switch {
		case i == 0 && (c == '+' || c == '-'):
		case c >= '0' && c <= '9' && n < Bits:
			n = 10*n + int(c-'0')
		case c >= '0' && c <= '9':
			return true
		default:
			return n > 3*Bits/10
		}
	}
	return n > 3*Bits/10
}

func inString(quoted []byte, rng hcl.Range) *hcl.Diagnostic {
	var s string
	if !bytes.Contains(quoted, []byte("{")) || json.Unmarshal(quoted, &s) != nil {
		return nil // no template, or the parser will say what is wrong
	}
	tokens, _ := hclsyntax.LexTemplate([]byte(s), rng.Filename, rng.Start)
	d := nesting(tokens)
	if d != nil {
		d.Subject = rng.Ptr()
	}
	return d
}
