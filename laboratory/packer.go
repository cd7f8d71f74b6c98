package laboratory

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/bakehouse-farm/bakehouse/laboratory/site"
	"github.com/bakehouse-farm/bakehouse/laboratory/wire"
	"github.com/bakehouse-farm/bakehouse/localcloud"
	"github.com/bakehouse-farm/bakehouse/localcloud/faults"
)

// PackerConfig says how the same faults are tried on Packer.
type PackerConfig struct {
	// Bin is the folder with our programs; only localcloud's work counts here.
	Bin string
	// Packer is the program; empty: packer in $PATH.
	Packer string
	// Trials is how often each fault is tried; 0 means 3.
	Trials int
	Seed   uint64
	// Parallel is how many builds there are at once; 0 means 4.
	Parallel int
	Progress io.Writer
}

// A trial is a fault that is tried on Packer.
type trial struct {
	name string
	rule *faults.Rule // or
	at   Moment
	act  string // kill, freeze, cut, terminate
	// long makes images and copies take a while, so that there is a time in which
	// they are made.
	long bool
}

// trials are the faults that apply to a single process: there is no server, no
// agent and nobody to hand over to.
func trials() []trial {
	inScript := Moment{Script: 2, Line: 4}
	lost := func(name string, k faults.Kind, action string) trial {
		return trial{name: name + " of " + action, rule: &faults.Rule{Kind: k, Actions: []string{action}, Count: 1}}
	}
	return []trial{
		{name: "none"},
		{name: "kill -9 in a script", at: inScript, act: "kill"},
		{name: "kill -9 while the image is made", at: Moment{Call: "CreateImage", Nth: 1}, act: "kill", long: true},
		{name: "kill -9 while it is copied", at: Moment{Call: "CopyImage", Nth: 2}, act: "kill", long: true},
		{name: "frozen in a script for 13 s", at: inScript, act: "freeze"},
		{name: "cut from the machine for 13 s", at: inScript, act: "cut"},
		{name: "machine terminated", at: inScript, act: "terminate"},
		lost("answer lost", faults.Lost, "RunInstances"),
		lost("answer lost", faults.Lost, "CreateImage"),
		lost("answer lost", faults.Lost, "CopyImage"),
		lost("answer lost", faults.Lost, "CreateSecurityGroup"),
		lost("answer lost, 500", faults.Lost500, "RunInstances"),
		lost("answer lost, 500", faults.Lost500, "CreateImage"),
		lost("answer lost, 500", faults.Lost500, "CopyImage"),
		lost("error 500", faults.Internal, "CreateImage"),
		lost("throttled", faults.Throttle, "RunInstances"),
		{name: "credentials expired once", rule: &faults.Rule{Kind: faults.Expired, Actions: []string{"StopInstances"}, Count: 1, Code: "ExpiredToken"}},
		{name: "not seen yet", rule: &faults.Rule{Kind: faults.Unseen, Count: 4, Delay: 2 * time.Second}},
		{name: "copy fails", rule: &faults.Rule{Kind: faults.Fail, Actions: []string{"CopyImage"}, Count: 1, Delay: time.Second}},
	}
}

// RunPacker tries faults on Packer, one in each build. A build that was killed
// is begun again with the same command, as somebody would by hand.
func RunPacker(ctx context.Context, c PackerConfig) (table []Row, notes []string, err error) {
	if c.Packer == "" {
		if c.Packer, err = exec.LookPath("packer"); err != nil {
			return nil, nil, fmt.Errorf("%w (Debian: apt-get install packer)", err)
		}
	}
	if c.Trials == 0 {
		c.Trials = 3
	}
	if c.Parallel == 0 {
		c.Parallel = 4
	}
	if c.Progress == nil {
		c.Progress = io.Discard
	}
	dir, err := os.MkdirTemp("", "bakehouse-lab-")
	if err != nil {
		return nil, nil, err
	}
	defer os.RemoveAll(dir)
	s, err := site.New(ctx, site.Config{Bin: c.Bin, Dir: dir, Agents: 1, Delays: 0.02})
	defer func() { err = errors.Join(err, s.Close()) }()
	if err != nil {
		return nil, nil, err
	}
	l := &packerRun{PackerConfig: c, site: s, watch: newWatcher(s), dir: dir, rows: map[string]*Row{}}
	watching, stop := context.WithCancel(ctx)
	var all sync.WaitGroup
	all.Add(1)
	go func() {
		defer all.Done()
		l.watch.run(watching)
	}()
	slots := make(chan struct{}, c.Parallel)
	var builds sync.WaitGroup
	n := 0
	for range c.Trials {
		for _, t := range trials() {
			slots <- struct{}{}
			n++
			number := n
			builds.Add(1)
			go func() {
				defer builds.Done()
				defer func() { <-slots }()
				l.try(ctx, t, number)
			}()
		}
	}
	builds.Wait()
	stop()
	all.Wait()
	for _, t := range trials() {
		if row := l.rows[t.name]; row != nil {
			table = append(table, *row)
		}
	}
	return table, l.notes, ctx.Err()
}

