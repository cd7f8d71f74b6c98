package main

import (
	"flag"
	"io"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/bakehouse-farm/bakehouse"
)

// What flags and the environment say becomes the policy of a submission; a flag
// wins.
func TestPolicy(t *testing.T) {
	base := bakehouse.Policy{
		OnError: "cleanup", OnMachineLoss: "fail",
		Lease: bakehouse.Duration(bakehouse.DefaultLease), Keep: bakehouse.Duration(time.Hour),
	}
	with := func(change func(*bakehouse.Policy)) bakehouse.Policy {
		p := base
		change(&p)
		return p
	}
	type P = *bakehouse.Policy
	tests := []struct {
		name    string
		args    []string
		environ []string
		want    bakehouse.Policy
	}{
		{"nothing", nil, nil, base},
		{"empty variables", nil, []string{"BAKEHOUSE_CHECKPOINT=", "BAKEHOUSE_LEASE="}, base},
		{"flag alone", []string{"-checkpoint"}, nil, with(func(p P) { p.Checkpoint = true })},
		{"true", []string{"-checkpoint=true"}, nil, with(func(p P) { p.Checkpoint = true })},
		{"all", []string{"--checkpoint=all"}, nil, with(func(p P) { p.Checkpoint = true })},
		{"none", []string{"-checkpoint", "-checkpoint=none"}, nil, base},
		{"words, in any order", []string{"-checkpoint=shell, packages,2,shell"}, nil, with(func(p P) {
			p.Checkpoint, p.CheckpointAfter = true, []string{"2", "packages", "shell"}
		})},
		{"environment", nil, []string{
			"BAKEHOUSE_CHECKPOINT=ansible", "BAKEHOUSE_ON_MACHINE_LOSS=restart", "BAKEHOUSE_ON_ERROR=ask",
			"BAKEHOUSE_TIMEOUT=3h", "BAKEHOUSE_STEP_TIMEOUT=1h", "BAKEHOUSE_LEASE=30m", "BAKEHOUSE_KEEP=2h",
		}, with(func(p P) {
			p.Checkpoint, p.CheckpointAfter, p.OnMachineLoss, p.OnError = true, []string{"ansible"}, "restart", "ask"
			p.Timeout, p.StepTimeout = bakehouse.Duration(3*time.Hour), bakehouse.Duration(time.Hour)
			p.Lease, p.Keep = bakehouse.Duration(30*time.Minute), bakehouse.Duration(2*time.Hour)
		})},
		{"flags win", []string{"-checkpoint=false", "-on-machine-loss=fail", "-on-error=abort"}, []string{
			"BAKEHOUSE_CHECKPOINT=ansible", "BAKEHOUSE_ON_MACHINE_LOSS=restart", "BAKEHOUSE_ON_ERROR=ask",
		}, with(func(p P) { p.OnError = "abort" })},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := flag.NewFlagSet("build", flag.ContinueOnError)
			f.SetOutput(io.Discard)
			var p policy
			p.flags(f)
			if err := f.Parse(tt.args); err != nil {
				t.Fatal(err)
			}
			if err := p.complete((&console{environ: tt.environ}).getenv); err != nil {
				t.Fatal(err)
			}
			if err := p.check(); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, p.of(false)); diff != "" {
				t.Error(diff)
			}
		})
	}
}
