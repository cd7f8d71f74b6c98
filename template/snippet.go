package template

import (
	"bytes"
	"fmt"
	"regexp"
	"strconv"

	"github.com/hashicorp/hcl/v2"
)

// shown is what hcl writes of a diagnostic. hcl looks for the lines to show by
// reading the file from its beginning to its end, each time: it is given these
// lines only, and what it takes for their numbers is put right.
func shown(d *hcl.Diagnostic, files map[string]*hcl.File, color bool, width int) []byte {
	var out bytes.Buffer // which takes everything
	near, file, before := nearby(d, files)
	if file != nil {
		files = map[string]*hcl.File{near.Subject.Filename: file}
	}
	_ = hcl.NewDiagnosticTextWriter(&out, files, uint(max(width, 0)), color).WriteDiagnostic(near)
	if before == 0 {
		return out.Bytes()
	}
	return renumber(out.Bytes(), near.Subject, before)
}

// nearby is d about the lines of its file that are shown, and how many lines
// there are before them. The file is nil when d is about none.
func nearby(d *hcl.Diagnostic, files map[string]*hcl.File) (*hcl.Diagnostic, *hcl.File, int) {
	if d.Subject == nil || files[d.Subject.Filename] == nil {
		return d, nil, 0
	}
	whole := files[d.Subject.Filename]
	src := whole.Bytes
	rng := *d.Subject
	if d.Context != nil {
		rng = hcl.RangeOver(rng, *d.Context)
	}
	from := bytes.LastIndexByte(src[:min(max(rng.Start.Byte, 0), len(src))], '\n') + 1
	to := min(max(rng.End.Byte, from), len(src))
	for range 2 { // an empty range at the end of a line touches the next
		if n := bytes.IndexByte(src[to:], '\n'); n >= 0 {
			to += n + 1
		} else {
			to = len(src)
		}
	}
	near := *d
	near.Subject = moved(d.Subject, from)
	near.Context = moved(d.Context, from)
	return &near, &hcl.File{Body: whole.Body, Bytes: src[from:to], Nav: movedNav{whole.Nav, from}}, bytes.Count(src[:from], []byte("\n"))
}

func moved(r *hcl.Range, by int) *hcl.Range {
	if r == nil {
		return nil
	}
	m := *r
	m.Start.Byte -= by
	m.End.Byte -= by
	return &m
}

// movedNav knows in which block something is that stands by bytes further on.
type movedNav struct {
	nav any
	by  int
}

// ContextString is what hcl asks.
func (m movedNav) ContextString(offset int) string {
	if nav, ok := m.nav.(interface{ ContextString(offset int) string }); ok {
		return nav.ContextString(offset + m.by)
	}
	return ""
}

// renumber adds before to the numbers of the lines that text shows of a file.
func renumber(text []byte, subject *hcl.Range, before int) []byte {
	head := fmt.Appendf(nil, "  on %s line %d", subject.Filename, subject.Start.Line)
	at := bytes.Index(text, head)
	if at < 0 {
		return text
	}
	at += bytes.IndexByte(text[at:], '\n') + 1
	out := bytes.Clone(text[:at])
	rest := text[at:]
	for {
		m := lineNumber.FindSubmatch(rest)
		if m == nil {
			return append(out, rest...)
		}
		n, _ := strconv.Atoi(string(m[1]))
		end := bytes.IndexByte(rest, '\n') + 1
		out = append(fmt.Appendf(out, "%4d: ", n+before), rest[len(m[0]):end]...)
		rest = rest[end:]
	}
}

// lineNumber begins a line that hcl shows; empty lines are not shown.
var lineNumber = regexp.MustCompile(`^ *([0-9]{1,9}): `)
