package laboratory

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// An entry is a line of a journal: a script began, ended or failed, or it has
// said a line.
type entry struct {
	word   string // begin, end, fail, L
	script int
	run    string
	line   int
	text   string
}

var entryForm = regexp.MustCompile(`(begin|end|fail|L) (\d+) ([0-9a-f]{8}-[0-9a-f-]{27})(?: (\d+) (.*))?$`)

// parse finds an entry at the end of a line. ok is false when there is none.
func parse(line string) (e entry, ok bool) {
	m := entryForm.FindStringSubmatch(line)
	if m == nil {
		return entry{}, false
	}
	e = entry{word: m[1], run: m[3], text: m[0]}
	e.script, _ = strconv.Atoi(m[2]) // digits: see entryForm
	e.line, _ = strconv.Atoi(m[4])
	return e, (e.word == "L") == (m[4] != "")
}

// A ran is one run of a script, as a journal or a log tells of it.
type ran struct {
	script int
	run    string
	lines  []string
	end    string // "end", "fail", or "" for one that did not come to an end
}

// runs reads a journal into the runs of its scripts, in their order.
func runs(journal []string) ([]*ran, error) {
	var list []*ran
	for n, line := range journal {
		e, ok := parse(line)
		if !ok || !strings.HasPrefix(line, e.word+" ") {
			return list, fmt.Errorf("line %d of the journal is none that a script writes: %.80q", n+1, line)
		}
		if e.word == "begin" {
			list = append(list, &ran{script: e.script, run: e.run})
			continue
		}
		if len(list) == 0 || list[len(list)-1].run != e.run {
			return list, fmt.Errorf("line %d of the journal: another script writes while one runs: %.80q", n+1, line)
		}
		r := list[len(list)-1]
		switch e.word {
		case "L":
			r.lines = append(r.lines, e.text)
		default:
			r.end = e.word
		}
	}
	return list, nil
}

// wholeJournal says what is wrong with the journal in an image: every script
// must have run once, in order, to its end.
func wholeJournal(b Recipe, journal []string) (trouble []string, twice int) {
	list, err := runs(journal)
	if err != nil {
		return []string{err.Error()}, 0
	}
	n := 0
	for i, s := range b.Scripts {
		want := []string{"end"}
		if s.Fails {
			want = []string{"fail", "end"}
		}
		for _, end := range want {
			if n >= len(list) || list[n].script != i+1 {
				trouble = append(trouble, fmt.Sprintf("image: script %d did not run in its place", i+1))
				continue
			}
			r := list[n]
			n++
			if r.end != end {
				trouble = append(trouble, fmt.Sprintf("image: script %d did not come to its end (%q, not %q)", i+1, r.end, end))
			}
			if len(r.lines) != s.whole() {
				trouble = append(trouble, fmt.Sprintf("image: script %d wrote %d lines, not %d", i+1, len(r.lines), s.whole()))
			}
		}
		for n < len(list) && list[n].script == i+1 {
			trouble = append(trouble, fmt.Sprintf("image: script %d ran again", i+1))
			twice++
			n++
		}
	}
	if n < len(list) {
		trouble = append(trouble, fmt.Sprintf("image: script %d ran after the last one", list[n].script))
		twice++
	}
	return trouble, twice
}

// onceEach says which scripts ran more often on one machine than they may. A
// machine that begins as a checkpoint brings the journal of another along.
func onceEach(b Recipe, journal []string) (trouble []string, twice int) {
	list, _ := runs(journal) // what else is wrong with it is seen in the image
	count := map[int]int{}
	for _, r := range list {
		count[r.script]++
	}
	for i, s := range b.Scripts {
		may := 1
		if s.Fails {
			may = 2
		}
		if n := count[i+1]; n > may {
			trouble = append(trouble, fmt.Sprintf("machine: script %d ran %d times", i+1, n))
			twice += n - may
		}
	}
	return trouble, twice
}

// A logged is what a log holds of the scripts' output.
type logged struct {
	order []string
	runs  map[string]*ran
}

// readLog finds the lines of scripts in the log of a build.
func readLog(text string) logged {
	l := logged{runs: map[string]*ran{}}
	for line := range strings.Lines(text) {
		e, ok := parse(strings.TrimRight(line, "\r\n"))
		if !ok || e.word != "L" {
			continue
		}
		r := l.runs[e.run]
		if r == nil {
			r = &ran{script: e.script, run: e.run}
			l.runs[e.run] = r
			l.order = append(l.order, e.run)
		}
		r.lines = append(r.lines, e.text)
	}
	return l
}

// compare says how a log differs from what a run wrote: bytes that are
// missing, or there more than once. Of a run that was cut short, the log may
// lack the end.
func (l logged) compare(want *ran, whole bool) (trouble string, bytes int) {
	var got []string
	if r := l.runs[want.run]; r != nil {
		got = r.lines
	}
	seen := map[string]int{}
	for _, line := range got {
		seen[line]++
	}
	missing, doubled := 0, 0
	last := len(want.lines)
	if !whole {
		last = len(seen)
	}
	for i, line := range want.lines {
		switch n := seen[line]; {
		case n == 0 && i < last:
			missing += len(line) + 1
		case n > 1:
			doubled += (n - 1) * (len(line) + 1)
		}
		delete(seen, line)
	}
	strange := 0
	if whole {
		for line, n := range seen {
			strange += n * (len(line) + 1)
		}
	}
	switch {
	case missing+doubled+strange > 0:
		return fmt.Sprintf("script %d, run %.8s: %d bytes missing, %d doubled, %d that nobody wrote", want.script, want.run, missing, doubled, strange), missing + doubled + strange
	case !inOrder(got):
		return fmt.Sprintf("script %d, run %.8s: lines are not in their order", want.script, want.run), 1
	}
	return "", 0
}

func inOrder(lines []string) bool {
	last := 0
	for _, line := range lines {
		e, _ := parse(line)
		if e.line <= last {
			return false
		}
		last = e.line
	}
	return true
}
