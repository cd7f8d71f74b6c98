package activities

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/bakehouse-farm/bakehouse"
	"github.com/bakehouse-farm/bakehouse/builders"
	"github.com/bakehouse-farm/bakehouse/communicator"
)

// guard runs do, which works on the machine, and ends it with an error of kind
// bakehouse.Gone when the machine goes away under it. Without this, a step
// would try for ever to reach a machine that is not there any more.
func (a *Activities) guard(ctx context.Context, s Step, m builders.Machine, do func(context.Context) error) error {
	b, builder, err := a.build(ctx, s)
	if err != nil {
		return err
	}
	watcher, ok := builder.(builders.Watcher)
	if !ok || m.ID == "" {
		return do(ctx)
	}
	inner, end := context.WithCancelCause(ctx)
	watched := make(chan error, 1)
	go func() {
		err := watcher.Watch(inner, b, m)
		if bakehouse.KindOf(err) == bakehouse.Gone && inner.Err() == nil {
			end(err)
		}
		watched <- err
	}()
	err = do(inner)
	if kind := bakehouse.KindOf(err); err != nil && ctx.Err() == nil && (!kind.Final() || kind == bakehouse.Lost) {
		// It may be the machine that makes the trouble: one more look, before the
		// step is tried again, tells at once what the next look would tell later. A
		// machine that goes takes what runs on it with it, and may have time to say
		// so before anybody else does.
		look, stop := context.WithTimeout(ctx, 5*time.Second)
		if gone := watcher.Watch(look, b, m); bakehouse.KindOf(gone) == bakehouse.Gone {
			end(gone)
		}
		stop()
	}
	if cause := context.Cause(inner); inner.Err() != nil && ctx.Err() == nil && bakehouse.KindOf(cause) == bakehouse.Gone {
		err = cause
	}
	end(errGuarded)
	<-watched
	return err
}

// reach connects to the machine of a step and runs do, under guard.
func (a *Activities) reach(ctx context.Context, s Step, l Login, do func(context.Context, communicator.Communicator) error) error {
	return a.guard(ctx, s, l.Machine, func(ctx context.Context) error {
		machine, _, err := a.dial(ctx, s, l)
		if err != nil {
			return err
		}
		defer machine.Close()
		return do(ctx, machine)
	})
}

// errGuarded ends the watch when the step has ended.
var errGuarded = errors.New("step has ended")

// Discard removes a machine that is of no more use, so that another can take
// its place.
func (a *Activities) Discard(ctx context.Context, s Step, m builders.Machine) error {
	_, err := at(ctx, a, s, func(ctx context.Context, b bakehouse.Build, builder builders.Builder) (struct{}, error) {
		w, ok := builder.(builders.Watcher)
		if !ok {
			return struct{}{}, bakehouse.Errorf(bakehouse.Invalid, "builder %s cannot replace a machine", builder.ID())
		}
		return struct{}{}, w.Discard(ctx, b, m)
	})
	return err
}

// Checkpoint asks for an image of the machine as it is now. What its file
// systems hold back is written first.
func (a *Activities) Checkpoint(ctx context.Context, s Step, r builders.Resolved, l Login, name string) (builders.Image, error) {
	return at(ctx, a, s, func(ctx context.Context, b bakehouse.Build, builder builders.Builder) (img builders.Image, err error) {
		c, err := checkpointer(builder)
		if err != nil {
			return img, err
		}
		err = a.reach(ctx, s, l, func(ctx context.Context, machine communicator.Communicator) error {
			result, out, err := machine.Exec(ctx, "sync")
			if err == nil && result.Exit != 0 {
				err = fmt.Errorf("sync before the checkpoint: exit status %d: %s", result.Exit, out)
			}
			if err == nil {
				img, err = c.Checkpoint(ctx, b, r, l.Machine, name)
			}
			return err
		})
		return img, err
	})
}

// Forget removes a checkpoint.
func (a *Activities) Forget(ctx context.Context, s Step, img builders.Image) error {
	_, err := at(ctx, a, s, func(ctx context.Context, b bakehouse.Build, builder builders.Builder) (struct{}, error) {
		c, err := checkpointer(builder)
		if err == nil {
			err = c.Forget(ctx, b, img)
		}
		return struct{}{}, err
	})
	return err
}

func checkpointer(b builders.Builder) (builders.Checkpointer, error) {
	if c, ok := b.(builders.Checkpointer); ok {
		return c, nil
	}
	return nil, bakehouse.Errorf(bakehouse.Invalid, "builder %s makes no checkpoints", b.ID())
}
