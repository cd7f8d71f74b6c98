package main

import (
	"flag"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/bakehouse-farm/bakehouse"
	"github.com/bakehouse-farm/bakehouse/template"
)

// policy are the flags that say what builds do when something goes wrong.
type policy struct {
	onError, onLoss            string
	checkpoint                 checkpoints
	debug                      bool
	timeout, step, lease, hold time.Duration

	parsed *flag.FlagSet
	// from are the variables that have set flags.
	from map[string]string
}

// policyVariables are the variables of the environment that say what flags do
// not: what holds for all builds of a farm or a CI.
func policyVariables() map[string]string {
	return map[string]string{
		"on-error": "BAKEHOUSE_ON_ERROR", "on-machine-loss": "BAKEHOUSE_ON_MACHINE_LOSS", "checkpoint": "BAKEHOUSE_CHECKPOINT",
		"timeout": "BAKEHOUSE_TIMEOUT", "step-timeout": "BAKEHOUSE_STEP_TIMEOUT",
		"lease": "BAKEHOUSE_LEASE", "keep": "BAKEHOUSE_KEEP",
	}
}

var (
	onErrors = []string{"cleanup", "abort", "ask", "run-cleanup-provisioner"}
	onLosses = []string{"fail", "restart"}
)

func (p *policy) flags(f *flag.FlagSet) {
	p.parsed = f
	f.StringVar(&p.onError, "on-error", "cleanup", "`what` a failed step means: cleanup; abort leaves everything as it is; run-cleanup-provisioner does too, after the error-cleanup-provisioner; ask parks the build until \"submit resolve\" says how to go on")
	f.StringVar(&p.onLoss, "on-machine-loss", "fail", "`what` it means that the machine is gone (spot interruption, failing host): fail, or restart on another one")
	f.Var(&p.checkpoint, "checkpoint", "capture the machine after each provisioner, so that a restart goes on from there; removed at the end. -checkpoint=NAME,TYPE,N captures it only after those provisioners: by name, by type, or by number, counted from 1")
	f.BoolVar(&p.debug, "debug", false, "park builds before each step, until \"submit resolve BUILD resume\"")
	f.DurationVar(&p.timeout, "timeout", 0, "how long a build may take, `duration`; 0 means that nothing limits it")
	f.DurationVar(&p.step, "step-timeout", 0, "how long one step of a build may take, `duration`; 0 means that nothing limits it")
	f.DurationVar(&p.lease, "lease", bakehouse.DefaultLease, "how long a parked build waits before it cleans up, `duration`")
	f.DurationVar(&p.hold, "keep", -1, "how long a build whose machine was finished is kept for \"submit retry\" when its image, a copy or a post-processor failed, `duration`; 0 means not at all (default 1h, with -local 0)")
}

// complete sets the flags that were not given from the environment. A variable
// that is empty says nothing.
func (p *policy) complete(getenv func(string) string) error {
	given := map[string]bool{}
	p.parsed.Visit(func(f *flag.Flag) { given[f.Name] = true })
	p.from = map[string]string{}
	for name, variable := range policyVariables() {
		value := getenv(variable)
		if value == "" || given[name] {
			continue
		}
		if err := p.parsed.Lookup(name).Value.Set(value); err != nil {
			return fmt.Errorf("%s=%s: %w", variable, value, err)
		}
		p.from[name] = variable
	}
	return nil
}

// said is a flag as it was set: "-lease=5h", or "BAKEHOUSE_LEASE=5h".
func (p *policy) said(name string, value any) string {
	if variable := p.from[name]; variable != "" {
		return fmt.Sprintf("%s=%v", variable, value)
	}
	return fmt.Sprintf("-%s=%v", name, value)
}

// check refuses what makes no sense.
func (p *policy) check() error {
	switch {
	case !slices.Contains(onErrors, p.onError):
		return fmt.Errorf("%s: choose one of %s", p.said("on-error", p.onError), strings.Join(onErrors, ", "))
	case !slices.Contains(onLosses, p.onLoss):
		return fmt.Errorf("%s: choose one of %s", p.said("on-machine-loss", p.onLoss), strings.Join(onLosses, ", "))
	case p.timeout < 0, p.step < 0:
		return fmt.Errorf("%s, %s: a limit is not negative", p.said("timeout", p.timeout), p.said("step-timeout", p.step))
	case p.lease <= 0 || p.lease > bakehouse.MaxLease:
		return fmt.Errorf("%s: a build can wait for up to %s", p.said("lease", p.lease), bakehouse.MaxLease)
	case p.hold > bakehouse.MaxLease:
		return fmt.Errorf("%s: a build can be kept for up to %s", p.said("keep", p.hold), bakehouse.MaxLease)
	}
	return nil
}

// fit refuses what the template has no place for. What the environment asks
// for is meant for many templates: it holds where it can.
func (p *policy) fit(chains []template.Chain) error {
	if p.from["checkpoint"] != "" {
		return nil
	}
	return p.checkpoint.fit(chains)
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
		OnError: p.onError, OnMachineLoss: p.onLoss, Checkpoint: p.checkpoint.on, CheckpointAfter: p.checkpoint.after, Debug: p.debug,
		Timeout: bakehouse.Duration(p.timeout), StepTimeout: bakehouse.Duration(p.step),
		Lease: bakehouse.Duration(p.lease), Keep: bakehouse.Duration(hold),
	}
}
