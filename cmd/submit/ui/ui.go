// Package ui prints what submit says, in the forms that users of Packer know:
// lines for people, coloured by build, or machine-readable records.
package ui

import (
	"bytes"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Options say how to print. The zero value prints plain lines for people.
type Options struct {
	// Machine asks for machine-readable records instead of lines. They are never
	// coloured, stamped or accompanied by live lines.
	Machine bool
	// Color paints each line in the colour of its build, errors red.
	Color bool
	// Timestamps puts the time before each line of a build.
	Timestamps bool
	// Width asks for live lines at the end of the output and returns the
	// terminal's size, each time anew. Nil means that there is no terminal.
	Width func() (columns, rows int)
	// Now is the clock of lines that have no time of their own. Nil means
	// time.Now.
	Now func() time.Time
}

// A UI prints. Its methods may be called by several goroutines at once; no line
// is ever mixed into another.
type UI struct {
	opt Options
	out io.Writer

	mu     sync.Mutex
	colors map[string]int
	live   []string // the live lines that stand below the output
	drawn  int      // how many rows of them are on the screen
	err    error
}

// New returns a UI that prints to out.
func New(out io.Writer, opt Options) *UI {
	if opt.Now == nil {
		opt.Now = time.Now
	}
	if opt.Machine {
		opt.Color, opt.Timestamps, opt.Width = false, false, nil
	}
	return &UI{opt: opt, out: out, colors: map[string]int{}}
}

// Machine tells whether records are printed instead of lines.
func (u *UI) Machine() bool { return u.opt.Machine }

// Err returns the first error that printing met: nobody reads any more.
func (u *UI) Err() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.err
}

// Say prints a text that belongs to no build.
func (u *UI) Say(text string) { u.print("say", text, 0, time.Time{}, false) }

// Error prints what went wrong, for no build in particular.
func (u *UI) Error(text string) { u.print("error", text, red, time.Time{}, false) }

// Line prints a line of a build's log: say, output or error.
func (u *UI) Line(build string, at time.Time, text string, isError bool) {
	text = "==> " + build + ": " + text
	if isError {
		u.print("error", text, red, at, true)
		return
	}
	u.print("say", text, u.color(build), at, true)
}

// About prints a text about a build that is not of its log, such as how it
// ended.
func (u *UI) About(build string, at time.Time, text string, isError bool) {
	if isError {
		u.print("error", text, red, at, true)
		return
	}
	u.print("say", text, u.color(build), at, true)
}

// Record prints a machine-readable record; without Options.Machine it does
// nothing.
func (u *UI) Record(target, kind string, data ...string) {
	if u.opt.Machine {
		u.write(record(u.opt.Now(), target, kind, data...))
	}
}

// Colors shows which colour each build will have, when colours are on.
func (u *UI) Colors(builds []string) {
	for _, b := range builds {
		c := u.color(b)
		if u.opt.Color {
			u.print("say", b+": output will be in this color.", c, time.Time{}, false)
		}
	}
	if u.opt.Color && len(builds) > 0 {
		u.Say("")
	}
}

// Colours as terminals number them. Builds take turns; errors are red.
const red = 31

var cycle = []int{32, 36, 35, 33, 34} // green, cyan, magenta, yellow, blue

func (u *UI) color(build string) int {
	u.mu.Lock()
	defer u.mu.Unlock()
	c, ok := u.colors[build]
	if !ok {
		c = cycle[len(u.colors)%len(cycle)]
		u.colors[build] = c
	}
	return c
}

func (u *UI) print(kind, text string, color int, at time.Time, stamp bool) {
	if u.opt.Machine {
		if at.IsZero() {
			at = u.opt.Now()
		}
		u.write(record(at, "", "ui", kind, text))
		return
	}
	text = harmless(text)
	if stamp && u.opt.Timestamps {
		if at.IsZero() {
			at = u.opt.Now()
		}
		text = at.UTC().Format(time.RFC3339) + ": " + text
	}
	if u.opt.Color && color != 0 {
		text = paint(text, color)
	}
	u.write(text + "\n")
}

// paint colours each line by itself, so that a pager or a log that shows one
// line shows it in its colour.
func paint(text string, color int) string {
	lines := strings.Split(text, "\n")
	for i, l := range lines {
		if l != "" {
			lines[i] = fmt.Sprintf("\x1b[1;%dm%s\x1b[0m", color, l)
		}
	}
	return strings.Join(lines, "\n")
}

var escape = strings.NewReplacer(",", "%!(PACKER_COMMA)", "\n", `\n`, "\r", `\r`)

// record is one machine-readable line: time,target,type,data…
func record(at time.Time, target, kind string, data ...string) string {
	fields := []string{strconv.FormatInt(at.Unix(), 10), escape.Replace(harmless(target)), kind}
	for _, d := range data {
		fields = append(fields, escape.Replace(harmless(d)))
	}
	return strings.Join(fields, ",") + "\n"
}

// write puts text above the live lines.
func (u *UI) write(text string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	var b bytes.Buffer
	u.erase(&b)
	b.WriteString(text)
	u.draw(&b)
	u.flush(&b)
}

func (u *UI) flush(b *bytes.Buffer) {
	if _, err := u.out.Write(b.Bytes()); err != nil && u.err == nil {
		u.err = err
	}
}

// Text prints a text that is laid out and coloured already.
func (u *UI) Text(text string, isError bool) {
	kind := "say"
	if isError {
		kind = "error"
	}
	u.print(kind, text, 0, time.Time{}, false)
}
