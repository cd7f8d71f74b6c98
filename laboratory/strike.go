package laboratory

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/bakehouse-farm/bakehouse/laboratory/site"
	"github.com/bakehouse-farm/bakehouse/laboratory/wire"
	"github.com/bakehouse-farm/bakehouse/localcloud"
	"github.com/bakehouse-farm/bakehouse/localcloud/control"
	"github.com/bakehouse-farm/bakehouse/localcloud/faults"
	"github.com/bakehouse-farm/bakehouse/localcloud/sandbox/line"
	"github.com/bakehouse-farm/bakehouse/localcloud/state"
)

// A strike is a fault that has happened.
type strike struct {
	Fault
	build int // whose fault it is
	// begun and ended bound the time in which the fault lasted.
	begun, ended time.Time
	hit          []*track // the builds that ran meanwhile and that it concerns
	sure         bool     // it came while a script ran, or its answer was heard
	hits         int      // of a rule: how often it struck
	unseen       bool     // nobody could ask localcloud when it came
}

// inForce tells whether the fault was in force between two times. It is for a
// while after its end, too, when what it has done is not over with it.
func (x *strike) inForce(from, to time.Time, after time.Duration) bool {
	return x.begun.Before(to) && x.ended.Add(after).After(from)
}

// What keeps a planned fault from happening.
var (
	errLate = errors.New("the build had ended before")
	errBusy = errors.New("its victim already had another fault")
)

// A striker makes faults happen.
type striker struct {
	site  *site.Site
	watch *watcher
	next  bool // agents alternate between two versions
	fatal func(error)

	mu      sync.Mutex
	strikes []*strike
	skipped map[string]map[string]int // faults that did not happen, by kind and why
}

func newStriker(s *site.Site, w *watcher, fatal func(error)) *striker {
	return &striker{site: s, watch: w, fatal: fatal, next: s.Next != "", skipped: map[string]map[string]int{}}
}

// count returns how many faults have happened.
func (s *striker) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.strikes)
}

func (s *striker) note(x *strike) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.strikes = append(s.strikes, x)
}

func (s *striker) skip(kind string, why error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.skipped[kind] == nil {
		s.skipped[kind] = map[string]int{}
	}
	s.skipped[kind][why.Error()]++
}

// withoutCloud tells whether an agent may not have been able to ask localcloud
// for the build in the seconds after at, in which it looks for the reason of
// what has happened. s.mu is held.
func (s *striker) withoutCloud(at time.Time, build int) bool {
	const look = 5 * time.Second
	return slices.ContainsFunc(s.strikes, func(x *strike) bool {
		away := x.Kind == killCloud || x.Cable == site.ToCloud || x.build == build && (x.Kind == expiredKeys || x.Kind == stormed)
		return away && x.inForce(at, at.Add(look), heard)
	})
}

// heard is how long an answer may be on its way from localcloud, by an agent, to
// the server's database, on machines as busy as these.
const heard = 2 * time.Second

// unheard tells whether an answer of that time may have reached nobody, because
// somebody on its way was struck: then it is asked for again, and what comes of
// that counts.
func (s *striker) unheard(at time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(s.strikes, func(x *strike) bool {
		return kindNamed(x.Kind).all && x.inForce(at, at.Add(heard), heard)
	})
}

// of returns the faults that have happened to a build of its own plan.
func (s *striker) of(build int) []*strike {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []*strike
	for _, x := range s.strikes {
		if x.build == build {
			x.unseen = s.withoutCloud(x.begun, build)
			list = append(list, x)
		}
	}
	return list
}

// strike makes a fault happen, now, and ends it when its time has passed.
func (s *striker) strike(ctx context.Context, f Fault, b *baking) {
	x := &strike{Fault: f, build: b.recipe.N, begun: time.Now(), hit: []*track{b.track}}
	if kindNamed(f.Kind).all {
		x.hit = s.watch.running()
	}
	err := s.act(ctx, f, b, x)
	x.ended = time.Now()
	if err != nil {
		s.skip(f.Kind, err)
		return
	}
	s.note(x)
}

