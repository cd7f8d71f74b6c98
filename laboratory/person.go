package laboratory

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/bakehouse-farm/bakehouse"
)

// A person looks after a build that may wait for one.
type person struct {
	b *baking
	// tried is how often each step was tried again.
	tried map[string]int
}

// attend decides for the build whenever it waits, until ctx ends.
func (b *baking) attend(ctx context.Context) {
	p := &person{b: b, tried: map[string]int{}}
	seen, looked := 0, time.Now()
	for ctx.Err() == nil {
		b.mu.Lock()
		id, waits := b.submission, strings.Count(b.output.String(), "Decide with: submit resolve")
		b.mu.Unlock()
		// What submit prints may be late: sometimes one looks without having been called.
		if id != "" && (waits != seen || time.Since(looked) > 10*time.Second) {
			seen, looked = waits, time.Now()
			if p.look(ctx, id) {
				seen = -1 // until it is known that the build goes on
			}
		}
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
}

var waiting = regexp.MustCompile(`waits at (\S+) \((\w+)\)`)

// look asks how the build is, and decides. It tells whether the build waited.
func (p *person) look(ctx context.Context, id string) bool {
	out, err := p.b.run(ctx, "resolve", id)
	m := waiting.FindStringSubmatch(out)
	if err != nil || m == nil {
		return false
	}
	step, why := m[1], m[2]
	switch why {
	case "paused":
		return true // who has paused it lets it go on
	case "failed":
		if p.b.recipe.Keeps {
			return false // tryAgain decides for what was kept
		}
		_, err = p.b.run(ctx, "resolve", id, p.decide(step, out))
	default:
		_, err = p.b.run(ctx, "resume", id)
	}
	_ = err // it waits still, or not: the next look tells
	return true
}

// decide says what to do about a step that failed. A script that fails as
// planned, and a step that can simply be done again, are tried again; a script
// that fails for another reason may have done half its work.
func (p *person) decide(step, text string) string {
	again := !strings.HasPrefix(step, "provision") || // an image, a copy
		!strings.Contains(text, "skip") || // its machine is gone: everything begins anew
		p.b.track.failed()
	if p.tried[step]++; again && p.tried[step] <= 3 {
		return string(bakehouse.Retry)
	}
	return string(bakehouse.Cleanup)
}

// failed tells whether the last thing that a machine wrote down is that its
// script fails, as planned.
func (t *track) failed() bool {
	lines := t.journal(t.machine())
	if len(lines) == 0 {
		return false
	}
	e, _ := parse(lines[len(lines)-1])
	return e.word == "fail"
}

// run runs a command of submit as somebody else than the submitter, and
// returns what it said.
func (b *baking) run(ctx context.Context, args ...string) (string, error) {
	ctx, done := context.WithTimeout(ctx, 2*time.Minute)
	defer done()
	out, err := b.site.Command(ctx, "submit", args...).CombinedOutput()
	return string(out), err
}

// pause parks the build for a while before its next step.
func (b *baking) pause(ctx context.Context, length time.Duration) error {
	id := b.name()
	out, err := b.run(ctx, "pause", id)
	for ; err != nil; out, err = b.run(ctx, "pause", id) {
		if strings.Contains(out, "finished") || strings.Contains(out, "ended") || !b.runs() {
			return errLate
		}
		time.Sleep(time.Second)
	}
	time.Sleep(length)
	for {
		out, err := b.run(ctx, "resume", id)
		if err == nil || strings.Contains(out, "not waiting") || !b.runs() {
			return nil
		}
		time.Sleep(time.Second) // it waits for something else, or nobody answers
	}
}

// name is the ID of the submission, once there is one.
func (b *baking) name() string {
	for {
		b.mu.Lock()
		id, runs := b.submission, b.cmd != nil
		b.mu.Unlock()
		if id != "" || !runs {
			return id
		}
		time.Sleep(200 * time.Millisecond)
	}
}

// runs tells whether the build is still being followed.
func (b *baking) runs() bool {
	select {
	case <-b.over:
		return false
	default:
		return true
	}
}

// A stay is a command that somebody runs on the machine of a build.
type stay struct {
	token   string
	machine string
	whole   bool // it ended well
}

// lines is how many a stay prints.
const lines = 30

// visit runs a command on the machine that notes that it was there, and checks
// what it says.
func (b *baking) visit(ctx context.Context) error {
	id, machine := b.name(), b.track.machine()
	v := stay{token: fmt.Sprintf("visit-%d-%d", b.recipe.N, time.Now().UnixNano()), machine: machine}
	line := fmt.Sprintf(`mkdir -p lab; echo %[1]s >> lab/visits; i=0; while [ $i -lt %[2]d ]; do i=$((i+1)); echo %[1]s line $i; sleep 0.05; done`, v.token, lines)
	var out, errs bytes.Buffer
	limited, done := context.WithTimeout(ctx, 5*time.Minute)
	defer done()
	cmd := b.site.Command(limited, "submit", "exec", id, "--", line)
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	v.whole = err == nil
	if v.whole {
		if trouble := v.compare(out.String()); trouble != "" {
			b.trouble("exec printed: " + trouble)
		}
	} else if out.Len() == 0 && !b.excused(machine, errs.String()) {
		b.trouble(fmt.Sprintf("exec: %v: %s", err, strings.TrimSpace(errs.String())))
	}
	b.mu.Lock()
	b.stays = append(b.stays, v)
	b.mu.Unlock()
	if !v.whole && out.Len() == 0 {
		return errors.New("nobody was let in, and the reason was good")
	}
	return nil
}

// excused tells whether a visitor was sent away for a good reason.
func (b *baking) excused(machine, text string) bool {
	for _, reason := range []string{"finished", "ended", "cannot be reached yet", "cancel", "no Temporal server answers"} {
		if strings.Contains(text, reason) {
			return true
		}
	}
	own := func(f Fault) bool {
		return slices.Contains([]string{terminateMachine, terminateMachine + ", policy fail", failHost, rebootMachine, fillMachine, cancelBuild}, f.Kind)
	}
	return !b.runs() || b.track.machine() != machine || b.recipe.reboots() || slices.ContainsFunc(b.recipe.Faults, own)
}

// compare says how what was printed differs from what the command writes.
func (v stay) compare(text string) string {
	var got []string
	for line := range strings.Lines(text) {
		if i := strings.Index(line, v.token+" line "); i >= 0 {
			got = append(got, strings.TrimSpace(line[i:]))
		}
	}
	var want []string
	for i := range lines {
		want = append(want, fmt.Sprintf("%s line %d", v.token, i+1))
	}
	if !slices.Equal(got, want) {
		return fmt.Sprintf("%d lines of %d, or not in their order: %.300q", len(got), len(want), got)
	}
	return ""
}

// checkStays checks that each command was run once at most, and that the log of
// the build has what it printed.
func (b *baking) checkStays(f *Finding, log string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f.Trouble = append(f.Trouble, b.troubles...)
	for _, v := range b.stays {
		if n := strings.Count(strings.Join(b.track.visits(v.machine), "\n")+"\n", v.token+"\n"); n > 1 {
			f.Twice += n - 1
			f.add("exec: the command ran %d times", n)
		}
		if v.whole {
			if trouble := v.compare(log); trouble != "" {
				f.add("log of exec: %s", trouble)
			}
		}
	}
}

func (b *baking) trouble(text string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.troubles = append(b.troubles, text)
}

// sweep lets somebody sweep all regions while builds run. It must find nothing
// to remove: what it removed would be missed by who checks what is left.
func (b *baking) sweep(ctx context.Context) error {
	var out string
	var err error
	for range 20 {
		if out, err = b.run(ctx, sweepAsks("-json")...); err == nil {
			break
		}
		time.Sleep(3 * time.Second)
	}
	if err != nil {
		b.trouble("sweep: " + strings.TrimSpace(out))
		return nil
	}
	list, err := lost(out)
	if err != nil {
		return err
	}
	for _, line := range list {
		b.trouble("sweep found " + line)
	}
	return nil
}

func sweepAsks(more string) []string {
	return []string{"sweep", more, "-region", strings.Join(append([]string{home}, copies...), ",")}
}

// lost reads what a sweep says that no living build owns.
func lost(text string) (lines []string, err error) {
	var found []struct {
		Build, Region, Kind, ID, Fate string
		Lost                          bool
	}
	if err := json.Unmarshal([]byte(text[max(0, strings.Index(text, "[")):]), &found); err != nil {
		return nil, fmt.Errorf("sweep said %.200q: %w", text, err)
	}
	for _, o := range found {
		if o.Lost {
			lines = append(lines, fmt.Sprintf("%s %s of build %s in %s (%s)", o.Kind, o.ID, o.Build, o.Region, o.Fate))
		}
	}
	return lines, nil
}

// tryAgain does again what has failed late, once the submission has ended. What
// then fails again is given back.
func (b *baking) tryAgain(ctx context.Context) {
	b.mu.Lock()
	kept := again.FindStringSubmatch(b.output.String())
	b.mu.Unlock()
	if kept == nil {
		return
	}
	for tries, limit := 0, time.Now().Add(b.patience); tries < 3 && time.Now().Before(limit); {
		limited, done := context.WithDeadline(ctx, limit)
		var said bytes.Buffer
		notebook := b.notebook()
		cmd := b.site.Command(limited, "submit", "retry", kept[1])
		cmd.Dir = b.dir
		cmd.Stdout = io.MultiWriter(&output{b, notebook}, &said)
		cmd.Stderr = cmd.Stdout
		err := b.site.Start(cmd)
		if err == nil {
			err = cmd.Wait()
		}
		notebook.Close()
		done()
		if err == nil {
			b.status = 0
			return
		}
		if strings.Contains(said.String(), "build has ended") {
			return // an earlier try was heard, although nobody was told; what became of it is in its record
		}
		if strings.Contains(said.String(), "Retrying build") {
			tries++
		}
		time.Sleep(2 * time.Second)
	}
	_ = b.eventually(ctx, func() error {
		_, err := b.run(ctx, "cancel", kept[1])
		return err
	})
}

var again = regexp.MustCompile(`submit retry (\S+)`)
