package workflows_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/workflow"

	"github.com/bakehouse-farm/bakehouse"
	"github.com/bakehouse-farm/bakehouse/workflows"
)

const loaf = `
source "oven" "bread" {
  ssh_username = "baker"
  regions      = ["east"]
}
build {
  sources = ["source.oven.bread"]
  provisioner "script" { script = "knead" }
  provisioner "script" {
    name   = "rise"
    script = "prove"
  }
  provisioner "script" { script = "decorate" }
  error-cleanup-provisioner "script" { script = "scrape" }
  post-processor "note" { keep = true }
}
`

// answer collects what an update was answered.
type answer struct {
	rejected, failed error
	value            any
}

func (a *answer) Accept()          {}
func (a *answer) Reject(err error) { a.rejected = err }
func (a *answer) Complete(v any, err error) {
	a.value, a.failed = v, err
}

// people decide about the one build of a bakery: each time that it parks, the
// next of the decisions is made, a minute later.
type people struct {
	b         *bakery
	build     string
	decisions []bakehouse.Decision
	waited    []string // what the build waited for
	answers   []*answer
}

func (b *bakery) ask(t *testing.T, decisions ...bakehouse.Decision) *people {
	t.Helper()
	p := &people{b: b, decisions: decisions}
	b.env.SetOnChildWorkflowStartedListener(func(info *workflow.Info, _ workflow.Context, _ converter.EncodedValues) {
		p.build = info.WorkflowExecution.ID
		p.look(t)
	})
	return p
}

// look asks every minute how the build is.
func (p *people) look(t *testing.T) {
	p.b.env.RegisterDelayedCallback(func() {
		raw, err := p.b.env.QueryWorkflowByID(p.build, workflows.AskStatus)
		if err != nil {
			return // it has ended
		}
		var s bakehouse.Status
		if err := raw.Get(&s); err != nil {
			t.Error(err)
			return
		}
		if s.Parked != nil && len(p.decisions) > 0 {
			p.waited = append(p.waited, s.Parked.Why+" "+s.Parked.Step)
			d := p.decisions[0]
			p.decisions = p.decisions[1:]
			a := &answer{}
			if err := p.b.env.UpdateWorkflowByID(p.build, workflows.AskResolve, fmt.Sprint("decision-", len(p.waited)), a, d); err != nil {
				t.Error(err)
			}
			p.answers = append(p.answers, a)
		}
		p.look(t)
	}, time.Minute)
}

func decide(a bakehouse.Action) bakehouse.Decision { return bakehouse.Decision{Action: a} }

