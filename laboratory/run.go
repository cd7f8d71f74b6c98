package laboratory

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/bakehouse-farm/bakehouse"
	"github.com/bakehouse-farm/bakehouse/laboratory/site"
	"github.com/bakehouse-farm/bakehouse/localcloud"
)

// Config says what a run of the laboratory is.
type Config struct {
	// Bin is the folder with our programs. Required.
	Bin string
	// Agent is the path of the agent; empty: Bin/agent. Next is that of another
	// version of it, for upgrades; empty: agents are only started anew.
	Agent, Next string
	// Dir is where everything is kept; empty: a new temporary folder, which is
	// removed when all is as it should be and no build stood still for long.
	Dir string
	// Faults is how many are injected. Builds are begun until then.
	Faults int
	Seed   uint64
	// Parallel is how many builds there are at once; 0 means 6.
	Parallel int
	// Kinds are the kinds of faults; nil means all.
	Kinds []string
	// First is the number of the first build, to begin within a plan; 0 is 1.
	First int
	// Builds is the most builds that are begun; 0 does not limit them.
	Builds int
	// Patience is how long a build may take, its scripts aside, before it counts
	// as one that does not end; 0 means 15 minutes.
	Patience time.Duration
	// Recipe replaces the plan; nil: the plan.
	Recipe func(n int) Recipe
	// Progress is told what happens; nil: nobody.
	Progress io.Writer
}

// Run runs the laboratory until so many faults were injected and all builds
// have ended, or until ctx is cancelled: then builds that run are left out. An error means that it could not be run, not that it found
// something: Report says that.
func Run(ctx context.Context, c Config) (report Report, err error) {
	if c.Parallel == 0 {
		c.Parallel = 6
	}
	if c.Patience == 0 {
		c.Patience = patience
	}
	if c.Progress == nil {
		c.Progress = io.Discard
	}
	temporary := c.Dir == ""
	if temporary {
		if c.Dir, err = os.MkdirTemp("", "bakehouse-lab-"); err != nil {
			return report, err
		}
	}
	defer func() {
		if temporary && err == nil && report.Good() && report.Longest.Took < worthKeeping {
			err = os.RemoveAll(c.Dir)
			return
		}
		fmt.Fprintln(c.Progress, "everything is kept in", c.Dir)
	}()
	started := time.Now()
	s, err := site.New(ctx, site.Config{Bin: c.Bin, Agent: c.Agent, Next: c.Next, Dir: c.Dir, Delays: 0.02})
	defer func() { err = errors.Join(err, s.Close()) }()
	if err != nil {
		return report, err
	}
	l := &run{Config: c, site: s, watch: newWatcher(s)}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	l.striker = newStriker(s, l.watch, func(err error) { cancel(fmt.Errorf("%w\n%s", err, s.Logs())) })
	watching, stop := context.WithCancel(ctx)
	var watched sync.WaitGroup
	watched.Add(1)
	go func() {
		defer watched.Done()
		l.watch.run(watching)
	}()
	err = l.builds(ctx)
	stop()
	watched.Wait()
	interrupted := errors.Is(err, context.Canceled)
	if err != nil && !interrupted {
		return report, err
	}
	report = Report{Interrupted: interrupted, Seed: c.Seed, Faults: l.striker.count(), Findings: l.findings, Skipped: l.striker.skipped, Took: time.Since(started)}
	slices.SortFunc(report.Findings, func(a, b Finding) int { return a.Number - b.Number })
	report.Rows, report.Quiet, report.Longest = rows(l.striker.strikes, l.findings, l.tracks, l.striker.skipped)
	if interrupted {
		return report, nil // what was found until then is worth knowing
	}
	if report.Orphans, err = orphans(ctx, s); err != nil {
		return report, err
	}
	swept, err := s.Command(ctx, "submit", sweepAsks("-json")...).Output()
	if err != nil {
		return report, fmt.Errorf("sweep in the end: %w", err)
	}
	left, err := lost(string(swept))
	if err != nil {
		return report, err
	}
	for _, line := range left {
		report.Orphans = append(report.Orphans, "found by a sweep: "+line)
	}
	return report, l.boot(ctx, report.Findings)
}

