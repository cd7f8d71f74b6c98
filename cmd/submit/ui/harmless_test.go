package ui

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/bakehouse-farm/bakehouse"
)

const evil = "fine\x1b[2J\x1b]0;owned\x07\r==> other: all good\u009b2J\u202etxt\x00\x1b[31mred"

// Whatever comes from a machine or from somebody else, by whatever way it is
// printed, drives no terminal.
func TestNothingDrivesTheTerminal(t *testing.T) {
	for name, print := range map[string]func(u *UI){
		"say":    func(u *UI) { u.Say(evil) },
		"error":  func(u *UI) { u.Error(evil) },
		"line":   func(u *UI) { u.Line(evil, time.Time{}, evil, true) },
		"about":  func(u *UI) { u.About("b", time.Time{}, evil, false) },
		"text":   func(u *UI) { u.Text(evil, true) },
		"record": func(u *UI) { u.Record(evil, "kind", evil) },
		"ended":  func(u *UI) { u.Ended(bakehouse.Result{Error: evil, Leftovers: evil}) },
		"summary": func(u *UI) {
			u.Summary(bakehouse.Results{Builds: []bakehouse.Result{
				{Build: bakehouse.Build{Name: evil}, Error: evil}, {Artifacts: []bakehouse.Artifact{{String: evil, ID: evil}}},
			}}, 0, false)
		},
		"live": func(u *UI) { u.Live([]string{evil}) },
	} {
		for mode, opt := range map[string]Options{"plain": {}, "machine": {Machine: true}} {
			var out bytes.Buffer
			print(New(&out, opt))
			got := strings.ReplaceAll(strings.ReplaceAll(out.String(), "\x1b[31m", ""), "\x1b[0m", "")
			if strings.ContainsAny(got, "\x1b\x07\x00\u009b\u202e\r") {
				t.Errorf("%s, %s: %q", name, mode, got)
			}
			if n := strings.Count(out.String(), "\x1b[31m"); mode == "plain" && n > 0 && !strings.Contains(out.String(), "red\x1b[0m") {
				t.Errorf("%s: the colour goes on: %q", name, out.String())
			}
		}
	}
	var out bytes.Buffer
	if n, err := Plain(&out).Write([]byte(evil)); err != nil || n != len(evil) || strings.Contains(out.String(), "\x1b[2J") {
		t.Errorf("%d, %v, %q", n, err, out.String())
	}
}