// A failed build that asks does what it is told, and holds on to what it has
// until then.
func TestDecisions(t *testing.T) {
	no := bakehouse.Errorf(bakehouse.Script, "no")
	broken := bakehouse.Errorf(bakehouse.Failed, "image failed")
	tests := []struct {
		name      string
		policy    bakehouse.Policy
		before    func(string) error
		decisions []bakehouse.Decision
		waited    []string
		rejected  string
		want      string
		cancelled bool
		scripts   string // that the image holds, or that ran when there is none
		left      bool
	}{
		{
			name: "retry", before: on("script prove", 1, no), decisions: []bakehouse.Decision{decide(bakehouse.Retry)},
			waited: []string{"failed provision-2-script"}, scripts: "knead prove decorate",
		},
		{
			name: "retry twice", before: on("script prove", 2, no), decisions: []bakehouse.Decision{decide(bakehouse.Retry), decide(bakehouse.Retry)},
			waited: []string{"failed provision-2-script", "failed provision-2-script"}, scripts: "knead prove decorate",
		},
		{
			name: "retry from the first", before: on("script prove", 1, no), decisions: []bakehouse.Decision{{Action: bakehouse.RetryFrom, From: 1}},
			waited: []string{"failed provision-2-script"}, scripts: "knead knead prove decorate",
		},
		{
			name: "retry from one that has not run", before: on("script prove", 1, no),
			decisions: []bakehouse.Decision{{Action: bakehouse.RetryFrom, From: 3}, decide(bakehouse.Skip)},
			waited:    []string{"failed provision-2-script", "failed provision-2-script"}, rejected: "the provisioners that have run are 1 to 2", scripts: "knead decorate",
		},
		{
			name: "skip", before: on("script prove", 1, no), decisions: []bakehouse.Decision{decide(bakehouse.Skip)},
			waited: []string{"failed provision-2-script"}, scripts: "knead decorate",
		},
		{
			name: "clean up", before: on("script prove", 1, no), decisions: []bakehouse.Decision{decide(bakehouse.Cleanup)},
			waited: []string{"failed provision-2-script"}, want: "no", scripts: "knead scrape",
		},
		{
			name: "abort", before: on("script prove", 1, no), decisions: []bakehouse.Decision{decide(bakehouse.Abort)},
			waited: []string{"failed provision-2-script"}, want: "no", scripts: "knead", left: true,
		},
		{name: "nobody decides", before: on("script prove", 1, no), want: "no (nobody decided within 2h0m0s)", scripts: "knead scrape"},
		{
			name: "failed image", before: on("await-image home", 1, broken), decisions: []bakehouse.Decision{decide(bakehouse.Retry)},
			waited: []string{"failed capture"}, scripts: "knead prove decorate",
		},
		{
			name: "failed copy", before: on("await-image east", 1, broken), decisions: []bakehouse.Decision{decide(bakehouse.Retry)},
			waited: []string{"failed capture"}, scripts: "knead prove decorate",
		},
		{
			name: "failed post-processor", before: on("note", 1, no), decisions: []bakehouse.Decision{decide(bakehouse.Retry)},
			waited: []string{"failed post-process"}, scripts: "knead prove decorate",
		},
		{
			name: "a skip that is not to be had", before: on("await-image home", 1, broken),
			decisions: []bakehouse.Decision{decide(bakehouse.Skip), decide(bakehouse.Cleanup)},
			waited:    []string{"failed capture", "failed capture"}, rejected: "retry, cleanup, abort", want: "image failed", scripts: "knead prove decorate",
		},
		{
			name: "debug", policy: bakehouse.Policy{Debug: true},
			decisions: slices.Repeat([]bakehouse.Decision{decide(bakehouse.Resume)}, 20),
			waited: []string{
				"debug resolve", "debug launch", "debug connect", "debug provision-1-script", "debug provision-2-script",
				"debug provision-3-script", "debug tidy", "debug stop", "debug capture", "debug describe",
			}, scripts: "knead prove decorate",
		},
		{
			name: "debug, given up", policy: bakehouse.Policy{Debug: true},
			decisions: []bakehouse.Decision{decide(bakehouse.Resume), decide(bakehouse.Resume), decide(bakehouse.Cleanup)},
			waited:    []string{"debug resolve", "debug launch", "debug connect"}, want: "build was ended while it waited", cancelled: true,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o := newOven()
			b := newBakery(t, o, loaf)
			b.in.Policy = tt.policy
			if !tt.policy.Debug {
				b.in.OnError = "ask"
			}
			b.in.Lease = bakehouse.Duration(2 * time.Hour)
			o.before = tt.before
			p := b.ask(t, tt.decisions...)
			results, err := b.bake(t)
			if len(results.Builds) != 1 {
				t.Fatalf("no result: %v", err)
			}
			res := results.Builds[0]
			if res.Error != tt.want || res.Cancelled != tt.cancelled {
				t.Errorf("build ended with %q (cancelled: %v), want %q", res.Error, res.Cancelled, tt.want)
			}
			if diff := cmp.Diff(tt.waited, p.waited); diff != "" {
				t.Errorf("the build waited (-want +got):\n%s", diff)
			}
			rejected := ""
			for _, a := range p.answers {
				if a.rejected != nil {
					rejected += a.rejected.Error()
				}
			}
			if !strings.Contains(rejected, tt.rejected) || tt.rejected == "" && rejected != "" {
				t.Errorf("rejected: %q, want %q", rejected, tt.rejected)
			}
			got := o.on[string(res.Build.ID)+"@home"]
			if tt.want != "" {
				got = o.scripts
			}
			if s := strings.Join(got, " "); s != tt.scripts {
				t.Errorf("scripts: %q, want %q", s, tt.scripts)
			}
			if left := len(o.machines) > 0; left != tt.left {
				t.Errorf("machines left: %v", o.machines)
			}
			if tt.want == "" && len(o.images) != 2 || tt.want != "" && len(o.images) != 0 {
				t.Errorf("images: %v", o.images)
			}
		})
	}
}

