package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/bakehouse-farm/bakehouse/cmd/submit/farm"
	"github.com/bakehouse-farm/bakehouse/cmd/submit/local"
	"github.com/bakehouse-farm/bakehouse/cmd/submit/ui"
)

var localTopic = topic{
	name: "local", args: "start|status|stop|env|COMMAND ...", least: 1, most: -1,
	summary: "look after the farm on this machine that -local uses",
	text: `
With -local, submit starts three processes in the background and leaves them
for the next time: an embedded Temporal server, localcloud and one agent.

  local start    start what does not run
  local status   say what runs, and where
  local stop     stop them. What they were doing goes on when they are started
                 again; the instances of localcloud are terminated unless a
                 build is running (-all: even then)
  local env      print what points the AWS CLI, SDKs and Packer at localcloud:
                 eval "$(submit local env)"
  local images|instances|import|rm|export|shell|run|terminate|reset ...
                 the commands of localcloud, for this localcloud
  local faults|machine|record|census ...
                 those that break it, and that show what was asked and is left`,
	exits: `  0  done; for status: all processes run
  1  it could not be done; for status: not all processes run
`,
	make: func() command { return new(locally) },
}

type locally struct {
	state string
	all   bool
}

func (l *locally) flags(f *flag.FlagSet) {
	f.StringVar(&l.state, "state", "", "the `folder` that everything is kept in ($BAKEHOUSE_STATE, else /var/lib/bakehouse)")
	f.BoolVar(&l.all, "all", false, "with stop, terminate the instances of running builds, too")
}

func (l *locally) run(ctx context.Context, c *console, args []string) error {
	what, args := args[0], args[1:]
	if slices.Contains([]string{"start", "status", "stop", "env"}, what) {
		f := flag.NewFlagSet("submit local "+what, flag.ContinueOnError)
		f.SetOutput(c.err)
		l.flags(f)
		// Flags may stand behind the word; those before it keep their values.
		state, all := l.state, l.all
		if err := f.Parse(args); err != nil {
			return failed
		}
		l.state, l.all = cmp.Or(l.state, state), l.all || all
		if f.NArg() > 0 {
			return fmt.Errorf("local %s takes no arguments: %s", what, strings.Join(f.Args(), " "))
		}
	}
	u := new(look).ui(c)
	config, err := localConfig(l.state, u.Say)
	if err != nil {
		return err
	}
	switch what {
	case "start":
		set, err := local.Start(ctx, config)
		if err != nil {
			return err
		}
		fmt.Fprintf(c.out, "Temporal is at %s (%s), localcloud at %s.\n", set.Address, set.UI, set.Endpoint)
		return nil
	case "status":
		return l.status(c, config)
	case "stop":
		return l.stop(ctx, c, config)
	case "env":
		return l.env(c, config)
	case "images", "instances", "import", "export", "shell", "run", "rm", "terminate", "reset",
		"faults", "machine", "record", "census":
		return l.cloud(ctx, c, config, what, args)
	}
	return fmt.Errorf("local has no command %q: start, status, stop, env, or one of localcloud's", what)
}

