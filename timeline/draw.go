package timeline

import (
	"fmt"
	"io"
	"math"
	"strings"
	"time"
	"unicode/utf8"
)

// Draw writes the timeline as bars over a common scale, at most width columns
// wide. A row shows what it is, when within the whole, how long, which part of
// the whole, and what deserves a remark: waiting, further attempts, failure.
func Draw(w io.Writer, t *Timeline, width int) {
	d := drawing{t: t, longest: t.Longest()}
	t.Root.All(func(s *Span, depth int) bool {
		d.rows = append(d.rows, row{s, depth})
		return true
	})
	d.width = max(width, 40)
	d.layout(d.width)
	d.header(w)
	for _, r := range d.rows {
		d.row(w, r)
	}
	d.legend(w)
}

// What bars are made of.
const (
	work     = '█' // an agent works on it
	waits    = '░' // it waits for an agent
	earlier  = '▒' // attempts that did not end it, and the time between them
	outline  = '─' // a build or a submission: its steps are drawn below it
	unending = '▸' // it goes on
)

type row struct {
	*Span
	depth int
}

type drawing struct {
	t       *Timeline
	rows    []row
	longest *Span

	width      int
	label, bar int
	used       map[rune]bool
}

// The columns behind the bar: a duration and a percentage.
const numbers = 17

func (d *drawing) layout(width int) {
	d.used = map[rune]bool{}
	notes := 0
	for _, r := range d.rows {
		d.label = max(d.label, 2*r.depth+utf8.RuneCountInString(r.Name))
		notes = max(notes, utf8.RuneCountInString(d.note(r.Span)))
	}
	d.label = min(d.label, max(width*2/5, 12))
	room := width - d.label - numbers - 3
	// Notes get what they need, as long as bars are wide enough to tell anything.
	d.bar = min(max(room-notes-2, 24), room)
	if d.bar < 10 {
		d.bar = 0
	}
}

func (d *drawing) header(w io.Writer) {
	t := d.t
	how := "running"
	if t.Root.Outcome != Running {
		how = string(t.Root.Outcome)
	}
	fmt.Fprintf(w, "Timeline of %s: %s, %s in all\n", t.ID, how, duration(t.Root.Took(t.Now)))
	if d.bar == 0 {
		return
	}
	end := duration(t.Root.Took(t.Now))
	fmt.Fprintf(w, "%s 0%s%s\n", strings.Repeat(" ", d.label), strings.Repeat(" ", max(d.bar-1-utf8.RuneCountInString(end), 1)), end)
}

func (d *drawing) row(w io.Writer, r row) {
	name := strings.Repeat("  ", r.depth) + r.Name
	if n := utf8.RuneCountInString(name); n > d.label {
		name = string([]rune(name)[:d.label-1]) + "…"
	} else {
		name += strings.Repeat(" ", d.label-n)
	}
	took := r.Took(d.t.Now)
	percent := ""
	if all := d.t.Root.Took(d.t.Now); all > 0 {
		percent = fmt.Sprintf("%.0f%%", 100*float64(took)/float64(all))
	}
	line := fmt.Sprintf("%s %s %10s %5s", name, d.bars(r.Span), duration(took), percent)
	if note := d.note(r.Span); note != "" {
		line += "  " + note
	}
	if runes := []rune(line); len(runes) > d.width {
		line = string(runes[:d.width-1]) + "…"
	}
	fmt.Fprintln(w, strings.TrimRight(line, " "))
}

// bars draws one row.
func (d *drawing) bars(s *Span) string {
	cells := []rune(strings.Repeat(" ", d.bar))
	if d.bar == 0 {
		return ""
	}
	fill := func(from, to time.Time, with rune) {
		a := d.cell(from)
		for i := a; i < max(d.last(to), a+1); i++ {
			cells[i] = with
		}
		d.used[with] = true
	}
	end := s.end(d.t.Now)
	switch {
	case s.Kind != Step && s.Kind != Pause:
		fill(s.Scheduled, end, outline)
	case s.Started.IsZero():
		fill(s.Scheduled, end, waits)
	case s.Waiting:
		fill(s.Scheduled, end, earlier)
	default:
		if s.Earlier() > 0 {
			fill(s.Scheduled, s.Started, earlier)
		} else if s.Started.Sub(s.Scheduled) > 0 && d.cell(s.Scheduled) < d.cell(s.Started) {
			fill(s.Scheduled, s.Started, waits)
		}
		if s.Kind == Pause {
			fill(s.Started, end, '·')
		} else {
			fill(s.Started, end, work)
		}
	}
	if s.Ended.IsZero() {
		cells[d.cell(end)] = unending
		d.used[unending] = true
	}
	return string(cells)
}

// cell is where on the scale something begins; last is the cell behind its end.
func (d *drawing) cell(at time.Time) int {
	return min(max(int(math.Floor(d.scale(at))), 0), d.bar-1)
}

func (d *drawing) last(at time.Time) int {
	return min(max(int(math.Ceil(d.scale(at))), 0), d.bar)
}

func (d *drawing) scale(at time.Time) float64 {
	all := d.t.Root.Took(d.t.Now)
	if all <= 0 {
		return 0
	}
	return float64(at.Sub(d.t.Root.Scheduled)) / float64(all) * float64(d.bar)
}

// Less than this is not worth a remark.
const noticeable = 100 * time.Millisecond

func (d *drawing) note(s *Span) string {
	var notes []string
	add := func(format string, args ...any) { notes = append(notes, fmt.Sprintf(format, args...)) }
	if s == d.longest {
		add("◀ longest")
	}
	switch s.Outcome {
	case Failure:
		add("failed")
	case Error:
		add("error")
	case TimedOut:
		add("timed out")
	case Cancelled:
		add("cancelled")
	}
	if s.Kind == Step {
		switch wait := s.Wait(d.t.Now); {
		case s.Started.IsZero() && s.Ended.IsZero():
			add("waiting for an agent")
		case s.Waiting:
			add("waiting for another agent")
		case wait >= noticeable:
			add("waited %s for an agent", duration(wait))
		}
		if s.Attempts > 1 {
			add("attempt %d after %s", s.Attempts, duration(s.Earlier()))
		}
	}
	if s.Kind == Step && s.Reason != "" {
		reason, _, _ := strings.Cut(s.Reason, "\n")
		if runes := []rune(reason); len(runes) > 60 {
			reason = string(runes[:59]) + "…"
		}
		add("%s", reason)
	}
	return strings.Join(notes, "; ")
}

func (d *drawing) legend(w io.Writer) {
	var parts []string
	for _, l := range []struct {
		r    rune
		text string
	}{
		{work, "work"},
		{waits, "waiting for an agent"},
		{earlier, "earlier attempts and what lay between them"},
		{'·', "pause"},
		{unending, "goes on"},
	} {
		if d.used[l.r] && (l.r != work || len(d.used) > 2) {
			parts = append(parts, string(l.r)+" "+l.text)
		}
	}
	if len(parts) > 0 {
		fmt.Fprintln(w, strings.Join(parts, "   "))
	}
}

// duration says a duration in few characters: "3m05.2s", "1h12m".
func duration(d time.Duration) string {
	d = max(d, 0)
	switch {
	case d < time.Second:
		return fmt.Sprintf("%dms", d.Milliseconds())
	case d < time.Minute:
		return fmt.Sprintf("%.1fs", d.Seconds())
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", int(d.Minutes()), int(d.Seconds())%60)
	}
	return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
}
