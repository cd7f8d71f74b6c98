package ui

import (
	"io"
	"strings"

	"github.com/bakehouse-farm/bakehouse/agent/buildlog"
)

// harmless makes text fit for a terminal, wherever it comes from: machines put
// words into errors, submitters into names. Colours may stay, but end with
// their line.
func harmless(text string) string {
	text = strings.ReplaceAll(strings.ReplaceAll(buildlog.Clean(text), "\r\n", "\n"), "\r", "")
	if !strings.Contains(text, "\x1b") {
		return text
	}
	const reset = "\x1b[0m"
	lines := strings.Split(text, "\n")
	for i, l := range lines {
		if strings.Contains(l, "\x1b") && !strings.HasSuffix(l, reset) {
			lines[i] = l + reset
		}
	}
	return strings.Join(lines, "\n")
}

// Plain returns a writer to w that lets nothing through which drives a terminal
// but colours. Each call of Write must bring whole words.
func Plain(w io.Writer) io.Writer { return plain{w} }

type plain struct{ to io.Writer }

func (p plain) Write(b []byte) (int, error) {
	if _, err := io.WriteString(p.to, harmless(string(b))); err != nil {
		return 0, err
	}
	return len(b), nil
}
