package ui

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/bakehouse-farm/bakehouse"
)

var noon = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

func clock() time.Time { return noon }

func result(name, failure string, artifacts ...bakehouse.Artifact) bakehouse.Result {
	return bakehouse.Result{
		Build: bakehouse.Build{ID: "b-1", Name: name}, Error: failure, Artifacts: artifacts,
		Started: noon.Add(-52172 * time.Microsecond), Ended: noon,
	}
}

var stored = bakehouse.Artifact{
	BuilderID: "packer.file", ID: "us-east-1:ami-1,us-west-2:ami-2", String: "AMIs were created:\nus-east-1: ami-1\n",
	Files: []bakehouse.File{{Name: "out.txt", Size: 3}},
}

// scene prints one of everything.
func scene(u *UI) {
	u.Line("bb.null.n", noon.Add(-time.Second), "hello, world", false)
	u.Line("bb.null.n", noon.Add(-time.Second), "it broke", true)
	u.Line("web", noon, "in the second colour", false)
	good, bad := result("web", "", stored, stored), result("bb.null.n", "Script exited with non-zero exit status: 3. Allowed exit codes are: [0]")
	u.Ended(good)
	u.Ended(bad)
	u.Summary(bakehouse.Results{Builds: []bakehouse.Result{good, bad}}, 61*time.Second, false)
}