func (s *striker) act(ctx context.Context, f Fault, b *baking, x *strike) error {
	agent := s.site.Agents[f.Agent%len(s.site.Agents)]
	switch f.Kind {
	case killServer, serverAway:
		return s.kill(ctx, s.site.Server, f.For)
	case killCloud:
		return s.kill(ctx, s.site.Cloud, f.For)
	case killAgent:
		return s.kill(ctx, agent.Program, f.For)
	case killSubmit:
		return b.killSubmit()
	case freezeAgent:
		return s.freeze(ctx, agent.Program, f.For)
	case freezeServer:
		return s.freeze(ctx, s.site.Server, f.For)
	case upgradeAgent:
		return s.upgrade(ctx, agent, f.For)
	case fillAgent:
		return s.fill(ctx, agent, f.For)
	case cutServer, cutCloud, cutMachines:
		return s.weather(ctx, agent, f.Cable, wire.Weather{Cut: true}, f.For)
	case slowNetwork:
		return s.weather(ctx, agent, f.Cable, wire.Weather{Rate: 24 << 10}, f.For)
	case lossyNetwork:
		return s.weather(ctx, agent, f.Cable, wire.Weather{Loss: 20}, f.For)
	case delayedNetwork:
		return s.weather(ctx, agent, f.Cable, wire.Weather{Delay: 400 * time.Millisecond, Jitter: 100 * time.Millisecond}, f.For)
	case terminateMachine, terminateMachine + ", policy fail":
		return s.machine(b, x, localcloud.Terminate, "")
	case failHost:
		return s.machine(b, x, localcloud.FailHost, "")
	case rebootMachine:
		return s.machine(b, x, localcloud.HardReboot, "")
	case freezeMachine:
		return s.machine(b, x, localcloud.Freeze, localcloud.Thaw)
	case pauseLogin:
		return s.machine(b, x, localcloud.PauseSSHD, localcloud.ResumeSSHD)
	case cutMachine:
		return s.machine(b, x, localcloud.Cut, localcloud.Mend)
	case fillMachine:
		return s.machine(b, x, localcloud.Fill, localcloud.Free)
	case expiredKeys:
		return s.rule(ctx, b, faults.Rule{Kind: faults.Expired, Code: "ExpiredToken"}, f.For)
	case stormed:
		return s.rule(ctx, b, faults.Rule{Kind: faults.Throttle, Probability: 0.8, Seed: uint64(b.recipe.N)}, f.For)
	case cancelBuild:
		return b.cancel(ctx)
	case pauseBuild:
		return b.pause(ctx, f.For)
	case visitMachine:
		return b.visit(ctx)
	case sweepAll:
		return b.sweep(ctx)
	}
	return fmt.Errorf("nobody knows how to make it happen")
}

// take reserves a program, waiting a while for its last fault to end.
func take(ctx context.Context, p *site.Program) error {
	for limit := time.Now().Add(10 * time.Second); !p.Take(); {
		if time.Now().After(limit) || ctx.Err() != nil {
			return errBusy
		}
		time.Sleep(100 * time.Millisecond)
	}
	return nil
}

func (s *striker) kill(ctx context.Context, p *site.Program, away time.Duration) error {
	if err := take(ctx, p); err != nil {
		return err
	}
	defer p.Release()
	if err := p.Kill(); err != nil {
		return err
	}
	time.Sleep(away)
	return s.again(p)
}

// again starts a program until it runs, as what supervises it would: something
// else may hit it just then. One that cannot be started ends the run: nothing
// that follows would mean anything.
func (s *striker) again(p *site.Program) error {
	var err error
	for limit := time.Now().Add(3 * time.Minute); time.Now().Before(limit); time.Sleep(time.Second) {
		if err = p.Start(context.Background()); err == nil {
			return nil
		}
		_ = p.Kill() // it may hang
	}
	s.fatal(err)
	return err
}

func (s *striker) freeze(ctx context.Context, p *site.Program, length time.Duration) error {
	if err := take(ctx, p); err != nil {
		return err
	}
	defer p.Release()
	if err := p.Signal(syscall.SIGSTOP); err != nil {
		return err
	}
	time.Sleep(length)
	return p.Signal(syscall.SIGCONT)
}

// upgrade lets an agent drain, and starts one of the other version.
func (s *striker) upgrade(ctx context.Context, a *site.Agent, away time.Duration) error {
	if err := take(ctx, a.Program); err != nil {
		return err
	}
	defer a.Release()
	if err := a.Stop(); err != nil {
		return err
	}
	if s.next {
		if a.Path == s.site.Next {
			a.Path = s.site.Agent
		} else {
			a.Path = s.site.Next
		}
	}
	time.Sleep(away)
	return s.again(a.Program)
}

