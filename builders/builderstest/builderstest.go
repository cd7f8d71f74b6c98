// Package builderstest holds the promises of a builder as one suite of tests,
// to be run by each builder's own tests against a live endpoint.
package builderstest

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/crypto/ssh"

	"github.com/bakehouse-farm/bakehouse"
	"github.com/bakehouse-farm/bakehouse/builders"
)

// A Platform makes machines and images: a builder with everything.
type Platform interface {
	builders.Builder
	builders.Launcher
	builders.Capturer
}

// A Thing is something that exists on the platform.
type Thing struct{ Region, Kind, ID string }

// A Subject is what the suite is run on. All fields are required, but Limit.
type Subject struct {
	// Agent returns a builder as a new agent would have it, which knows nothing
	// of what another one has done.
	Agent func(t *testing.T) Platform
	// Settings returns settings for a build whose image is called name. They
	// should ask for at least one copy.
	Settings func(name string) map[string]any
	// Left lists what carries the tag of the build, on the whole platform, found
	// without the builder. An image and what it consists of are separate things
	// of the kinds "image" and "snapshot".
	Left func(ctx context.Context, b bakehouse.BuildID) ([]Thing, error)
	// Limit is how long one life may take; 0 means two minutes.
	Limit time.Duration
}

// Run runs the suite.
func Run(t *testing.T, s Subject) {
	if s.Limit == 0 {
		s.Limit = 2 * time.Minute
	}
	t.Run("a build makes its images and leaves nothing else", s.wholeLife)
	t.Run("resolving changes nothing", s.resolvingChangesNothing)
	t.Run("what is called again finds what was made", s.everyStepTwice)
	t.Run("two agents at once launch one machine", s.twoAgents)
	t.Run("two builds do not touch each other", s.twoBuilds)
	t.Run("waiting ends with its context", s.waitingEnds)
	for stage := range stages {
		t.Run("released after "+stages[stage].name, func(t *testing.T) { s.releasedAfter(t, stage) })
	}
}

// A life is one build and what is known of it.
type life struct {
	ctx      context.Context
	agent    Platform
	build    bakehouse.Build
	key      string
	log      *lines
	resolved builders.Resolved
	groups   []string
	machine  builders.Machine
	captured builders.Image
	copies   []builders.Image
}

// results are the images that the build is for.
func (l *life) results() []builders.Image {
	if l.resolved.Intermediate {
		return l.copies
	}
	return append([]builders.Image{l.captured}, l.copies...)
}

// stages are the steps of a build in their order. Each may be taken again.
var stages = []struct {
	name string
	do   func(*life) error
}{
	{"resolve", func(l *life) (err error) {
		l.resolved, err = l.agent.Resolve(l.ctx, l.build)
		return err
	}},
	{"key pair", func(l *life) error { return l.agent.KeyPair(l.ctx, l.build, l.resolved, l.key) }},
	{"security group", func(l *life) (err error) {
		l.groups, err = l.agent.SecurityGroup(l.ctx, l.build, l.resolved)
		return err
	}},
	{"launch", func(l *life) (err error) {
		l.machine, err = l.agent.Launch(l.ctx, l.build, l.resolved, l.groups)
		return err
	}},
	{"await", func(l *life) (err error) {
		l.machine, err = l.agent.Await(l.ctx, l.build, l.machine)
		return err
	}},
	{"stop", func(l *life) error { return l.agent.Stop(l.ctx, l.build, l.resolved, l.machine) }},
	{"capture", func(l *life) error {
		img, ok, err := l.agent.Capture(l.ctx, l.build, l.resolved, l.machine)
		if err == nil && !ok {
			err = fmt.Errorf("the settings of the suite must ask for an image")
		}
		l.captured = img
		return err
	}},
	{"await image", func(l *life) (err error) {
		l.captured, err = l.agent.AwaitImage(l.ctx, l.build, l.captured)
		return err
	}},
	{"copy", func(l *life) error {
		l.copies = nil
		for _, region := range l.resolved.CopyRegions {
			img, err := l.agent.Copy(l.ctx, l.build, l.resolved, l.captured, region)
			if err != nil {
				return err
			}
			l.copies = append(l.copies, img)
		}
		return nil
	}},
	{"await copies", func(l *life) (err error) {
		for i := range l.copies {
			if l.copies[i], err = l.agent.AwaitImage(l.ctx, l.build, l.copies[i]); err != nil {
				return err
			}
		}
		return nil
	}},
	{"finish", func(l *life) error {
		for _, img := range l.results() {
			if err := l.agent.Finish(l.ctx, l.build, l.resolved, img); err != nil {
				return err
			}
		}
		return nil
	}},
}

