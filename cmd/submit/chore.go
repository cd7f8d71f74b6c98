package main

import (
	"context"
	"flag"
	"fmt"
	"os/signal"
	"syscall"
	"time"

	"github.com/bakehouse-farm/bakehouse/cmd/submit/farm"
)

// A chore is what agents of a pool do now, or again and again.
type chore struct {
	connection
	poolName string
	dryRun   bool
	every    time.Duration
	json     bool
}

// tell says how a chore is asked for.
func (k *chore) tell(f *flag.FlagSet, pool, dry, every string) {
	k.connection.flags(f)
	f.StringVar(&k.poolName, "pool", "", "`name` of the pool "+pool+" ($BAKEHOUSE_POOL, else default; with -local, local)")
	f.BoolVar(&k.dryRun, "dry-run", false, dry)
	f.DurationVar(&k.every, "every", -1, every+" again and again, this `duration` apart, from now on and without this program; 0 ends that")
	f.BoolVar(&k.json, "json", false, "print JSON")
}

// A tending is one chore. It is begun with repeat where -every was given, whose
// beginning and end it has sentences for, and otherwise done once.
type tending struct {
	repeat func(ctx context.Context, f *farm.Farm, pool string) error
	begun  string // has the pool and the duration
	ended  string // has the pool
	once   func(ctx context.Context, f *farm.Farm, pool string) error
}

// tend connects and has the chore done.
func (k *chore) tend(ctx context.Context, c *console, t tending) error {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if k.every > 0 && k.every < time.Minute {
		return fmt.Errorf("-every=%s: they are at least a minute apart", k.every)
	}
	f, _, err := k.open(ctx, c, true, func(line string) { fmt.Fprintln(c.err, line) })
	if err != nil {
		return err
	}
	defer f.Close()
	pool := k.pool(c, k.poolName)
	if k.every >= 0 {
		if err := t.repeat(ctx, f, pool); err != nil {
			return err
		}
		if k.every == 0 {
			fmt.Fprintf(c.out, t.ended+"\n", pool)
		} else {
			fmt.Fprintf(c.out, t.begun+"\n", pool, k.every)
		}
		return nil
	}
	patience := 3 * time.Second // an agent may just have been started
	if k.local {
		patience = 10 * time.Second // we may have started it
	}
	if err := f.CheckPool(ctx, pool, patience); err != nil {
		return err
	}
	return t.once(ctx, f, pool)
}