// A machine that is gone ends the build with the reason, or is replaced; then
// the image is as if nothing had happened.
func TestMachineLoss(t *testing.T) {
	restart := bakehouse.Policy{OnMachineLoss: "restart"}
	tests := []struct {
		name    string
		policy  bakehouse.Policy
		at      string // the machine goes when this call is made …
		times   int    // … for the first n times
		want    string
		ran     string // all scripts that ran, on any machine
		launch  int
		decided []bakehouse.Decision
		err     error // instead of the loss of the machine
		after   bool  // the machine goes all the same, a moment later
	}{
		{name: "fail", at: "script prove", times: 1, want: "is gone: spot interruption", ran: "knead", launch: 1},
		{name: "before anything was done", at: "await", times: 2, ran: "knead prove decorate", launch: 3},
		{name: "before anything was done, for ever", at: "await", times: 99, want: "is gone: spot interruption", launch: 6},
		{name: "restart", policy: restart, at: "script prove", times: 1, ran: "knead knead prove decorate", launch: 2},
		{name: "restart twice", policy: restart, at: "script decorate", times: 2, ran: "knead prove knead prove knead prove decorate", launch: 3},
		{name: "restart from a checkpoint", policy: bakehouse.Policy{OnMachineLoss: "restart", Checkpoint: true}, at: "script decorate", times: 2, ran: "knead prove decorate", launch: 3},
		{name: "while it stops", policy: restart, at: "stop", times: 1, ran: "knead prove decorate knead prove decorate", launch: 2},
		{name: "rebooted under a script", policy: restart, at: "script prove", times: 1, err: bakehouse.Errorf(bakehouse.Lost, "machine was rebooted"), ran: "knead knead prove decorate", launch: 2},
		{name: "rebooted under a script, fail", at: "script prove", times: 1, err: bakehouse.Errorf(bakehouse.Lost, "machine was rebooted"), want: "machine was rebooted", ran: "knead scrape", launch: 1},
		{name: "gone after what ran on it", at: "script prove", times: 1, err: bakehouse.Errorf(bakehouse.Lost, "what supervised it was killed"), after: true, want: "is gone: spot interruption", ran: "knead", launch: 1},
		{name: "gone after what ran on it, restart", policy: restart, at: "script prove", times: 1, err: bakehouse.Errorf(bakehouse.Lost, "what supervised it was killed"), after: true, ran: "knead knead prove decorate", launch: 2},
		{name: "ask", policy: bakehouse.Policy{OnError: "ask"}, at: "script prove", times: 1, decided: []bakehouse.Decision{decide(bakehouse.Retry)}, ran: "knead knead prove decorate", launch: 2},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o := newOven()
			b := newBakery(t, o, loaf)
			b.in.Policy = tt.policy
			n := tt.times
			o.before = func(call string) error {
				if call != tt.at || n == 0 {
					return nil
				}
				n--
				o.mu.Lock()
				var id string
				for _, id = range o.machines {
				}
				o.mu.Unlock()
				if tt.after {
					time.AfterFunc(100*time.Millisecond, func() { o.kill(id) })
				}
				if tt.err != nil {
					return tt.err
				}
				if strings.HasPrefix(call, "script") {
					o.kill(id)
					return errors.New("connection reset")
				}
				return bakehouse.Errorf(bakehouse.Gone, "machine %s is gone: spot interruption", id)
			}
			if tt.decided != nil {
				b.ask(t, tt.decided...)
			}
			results, err := b.bake(t)
			if len(results.Builds) != 1 {
				t.Fatalf("no result: %v", err)
			}
			res := results.Builds[0]
			if tt.want == "" && res.Error != "" || !strings.Contains(res.Error, tt.want) {
				t.Errorf("build ended with %q, want %q", res.Error, tt.want)
			}
			if got := strings.Join(o.scripts, " "); got != tt.ran {
				t.Errorf("scripts that ran: %q, want %q", got, tt.ran)
			}
			if got := o.called("launch"); got != tt.launch {
				t.Errorf("%d machines, want %d", got, tt.launch)
			}
			if len(o.machines) != 0 {
				t.Errorf("machines left: %v", o.machines)
			}
			if tt.want == "" {
				if got := strings.Join(o.on[string(res.Build.ID)+"@home"], " "); got != "knead prove decorate" {
					t.Errorf("the image holds %q", got)
				}
				if len(o.images) != 2 {
					t.Errorf("images: %v, want one in each region and no checkpoint", o.images)
				}
			}
		})
	}
}

