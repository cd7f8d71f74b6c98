package main

import (
	"flag"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/bakehouse-farm/bakehouse"
)

// policy are the flags that say what builds do when something goes wrong.
type policy struct {
	onError, onLoss            string
	checkpoint, debug          bool
	timeout, step, lease, hold time.Duration
}

var (
	onErrors = []string{"cleanup", "abort", "ask", "run-cleanup-provisioner"}
	onLosses = []string{"fail", "restart"}
)

func (p *policy) flags(f *flag.FlagSet) {
	f.StringVar(&p.onError, "on-error", "cleanup", "`what` a failed step means: cleanup; abort leaves everything as it is; run-cleanup-provisioner does too, after the error-cleanup-provisioner; ask parks the build until \"submit resolve\" says how to go on")
	f.StringVar(&p.onLoss, "on-machine-loss", "fail", "`what` it means that the machine is gone (spot interruption, failing host): fail, or restart on another one")
	f.BoolVar(&p.checkpoint, "checkpoint", false, "capture the machine after each provisioner, so that a restart goes on from there; removed at the end")
	f.BoolVar(&p.debug, "debug", false, "park builds before each step, until \"submit resolve BUILD resume\"")
	f.DurationVar(&p.timeout, "timeout", 0, "how long a build may take, `duration`; 0 means that nothing limits it")
	f.DurationVar(&p.step, "step-timeout", 0, "how long one step of a build may take, `duration`; 0 means that nothing limits it")
	f.DurationVar(&p.lease, "lease", bakehouse.DefaultLease, "how long a parked build waits before it cleans up, `duration`")
	f.DurationVar(&p.hold, "keep", -1, "how long a build whose machine was finished is kept for \"submit retry\" when its image, a copy or a post-processor failed, `duration`; 0 means not at all (default 1h, with -local 0)")
}

// check refuses what makes no sense.
func (p *policy) check() error {
	switch {
	case !slices.Contains(onErrors, p.onError):
		return fmt.Errorf("-on-error=%s: choose one of %s", p.onError, strings.Join(onErrors, ", "))
	case !slices.Contains(onLosses, p.onLoss):
		return fmt.Errorf("-on-machine-loss=%s: choose one of %s", p.onLoss, strings.Join(onLosses, ", "))
	case p.timeout < 0, p.step < 0:
		return fmt.Errorf("-timeout=%s, -step-timeout=%s: a limit is not negative", p.timeout, p.step)
	case p.lease <= 0 || p.lease > bakehouse.MaxLease:
		return fmt.Errorf("-lease=%s: a build can wait for up to %s", p.lease, bakehouse.MaxLease)
	case p.hold > bakehouse.MaxLease:
		return fmt.Errorf("-keep=%s: a build can be kept for up to %s", p.hold, bakehouse.MaxLease)
	}
	return nil
}

// of returns the policy of a submission. The farm on this machine is often
// stopped when submit ends: what it kept would have no farm to be retried on.
func (p *policy) of(local bool) bakehouse.Policy {
	hold := p.hold
	if hold < 0 {
		hold = time.Hour
		if local {
			hold = 0
		}
	}
	return bakehouse.Policy{
		OnError: p.onError, OnMachineLoss: p.onLoss, Checkpoint: p.checkpoint, Debug: p.debug,
		Timeout: bakehouse.Duration(p.timeout), StepTimeout: bakehouse.Duration(p.step),
		Lease: bakehouse.Duration(p.lease), Keep: bakehouse.Duration(hold),
	}
}
