// Package agent is the process in a VPC. It polls the task queue of its pool,
// does what builds ask for, and when told to stop lets go of what it follows,
// so that another agent of the pool takes over at once. It needs no inbound
// connection.
package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"go.temporal.io/api/enums/v1"
	"go.temporal.io/api/operatorservice/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/log"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"
	"gocloud.dev/blob"

	"github.com/bakehouse-farm/bakehouse/activities"
	"github.com/bakehouse-farm/bakehouse/agent/buildlog"
	"github.com/bakehouse-farm/bakehouse/agent/bundle"
	"github.com/bakehouse-farm/bakehouse/agent/secret"
	"github.com/bakehouse-farm/bakehouse/builders"
	"github.com/bakehouse-farm/bakehouse/postprocessors"
	"github.com/bakehouse-farm/bakehouse/provisioners"
	"github.com/bakehouse-farm/bakehouse/template"
	"github.com/bakehouse-farm/bakehouse/workflows"
)

// Config says what an agent is.
type Config struct {
	// Pool is the task queue to poll. Required.
	Pool string
	// Temporal says how to reach the farm; its DataConverter and FailureConverter
	// are set from Keys.
	Temporal client.Options
	// Store is the gocloud.dev/blob URL that bundles and logs are kept at. Required.
	Store string
	// Keys encrypt payloads and blobs. Required.
	Keys *secret.Keys
	// State is a folder for unpacked bundles. Required; may be shared by agents.
	State string
	// Unused is how long an unpacked bundle stays that no step uses; 0 means 24 h.
	// On a disk that is nearly full, it goes at once.
	Unused time.Duration
	// Slots is how many steps the agent works on at a time; 0 means 500. A step
	// that waits costs next to nothing.
	Slots int
	// Drain is how long steps have to let go when the agent stops; 0 means 10 s.
	Drain time.Duration
	// Components are what templates may name, by type.
	Template       template.Catalogue
	Builders       map[string]builders.Builder
	Provisioners   map[string]provisioners.Provisioner
	PostProcessors map[string]postprocessors.PostProcessor
	// Machines reaches machines.
	Machines activities.Machines
	// Deployment is the name of the Temporal worker deployment that the agent is
	// part of; empty: none, and any agent goes on with any build. Version is that
	// of its workflows; 0 means workflows.Version.
	Deployment string
	Version    int
	// Traces sends the trace of a submission that has ended; nil: nobody asked
	// for traces.
	Traces Sender
	// Ready is called once the agent polls; may be nil.
	Ready func()
	// Log is the agent's own log; nil means slog.Default().
	Log *slog.Logger
}

// Run works until ctx ends, then drains and returns nil. It waits for a server
// that is away, and for a store whose disk is full. It returns an error when it
// can never begin (a wrong address or namespace, credentials that are refused),
// or when the farm sends it away for good.
func Run(ctx context.Context, c Config) error {
	if c.Log == nil {
		c.Log = slog.Default()
	}
	if c.Slots == 0 {
		c.Slots = 500
	}
	if c.Unused == 0 {
		c.Unused = 24 * time.Hour
	}
	if c.Drain == 0 {
		c.Drain = 10 * time.Second
	}
	cache := filepath.Join(c.State, "bundles")
	if err := os.MkdirAll(cache, 0o700); err != nil {
		return fmt.Errorf("state folder: %w (choose another with -state or BAKEHOUSE_AGENT_STATE)", err)
	}
	var bucket *blob.Bucket
	err := persist(ctx, c.Log, "the blob store", func(ctx context.Context) (err error) {
		bucket, err = bundle.OpenBucket(ctx, c.Store)
		return err
	})
	if err != nil {
		return stopped(ctx, err)
	}
	defer bucket.Close()

	c.Temporal.DataConverter = secret.DataConverter(c.Keys)
	c.Temporal.FailureConverter = secret.FailureConverter(c.Keys)
	c.Temporal.Logger = log.NewStructuredLogger(c.Log)
	farm, err := reach(ctx, c.Temporal, c.Log)
	if err != nil {
		return stopped(ctx, err)
	}
	defer farm.Close()

	var traces activities.Traces // stays nil when nobody asked
	if c.Traces != nil {
		t := newTraces(farm, c.Temporal.DataConverter, c.Traces, c.Log)
		defer t.close()
		traces = t
	}
	c.Version = cmp.Or(c.Version, workflows.Version)
	acts := activities.New(activities.Config{
		Template: c.Template, Builders: c.Builders, Provisioners: c.Provisioners, PostProcessors: c.PostProcessors,
		Machines: c.Machines, Bundles: bundle.New(bucket, c.Keys), Logs: buildlog.New(bucket, c.Keys), Cache: cache,
		Traces: traces, Farm: registrar{farm, c.Temporal.Namespace, c.Temporal.DataConverter},
	})
	fatal := make(chan error, 1)
	var w worker.Worker
	// The server may go again before the first poll. A worker starts only once.
	if err := persist(ctx, c.Log, "pool "+c.Pool, func(context.Context) error {
		w = c.worker(farm, acts, fatal)
		if err := w.Start(); err != nil {
			return refused(fmt.Errorf("poll pool %q: %w", c.Pool, err))
		}
		return nil
	}); err != nil {
		return stopped(ctx, err)
	}
	go tidy(ctx, cache, c.Unused, c.Log)
	if c.Deployment != "" {
		go promote(ctx, farm, c.Deployment, c.Version, c.Log)
	}
	if c.Ready != nil {
		c.Ready()
	}
	select {
	case <-ctx.Done():
	case err = <-fatal:
		err = fmt.Errorf("the farm sends this agent away: %w", err)
	}
	c.Log.Info("agent lets go of its steps", "pool", c.Pool, "within", c.Drain)
	w.Stop()
	return err
}