// Only after the chosen provisioners is the machine captured, and a lost one
// goes on from the last of them.
func TestChosenCheckpoints(t *testing.T) {
	tests := []struct {
		name  string
		after []string
		lost  string // at this script, each of the first two times
		made  int    // checkpoints
		ran   string
	}{
		{"all", nil, "script decorate", 2, "knead prove decorate"},
		{"by type", []string{"script"}, "script decorate", 2, "knead prove decorate"},
		{"by name", []string{"rise"}, "script decorate", 1, "knead prove decorate"},
		{"by name, lost before it", []string{"rise"}, "script prove", 1, "knead knead knead prove decorate"},
		{"by number", []string{"2"}, "script decorate", 1, "knead prove decorate"},
		{"the first", []string{"1"}, "script decorate", 1, "knead prove prove prove decorate"},
		{"two words, one of them in vain", []string{"rise", "crust"}, "script decorate", 1, "knead prove decorate"},
		{"in vain", []string{"crust"}, "script decorate", 0, "knead prove knead prove knead prove decorate"},
		{"after the last", []string{"3"}, "script decorate", 0, "knead prove knead prove knead prove decorate"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o := newOven()
			b := newBakery(t, o, loaf)
			b.in.Policy = bakehouse.Policy{OnMachineLoss: "restart", Checkpoint: true, CheckpointAfter: tt.after}
			o.before = on(tt.lost, 2, bakehouse.Errorf(bakehouse.Gone, "machine is gone: spot interruption"))
			results, err := b.bake(t)
			if err != nil {
				t.Fatal(err, results)
			}
			if got := o.called("checkpoint"); got != tt.made {
				t.Errorf("%d checkpoints, want %d", got, tt.made)
			}
			if got := strings.Join(o.scripts, " "); got != tt.ran {
				t.Errorf("scripts that ran: %q, want %q", got, tt.ran)
			}
			if got := strings.Join(o.on[string(results.Builds[0].Build.ID)+"@home"], " "); got != "knead prove decorate" {
				t.Errorf("the image holds %q", got)
			}
			if len(o.images) != 2 {
				t.Errorf("images: %v, want one in each region and no checkpoint", o.images)
			}
		})
	}
}

// Checkpoints are removed as soon as there is a newer one, and at the end.
func TestCheckpointsGo(t *testing.T) {
	o := newOven()
	b := newBakery(t, o, loaf)
	b.in.Checkpoint = true
	if _, err := b.bake(t); err != nil {
		t.Fatal(err)
	}
	if o.called("checkpoint") != 2 || len(o.images) != 2 {
		t.Errorf("%d checkpoints, images: %v", o.called("checkpoint"), o.images)
	}
}

// A checkpoint that cannot be made does not disturb the build.
func TestCheckpointFails(t *testing.T) {
	o := newOven()
	b := newBakery(t, o, loaf)
	b.in.Checkpoint = true
	o.before = on("checkpoint", 9, bakehouse.Errorf(bakehouse.Denied, "not allowed"))
	if results, err := b.bake(t); err != nil {
		t.Fatal(err, results)
	}
}

