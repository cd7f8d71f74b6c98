package main

import (
	"context"
	"flag"
	"fmt"

	"github.com/bakehouse-farm/bakehouse/cmd/submit/farm"
)

var cancelTopic = topic{
	name: "cancel", args: "ID", least: 1, most: 1,
	summary: "cancel a submission or one build; the clean-up still runs",
	text: `
Asks the farm to end a submission, or one build of it, and to give back all that
it holds. It does not wait for that: "submit attach" shows it. ID is that of a
submission or of a build; its beginning is enough.`,
	exits: `  0  the farm has been asked, or it had ended already
  1  nothing has this ID, or the farm could not be asked
`,
	make: func() command { return new(cancel) },
}

type cancel struct{ connection }

func (k *cancel) flags(f *flag.FlagSet) { k.connection.flags(f) }

func (k *cancel) run(ctx context.Context, c *console, args []string) error {
	f, _, err := k.open(ctx, c, false, nil)
	if err != nil {
		return err
	}
	defer f.Close()
	e, err := find(ctx, f, args[0])
	if err != nil {
		return err
	}
	if !e.Running() && e.IsBuild {
		// What is kept of a build that failed is given back.
		if kept, err := f.Living(ctx, e.ID); err == nil {
			if err := f.Cancel(ctx, kept, ""); err != nil {
				return err
			}
			fmt.Fprintf(c.out, "What was kept of build %s is given back.\n", e.ID)
			return nil
		}
	}
	if !e.Running() {
		fmt.Fprintf(c.out, "%s %s has ended already: %s.\n", kind(e), e.ID, e.Status)
		return nil
	}
	if err := f.Cancel(ctx, e.ID, e.Run); err != nil {
		return err
	}
	fmt.Fprintf(c.out, "%s %s is being cancelled. Follow the clean-up with: submit attach%s %s\n", kind(e), e.ID, k.again(), e.Submission)
	return nil
}

func kind(e farm.Entry) string {
	if e.IsBuild {
		return "Build"
	}
	return "Submission"
}