// worker is what polls for the agent; fatal gets what ends the polling for good.
func (c Config) worker(farm client.Client, acts *activities.Activities, fatal chan<- error) worker.Worker {
	w := worker.New(farm, c.Pool, versioned(worker.Options{
		MaxConcurrentActivityExecutionSize: c.Slots,
		// A step that beats rarely hears of a cancellation late.
		MaxHeartbeatThrottleInterval:     2 * time.Second,
		DefaultHeartbeatThrottleInterval: 2 * time.Second,
		WorkerStopTimeout:                c.Drain,
		// After a crash, the next agent gets the build's next decision this soon.
		StickyScheduleToStartTimeout: 2 * time.Second,
		DisableRegistrationAliasing:  true,
		OnFatalError: func(err error) {
			select {
			case fatal <- err:
			default: // one is enough
			}
		},
	}, c.Deployment, c.Version))
	w.RegisterWorkflowWithOptions(workflows.Submission, workflow.RegisterOptions{Name: "Submission"})
	w.RegisterWorkflowWithOptions(workflows.Build, workflow.RegisterOptions{Name: "Build"})
	w.RegisterWorkflowWithOptions(workflows.Sweep, workflow.RegisterOptions{Name: "Sweep"})
	w.RegisterWorkflowWithOptions(workflows.Prune, workflow.RegisterOptions{Name: "Prune"})
	w.RegisterActivityWithOptions(acts, activity.RegisterOptions{SkipInvalidStructFunctions: true})
	return w
}

// stopped forgives what failed because the agent was told to stop.
func stopped(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// register makes sure that the farm knows the attributes by which builds are
// found: without them no build can begin.
func register(ctx context.Context, farm client.Client, namespace string) error {
	if namespace == "" {
		namespace = client.DefaultNamespace
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	known, err := farm.OperatorService().ListSearchAttributes(ctx, &operatorservice.ListSearchAttributesRequest{Namespace: namespace})
	if err != nil {
		return fmt.Errorf("read search attributes of namespace %q: %w", namespace, err)
	}
	missing := map[string]enums.IndexedValueType{}
	for _, key := range []temporal.SearchAttributeKeyKeyword{
		workflows.AttributeTemplate, workflows.AttributePool, workflows.AttributeSource, workflows.AttributeSubmission,
		workflows.AttributeState,
	} {
		if _, ok := known.CustomAttributes[key.GetName()]; !ok {
			missing[key.GetName()] = enums.INDEXED_VALUE_TYPE_KEYWORD
		}
	}
	if len(missing) == 0 {
		return nil
	}
	_, err = farm.OperatorService().AddSearchAttributes(ctx, &operatorservice.AddSearchAttributesRequest{Namespace: namespace, SearchAttributes: missing})
	var exists *serviceerror.AlreadyExists
	if err != nil && !errors.As(err, &exists) {
		return fmt.Errorf("add search attributes to namespace %q (ask the farm's operator to register them as Keyword: BakehouseTemplate, BakehousePool, BakehouseSource, BakehouseSubmission, BakehouseState): %w", namespace, err)
	}
	return nil
}
