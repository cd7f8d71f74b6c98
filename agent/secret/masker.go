package secret

import (
	"slices"
	"strings"
)

// Sensitive stands in text where a secret was, as Packer writes it.
const Sensitive = "<sensitive>"

// minMasked is the length in bytes of the shortest secret that is searched for.
// Shorter ones ("a", "22", "no") appear everywhere in text that is not secret,
// and masking that would tell them rather than hide them.
const minMasked = 4

// A Masker replaces secrets in text by <sensitive>. The nil Masker and the zero
// value change nothing. It may be used by many goroutines at once.
type Masker struct {
	secrets  []string // longest first
	replacer *strings.Replacer
}

// NewMasker returns a Masker for the secrets. Of a secret of several lines,
// each line is a secret too, and CR LF is taken for LF. Secrets and lines
// shorter than 4 bytes are not searched for.
func NewMasker(secrets []string) *Masker {
	set := map[string]bool{}
	add := func(s string) {
		if len(s) >= minMasked && strings.TrimSpace(s) != "" {
			set[s] = true
		}
	}
	for _, s := range secrets {
		add(s)
		unix := strings.ReplaceAll(s, "\r\n", "\n")
		add(unix)
		add(strings.TrimRight(unix, "\n"))
		if !strings.Contains(unix, "\n") {
			continue
		}
		for line := range strings.SplitSeq(unix, "\n") {
			add(line)
			// Output is often indented or trimmed on its way.
			add(strings.TrimSpace(line))
		}
	}
	m := &Masker{}
	for s := range set {
		m.secrets = append(m.secrets, s)
	}
	// Longest first, so that a secret which begins with another is hidden whole.
	slices.SortFunc(m.secrets, func(a, b string) int {
		if len(a) != len(b) {
			return len(b) - len(a)
		}
		return strings.Compare(a, b)
	})
	pairs := make([]string, 0, 2*len(m.secrets))
	for _, s := range m.secrets {
		pairs = append(pairs, s, Sensitive)
	}
	m.replacer = strings.NewReplacer(pairs...)
	return m
}

// Mask returns text with every secret replaced.
func (m *Masker) Mask(text string) string {
	if m == nil || len(m.secrets) == 0 {
		return text
	}
	return m.replacer.Replace(text)
}

// Pending returns the length in bytes of the longest end of text that a secret
// might begin with. Who writes text in pieces keeps that much back until more
// is known, so that no secret is cut in two halves that Mask cannot see.
func (m *Masker) Pending(text string) int {
	if m == nil {
		return 0
	}
	longest := 0
	for _, s := range m.secrets {
		for n := min(len(s)-1, len(text)); n > longest; n-- {
			if strings.HasSuffix(text, s[:n]) {
				longest = n
				break
			}
		}
	}
	return longest
}