func TestOutput(t *testing.T) {
	tests := []struct {
		name string
		opt  Options
		want string
	}{
		{"people", Options{}, `
==> bb.null.n: hello, world
==> bb.null.n: it broke
==> web: in the second colour
Build 'web' finished after 52 milliseconds 172 microseconds.
Build 'bb.null.n' errored after 52 milliseconds 172 microseconds: Script exited with non-zero exit status: 3. Allowed exit codes are: [0]

==> Wait completed after 1 minute 1 second

==> Some builds didn't complete successfully and had errors:
--> bb.null.n: Script exited with non-zero exit status: 3. Allowed exit codes are: [0]

==> Builds finished. The artifacts of successful builds are:
--> web: AMIs were created:
us-east-1: ami-1

--> web: AMIs were created:
us-east-1: ami-1

`},
		// The times are those of the lines; the end has none.
		{"stamped", Options{Timestamps: true}, `
2026-11-21T11:59:59Z: ==> bb.null.n: hello, world
2026-11-21T11:59:59Z: ==> bb.null.n: it broke
2026-11-21T12:00:00Z: ==> web: in the second colour
2026-11-21T12:00:00Z: Build 'web' finished after 52 milliseconds 172 microseconds.
2026-11-21T12:00:00Z: Build 'bb.null.n' errored after 52 milliseconds 172 microseconds: Script exited with non-zero exit status: 3. Allowed exit codes are: [0]

==> Wait completed after 1 minute 1 second

==> Some builds didn't complete successfully and had errors:
--> bb.null.n: Script exited with non-zero exit status: 3. Allowed exit codes are: [0]

==> Builds finished. The artifacts of successful builds are:
--> web: AMIs were created:
us-east-1: ami-1

--> web: AMIs were created:
us-east-1: ami-1

`},
		{"machine, whatever else is asked for", Options{Machine: true, Color: true, Timestamps: true}, `
1795262399,,ui,say,==> bb.null.n: hello%!(PACKER_COMMA) world
1795262399,,ui,error,==> bb.null.n: it broke
1795262400,,ui,say,==> web: in the second colour
1795262400,,ui,say,Build 'web' finished after 52 milliseconds 172 microseconds.
1795262400,,ui,error,Build 'bb.null.n' errored after 52 milliseconds 172 microseconds: Script exited with non-zero exit status: 3. Allowed exit codes are: [0]
1795262400,,ui,say,\n==> Wait completed after 1 minute 1 second
1795262400,,error-count,1
1795262400,,ui,error,\n==> Some builds didn't complete successfully and had errors:
1795262400,bb.null.n,error,Script exited with non-zero exit status: 3. Allowed exit codes are: [0]
1795262400,,ui,error,--> bb.null.n: Script exited with non-zero exit status: 3. Allowed exit codes are: [0]
1795262400,,ui,say,\n==> Builds finished. The artifacts of successful builds are:
1795262400,web,artifact-count,2
1795262400,web,artifact,0,builder-id,packer.file
1795262400,web,artifact,0,id,us-east-1:ami-1%!(PACKER_COMMA)us-west-2:ami-2
1795262400,web,artifact,0,string,AMIs were created:\nus-east-1: ami-1\n
1795262400,web,artifact,0,files-count,1
1795262400,web,artifact,0,file,0,out.txt
1795262400,web,artifact,0,end
1795262400,,ui,say,--> web: AMIs were created:\nus-east-1: ami-1\n
1795262400,web,artifact,1,builder-id,packer.file
1795262400,web,artifact,1,id,us-east-1:ami-1%!(PACKER_COMMA)us-west-2:ami-2
1795262400,web,artifact,1,string,AMIs were created:\nus-east-1: ami-1\n
1795262400,web,artifact,1,files-count,1
1795262400,web,artifact,1,file,0,out.txt
1795262400,web,artifact,1,end
1795262400,,ui,say,--> web: AMIs were created:\nus-east-1: ami-1\n
`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var out bytes.Buffer
			tt.opt.Now = clock
			scene(New(&out, tt.opt))
			if diff := cmp.Diff(strings.TrimPrefix(tt.want, "\n"), out.String()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// Builds take turns with the colours, errors are red, and each line of a text
// has its colour to itself.
func TestColors(t *testing.T) {
	var out bytes.Buffer
	u := New(&out, Options{Color: true, Now: clock})
	for _, b := range []string{"a", "b", "c", "d", "e", "f", "a"} {
		u.Line(b, noon, "x", false)
	}
	u.Error("one\ntwo")
	want := ""
	for _, l := range []struct{ color, build string }{{"32", "a"}, {"36", "b"}, {"35", "c"}, {"33", "d"}, {"34", "e"}, {"32", "f"}, {"32", "a"}} {
		want += "\x1b[1;" + l.color + "m==> " + l.build + ": x\x1b[0m\n"
	}
	want += "\x1b[1;31mone\x1b[0m\n\x1b[1;31mtwo\x1b[0m\n"
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestSummaryWithoutArtifacts(t *testing.T) {
	tests := []struct {
		name        string
		results     []bakehouse.Result
		interrupted bool
		want        string
	}{
		{"nothing made", []bakehouse.Result{result("n", "")}, false, "\n==> Wait completed after 1 second\n\n==> Builds finished but no artifacts were created.\n"},
		{"interrupted", []bakehouse.Result{result("n", "build was cancelled")}, true, "\n==> Wait completed after 1 second\nCleanly cancelled builds after being interrupted.\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var out bytes.Buffer
			New(&out, Options{Now: clock}).Summary(bakehouse.Results{Builds: tt.results}, time.Second, tt.interrupted)
			if diff := cmp.Diff(tt.want, out.String()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// What a build could not remove is never passed over.
func TestLeftoversAreSaid(t *testing.T) {
	var out bytes.Buffer
	r := result("web", "")
	r.Leftovers = "security group sg-1 is in use"
	New(&out, Options{Now: clock}).Ended(r)
	if !strings.Contains(out.String(), "bakehouse:build=b-1: security group sg-1 is in use") {
		t.Errorf("%s", out.String())
	}
}

func TestWords(t *testing.T) {
	tests := []struct {
		d    time.Duration
		want string
	}{
		{52172 * time.Microsecond, "52 milliseconds 172 microseconds"},
		{time.Millisecond, "1 millisecond"},
		{61 * time.Second, "1 minute 1 second"},
		{time.Hour + 30*time.Millisecond, "1 hour 30 milliseconds"},
		{3*time.Minute + 5*time.Second + 7*time.Millisecond, "3 minutes 5 seconds"},
		{8 * 24 * time.Hour, "1 week 1 day"},
		{0, "0 microseconds"},
		{-time.Second, "0 microseconds"},
	}
	for _, tt := range tests {
		if got := Words(tt.d); got != tt.want {
			t.Errorf("Words(%d) = %q, want %q", tt.d, got, tt.want)
		}
	}
}

func TestShort(t *testing.T) {
	tests := []struct {
		d    time.Duration
		want string
	}{
		{250 * time.Millisecond, "250ms"},
		{1500 * time.Millisecond, "1.5s"},
		{42 * time.Second, "42s"},
		{3*time.Minute + 5*time.Second, "3m05s"},
		{90 * time.Minute, "1h30m"},
		{50 * time.Hour, "2d02h"},
	}
	for _, tt := range tests {
		if got := Short(tt.d); got != tt.want {
			t.Errorf("Short(%d) = %q, want %q", tt.d, got, tt.want)
		}
	}
}

// screen is a terminal that understands what live lines use.
type screen struct {
	rows   []string
	cursor int
}

func (s *screen) Write(p []byte) (int, error) {
	text := string(p)
	for text != "" {
		switch {
		case strings.HasPrefix(text, "\x1b["):
			i := strings.IndexFunc(text[2:], func(r rune) bool { return r >= '@' }) + 2
			arg := text[2:i]
			switch text[i] {
			case 'A':
				n := 0
				for _, r := range arg {
					n = n*10 + int(r-'0')
				}
				s.cursor = max(s.cursor-n, 0)
			case 'J':
				s.rows = s.rows[:s.cursor]
			}
			text = text[i+1:]
		case text[0] == '\r':
			text = text[1:]
		default:
			i := strings.IndexAny(text, "\x1b\n")
			if i < 0 {
				i = len(text)
			}
			for len(s.rows) <= s.cursor {
				s.rows = append(s.rows, "")
			}
			s.rows[s.cursor] += text[:i]
			text = text[i:]
			if strings.HasPrefix(text, "\n") {
				s.cursor++
				text = text[1:]
			}
		}
	}
	return len(p), nil
}

// Live lines stand below the output, whatever is printed, take a row each on a
// terminal of any size, and leave nothing when they are removed.
func TestLive(t *testing.T) {
	tests := []struct {
		name          string
		columns, rows int
		want          []string
	}{
		{"roomy", 80, 24, []string{"one", "two", "three", "    web  12s  connect 3s", "    db  12s  launch 1s"}},
		{"narrow", 20, 24, []string{"one", "two", "three", "    web  12s  conn…", "    db  12s  launc…"}},
		{"too narrow", 19, 24, []string{"one", "two", "three"}},
		{"low", 80, 6, []string{"one", "two", "three", "    web  12s  connect 3s", "    db  12s  launch 1s"}},
		{"too low", 80, 5, []string{"one", "two", "three"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := &screen{}
			u := New(s, Options{Width: func() (int, int) { return tt.columns, tt.rows }})
			u.Say("one")
			u.Live([]string{"    web  11s  connect 2s"})
			u.Say("two")
			u.Live([]string{"    web  12s  connect 3s", "    db  12s  launch 1s"})
			u.Say("three")
			if diff := cmp.Diff(tt.want, s.rows); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			u.Live(nil)
			if diff := cmp.Diff([]string{"one", "two", "three"}, s.rows); diff != "" {
				t.Errorf("after the end (-want +got):\n%s", diff)
			}
		})
	}
}

func TestLiveManyBuilds(t *testing.T) {
	s := &screen{}
	u := New(s, Options{Width: func() (int, int) { return 80, 9 }})
	u.Live([]string{"a", "b", "c", "d"})
	if diff := cmp.Diff([]string{"a", "b", "… and 2 more"}, s.rows); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
