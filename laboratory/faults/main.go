// Command faults runs the fault laboratory: real processes, faults at seeded
// moments, and a table of what they did to builds. Its exit status is 1 when
// anything is not as it should be.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/bakehouse-farm/bakehouse/laboratory"
)

func main() {
	good, err := run(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "Error:", err)
	}
	if err != nil || !good {
		os.Exit(1)
	}
}

func run(args []string) (good bool, err error) {
	f := flag.NewFlagSet("faults", flag.ContinueOnError)
	var c laboratory.Config
	f.StringVar(&c.Bin, "bin", "bin", "`folder` with our programs")
	f.StringVar(&c.Agent, "agent", "", "another agent than that in -bin")
	f.StringVar(&c.Next, "next", "", "an agent of another version, for upgrades in the middle of builds")
	f.StringVar(&c.Dir, "dir", "", "`folder` to keep everything in (default: a temporary one)")
	f.IntVar(&c.Faults, "n", 100, "how many faults to inject")
	f.Uint64Var(&c.Seed, "seed", 1, "what the plan follows from")
	f.IntVar(&c.Parallel, "parallel", 6, "builds at once")
	f.IntVar(&c.First, "first", 1, "number of the first build of the plan")
	f.IntVar(&c.Builds, "builds", 0, "the most builds to begin (default: as many as it takes)")
	packer := f.Int("packer", 0, "then try each fault that applies on Debian's packer, so `often`")
	away := f.Duration("away", 0, "instead, let the server be away for so `long` in the middle of a script")
	kinds := f.String("kinds", "", "only these kinds of faults, joined by commas")
	if err := f.Parse(args); err != nil {
		return false, err
	}
	if *kinds != "" {
		c.Kinds = strings.Split(*kinds, ",")
	}
	if c.Bin, err = filepath.Abs(c.Bin); err != nil {
		return false, err
	}
	c.Progress = os.Stderr
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if *away > 0 {
		c.Recipe = laboratory.AwayRecipe(c.Seed, *away)
		c.Faults, c.Builds = 1, 1
	}
	if c.Faults > 0 {
		report, err := laboratory.Run(ctx, c)
		if err != nil {
			return false, err
		}
		report.Write(os.Stdout)
		good = report.Good()
	}
	if _, err := exec.LookPath("packer"); *packer > 0 && err != nil && ctx.Err() == nil {
		fmt.Println("\nnot compared with Debian's packer, which is not installed (apt-get install packer)")
	} else if *packer > 0 && ctx.Err() == nil {
		table, notes, err := laboratory.RunPacker(ctx, laboratory.PackerConfig{Bin: c.Bin, Trials: *packer, Seed: c.Seed, Progress: os.Stderr})
		if err != nil {
			return false, err
		}
		laboratory.WritePacker(os.Stdout, table, notes)
	}
	return good || c.Faults == 0, nil
}
