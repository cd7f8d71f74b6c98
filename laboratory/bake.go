package laboratory

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/bakehouse-farm/bakehouse"
	"github.com/bakehouse-farm/bakehouse/laboratory/site"
	"github.com/bakehouse-farm/bakehouse/localcloud/faults"
)

// patience is how long a build may take before it counts as one that does not
// end. Faults that last are much shorter.
const patience = 15 * time.Minute

// A baking is one build of the plan on its way.
type baking struct {
	recipe Recipe
	site   *site.Site
	track  *track
	dir    string
	// patience is how long it may take in all.
	patience time.Duration
	rules    map[string]Fault // of the plan, by the id of their rule

	mu         sync.Mutex
	cmd        *exec.Cmd // submit, while it runs
	killed     bool      // by us
	submission string
	status     int
	output     bytes.Buffer  // of the last submit
	began      int           // how often a submission was begun, not joined
	over       chan struct{} // closed when nobody follows the build any more
	stays      []stay
	troubles   []string // that people met
}

// A verdict is what submit's exit status and its record of the build say.
type verdict struct {
	status  int
	results []bakehouse.Result
	failure string
	log     string
	shown   string // by the last submit
	overdue bool
	again   bool // the submission was begun a second time, after it had ended
}

// bake submits the build, again and again until it has ended, and lets its
// faults happen.
func (b *baking) bake(ctx context.Context, s *striker) (verdict, error) {
	if err := os.MkdirAll(b.dir, 0o700); err != nil {
		return verdict{}, err
	}
	if err := b.recipe.write(b.dir, ""); err != nil {
		return verdict{}, err
	}
	for _, f := range b.recipe.Faults {
		if f.Rule == nil {
			continue
		}
		id, err := b.addRule(ctx, *f.Rule)
		if err != nil {
			return verdict{}, err
		}
		b.rules[id] = f
	}
	lasting, over := context.WithCancel(ctx)
	var attended sync.WaitGroup
	if b.recipe.Asks || b.recipe.Breakpoint {
		attended.Go(func() { b.attend(lasting) })
	}
	var strikes sync.WaitGroup
	for _, f := range b.recipe.Faults {
		if f.Rule == nil {
			strikes.Add(1)
			go func() {
				defer strikes.Done()
				b.await(lasting, s, f)
			}()
		}
	}
	limited, cancel := context.WithTimeout(ctx, b.patience)
	defer cancel()
	b.submit(limited)
	if b.recipe.Keeps && b.status != 0 {
		b.tryAgain(limited)
	}
	close(b.over)
	b.track.mu.Lock()
	b.track.ended = time.Now()
	b.track.mark()
	b.track.mu.Unlock()
	over()
	attended.Wait()
	strikes.Wait()
	if ctx.Err() != nil {
		return verdict{}, context.Cause(ctx)
	}
	b.settle(ctx, s)
	v := verdict{status: b.status, shown: b.output.String(), overdue: limited.Err() != nil, again: b.began > 1}
	if v.overdue {
		b.giveUp(ctx)
	}
	return v, b.ask(ctx, &v)
}

// await waits for the moment of a fault and lets it happen. One that has begun
// goes on when the build ends.
func (b *baking) await(ctx context.Context, s *striker, f Fault) {
	for !b.track.reached(f.At) {
		select {
		case <-ctx.Done():
			s.skip(f.Kind, errLate)
			return
		case <-time.After(20 * time.Millisecond):
		}
	}
	s.strike(context.WithoutCancel(ctx), f, b)
}

var (
	accepted = regexp.MustCompile(`(Started|Joining) submission (\S+?),? `)
	attached = regexp.MustCompile(`Submission \S+ in pool`)
)