// begin starts a life that ends with the test, and then leaves nothing behind.
func (s Subject) begin(t *testing.T) *life {
	t.Helper()
	id := fmt.Sprintf("suite-%d", time.Now().UnixNano())
	settings, err := json.Marshal(s.Settings(id))
	if err != nil {
		t.Fatal(err)
	}
	log := &lines{}
	ctx, cancel := context.WithTimeout(bakehouse.WithLog(t.Context(), log), s.Limit)
	t.Cleanup(cancel)
	l := &life{ctx: ctx, agent: s.Agent(t), key: publicKey(t), log: log, build: bakehouse.Build{
		ID: bakehouse.BuildID(id), Name: "amazon-ebs.suite", Type: "amazon-ebs", Source: "suite",
		Submission: "suite", RunUUID: id, Started: time.Now(), ExpiresAt: time.Now().Add(time.Hour), Settings: settings,
	}}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), s.Limit)
		defer cancel()
		if err := l.agent.Release(ctx, l.build, l.resolved, builders.Holding{}); err != nil {
			t.Errorf("release at the end: %v", err)
		}
		if left, err := s.Left(ctx, l.build.ID); err != nil || len(left) > 0 {
			t.Errorf("left behind: %v, %v", left, err)
		}
		if t.Failed() {
			t.Logf("the log of build %s:\n%s", l.build.ID, strings.Join(log.said, "\n"))
		}
	})
	return l
}

// live takes the stages up to and including the last one named; all without.
func (l *life) live(t *testing.T, last string) {
	t.Helper()
	for _, st := range stages {
		if err := st.do(l); err != nil {
			t.Fatalf("%s: %v", st.name, err)
		}
		if st.name == last {
			return
		}
	}
}

