package secret

import (
	"slices"
	"strings"
)

// Sensitive stands in text where a secret was, as Packer writes it.
const Sensitive = "<sensitive>"

const (
	// minMasked is the length in bytes of the shortest secret that is searched for.
	// Shorter ones ("a", "22", "no") appear everywhere in text that is not secret,
	// and masking that would tell them rather than hide them.
	minMasked = 4
	// maxPiece is the length in bytes of the longest text that is searched for
	// whole. Of longer secrets, pieces of it are, so that little has to be held
	// back, and so that a line which was cut shows no more than less than a piece.
	maxPiece = 1 << 10
	// maxSought bounds what all secrets together take: about 20 bytes for each of
	// these.
	maxSought = 4 << 20
)

// A Masker replaces secrets in text by <sensitive>. The nil Masker and the zero
// value change nothing. It may be used by many goroutines at once.
type Masker struct {
	search *search // nil without secrets
}

// NewMasker returns a Masker for the secrets. Of a secret of several lines,
// each line is a secret too, and CR LF is taken for LF. Secrets and lines
// shorter than 4 bytes are not searched for. Secrets longer than 1 KiB are
// searched for in pieces of that. When all that is to be searched for has more
// than 4 MiB, the longest of it is left out.
func NewMasker(secrets []string) *Masker {
	set := map[string]bool{}
	add := func(s string) {
		if len(s) < minMasked || strings.TrimSpace(s) == "" {
			return
		}
		for len(s) > 2*maxPiece {
			set[s[:maxPiece]] = true
			s = s[maxPiece:]
		}
		if len(s) > maxPiece { // two that overlap
			set[s[:maxPiece]] = true
			s = s[len(s)-maxPiece:]
		}
		set[s] = true
	}
	for _, s := range secrets {
		unix := strings.ReplaceAll(s, "\r\n", "\n")
		add(unix)
		add(strings.TrimRight(unix, "\n"))
		if !strings.Contains(unix, "\n") {
			continue
		}
		add(s)
		for line := range strings.SplitSeq(unix, "\n") {
			add(line)
			// Output is often indented or trimmed on its way.
			add(strings.TrimSpace(line))
		}
	}
	if len(set) == 0 {
		return &Masker{}
	}
	words := make([]string, 0, len(set))
	for s := range set {
		words = append(words, s)
	}
	return &Masker{newSearch(words, maxSought)}
}

// Mask returns text with every secret replaced. Secrets that overlap or touch
// are replaced together, whole.
func (m *Masker) Mask(text string) string {
	if m == nil || m.search == nil {
		return text
	}
	spans, _ := m.search.spans(text)
	if len(spans) == 0 {
		return text
	}
	var hidden []span
	for _, s := range spans {
		for len(hidden) > 0 && hidden[len(hidden)-1].end >= s.start {
			s.start = min(s.start, hidden[len(hidden)-1].start)
			hidden = hidden[:len(hidden)-1]
		}
		hidden = append(hidden, s)
	}
	var out strings.Builder
	at := 0
	for _, s := range hidden {
		out.WriteString(text[at:s.start])
		out.WriteString(Sensitive)
		at = s.end
	}
	out.WriteString(text[at:])
	return out.String()
}

// Pending returns the length in bytes of the longest end of text that a secret
// might begin with, and of what must not be parted from it. Who writes text in
// pieces keeps that much back until more is known, so that no secret is cut in
// two halves that Mask cannot see. It takes time linear in the text, whatever
// the secrets are.
func (m *Masker) Pending(text string) int {
	if m == nil || m.search == nil {
		return 0
	}
	spans, last := m.search.spans(text)
	cut := len(text) - m.search.begun(last)
	// A secret that is there whole must not be cut for the sake of one that
	// begins within it.
	for _, s := range slices.Backward(spans) {
		if s.start < cut && cut < s.end {
			cut = s.start
		}
	}
	return len(text) - cut
}
