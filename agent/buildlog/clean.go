package buildlog

import (
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

// escapes matches terminal escape sequences: CSI, OSC and its like with their
// text, two-character ones, and a lone ESC.
var escapes = regexp.MustCompile("\x1b(?:" +
	`\[[0-?]*[ -/]*[@-~]` + "|" +
	"[\\]PX^_][^\x07\x1b\n]*(?:\x07|\x1b\\\\)?" + "|" +
	`[ -/]*[0-~]` + ")?")

// colours matches the only escape sequences that are kept: SGR.
var colours = regexp.MustCompile("^\x1b\\[[0-9;:]*m$")

// Clean makes text harmless to a terminal, as all text in logs is: of escape
// sequences only colours stay, of control characters only tab, line feed and
// carriage return. Invalid UTF-8 becomes U+FFFD.
func Clean(text string) string { return clean(text) }

// clean makes text harmless to a terminal: of escape sequences only colours
// stay, of control characters only tab, line feed and carriage return. Invalid
// UTF-8 becomes U+FFFD. It comes before masking, so that nothing which is taken
// out here can have hidden a secret from the masker.
func clean(text string) string {
	text = strings.ToValidUTF8(text, string(utf8.RuneError))
	if strings.IndexFunc(text, unsafeRune) < 0 {
		return text
	}
	text = escapes.ReplaceAllStringFunc(text, func(seq string) string {
		if colours.MatchString(seq) {
			return seq
		}
		return ""
	})
	// What is left of ESC begins a colour.
	return strings.Map(func(r rune) rune {
		if unsafeRune(r) && r != '\x1b' {
			return -1
		}
		return r
	}, text)
}

// unsafeRune tells control characters (C0, DEL and C1), line and paragraph
// separators, and the marks that reverse the direction of text.
func unsafeRune(r rune) bool {
	switch r {
	case '\t', '\n', '\r':
		return false
	case '\u2028', '\u2029', '\u202a', '\u202b', '\u202c', '\u202d', '\u202e', '\u2066', '\u2067', '\u2068', '\u2069':
		return true
	}
	return unicode.IsControl(r)
}

// shown returns what a terminal would show of a line in the end: programs that
// draw progress return to the line's start and write over it.
func shown(line string) string {
	line = strings.TrimRight(line, "\r")
	return line[strings.LastIndexByte(line, '\r')+1:]
}

// unfinished returns how many bytes at the end of raw may be the beginning of a
// rune or of an escape sequence that has not come whole.
func unfinished(raw []byte) int {
	for n := 1; n < utf8.UTFMax && n <= len(raw); n++ {
		if c := raw[len(raw)-n]; utf8.RuneStart(c) {
			if c >= utf8.RuneSelf && !utf8.FullRune(raw[len(raw)-n:]) {
				return n
			}
			break
		}
	}
	const longest = 64
	tail := string(raw[max(0, len(raw)-longest):])
	if i := strings.LastIndexByte(tail, '\x1b'); i >= 0 && partEscape.MatchString(tail[i:]) {
		return len(tail) - i
	}
	return 0
}

var partEscape = regexp.MustCompile("^\x1b(?:" + `\[[0-?]*[ -/]*` + ")?$")
