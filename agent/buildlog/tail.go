package buildlog

import (
	"bytes"
	"fmt"
	"sort"
	"time"

	"github.com/bakehouse-farm/bakehouse/agent/secret"
)

// This file decides where output is cut: at line ends, else where neither a
// rune, nor an escape sequence, nor a secret is cut in two. All of it is called
// with st.mu held.

// takeSome is take for what there is room for; see Sink.
func (st *Step) takeSome(command string, t *tail, p []byte) {
	room := max(st.maxOutput-t.received, 0)
	if int64(len(p)) <= room {
		st.take(command, t, p)
		return
	}
	if room > 0 {
		st.take(command, t, p[:room])
	}
	if n := len(t.raw) - st.keep(t.raw); n > 0 {
		st.cut(command, t, n, "")
	}
	t.raw = nil // what may be half a secret
	t.received += int64(len(p)) - room
	if !t.full {
		t.full = true
		st.put(Error, fmt.Sprintf("Only the first %d bytes of the output of %s are kept; it goes on, but is not shown.", st.maxOutput, command))
	}
}

// take adds p to the tail and pushes the lines that are whole.
func (st *Step) take(command string, t *tail, p []byte) {
	t.received += int64(len(p))
	if len(t.raw) == 0 || t.shown {
		t.since = time.Now()
	}
	t.shown = false
	t.raw = append(t.raw, p...)
	if i := bytes.LastIndexByte(t.raw, '\n'); i >= 0 {
		st.cut(command, t, i+1, "")
		t.since = time.Now()
	}
	for len(t.raw) > maxPartial {
		n := len(t.raw) - st.keep(t.raw)
		if n <= 0 {
			// A secret longer than this is no reason to hold everything back.
			n = len(t.raw)
		}
		st.cut(command, t, n, "")
	}
	st.signal()
}

// cut pushes the first n bytes of the tail.
func (st *Step) cut(command string, t *tail, n int, suffix string) {
	start := t.received - int64(len(t.raw))
	raw := t.raw[:n:n]
	t.raw = append([]byte(nil), t.raw[n:]...)
	if last := len(st.items) - 1; last >= st.inFlight && suffix == "" {
		// Pieces that arrive together are stored together.
		it := &st.items[last]
		if it.kind == Output && it.command == command && it.suffix == "" &&
			it.start+int64(len(it.raw)) == start && len(it.raw)+n <= maxPartial &&
			time.Since(time.Unix(0, it.time)) < flushEvery {
			it.raw = append(it.raw, raw...)
			st.waiting += n
			return
		}
	}
	st.push(item{kind: Output, time: now(), command: command, start: start, raw: raw, suffix: suffix})
}

// ageTails pushes what has waited long for its line end.
func (st *Step) ageTails(at time.Time) {
	if st.hold == nil {
		return
	}
	for command, t := range st.tails {
		if len(t.raw) == 0 || t.shown || at.Sub(t.since) < partialAge {
			continue
		}
		if n := len(t.raw) - st.keep(t.raw); n > 0 {
			st.cut(command, t, n, "")
			t.since = at
		}
	}
}

// unended tells whether ageTails may have something to do later.
func (st *Step) unended() bool {
	for _, t := range st.tails {
		if st.hold != nil && len(t.raw) > 0 && !t.shown {
			return true
		}
	}
	return false
}

// endTails pushes the tails of all commands but one, because something else
// comes behind them. What may be half a rune or half a secret is shown as a
// suffix (a secret masked, a rune not at all) and does not count as stored:
// should the command go on, whoever follows it gets those bytes again, whole.
func (st *Step) endTails(but string) {
	for command, t := range st.tails {
		if command == but || len(t.raw) == 0 || t.shown {
			continue
		}
		broken := unfinished(t.raw)
		n, suffix := len(t.raw)-broken, ""
		if st.hold != nil {
			if kept := st.keep(t.raw); kept > broken {
				n = len(t.raw) - kept
				suffix = clean(string(t.raw[n : len(t.raw)-broken]))
				if len(suffix) >= 4 {
					suffix = secret.Sensitive
				}
			}
		}
		st.cut(command, t, n, suffix)
		t.shown = true
	}
}

// keep returns how many bytes at the end of raw must wait for more.
func (st *Step) keep(raw []byte) int {
	n := len(raw) - unfinished(raw)
	if st.hold == nil {
		n = min(n, len(raw)-blindHold)
		for n > 0 && unfinished(raw[:n]) > 0 {
			n -= unfinished(raw[:n])
		}
		return len(raw) - max(n, 0)
	}
	text := clean(string(raw[:n]))
	want := len(text) - st.hold(text)
	if want < len(text) {
		// Cleaning changes lengths; find the cut in what came. Between a place that
		// is early enough and one that is not lies one where that changes, though
		// there may be several: escape sequences vanish when they are whole.
		n = max(sort.Search(n, func(i int) bool { return len(clean(string(raw[:i]))) > want })-1, 0)
	}
	for n > 0 && unfinished(raw[:n]) > 0 {
		n -= unfinished(raw[:n])
	}
	return len(raw) - n
}

// drop forgets output of the command up to offset: another attempt has it.
func (st *Step) drop(command string, offset int64) {
	t := st.tails[command]
	if t == nil {
		return
	}
	start := t.received - int64(len(t.raw))
	switch {
	case offset >= t.received:
		t.raw, t.received = nil, offset
	case offset > start:
		t.raw = append([]byte(nil), t.raw[offset-start:]...)
	}
}
