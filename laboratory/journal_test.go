package laboratory

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const (
	runA = "aaaaaaaa-0000-0000-0000-000000000000"
	runB = "bbbbbbbb-0000-0000-0000-000000000000"
	runC = "cccccccc-0000-0000-0000-000000000000"
)

// wrote is the journal of a run of a script.
func wrote(script int, run string, lines int, end string) []string {
	out := []string{fmt.Sprintf("begin %d %s", script, run)}
	for i := range lines {
		out = append(out, fmt.Sprintf("L %d %s %d some text", script, run, i+1))
	}
	if end != "" {
		out = append(out, fmt.Sprintf("%s %d %s", end, script, run))
	}
	return out
}

func TestJournal(t *testing.T) {
	plain := Recipe{Scripts: []Script{{Lines: 3}, {Lines: 2}}}
	retried := Recipe{Scripts: []Script{{Lines: 3, Fails: true}}}
	for _, tt := range []struct {
		name    string
		recipe  Recipe
		journal []string
		trouble string // part of what is wrong; empty: nothing is
		twice   int
	}{
		{"as it should be", plain, slices.Concat(wrote(1, runA, 3, "end"), wrote(2, runB, 2, "end")), "", 0},
		{"empty", plain, nil, "script 1 did not run in its place", 0},
		{"ran twice", plain, slices.Concat(wrote(1, runA, 3, "end"), wrote(1, runC, 3, "end"), wrote(2, runB, 2, "end")), "script 1 ran again", 1},
		{"begun twice", plain, slices.Concat(wrote(1, runA, 3, "end"), wrote(2, runB, 1, ""), wrote(2, runC, 2, "end")), "did not come to its end", 1},
		{"once more at the end", plain, slices.Concat(wrote(1, runA, 3, "end"), wrote(2, runB, 2, "end"), wrote(1, runC, 3, "end")), "after the last one", 1},
		{"not in order", plain, slices.Concat(wrote(2, runB, 2, "end"), wrote(1, runA, 3, "end")), "script 1 did not run in its place", 1},
		{"cut short", plain, slices.Concat(wrote(1, runA, 3, "end"), wrote(2, runB, 1, "")), "wrote 1 lines, not 2", 0},
		{"both at once", plain, []string{"begin 1 " + runA, "begin 2 " + runB, "L 1 " + runA + " 1 some text"}, "another script writes while one runs", 0},
		{"failed and tried again", retried, slices.Concat(wrote(1, runA, 3, "fail"), wrote(1, runB, 3, "end")), "", 0},
		{"failed and not tried again", retried, wrote(1, runA, 3, "fail"), "did not run in its place", 0},
		{"nonsense", plain, []string{"somebody was here"}, "none that a script writes", 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			trouble, twice := wholeJournal(tt.recipe, tt.journal)
			if text := strings.Join(trouble, "\n"); tt.trouble == "" && text != "" || !strings.Contains(text, tt.trouble) {
				t.Errorf("got %q, want %q", text, tt.trouble)
			}
			if twice != tt.twice {
				t.Errorf("%d ran twice, want %d", twice, tt.twice)
			}
		})
	}
}

// Scripts that run again where they have run are seen also where no image comes
// of it.
func TestOnceEach(t *testing.T) {
	b := Recipe{Scripts: []Script{{Lines: 1}, {Lines: 1, Fails: true}}}
	journal := slices.Concat(wrote(1, runA, 1, "end"), wrote(2, runB, 1, "fail"), wrote(2, runC, 1, ""))
	if trouble, twice := onceEach(b, journal); len(trouble) > 0 || twice != 0 {
		t.Errorf("%v, %d", trouble, twice)
	}
	journal = append(journal, wrote(1, "dddddddd-0000-0000-0000-000000000000", 1, "")...)
	if trouble, twice := onceEach(b, journal); len(trouble) != 1 || twice != 1 {
		t.Errorf("%v, %d", trouble, twice)
	}
}