type packerRun struct {
	PackerConfig
	site  *site.Site
	watch *watcher
	dir   string

	mu    sync.Mutex
	rows  map[string]*Row
	notes []string
}

// try makes one build with Packer and counts what became of it.
func (l *packerRun) try(ctx context.Context, t trial, n int) {
	r := NewRecipe(l.Seed, n, nil).Unattended()
	r.Name, r.Key, r.Faults = fmt.Sprintf("packer-%d-%d", l.Seed, n), fmt.Sprintf("AKIAPKR%dX%05d", l.Seed, n), nil
	for i := range r.Scripts { // one fault at a time
		r.Scripts[i].Reboots, r.Scripts[i].Fails = false, false
	}
	p := &packing{trial: t, program: l.Packer, baking: &baking{
		recipe: r, site: l.site, track: newTrack(r), dir: filepath.Join(l.dir, "packer", fmt.Sprint(n)),
	}}
	l.watch.add(p.track)
	row, note, err := p.run(ctx)
	l.watch.remove(p.track)
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		l.notes = append(l.notes, fmt.Sprintf("%s: could not be tried: %v", t.name, err))
		return
	}
	if row.Times == 0 {
		note = "did not happen; " + note
	}
	fmt.Fprintf(l.Progress, "packer, %s: %s\n", t.name, note)
	l.notes = append(l.notes, t.name+": "+note)
	sum := l.rows[t.name]
	if sum == nil {
		sum = &Row{Kind: t.name}
		l.rows[t.name] = sum
	}
	sum.Times += row.Times
	sum.Builds++
	sum.Lost, sum.Twice, sum.Bytes, sum.Left = sum.Lost+row.Lost, sum.Twice+row.Twice, sum.Bytes+row.Bytes, sum.Left+row.Left
}

// A packing is one build with Packer.
type packing struct {
	*baking
	trial   trial
	program string
	place   *wire.Place
	printed bytes.Buffer // by all its runs
	last    string       // by the last one
}

func (p *packing) run(ctx context.Context) (row Row, note string, err error) {
	if err := os.MkdirAll(p.dir, 0o700); err != nil {
		return row, "", err
	}
	place, endpoint, err := p.site.NewPlace()
	if err != nil {
		return row, "", err
	}
	defer place.Close()
	p.place = place
	if err := p.recipe.write(p.dir, fmt.Sprintf("  custom_endpoint_ec2 = %q\n  skip_region_validation = true\n  skip_metadata_api_check = true\n  skip_credential_validation = true\n", endpoint)); err != nil {
		return row, "", err
	}
	var rule string
	if p.trial.rule != nil {
		f := *p.trial.rule
		f.AccessKey = p.recipe.Key
		if rule, err = p.addRule(ctx, f); err != nil {
			return row, "", err
		}
	}
	if p.trial.long {
		if _, err := p.addRule(ctx, faults.Rule{Kind: faults.Linger, AccessKey: p.recipe.Key, Delay: 6 * time.Second}); err != nil {
			return row, "", err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	status, happened, err := p.once(ctx)
	if err != nil {
		return row, "", err
	}
	row.Times = happened
	if status != 0 {
		row.Lost = 1
	}
	note = fmt.Sprintf("exit status %d", status)
	if p.trial.act == "kill" && happened > 0 {
		p.trial.act = ""
		if status, _, err = p.once(ctx); err != nil {
			return row, "", err
		}
		note = fmt.Sprintf("killed; begun again: exit status %d", status)
	}
	if rule != "" {
		if hits, err := p.removeRule(ctx, rule); err == nil && hits > 0 {
			row.Times = 1
		}
	}
	if status != 0 {
		note += ", " + lastError(p.last)
	}
	left, err := p.leftovers(ctx, status == 0)
	row.Left = len(left)
	row.Twice, row.Bytes = p.ran()
	if len(left) > 0 {
		note += "; left: " + strings.Join(left, ", ")
	}
	if row.Twice > 0 {
		note += fmt.Sprintf("; %d scripts ran twice", row.Twice)
	}
	return row, note, err
}

// once runs packer to its end, or to that which the fault brings.
func (p *packing) once(ctx context.Context) (status, happened int, err error) {
	cmd := exec.CommandContext(ctx, p.program, "build", "-color=false", templateName)
	cmd.Dir = p.dir
	cmd.WaitDelay = 5 * time.Second
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + p.dir, "TMPDIR=" + p.dir, "PACKER_CONFIG_DIR=" + p.dir,
		"AWS_POLL_DELAY_SECONDS=1", "CHECKPOINT_DISABLE=1", "AWS_EC2_METADATA_DISABLED=true",
	}
	// Its plugins are processes of their own: a kill means all of them, as the end
	// of a CI runner does.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := p.place.Start(cmd); err != nil {
		return 0, 0, err
	}
	group := -cmd.Process.Pid
	done := make(chan struct{})
	struck := make(chan int, 1)
	go func() { struck <- p.strike(ctx, group, done) }()
	_ = cmd.Wait() // the exit status says it
	close(done)
	happened = <-struck
	_ = syscall.Kill(group, syscall.SIGKILL) // plugins that outlive it
	p.last = out.String()
	p.printed.Write(out.Bytes())
	return cmd.ProcessState.ExitCode(), happened, nil
}