// A run is the laboratory at work.
type run struct {
	Config
	site    *site.Site
	watch   *watcher
	striker *striker

	mu       sync.Mutex
	findings []Finding
	tracks   []*track
}

// builds begins builds until enough faults were injected.
func (l *run) builds(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	slots := make(chan struct{}, l.Parallel)
	var all sync.WaitGroup
	n := max(l.First, 1)
	for begun := 0; l.striker.count() < l.Faults && (l.Builds == 0 || begun < l.Builds) && ctx.Err() == nil; begun++ {
		slots <- struct{}{}
		if l.striker.count() >= l.Faults {
			break
		}
		recipe := l.recipe(n)
		n++
		all.Add(1)
		go func() {
			defer all.Done()
			defer func() { <-slots }()
			if err := l.build(ctx, recipe); err != nil {
				cancel(fmt.Errorf("build %d: %w", recipe.N, err))
			}
		}()
	}
	all.Wait()
	return context.Cause(ctx)
}

func (l *run) recipe(n int) Recipe {
	if l.Recipe != nil {
		return l.Recipe(n)
	}
	return NewRecipe(l.Seed, n, l.Kinds)
}

// build makes one build and says what was found.
func (l *run) build(ctx context.Context, r Recipe) error {
	b := &baking{
		recipe: r, site: l.site, track: newTrack(r), rules: map[string]Fault{}, over: make(chan struct{}), patience: l.Patience + r.length(),
		dir: filepath.Join(l.Dir, "builds", fmt.Sprint(r.N)),
	}
	b.track.marks = []time.Time{time.Now()}
	begun := time.Now()
	l.watch.add(b.track)
	v, err := b.bake(ctx, l.striker)
	l.watch.remove(b.track)
	if err != nil {
		return err
	}
	l.striker.rebooted(b)
	own := l.striker.of(r.N)
	f, err := b.check(ctx, v, own)
	if err != nil {
		return err
	}
	f.Took = time.Since(begun)
	for _, x := range own {
		f.Kinds = append(f.Kinds, x.Kind)
	}
	if v.again {
		f.add("its submission was begun %d times", b.began)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.findings = append(l.findings, f)
	l.tracks = append(l.tracks, b.track)
	fmt.Fprintf(l.Progress, "%4d faults  build %d %s after %s", l.striker.count(), r.N, f.Outcome, f.Took.Round(time.Second))
	if f.Outcome != "succeeded" {
		fmt.Fprintf(l.Progress, " (%.120s)", f.Reason)
	}
	fmt.Fprintln(l.Progress)
	for _, t := range f.Trouble {
		fmt.Fprintln(l.Progress, "      TROUBLE:", t)
	}
	return nil
}

// boots is how many images are booted in the end.
const boots = 4

// boot launches machines from some of the images, each time in another region,
// and reads the journal inside, as who uses the image would find it.
func (l *run) boot(ctx context.Context, findings []Finding) error {
	n := 0
	for i := range findings {
		f := &findings[i]
		if len(f.images) == 0 || n == boots {
			continue
		}
		img := f.images[n%len(f.images)]
		n++
		out, err := l.site.Command(ctx, "localcloud", "run", "-endpoint", l.site.Endpoint(), "-region", img.region, img.id, "--", "cat", "lab/journal").Output()
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err != nil {
			f.add("its image %s in %s does not boot: %v", img.id, img.region, err)
			continue
		}
		trouble, twice := wholeJournal(l.recipe(f.Number), strings.Split(strings.TrimSpace(string(out)), "\n"))
		for _, t := range trouble {
			f.add("booted in %s: %s", img.region, t)
		}
		f.Twice += twice
	}
	return nil
}

// orphans lists what is in any region and belongs to no build.
func orphans(ctx context.Context, s *site.Site) ([]string, error) {
	list, err := s.Control().Census(ctx, localcloud.Search{})
	var out []string
	for _, r := range list {
		if r.Tags[bakehouse.TagSource] != "" || r.State == "terminated" {
			continue // its build's check has seen it
		}
		out = append(out, fmt.Sprintf("%s %s %s in %s (%s)%s", r.Kind, r.ID, r.Name, r.Region, r.State, past(r)))
	}
	return out, err
}