// What was expensive outlives the failure of what comes after it, until its
// time is over; a retry redoes only what failed.
func TestKept(t *testing.T) {
	broken := bakehouse.Errorf(bakehouse.Failed, "failed for good")
	tests := []struct {
		name     string
		failing  string
		decision bakehouse.Action // "" when nobody comes
		again    map[string]int   // calls of the second run
		images   int
	}{
		{"image", "await-image home", bakehouse.Retry, map[string]int{"launch": 0, "script knead": 0, "stop": 0, "capture": 1, "note": 1, "release": 1}, 2},
		{"copy", "await-image east", bakehouse.Retry, map[string]int{"launch": 0, "capture": 0, "copy east": 1, "finish home": 0, "finish east": 1, "note": 1}, 2},
		{"post-processor", "note", bakehouse.Retry, map[string]int{"launch": 0, "capture": 0, "copy east": 0, "note": 1}, 2},
		{"nobody comes", "await-image east", "", map[string]int{"copy east": 0, "release": 1}, 0},
		{"nobody comes after the image", "note", "", map[string]int{"release": 0}, 2},
		{"given up", "await-image home", bakehouse.Cleanup, map[string]int{"capture": 0, "release": 1}, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o := newOven()
			b := newBakery(t, o, loaf)
			b.in.Keep = bakehouse.Duration(time.Hour)
			o.before = on(tt.failing, 1, broken)
			results, err := b.bake(t)
			if err == nil || len(results.Builds) != 1 || results.Builds[0].KeptUntil.IsZero() {
				t.Fatalf("build is not kept: %v %+v", err, results)
			}
			if len(b.kept) != 1 {
				t.Fatalf("%d builds are kept", len(b.kept))
			}
			if tt.failing != "note" && len(o.machines) != 1 {
				t.Fatalf("machines: %v", o.machines)
			}

			o.calls = nil
			env := b.farm(workflows.Build)
			if tt.decision != "" {
				env.RegisterDelayedCallback(func() {
					a := &answer{}
					env.UpdateWorkflow(workflows.AskResolve, "", a, decide(tt.decision))
					if a.rejected != nil {
						t.Error(a.rejected)
					}
				}, time.Minute)
			}
			env.ExecuteWorkflow(workflows.Build, b.kept[0])
			err = env.GetWorkflowError()
			if (err == nil) != (tt.decision == bakehouse.Retry) {
				t.Errorf("kept build ended with %v", err)
			}
			for call, n := range tt.again {
				if got := o.called(call); got != n {
					t.Errorf("%q was called %d times, want %d", call, got, n)
				}
			}
			if len(o.machines) != 0 || len(o.images) != tt.images {
				t.Errorf("machines %v, images %v, want %d", o.machines, o.images, tt.images)
			}
			if tt.decision == bakehouse.Retry {
				var res bakehouse.Result
				if err := env.GetWorkflowResult(&res); err != nil || len(res.Artifacts) != 2 || !strings.Contains(res.Artifacts[0].ID, "home:") || !strings.Contains(res.Artifacts[0].ID, "east:") {
					t.Errorf("artifacts: %+v, %v", res.Artifacts, err)
				}
			}
		})
	}
}