func TestLog(t *testing.T) {
	lines := wrote(1, runA, 4, "")[1:]
	size := len(lines[0]) + 1
	show := func(lines ...string) string { return "==> x: " + strings.Join(lines, "\n==> x: ") + "\n" }
	for _, tt := range []struct {
		name  string
		log   string
		whole bool
		bytes int
	}{
		{"all of it", show(lines...), true, 0},
		{"among others", show("Creating AMI", lines[0], lines[1], "Error", lines[2], lines[3]), true, 0},
		{"none", "", true, 4 * size},
		{"one is missing", show(lines[0], lines[1], lines[3]), true, size},
		{"one is there twice", show(lines[0], lines[1], lines[1], lines[2], lines[3]), true, size},
		{"all are there twice", show(append(slices.Clone(lines), lines...)...), true, 4 * size},
		{"half a line", show(lines[0], lines[1], lines[2], lines[3][:len(lines[3])-2]), true, 2*size - 2},
		{"not in order", show(lines[1], lines[0], lines[2], lines[3]), true, 1},
		{"cut short", show(lines[0], lines[1]), false, 0},
		{"cut short, with a hole", show(lines[0], lines[2]), false, size},
	} {
		t.Run(tt.name, func(t *testing.T) {
			text, n := readLog(tt.log).compare(&ran{script: 1, run: runA, lines: lines}, tt.whole)
			if n != tt.bytes || (text == "") != (n == 0) {
				t.Errorf("%d bytes, want %d: %s", n, tt.bytes, text)
			}
		})
	}
}

// The plan follows from the seed: the same one each time, and another for
// another seed; all kinds come up.
func TestPlan(t *testing.T) {
	seen := map[string]bool{}
	for n := range 400 {
		a, b := NewRecipe(1, n, nil), NewRecipe(1, n, nil)
		if diff := cmp.Diff(a, b); diff != "" {
			t.Fatalf("build %d differs from itself: %s", n, diff)
		}
		if c := NewRecipe(2, n, nil); cmp.Equal(a.Faults, c.Faults) && len(a.Faults) > 1 {
			t.Errorf("build %d is the same for another seed", n)
		}
		for _, f := range a.Faults {
			seen[f.Kind] = true
			if f.Rule == nil && f.At.Call == "" && (f.At.Script < 1 || f.At.Script > len(a.Scripts) || f.At.Line < 1 || f.At.Line > a.Scripts[f.At.Script-1].Lines) {
				t.Errorf("build %d: %s at %s, which never comes", n, f.Kind, f.At)
			}
		}
	}
	for _, k := range kinds() {
		if k.weight > 0 && !seen[k.name] {
			t.Errorf("no build meets: %s", k.name)
		}
	}
}

// What ends a build must be among its faults, and must be what it says.
func TestJudge(t *testing.T) {
	b := Recipe{}
	met := func(kind string) []*strike { return []*strike{{Fault: Fault{Kind: kind}, sure: true}} }
	const taken = "Script disconnected unexpectedly: what supervised command 07-provision-1-shell.0 on the machine was killed; its exit status is not known"
	for _, tt := range []struct {
		name    string
		outcome string
		reason  string
		own     []*strike
		lost    bool
	}{
		{"succeeded", "succeeded", "", met(killAgent), false},
		{"its machine was taken away, and it says so of the script", "failed", taken, met(terminateMachine + ", policy fail"), true},
		{"the same, with nobody to ask", "failed", taken, []*strike{{Fault: Fault{Kind: terminateMachine + ", policy fail"}, sure: true, unseen: true}}, false},
		{"no machine taken away, with nobody to ask", "failed", taken, []*strike{{Fault: Fault{Kind: killAgent}, sure: true, unseen: true}}, true},
		{"failed for nothing", "failed", "agent is gone", met(killAgent), true},
		{"says why", "failed", "machine i-1 is gone: Server.SpotInstanceTermination", met(terminateMachine + ", policy fail"), false},
		{"says something else", "failed", "no such file", met(terminateMachine + ", policy fail"), true},
		{"says nothing", "failed", "", met(terminateMachine + ", policy fail"), true},
		{"succeeded in spite of it", "succeeded", "", met(terminateMachine + ", policy fail"), true},
		{"cancelled", "cancelled", "build was cancelled", met(cancelBuild), false},
		{"cancelled by nobody", "cancelled", "build was cancelled", nil, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := Finding{Outcome: tt.outcome, Reason: tt.reason}
			f.judge(b, tt.own)
			if f.Lost != tt.lost || f.Lost != (len(f.Trouble) > 0) {
				t.Errorf("lost %v, %v", f.Lost, f.Trouble)
			}
		})
	}
}
