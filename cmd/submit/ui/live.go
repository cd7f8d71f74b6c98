package ui

import (
	"bytes"
	"fmt"
	"strings"
	"unicode/utf8"
)

// Live replaces the lines that stand below the output on a terminal. No lines
// removes them. Without a terminal it does nothing.
func (u *UI) Live(lines []string) {
	if u.opt.Width == nil {
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.live = lines
	var b bytes.Buffer
	u.erase(&b)
	u.draw(&b)
	if b.Len() > 0 {
		u.flush(&b)
	}
}

// erase takes the live lines off the screen. The cursor stands at the start of
// the row below the last of them.
func (u *UI) erase(b *bytes.Buffer) {
	if u.drawn > 0 {
		fmt.Fprintf(b, "\x1b[%dA\r\x1b[J", u.drawn)
		u.drawn = 0
	}
}

// draw puts the live lines below the output. Each is cut so that it takes one
// row: one that wrapped could not be erased again. A terminal too small for
// them keeps its few rows for the log.
func (u *UI) draw(b *bytes.Buffer) {
	if u.opt.Width == nil || len(u.live) == 0 {
		return
	}
	columns, rows := u.opt.Width()
	if columns < 20 || rows < 6 {
		return
	}
	lines := u.live
	if limit := max(rows/3, 1); len(lines) > limit {
		lines = append(lines[:limit-1:limit-1], fmt.Sprintf("… and %d more", len(u.live)-limit+1))
	}
	for _, l := range lines {
		b.WriteString("\x1b[2m" + cut(l, columns-1) + "\x1b[0m\n")
		u.drawn++
	}
}

// cut returns the first n characters of a line without anything that moves the
// cursor.
func cut(line string, n int) string {
	line = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return -1
		}
		return r
	}, line)
	if utf8.RuneCountInString(line) <= n {
		return line
	}
	runes := []rune(line)
	return string(runes[:max(n-1, 0)]) + "…"
}