func (l *locally) status(c *console, config local.Config) error {
	all, err := local.Inspect(config)
	if err != nil {
		return err
	}
	fmt.Fprintf(c.out, "State folder: %s\n", config.State)
	t := tabwriter.NewWriter(c.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "PROCESS\tSTATUS\tPID\tADDRESS\tLOG")
	missing := 0
	for _, s := range all {
		if !s.Running {
			missing++
			fmt.Fprintf(t, "%s\tnot running\t\t\t%s\n", s.Name, s.Log)
			continue
		}
		where := s.Address
		if s.UI != "" {
			where += ", web UI http://" + s.UI
		}
		fmt.Fprintf(t, "%s\trunning for %s\t%d\t%s\t%s\n", s.Name, ui.Short(time.Since(s.Started)), s.PID, where, s.Log)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if missing > 0 {
		return failed
	}
	return nil
}

func (l *locally) stop(ctx context.Context, c *console, config local.Config) error {
	busy := 0
	if !l.all {
		busy = running(ctx, config)
	}
	stopped, err := local.Stop(ctx, config, func(*local.Set) {
		if busy != 0 {
			return // their machines are needed when they go on
		}
		out, err := l.localcloud(ctx, config, "terminate").CombinedOutput()
		if err != nil {
			fmt.Fprintf(c.err, "Instances could not be terminated: %v\n%s", err, out)
		}
	})
	if err != nil {
		return err
	}
	if len(stopped) == 0 {
		fmt.Fprintf(c.out, "Nothing runs in %s.\n", config.State)
		return nil
	}
	fmt.Fprintf(c.out, "Stopped %s.\n", strings.Join(stopped, ", "))
	if busy > 0 {
		fmt.Fprintf(c.out, "%d running submissions go on, with their instances, after: submit local start\n", busy)
	}
	return nil
}

// running counts the submissions that have not ended. It is -1 when that cannot
// be told because the server does not run, but there was one.
func running(ctx context.Context, config local.Config) int {
	set, err := local.Join(config)
	if err != nil {
		if s, ierr := local.Inspect(config); ierr == nil && s[0].PID == 0 {
			return 0
		}
		return -1
	}
	f, err := farm.Open(ctx, farm.Config{Address: set.Address, Key: set.Key, Store: set.Store, Plain: true})
	if err != nil {
		return -1
	}
	defer f.Close()
	entries, err := f.List(ctx, "", true, 100)
	if err != nil {
		return -1
	}
	return len(entries)
}

func (l *locally) env(c *console, config local.Config) error {
	set, err := local.Join(config)
	if err != nil {
		return err
	}
	for _, v := range [][2]string{
		{"AWS_ENDPOINT_URL", set.Endpoint},
		{"AWS_ACCESS_KEY_ID", "local"},
		{"AWS_SECRET_ACCESS_KEY", "local"},
		{"AWS_REGION", cmp.Or(c.getenv("AWS_REGION"), "us-east-1")},
		{"AWS_EC2_METADATA_DISABLED", "true"},
		{"BAKEHOUSE_LOCALCLOUD_DIR", filepath.Join(config.State, "cloud")},
		{"TEMPORAL_ADDRESS", set.Address},
		{"BAKEHOUSE_STORE", set.Store},
		{"BAKEHOUSE_KEY", set.Key},
		{"BAKEHOUSE_POOL", local.Pool},
	} {
		fmt.Fprintf(c.out, "export %s='%s'\n", v[0], strings.ReplaceAll(v[1], "'", `'\''`))
	}
	return nil
}

// cloud runs a command of localcloud.
func (l *locally) cloud(ctx context.Context, c *console, config local.Config, what string, args []string) error {
	cmd := l.localcloud(ctx, config, what, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = c.in, c.out, c.err
	err := cmd.Run()
	var ended *exec.ExitError
	if errors.As(err, &ended) {
		return exit(max(ended.ExitCode(), 1))
	}
	return err
}

func (l *locally) localcloud(ctx context.Context, config local.Config, what string, args ...string) *exec.Cmd {
	name := "localcloud"
	if self, err := os.Executable(); err == nil {
		if self, err = filepath.EvalSymlinks(self); err == nil {
			name = filepath.Join(filepath.Dir(self), name)
		}
	}
	cmd := exec.CommandContext(ctx, name, append([]string{what}, args...)...)
	cmd.Env = append(os.Environ(), "BAKEHOUSE_LOCALCLOUD_DIR="+filepath.Join(config.State, "cloud"),
		"AWS_ACCESS_KEY_ID=local", "AWS_SECRET_ACCESS_KEY=local")
	if set, err := local.Join(config); err == nil {
		cmd.Env = append(cmd.Env, "AWS_ENDPOINT_URL="+set.Endpoint, "AWS_ENDPOINT_URL_EC2="+set.Endpoint)
	}
	return cmd
}