// fill leaves no room on the disk of an agent.
func (s *striker) fill(ctx context.Context, a *site.Agent, length time.Duration) error {
	if err := take(ctx, a.Program); err != nil {
		return err
	}
	defer a.Release()
	name := filepath.Join(a.Disk, "ballast")
	defer os.Remove(name)
	file, err := os.Create(name)
	if err != nil {
		return err
	}
	defer file.Close()
	for end := time.Now().Add(length); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		// What is freed meanwhile is taken, too.
		if _, err := io.Copy(file, zeros{}); !errors.Is(err, syscall.ENOSPC) {
			return fmt.Errorf("fill the disk: %w", err)
		}
	}
	return nil
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

func (s *striker) weather(ctx context.Context, a *site.Agent, cable string, w wire.Weather, length time.Duration) error {
	if err := take(ctx, a.Program); err != nil {
		return err
	}
	defer a.Release()
	if err := a.Place.Set(cable, w); err != nil {
		_ = a.Place.Set(cable, wire.Weather{}) // one end may have it
		if errors.Is(err, line.ErrMissing) {
			return line.ErrMissing
		}
		return err
	}
	time.Sleep(length)
	return a.Place.Set(cable, wire.Weather{})
}

// machine does something to a build's machine, and takes it back if it can be.
func (s *striker) machine(b *baking, x *strike, act, back localcloud.Act) error {
	id := b.track.machine()
	if id == "" {
		return errors.New("there was no machine")
	}
	asked := time.Now()
	f := localcloud.MachineFault{Act: act, Instances: []string{id}}
	if act == localcloud.FailHost && x.Agent == 1 { // as good a lot as any
		f.To = state.Stopped
	}
	if err := s.breaks(f); err != nil {
		return errors.New("the machine was not to be had")
	}
	script, _ := at(b.track.journal(id))
	// The last line of a script may have been its last act.
	x.sure = time.Since(asked) < 300*time.Millisecond && script > 0 && script <= len(b.recipe.Scripts) && !b.track.over(id)
	if back == "" {
		return nil
	}
	time.Sleep(x.For)
	var refused control.Refusal // the machine may have gone
	if err := s.breaks(localcloud.MachineFault{Act: back, Instances: []string{id}}); err != nil && !errors.As(err, &refused) {
		return fmt.Errorf("it could not be taken back: %w", err)
	}
	return nil
}

// breaks does something to a machine as soon as localcloud can be asked. What it
// refuses for some seconds it will not do later either.
func (s *striker) breaks(f localcloud.MachineFault) error {
	refusals := 0
	for begun := time.Now(); ; time.Sleep(250 * time.Millisecond) {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		_, err := s.site.Control().Break(ctx, f)
		cancel()
		var refused control.Refusal
		if errors.As(err, &refused) {
			refusals++
		}
		if err == nil || refusals == 20 || time.Since(begun) > 2*time.Minute {
			return err
		}
	}
}

// rule lets localcloud answer a build wrongly for a while.
func (s *striker) rule(ctx context.Context, b *baking, r faults.Rule, length time.Duration) error {
	r.AccessKey, r.Until = b.recipe.Key, time.Now().Add(length)
	added, err := b.addRule(ctx, r)
	if err != nil {
		return err
	}
	time.Sleep(time.Until(r.Until))
	if hits, err := b.removeRule(context.WithoutCancel(ctx), added); err != nil || hits == 0 {
		return errors.New("nothing was asked meanwhile")
	}
	return nil
}

// rebooted counts the reboots that scripts of the build have made.
func (s *striker) rebooted(b *baking) {
	for i, script := range b.recipe.Scripts {
		if script.Reboots && b.track.reached(Moment{Script: i + 2}) {
			s.note(&strike{Fault: Fault{Kind: rebootInside}, build: b.recipe.N, hit: []*track{b.track}})
		}
	}
}

// journal returns the journal of a machine as last seen.
func (t *track) journal(machine string) []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.journals[machine]
}

// over tells whether the last script has come to its end on a machine.
func (t *track) over(machine string) bool {
	lines := t.journal(machine)
	if len(lines) == 0 {
		return false
	}
	e, _ := parse(lines[len(lines)-1])
	return e.word == "end" && e.script == len(t.recipe.Scripts)
}