// submit runs submit until the build has ended or ctx ends.
func (b *baking) submit(ctx context.Context) {
	for ctx.Err() == nil {
		cmd := b.site.Command(ctx, "submit", b.command(ctx)...)
		cmd.Dir = b.dir
		notebook := b.notebook()
		out := &output{b, notebook}
		cmd.Stdout, cmd.Stderr = out, out
		b.mu.Lock()
		b.output.Reset()
		b.killed = false
		err := b.site.Start(cmd)
		b.cmd = cmd
		b.mu.Unlock()
		if err == nil {
			_ = cmd.Wait() // its exit status says it
		}
		notebook.Close()
		b.mu.Lock()
		killed, text := b.killed, b.output.String()
		b.cmd = nil
		b.mu.Unlock()
		m := accepted.FindStringSubmatch(text)
		if m != nil && m[1] == "Started" {
			b.began++
		}
		if (m != nil || attached.MatchString(text)) && !killed && cmd.ProcessState != nil && ctx.Err() == nil {
			b.status = cmd.ProcessState.ExitCode()
			return
		}
		// Killed, or the farm could not be asked: the same command once more.
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
	b.status = -1
}

// command is what submits the build, or follows it again: the same command once
// more, which joins what runs, or "attach". A build that has failed meanwhile
// would be begun anew by the former, and that is right, but not of interest.
func (b *baking) command(ctx context.Context) []string {
	b.mu.Lock()
	id := b.submission
	b.mu.Unlock()
	if id != "" {
		var shown struct {
			Status string `json:"status"`
		}
		out, err := b.site.Command(ctx, "submit", "show", "-json", id).Output()
		if b.recipe.N%2 == 0 || err == nil && json.Unmarshal(out, &shown) == nil && shown.Status != "running" {
			return []string{"attach", id}
		}
	}
	args := append([]string{"build", "-id", fmt.Sprint(b.recipe.N)}, b.recipe.flags()...)
	return append(args, templateName)
}

// An output takes what submit prints.
type output struct {
	b    *baking
	file io.Writer
}

func (o *output) Write(p []byte) (int, error) {
	o.b.mu.Lock()
	defer o.b.mu.Unlock()
	o.b.output.Write(p)
	o.file.Write(p) // for people; what is checked is in memory
	if o.b.submission == "" {
		if m := accepted.FindStringSubmatch(o.b.output.String()); m != nil {
			o.b.submission = m[2]
		}
	}
	return len(p), nil
}

// notebook opens the file with all that submit has printed.
func (b *baking) notebook() io.WriteCloser {
	file, err := os.OpenFile(filepath.Join(b.dir, "submit.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nobody{}
	}
	fmt.Fprintln(file, "----", time.Now().Format(time.TimeOnly))
	return file
}

type nobody struct{}

func (nobody) Write(p []byte) (int, error) { return len(p), nil }
func (nobody) Close() error                { return nil }

func (b *baking) killSubmit() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.cmd == nil || b.cmd.Process == nil {
		return errLate
	}
	b.killed = true
	return b.cmd.Process.Kill()
}

// cancel asks the farm to end the build, until it has heard.
func (b *baking) cancel(ctx context.Context) error {
	for range 60 {
		b.mu.Lock()
		id, runs := b.submission, b.cmd != nil
		b.mu.Unlock()
		if !runs {
			return errLate
		}
		if id != "" {
			short, done := context.WithTimeout(ctx, 20*time.Second)
			out, err := b.site.Command(short, "submit", "cancel", id).CombinedOutput()
			done()
			switch {
			case err != nil:
			case strings.Contains(string(out), "being cancelled"):
				return nil
			default:
				return errLate
			}
		}
		time.Sleep(500 * time.Millisecond)
	}
	return errors.New("the farm could not be asked")
}

// giveUp ends a build that does not end by itself.
func (b *baking) giveUp(ctx context.Context) {
	ctx, done := context.WithTimeout(ctx, 2*time.Minute)
	defer done()
	_ = b.eventually(ctx, func() error {
		_, err := b.run(ctx, "cancel", b.submission)
		return err
	})
	_ = b.site.Command(ctx, "submit", "attach", b.submission).Run() // how it ends is in its record
}

// addRule adds a rule as soon as localcloud can be asked.
func (b *baking) addRule(ctx context.Context, r faults.Rule) (id string, err error) {
	return id, b.eventually(ctx, func() error {
		added, err := b.site.Control().AddFault(ctx, r)
		if err == nil {
			id = added.ID
		}
		return err
	})
}

// removeRule removes a rule and tells how often it has struck.
func (b *baking) removeRule(ctx context.Context, id string) (hits int, err error) {
	return hits, b.eventually(ctx, func() error {
		list, err := b.site.Control().Faults(ctx)
		if err != nil {
			return err
		}
		for _, r := range list {
			if r.ID == id {
				hits = r.Hits
				return b.site.Control().RemoveFault(ctx, id)
			}
		}
		return nil
	})
}

// eventually does what localcloud or the farm may not be able to do just now.
func (b *baking) eventually(ctx context.Context, do func() error) error {
	var err error
	for range 240 {
		if err = do(); err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(500 * time.Millisecond):
		}
	}
	return err
}

// settle counts which rules of the plan have struck, and removes them.
func (b *baking) settle(ctx context.Context, s *striker) {
	for id, f := range b.rules {
		hits, err := b.removeRule(ctx, id)
		if err != nil || hits == 0 {
			s.skip(f.Kind, errors.New("nothing was asked that it could hit"))
			continue
		}
		b.track.mu.Lock()
		at := b.track.struck[id]
		b.track.mu.Unlock()
		x := &strike{Fault: f, build: b.recipe.N, hit: []*track{b.track}, sure: true, hits: hits}
		if len(at) > 0 {
			x.begun, x.ended = at[0], at[len(at)-1].Add(f.Rule.Delay)
			x.sure = !s.unheard(x.begun)
		}
		s.note(x)
	}
}

// ask asks the farm what became of the build.
func (b *baking) ask(ctx context.Context, v *verdict) error {
	if b.submission == "" {
		return errors.New("the farm never accepted it")
	}
	err := b.eventually(ctx, func() error {
		out, err := b.site.Command(ctx, "submit", "show", "-json", b.submission).Output()
		if err != nil {
			return fmt.Errorf("submit show: %w", err)
		}
		var shown struct {
			Results []bakehouse.Result `json:"results"`
			Failure string             `json:"failure"`
		}
		if err := json.Unmarshal(out, &shown); err != nil {
			return fmt.Errorf("submit show: %w", err)
		}
		v.results, v.failure = shown.Results, shown.Failure
		return nil
	})
	if err != nil {
		return err
	}
	return b.eventually(ctx, func() error {
		var errs bytes.Buffer
		cmd := b.site.Command(ctx, "submit", "logs", b.submission)
		cmd.Stderr = &errs
		out, err := cmd.Output()
		if err != nil {
			return fmt.Errorf("submit logs: %w: %s", err, errs.Bytes())
		}
		v.log = string(out)
		return os.WriteFile(filepath.Join(b.dir, "build.log"), out, 0o600)
	})
}
