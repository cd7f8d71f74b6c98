package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/bakehouse-farm/bakehouse"
	"github.com/bakehouse-farm/bakehouse/cmd/submit/farm"
	"github.com/bakehouse-farm/bakehouse/cmd/submit/ui"
)

var resolveTopic = topic{
	name: "resolve", args: "BUILD [ACTION [N]]", least: 1, most: 3,
	summary: "tell a build that waits how to go on",
	text: `
Tells a parked build what to do; without an ACTION it says why the build waits
and until when. From any terminal or CI job, as often as the build parks:

  retry         do the failed step again
  retry-from N  go back to provisioner N, counted from 1, on the same machine
  skip          go on as if the failed provisioner had succeeded
  resume        go on after a pause, a breakpoint or a step of -debug
  cleanup       end the build and give back what it holds
  abort         end the build and leave everything as it is`,
	exits: `  0  the build has been told; or, without ACTION, it waits
  1  it does not wait, cannot do that, or could not be asked
`,
	make: func() command { return new(resolve) },
}

type resolve struct{ connection }

func (r *resolve) flags(f *flag.FlagSet) { r.connection.flags(f) }

func (r *resolve) run(ctx context.Context, c *console, args []string) error {
	var d bakehouse.Decision
	if len(args) > 1 {
		d = bakehouse.Decision{Action: bakehouse.Action(args[1]), By: userName(c)}
		switch d.Action {
		case bakehouse.Retry, bakehouse.Skip, bakehouse.Resume, bakehouse.Cleanup, bakehouse.Abort:
			if len(args) > 2 {
				return fmt.Errorf("%s takes no argument", d.Action)
			}
		case bakehouse.RetryFrom:
			if len(args) < 3 {
				return errors.New("retry-from needs the number of a provisioner, counted from 1")
			}
			n, err := strconv.Atoi(args[2])
			if err != nil || n < 1 {
				return fmt.Errorf("retry-from %s: the number of a provisioner is counted from 1", args[2])
			}
			d.From = n
		default:
			return fmt.Errorf("there is no action %q: choose retry, retry-from N, skip, resume, cleanup or abort", args[1])
		}
	}
	f, id, err := r.living(ctx, c, args[0])
	if err != nil {
		return err
	}
	defer f.Close()
	if len(args) == 1 {
		return r.tell(ctx, c, f, id)
	}
	if err := f.Resolve(ctx, id, d); err != nil {
		return err
	}
	fmt.Fprintf(c.out, "Build %s goes on: %s.\n", args[0], d.Action)
	return nil
}

// living connects, and returns the workflow that a build is now. With -local
// it starts what is not running: somebody must answer.
func (n *connection) living(ctx context.Context, c *console, name string) (*farm.Farm, string, error) {
	f, _, err := n.open(ctx, c, true, func(line string) { fmt.Fprintln(c.err, line) })
	if err != nil {
		return nil, "", err
	}
	e, err := find(ctx, f, name)
	if err == nil && !e.IsBuild {
		err = onlyBuild(ctx, f, &e)
	}
	var id string
	if err == nil {
		id, err = f.Living(ctx, string(farm.BuildID(e.ID)))
	}
	if err != nil {
		f.Close()
		return nil, "", err
	}
	return f, id, nil
}

// onlyBuild turns a submission with one build into that build.
func onlyBuild(ctx context.Context, f *farm.Farm, e *farm.Entry) error {
	builds, err := f.Builds(ctx, e.ID, e.Run)
	if err != nil {
		return err
	}
	var ids []string
	for _, b := range builds {
		if string(b.ID) != e.ID { // the plan
			ids = append(ids, string(b.ID))
		}
	}
	if len(ids) != 1 {
		return fmt.Errorf("submission %s has %d builds: name the one that is meant (%s)", e.ID, len(ids), strings.Join(ids, ", "))
	}
	e.ID, e.IsBuild = ids[0], true
	return nil
}

// tell says why a build waits.
func (r *resolve) tell(ctx context.Context, c *console, f *farm.Farm, id string) error {
	s, err := f.Status(ctx, id)
	if err != nil {
		return err
	}
	if s.Parked == nil {
		return fmt.Errorf("build %s does not wait: it is at %s", s.Build.ID, s.Step)
	}
	p := s.Parked
	var actions []string
	for _, a := range p.Actions {
		actions = append(actions, string(a))
	}
	fmt.Fprintf(c.out, "Build %s waits at %s (%s) since %s ago.\n", s.Build.ID, p.Step, p.Why, ui.Short(time.Since(p.Since)))
	if p.Error != "" {
		fmt.Fprintf(c.out, "It failed with: %s\n", p.Error)
	}
	fmt.Fprintf(c.out, "It can: %s. If nobody says, it cleans up in %s.\n", strings.Join(actions, ", "), ui.Short(time.Until(p.Until)))
	return nil
}

var pauseTopic = topic{
	name: "pause", args: "BUILD", least: 1, most: 1,
	summary: "park a build before its next step",
	text: `
Asks a build to park before its next step or provisioner; what runs now runs to
its end. A paused build has a lease (-lease of submit build), after which it
cleans up. "submit resume" lets it go on.`,
	exits: `  0  the build will park
  1  it has ended, or could not be asked
`,
	make: func() command { return new(pausing) },
}

type pausing struct{ connection }

func (p *pausing) flags(f *flag.FlagSet) { p.connection.flags(f) }

func (p *pausing) run(ctx context.Context, c *console, args []string) error {
	f, id, err := p.living(ctx, c, args[0])
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Pause(ctx, id); err != nil {
		return err
	}
	fmt.Fprintf(c.out, "Build %s parks before its next step.\n", args[0])
	return nil
}

var resumeTopic = topic{
	name: "resume", args: "BUILD", least: 1, most: 1,
	summary: "let a paused build go on",
	text:    `Lets a build go on that was paused, is at a breakpoint, or is debugged.`,
	exits: `  0  the build goes on
  1  it does not wait, or could not be asked
`,
	make: func() command { return new(resuming) },
}

type resuming struct{ resolve }

func (r *resuming) run(ctx context.Context, c *console, args []string) error {
	return r.resolve.run(ctx, c, []string{args[0], string(bakehouse.Resume)})
}
