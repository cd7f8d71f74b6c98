package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os/signal"
	"syscall"
	"time"

	"github.com/bakehouse-farm/bakehouse"
	"github.com/bakehouse-farm/bakehouse/cmd/submit/farm"
	"github.com/bakehouse-farm/bakehouse/cmd/submit/local"
	"github.com/bakehouse-farm/bakehouse/cmd/submit/ui"
	"github.com/bakehouse-farm/bakehouse/template"
)

var buildTopic = topic{
	name: "build", args: "PATH", least: 1, most: 1,
	summary: "bake the images of a template",
	text: `
Checks a template, sends it to the farm, and shows what happens there until all
its builds have ended. PATH is a folder with *.pkr.hcl and *.pkr.json files, one
file, or - for a JSON template on the standard input. Files that the template
writes on this computer, such as a manifest, are put where it says.

The builds do not depend on this program. Sent again while it runs, the same
submission (template, files, variables, -only, -except, -force, policy flags,
pool and -id) is joined, not started anew. Ctrl-C cancels the builds and waits for
the clean-up; a second one leaves at once. "submit attach" comes back.

What shall hold for all builds stands in the environment: BAKEHOUSE_ON_ERROR,
BAKEHOUSE_ON_MACHINE_LOSS, BAKEHOUSE_CHECKPOINT, BAKEHOUSE_TIMEOUT,
BAKEHOUSE_STEP_TIMEOUT, BAKEHOUSE_LEASE and BAKEHOUSE_KEEP say what the flags of
those names say, unless a flag says otherwise. Words of BAKEHOUSE_CHECKPOINT that
mean no provisioner of a template mean nothing there.`,
	exits: `  0  all builds succeeded; with -detach, the submission was accepted
  1  a build failed or was cancelled, or nothing could be started
`,
	make: func() command { return new(build) },
}

type build struct {
	connection
	recipe
	look
	poolName string
	parallel int
	policy
	force           bool
	detach          bool
	id              string
	warnUndeclared  bool
	timeline        bool
	stop            bool
	skipEnforcement bool // a flag of Packer that changes nothing here
}

func (b *build) flags(f *flag.FlagSet) {
	b.connection.flags(f)
	b.recipe.flags(f)
	b.look.flags(f)
	f.StringVar(&b.poolName, "pool", "", "`name` of the pool of agents that shall build ($BAKEHOUSE_POOL, else default; with -local, local)")
	f.IntVar(&b.parallel, "parallel-builds", 0, "most builds at a time, `n`; 0 means all at once")
	b.policy.flags(f)
	f.BoolVar(&b.force, "force", false, "replace images of the same name")
	f.BoolVar(&b.detach, "detach", false, "leave as soon as the submission is accepted")
	f.StringVar(&b.id, "id", "", "`text` that makes this submission another one than the same without it")
	f.BoolVar(&b.warnUndeclared, "warn-on-undeclared-var", false, "warn of values in variable files whose variable is not declared")
	f.BoolVar(&b.timeline, "timeline", false, "at the end, show where the time went")
	f.BoolVar(&b.stop, "stop", false, "with -local, stop the processes at the end if this command started them")
	f.BoolVar(&b.skipEnforcement, "skip-enforcement", false, "accepted for Packer's sake: nothing is enforced by HCP Packer")
}

// check refuses what cannot be done, before anything is done.
func (b *build) check() error {
	if err := b.policy.check(); err != nil {
		return err
	}
	switch {
	case b.stop && !b.local:
		return errors.New("-stop is for -local only")
	case b.stop && b.detach:
		return errors.New("-stop would end what -detach leaves running: leave out one")
	}
	return b.connection.check()
}

func (b *build) run(ctx context.Context, c *console, args []string) error {
	if err := b.policy.complete(c.getenv); err != nil {
		return err
	}
	if err := b.check(); err != nil {
		return err
	}
	u := b.look.ui(c)
	d, err := b.prepare(c, u, args[0])
	if err != nil {
		return err
	}

	// Until the submission is accepted, Ctrl-C means that nothing shall be.
	begin, done := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer done()
	f, set, err := b.open(begin, c, true, u.Say)
	if err == nil {
		defer f.Close()
		defer b.stopAfter(ctx, set, u)
		var s farm.Started
		var sub bakehouse.Submission
		if s, sub, err = b.start(begin, c, u, f, d); err == nil {
			return b.follow(ctx, begin, c, u, f, d, s, sub)
		}
	}
	if begin.Err() != nil {
		return errors.New("interrupted: nothing was started")
	}
	return err
}

