package buildlog

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"gocloud.dev/blob"

	"github.com/bakehouse-farm/bakehouse"
)

// A Line is one line of a build's log. Its text has no line end and, but for
// tabs and colours, no control characters; where a program wrote over its line,
// it is what was left in the end.
type Line struct {
	Step string    `json:"step"`
	Kind Kind      `json:"kind"`
	Time time.Time `json:"time"` // when the agent got it
	Text string    `json:"text"`
	// Partial tells that the line had no end when it was stored: the next line
	// of the step may go on with it. Only Follow returns such lines.
	Partial bool `json:"partial,omitempty"`
}

// A place is where a chunk is.
type place struct {
	key  string
	step string
	seq  int
}

// list returns the places of the build's chunks that are behind seen (the last
// number by step), by step and number.
func (s *Store) list(ctx context.Context, prefix string, seen map[string]int) ([]place, error) {
	var out []place
	it := s.bucket.List(&blob.ListOptions{Prefix: prefix})
	for {
		obj, err := it.Next(ctx)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("list log %s: %w", prefix, err)
		}
		step, seq, ok := parseKey(prefix, obj.Key)
		if ok && seq > seen[step] {
			out = append(out, place{obj.Key, step, seq})
		}
	}
	slices.SortFunc(out, func(a, b place) int {
		return cmp.Or(strings.Compare(a.step, b.step), cmp.Compare(a.seq, b.seq))
	})
	return out, nil
}

// Read returns all that is stored of a build's log, step by step. A chunk that
// cannot be read gives an error, and reading goes on behind it. A build without
// a log has no lines.
func (s *Store) Read(ctx context.Context, build bakehouse.BuildID) iter.Seq2[Line, error] {
	return func(yield func(Line, error) bool) {
		prefix, err := buildPrefix(build)
		if err != nil {
			yield(Line{}, err)
			return
		}
		places, err := s.list(ctx, prefix, nil)
		if err != nil {
			yield(Line{}, err)
			return
		}
		j := joiner{yield: yield}
		last := place{}
		for _, p := range places {
			if p.step != j.line.Step && !j.end() {
				return
			}
			if p.step != last.step {
				last = place{step: p.step}
			}
			if err := gap(prefix, p.step, last.seq, p.seq); err != nil {
				if !j.end() || !yield(Line{}, err) {
					return
				}
			}
			last = p
			c, ok, err := s.get(ctx, p.key)
			if err != nil {
				if !j.end() || !yield(Line{}, err) || ctx.Err() != nil {
					return
				}
				continue
			}
			if !ok {
				continue // removed since it was listed
			}
			for _, e := range c.Entries {
				if !j.add(p.step, e) {
					return
				}
			}
		}
		j.end()
	}
}

// maxLine is how long a line is that Read gives out.
const maxLine = 1 << 20

// runeStart returns the last place in s, not behind n, where a rune begins.
func runeStart(s string, n int) int {
	for n = min(n, len(s)); n > 0 && n < len(s) && !utf8.RuneStart(s[n]); n-- {
	}
	return max(n, 0)
}

// gap is the error that chunks are missing between the one with number last and
// the one with number next; nil when none are.
func gap(prefix, step string, last, next int) error {
	if next <= last+1 {
		return nil
	}
	first := chunkKey(prefix, step, last+1)
	if next == last+2 {
		return bakehouse.Errorf(bakehouse.Failed, "read log %s: it is missing, though there is more behind it", first)
	}
	return bakehouse.Errorf(bakehouse.Failed, "read log %s: it and the next %d are missing, though there is more behind them", first, next-last-2)
}

// A joiner makes whole lines of entries.
type joiner struct {
	yield   func(Line, error) bool
	line    Line // begun, when open
	command string
	open    bool
}

// end gives out the line that was begun, if any.
func (j *joiner) end() bool {
	if !j.open {
		return true
	}
	j.open = false
	j.line.Text = shown(j.line.Text)
	return j.yield(j.line, nil)
}

func (j *joiner) add(step string, e entry) bool {
	if j.open && (e.Kind != Output || e.Command != j.command) && !j.end() {
		return false
	}
	text := e.Text
	if e.Kind != Output {
		text += "\n"
	}
	for text != "" {
		if !j.open {
			j.line = Line{Step: step, Kind: e.Kind, Time: time.Unix(0, e.Time).UTC()}
			j.open, j.command = true, e.Command
		}
		var whole bool
		var head string
		head, text, whole = strings.Cut(text, "\n")
		if len(j.line.Text)+len(head) > maxLine {
			// One that has no end is shown in pieces: it may be longer than memory.
			n := runeStart(head, maxLine-len(j.line.Text))
			head, text, whole = head[:n], head[n:]+map[bool]string{true: "\n"}[whole]+text, true
		}
		j.line.Text += head
		if whole && !j.end() {
			return false
		}
	}
	return true
}

// lines returns the lines of an entry as they are known so far.
func (e entry) lines(step string) []Line {
	var out []Line
	text := e.Text
	if e.Kind != Output {
		text += "\n"
	}
	for text != "" {
		head, rest, whole := strings.Cut(text, "\n")
		out = append(out, Line{
			Step: step, Kind: e.Kind, Time: time.Unix(0, e.Time).UTC(),
			Text: shown(head), Partial: !whole,
		})
		text = rest
	}
	return out
}
