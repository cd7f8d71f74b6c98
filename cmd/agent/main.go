// Command agent works on the builds of one pool until it is told to stop.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"go.temporal.io/sdk/contrib/envconfig"

	"github.com/bakehouse-farm/bakehouse/agent"
	"github.com/bakehouse-farm/bakehouse/agent/secret"
	"github.com/bakehouse-farm/bakehouse/cmd/catalogue"
	"github.com/bakehouse-farm/bakehouse/timeline/export"
	"github.com/bakehouse-farm/bakehouse/workflows"
)

const usage = `Usage: agent [flags]

An agent works on the builds of one pool: it polls the farm's Temporal server
for steps, launches machines with the AWS credentials it finds (environment,
profile, instance role), and reaches them by SSH. It needs no inbound
connection. SIGTERM makes it let go of what it follows; another agent of the
pool takes over at once.

Temporal is found by -address or the TEMPORAL_* variables; an agent that is
started before it waits for it. Traces go where the
OTEL_* variables say.

Exit status: 0 told to stop, 1 could not work, 2 wrong flags.

Flags:
`

func main() {
	if err := run(os.Args[1:], os.Stderr); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return
		}
		fmt.Fprintln(os.Stderr, "Error:", err)
		os.Exit(1)
	}
}

func run(args []string, stderr io.Writer) error {
	flags := flag.NewFlagSet("agent", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() {
		fmt.Fprint(stderr, usage)
		flags.PrintDefaults()
	}
	pool := flags.String("pool", cmp.Or(os.Getenv("BAKEHOUSE_POOL"), "default"), "task queue of the pool to work for ($BAKEHOUSE_POOL)")
	store := flags.String("store", os.Getenv("BAKEHOUSE_STORE"), "URL of the blob store for bundles and logs: file:///folder, s3://bucket ($BAKEHOUSE_STORE)")
	key := flags.String("key", os.Getenv("BAKEHOUSE_KEY"), "file with the keys that encrypt payloads and blobs ($BAKEHOUSE_KEY)")
	state := flags.String("state", cmp.Or(os.Getenv("BAKEHOUSE_AGENT_STATE"), filepath.Join(os.TempDir(), "bakehouse-agent")), "folder for unpacked bundles ($BAKEHOUSE_AGENT_STATE)")
	unused := flags.Duration("keep-bundles", 24*time.Hour, "how long an unpacked bundle stays in the state folder that no step uses; it goes at once when the disk is nearly full")
	address := flags.String("address", "", "host:port of the Temporal frontend ($TEMPORAL_ADDRESS)")
	slots := flags.Int("slots", 0, "most steps at a time (0: 500)")
	deployment := flags.String("deployment", os.Getenv("BAKEHOUSE_DEPLOYMENT"), "name of the Temporal worker deployment that the agents of the pool form: builds are then finished by agents of the version that they began with ($BAKEHOUSE_DEPLOYMENT)")
	version := flags.Int("workflow-version", workflows.Version, "version of the workflows that this agent says it has; for trials of upgrades")
	level := flags.String("log-level", "info", "debug, info, warn or error")
	if err := flags.Parse(args); err != nil {
		if !errors.Is(err, flag.ErrHelp) {
			os.Exit(2)
		}
		return err
	}
	var threshold slog.Level
	if err := threshold.UnmarshalText([]byte(*level)); err != nil {
		return fmt.Errorf("-log-level: %w", err)
	}
	log := slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: threshold}))
	slog.SetDefault(log)
	if *store == "" {
		return errors.New("no blob store: set -store or BAKEHOUSE_STORE, the same as for submit (file:///folder, s3://bucket)")
	}
	if *key == "" {
		return errors.New("no key file: set -key or BAKEHOUSE_KEY, the same as for submit")
	}
	keys, err := secret.Load(*key)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("no key file %s: copy the one that submitters have there, or make the farm's first with: submit key %s", *key, *key)
	}
	if err != nil {
		return err
	}
	options, err := envconfig.LoadDefaultClientOptions()
	if err != nil {
		return fmt.Errorf("read TEMPORAL_* variables: %w", err)
	}
	if *address != "" {
		options.HostPort = *address
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	flush, err := trace(ctx)
	if err != nil {
		return err
	}
	defer flush()
	var traces agent.Sender
	if export.Asked(os.Environ()) {
		traces = export.Send
	}
	return agent.Run(ctx, agent.Config{
		Pool: *pool, Temporal: options, Store: *store, Keys: keys, State: *state, Unused: *unused, Slots: *slots,
		Template: catalogue.Template(), Builders: catalogue.Builders(),
		Provisioners: catalogue.Provisioners(), PostProcessors: catalogue.PostProcessors(),
		Machines: machines{}, Traces: traces, Log: log, Deployment: *deployment, Version: *version,
		Ready: func() { fmt.Fprintf(stderr, "agent is polling pool %s\n", *pool) },
	})
}