func (s Subject) left(t *testing.T, l *life) []Thing {
	t.Helper()
	left, err := s.Left(l.ctx, l.build.ID)
	if err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(left, func(a, b Thing) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
	return left
}

func (s Subject) wholeLife(t *testing.T) {
	l := s.begin(t)
	l.live(t, "")
	if l.machine.ID == "" || l.machine.Host == "" {
		t.Errorf("machine = %+v, want an ID and a host", l.machine)
	}
	results := l.results()
	for range 2 { // releasing nothing is no error
		if err := l.agent.Release(l.ctx, l.build, l.resolved, builders.Holding{Keep: results}); err != nil {
			t.Fatal(err)
		}
	}
	var want []Thing
	var ids []string
	for _, img := range results {
		want = append(want, Thing{img.Region, "image", img.ID})
		ids = append(ids, img.Region+":"+img.ID)
		if len(img.Snapshots) == 0 {
			t.Errorf("image %s in %s has no snapshots", img.ID, img.Region)
		}
		for _, snap := range img.Snapshots {
			want = append(want, Thing{img.Region, "snapshot", snap})
		}
	}
	slices.SortFunc(want, func(a, b Thing) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
	if diff := cmp.Diff(want, s.left(t, l)); diff != "" {
		t.Errorf("what is left is not just the results (-want +got):\n%s", diff)
	}
	slices.Sort(ids)
	if a := l.agent.Artifact(results); a.ID != strings.Join(ids, ",") || a.BuilderID != l.agent.ID() || a.String == "" {
		t.Errorf("artifact = %+v, want id %s", a, strings.Join(ids, ","))
	}
}

func (s Subject) resolvingChangesNothing(t *testing.T) {
	l := s.begin(t)
	l.live(t, "resolve")
	if left := s.left(t, l); len(left) > 0 {
		t.Errorf("resolve made %v", left)
	}
	if l.resolved.Region == "" || len(l.resolved.Generated) == 0 {
		t.Errorf("resolved = %+v, want a region and generated values", l.resolved)
	}
	if len(l.resolved.Details) > 8<<10 {
		t.Errorf("details have %d bytes; a few KiB at most", len(l.resolved.Details))
	}
}

// everyStepTwice takes each step again with a new agent, as after a kill whose
// moment was just before the step was reported.
func (s Subject) everyStepTwice(t *testing.T) {
	l := s.begin(t)
	for _, st := range stages {
		if err := st.do(l); err != nil {
			t.Fatalf("%s: %v", st.name, err)
		}
		first, before := *l, s.left(t, l)
		l.agent = s.Agent(t)
		if err := st.do(l); err != nil {
			t.Fatalf("%s again: %v", st.name, err)
		}
		if l.machine.ID != first.machine.ID || l.machine.Host != first.machine.Host {
			t.Errorf("%s again: machine %+v, was %+v", st.name, l.machine, first.machine)
		}
		if diff := cmp.Diff(first.results(), l.results()); diff != "" {
			t.Errorf("%s again: other images (-first +again):\n%s", st.name, diff)
		}
		if diff := cmp.Diff(first.groups, l.groups); diff != "" {
			t.Errorf("%s again: other groups (-first +again):\n%s", st.name, diff)
		}
		if st.name == "capture" || st.name == "copy" {
			continue // what the images consist of appears in its own time
		}
		if diff := cmp.Diff(before, s.left(t, l)); diff != "" {
			t.Errorf("%s again changed what exists (-first +again):\n%s", st.name, diff)
		}
	}
}

func (s Subject) twoAgents(t *testing.T) {
	l := s.begin(t)
	l.live(t, "security group")
	var ids [2]string
	var wg sync.WaitGroup
	for i := range ids {
		agent := s.Agent(t)
		wg.Go(func() {
			m, err := agent.Launch(l.ctx, l.build, l.resolved, l.groups)
			if err != nil {
				t.Errorf("agent %d: %v", i, err)
			}
			ids[i] = m.ID
		})
	}
	wg.Wait()
	if ids[0] == "" || ids[0] != ids[1] {
		t.Errorf("launched %v, want one machine", ids)
	}
}

func (s Subject) twoBuilds(t *testing.T) {
	a, b := s.begin(t), s.begin(t)
	a.live(t, "await")
	b.live(t, "await")
	if a.machine.ID == b.machine.ID {
		t.Fatalf("both builds have machine %s", a.machine.ID)
	}
	before := s.left(t, b)
	if err := a.agent.Release(a.ctx, a.build, a.resolved, builders.Holding{}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, s.left(t, b)); diff != "" {
		t.Errorf("releasing one build changed the other (-before +after):\n%s", diff)
	}
	if left := s.left(t, a); len(left) > 0 {
		t.Errorf("released build left %v", left)
	}
}

func (s Subject) waitingEnds(t *testing.T) {
	l := s.begin(t)
	l.live(t, "launch")
	ctx, stop := context.WithCancelCause(l.ctx)
	stop(bakehouse.ErrStop)
	done := make(chan error, 1)
	go func() {
		_, err := l.agent.Await(ctx, l.build, l.machine)
		done <- err
	}()
	select {
	case err := <-done:
		// It may have had its answer before it looked.
		if err != nil && !strings.Contains(err.Error(), bakehouse.ErrStop.Error()) {
			t.Errorf("await on an ended context: %v, want its cause", err)
		}
	case <-time.After(20 * time.Second):
		t.Error("await does not end with its context")
	}
}

// releasedAfter ends a build at some stage, and releases it with an agent that
// knows nothing, twice: once knowing what was resolved, once not.
func (s Subject) releasedAfter(t *testing.T, stage int) {
	for _, knowing := range []bool{true, false} {
		l := s.begin(t)
		l.live(t, stages[stage].name)
		r := l.resolved
		if !knowing {
			r = builders.Resolved{}
		}
		if err := s.Agent(t).Release(l.ctx, l.build, r, builders.Holding{}); err != nil {
			t.Fatalf("release (knowing what was resolved: %t): %v", knowing, err)
		}
		if left := s.left(t, l); len(left) > 0 {
			t.Errorf("release (knowing what was resolved: %t) left %v", knowing, left)
		}
	}
}

// lines is a log.
type lines struct {
	mu   sync.Mutex
	said []string
}

func (l *lines) Say(line string)   { l.add(line) }
func (l *lines) Error(line string) { l.add(line) }

func (l *lines) add(line string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.said = append(l.said, line)
}

func publicKey(t *testing.T) string {
	t.Helper()
	pub, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ssh.NewPublicKey(pub)
	if err != nil {
		t.Fatal(err)
	}
	return string(ssh.MarshalAuthorizedKey(key))
}