// strike waits for the moment of the trial's fault and lets it happen.
func (p *packing) strike(ctx context.Context, group int, done <-chan struct{}) int {
	if p.trial.act == "" {
		return 0
	}
	for !p.track.reached(p.trial.at) {
		select {
		case <-done:
			return 0
		case <-time.After(20 * time.Millisecond):
		}
	}
	switch p.trial.act {
	case "kill":
		_ = syscall.Kill(group, syscall.SIGKILL) // else it has ended, and says so
	case "freeze":
		_ = syscall.Kill(group, syscall.SIGSTOP)
		time.Sleep(13 * time.Second)
		_ = syscall.Kill(group, syscall.SIGCONT)
	case "cut":
		if p.place.Set(site.ToMachines, wire.Weather{Cut: true}) != nil {
			return 0
		}
		time.Sleep(13 * time.Second)
		_ = p.place.Set(site.ToMachines, wire.Weather{})
	case "terminate":
		if _, err := p.site.Control().Break(ctx, localcloud.MachineFault{Act: localcloud.Terminate, Instances: []string{p.track.machine()}}); err != nil {
			return 0
		}
	}
	return 1
}

var madeImage = regexp.MustCompile(`(?m)^([a-z]{2}-[a-z]+-\d): (ami-[0-9a-f]+)$`)

// leftovers lists what exists and was made by the build, but the images that it
// names in the end, and their snapshots.
func (p *packing) leftovers(ctx context.Context, good bool) ([]string, error) {
	keep := map[string]bool{}
	if good {
		images, err := p.site.Control().Images(ctx)
		if err != nil {
			return nil, err
		}
		for _, m := range madeImage.FindAllStringSubmatch(p.last, -1) {
			keep[m[1]+"/"+m[2]] = true
			for _, i := range images {
				if i.Region == m[1] && i.ID == m[2] {
					for _, d := range i.Mappings {
						keep[i.Region+"/"+d.Snapshot] = true
					}
				}
			}
		}
	}
	time.Sleep(time.Second) // the record is read now and then
	list, err := p.site.Control().Census(ctx, localcloud.Search{})
	var left []string
	p.track.mu.Lock()
	created := maps.Clone(p.track.created)
	p.track.mu.Unlock()
	for _, r := range list {
		at := r.Region + "/" + r.ID
		if created[at] && !keep[at] && r.State != "terminated" {
			left = append(left, r.Kind+" "+r.ID)
		}
	}
	return left, err
}

// ran counts the scripts that ran more than once, on whatever machines, and the
// output that is in no run's log, or there more than once.
func (p *packing) ran() (twice, lost int) {
	log := readLog(p.printed.String())
	count := map[int]int{}
	p.track.mu.Lock()
	defer p.track.mu.Unlock()
	for _, id := range slices.Sorted(maps.Keys(p.track.journals)) {
		list, _ := runs(p.track.journals[id])
		for _, r := range list {
			count[r.script]++
			_, n := log.compare(r, true)
			lost += n
		}
	}
	for _, n := range count {
		twice += n - 1
	}
	return twice, lost
}

var packerError = regexp.MustCompile(`(?m)^(?:==> Some builds didn't complete.*\n)?--> .*?: (.*)$`)

func lastError(out string) string {
	m := packerError.FindAllStringSubmatch(out, -1)
	if len(m) == 0 {
		lines := strings.Split(strings.TrimSpace(out), "\n")
		return fmt.Sprintf("%.160q", lines[len(lines)-1])
	}
	return fmt.Sprintf("%.160q", m[len(m)-1][1])
}