// Limits end a build, and it cleans up.
func TestTimeouts(t *testing.T) {
	tests := []struct {
		name   string
		hcl    string
		policy bakehouse.Policy
		want   string
	}{
		{"build", strings.Replace(loaf, `script = "prove"`, "script = \"prove\"\n pause_before = \"20m\"", 1), bakehouse.Policy{Timeout: bakehouse.Duration(10 * time.Minute)}, "build did not end within 10m0s"},
		{"step", loaf, bakehouse.Policy{StepTimeout: bakehouse.Duration(time.Second)}, "provisioner did not end within 1s"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o := newOven()
			b := newBakery(t, o, tt.hcl)
			b.in.Policy = tt.policy
			o.before = on("script prove", 1, errHang)
			results, err := b.bake(t)
			if len(results.Builds) != 1 {
				t.Fatalf("no result: %v", err)
			}
			res := results.Builds[0]
			if res.Error != tt.want || res.Kind != bakehouse.Timeout || res.Cancelled {
				t.Errorf("build ended with %q (%s, cancelled: %v)", res.Error, res.Kind, res.Cancelled)
			}
			if len(o.machines)+len(o.images) != 0 {
				t.Errorf("left: %v %v", o.machines, o.images)
			}
		})
	}
}

// A build can be paused, and a command run on its machine meanwhile; once the
// machine is finished nobody is let in.
func TestVisits(t *testing.T) {
	o := newOven()
	b := newBakery(t, o, loaf)
	p := b.ask(t)
	pause, exec, admit, late := &answer{}, &answer{}, &answer{}, &answer{}
	update := func(name string, a *answer, arg ...any) {
		if err := b.env.UpdateWorkflowByID(p.build, name, fmt.Sprintf("%s-%p", name, a), a, arg...); err != nil {
			t.Error(err)
		}
	}
	o.before = func(call string) error {
		switch call {
		case "script knead":
			b.env.RegisterDelayedCallback(func() { update(workflows.AskPause, pause) }, 0)
			time.Sleep(100 * time.Millisecond) // the workflow's clock stands still until this returns
		case "await-image home":
			b.env.RegisterDelayedCallback(func() { update(workflows.AskExecute, late, workflows.Execution{Line: "true", Name: "b"}) }, 0)
			time.Sleep(100 * time.Millisecond)
		}
		return nil
	}
	b.env.RegisterDelayedCallback(func() {
		update(workflows.AskExecute, exec, workflows.Execution{Line: "df", Name: "a"})
		update(workflows.AskAdmit, admit, workflows.Visit{Name: "me", Public: "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIIb6Z1bbZBJ1c8kQF1iUKkBqAp0r3K7cgX4i2aWqVd0x"})
	}, 10*time.Minute)
	b.env.RegisterDelayedCallback(func() { update(workflows.AskResolve, &answer{}, decide(bakehouse.Resume)) }, 20*time.Minute)
	if results, err := b.bake(t); err != nil {
		t.Fatal(err, results)
	}
	if pause.rejected != nil || exec.rejected != nil || exec.failed != nil || admit.failed != nil {
		t.Errorf("pause %v, exec %v %v, admit %v", pause.rejected, exec.rejected, exec.failed, admit.failed)
	}
	if late.rejected == nil || !strings.Contains(late.rejected.Error(), "finished") {
		t.Errorf("a late visitor: %v", late.rejected)
	}
	var lines []string
	for line, err := range b.logs.Read(context.Background(), bakehouse.BuildID(p.build)) {
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, line.Text)
	}
	log := strings.Join(lines, "\n")
	for _, want := range []string{"waits before provision-2-script (paused)", "Decided: resume", "Admitted a visitor's key to baker@host-of-m-", "Removed the visitor's key"} {
		if !strings.Contains(log, want) {
			t.Errorf("the log lacks %q:\n%s", want, log)
		}
	}
}

// A breakpoint parks the build where the template says, and needs no agent
// while it does.
func TestBreakpoint(t *testing.T) {
	o := newOven()
	o.before = on("script prove", 1, bakehouse.Errorf(bakehouse.Breakpoint, "look"))
	b := newBakery(t, o, loaf)
	p := b.ask(t, decide(bakehouse.Resume))
	if results, err := b.bake(t); err != nil {
		t.Fatal(err, results)
	}
	if diff := cmp.Diff([]string{"breakpoint provision-2-script"}, p.waited); diff != "" {
		t.Errorf("waited (-want +got):\n%s", diff)
	}
	if got := strings.Join(o.scripts, " "); got != "knead decorate" {
		t.Errorf("scripts %q", got)
	}
}