// prepare checks the template.
func (b *build) prepare(c *console, u *ui.UI, path string) (*dish, error) {
	d, p, err := b.recipe.load(c, u, path, b.look.colored(c))
	if err != nil {
		return nil, err
	}
	if err := b.recipe.evaluate(c, d, p, template.Inputs{WarnUndeclared: b.warnUndeclared}); err != nil {
		return nil, err
	}
	names, diags := d.template.Select(d.values, d.selection)
	if !diags.HasErrors() {
		diags = d.template.CheckBuild(d.values, d.selection, d.pinned)
	}
	if p.show(diags) {
		return nil, failed
	}
	d.builds = names
	return d, b.policy.fit(d.template.Provisioners(d.values, d.selection))
}

// start packs the submission and sends it.
func (b *build) start(ctx context.Context, c *console, u *ui.UI, f *farm.Farm, d *dish) (farm.Started, bakehouse.Submission, error) {
	pool := b.pool(c, b.poolName)
	patience := 3 * time.Second // an agent may just have been started
	if b.local {
		patience = 10 * time.Second // we may have started it
	}
	s := bakehouse.Submission{
		Template: d.path, Title: d.title(), Cwd: d.files.Cwd, Home: d.files.Home,
		Only: b.only, Except: b.except, Parallel: max(b.parallel, 0), Policy: b.policy.of(b.local), Force: b.force,
		Pool: pool, TraceParent: c.getenv("TRACEPARENT"), User: userName(c),
	}
	if err := f.CheckPool(ctx, pool, patience); err != nil {
		return farm.Started{}, s, err
	}
	store, err := f.Bundles(ctx)
	if err != nil {
		return farm.Started{}, s, err
	}
	files, values, _, err := d.pack(ctx, store, b.keep(c))
	if err != nil {
		return farm.Started{}, s, err
	}
	s.Bundle, s.Values = string(files), string(values)
	raw, err := json.Marshal(d.values)
	if err != nil {
		return farm.Started{}, s, err
	}
	// From here on an interrupt cancels what was started.
	if ctx.Err() != nil {
		return farm.Started{}, s, context.Cause(ctx)
	}
	send, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
	defer cancel()
	started, err := f.Start(send, submissionID(s, raw, b.id), s)
	return started, s, err
}

// keep names our own folders, which may lie in a template's.
func (b *build) keep(c *console) []string {
	if b.local {
		if config, err := localConfig(b.state, nil); err == nil {
			return []string{config.State}
		}
	}
	return folderOf(cmp.Or(b.store, c.getenv("BAKEHOUSE_STORE")))
}

// follow shows the submission until it has ended.
func (b *build) follow(ctx, begin context.Context, c *console, u *ui.UI, f *farm.Farm, d *dish, s farm.Started, sub bakehouse.Submission) error {
	u.Record("", "submission", s.ID)
	if s.Joined {
		u.Say(fmt.Sprintf("Joining submission %s, started %s ago", s.ID, ui.Short(time.Since(s.At))))
	} else {
		u.Say(fmt.Sprintf("Started submission %s in pool %s", s.ID, sub.Pool))
	}
	back := "submit attach" + b.again() + " " + s.ID
	u.Say("Come back to it with: " + back)
	if b.detach {
		return nil
	}
	u.Say("")
	u.Colors(d.builds)
	w := &watch{
		console: c, ui: u, farm: f, submission: sub, id: s.ID, run: s.Run, at: s.At,
		back: back, again: b.again(), outputs: true, timeline: b.timeline, mine: true,
	}
	if b.local {
		config, err := localConfig(b.state, u.Say)
		if err != nil {
			return err
		}
		w.keep = func(ctx context.Context) { local.Keep(ctx, config) }
	}
	return w.follow(ctx, begin)
}

// stopAfter stops what this command started, when that was asked for.
func (b *build) stopAfter(ctx context.Context, set *local.Set, u *ui.UI) {
	if !b.stop || set == nil || len(set.Started) == 0 {
		return
	}
	config, err := localConfig(b.state, u.Say)
	if err == nil {
		_, err = local.Stop(ctx, config, nil)
	}
	if err != nil {
		u.Error("Local processes could not be stopped: " + err.Error())
	}
}
