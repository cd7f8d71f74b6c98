package farm

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/workflowservice/v1"
)

// An agent's poll is answered within a minute even when there is nothing to do,
// so one that lives was seen within this time.
const pollsWithin = 75 * time.Second

// ErrNoAgent tells that nobody works for a pool.
var ErrNoAgent = errors.New("no agent")

// CheckPool returns an error that is ErrNoAgent, and names the pools that have
// agents as far as they are known, when no agent polls the pool. patience is
// how long it waits for one to appear.
func (f *Farm) CheckPool(ctx context.Context, pool string, patience time.Duration) error {
	deadline := time.Now().Add(patience)
	for {
		n, err := f.agents(ctx, pool)
		switch {
		case err != nil:
			return fmt.Errorf("ask who works for pool %q: %w", pool, err)
		case n > 0:
			return nil
		case time.Now().After(deadline):
			return fmt.Errorf("%w works for pool %q%s", ErrNoAgent, pool, f.suggest(ctx, pool))
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// agents counts who polls for the steps and the decisions of a pool.
func (f *Farm) agents(ctx context.Context, pool string) (int, error) {
	least := -1
	for _, typ := range []enumspb.TaskQueueType{enumspb.TASK_QUEUE_TYPE_WORKFLOW, enumspb.TASK_QUEUE_TYPE_ACTIVITY} {
		d, err := f.client.DescribeTaskQueue(ctx, pool, typ)
		if err != nil {
			return 0, err
		}
		n := 0
		for _, p := range d.GetPollers() {
			if time.Since(p.GetLastAccessTime().AsTime()) < pollsWithin {
				n++
			}
		}
		if least < 0 || n < least {
			least = n
		}
	}
	return least, nil
}

// suggest says which other pools have agents. It is a courtesy: what cannot be
// found out is left out.
func (f *Farm) suggest(ctx context.Context, not string) string {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	var alive []string
	for _, pool := range f.knownPools(ctx) {
		if n, err := f.agents(ctx, pool); pool != not && err == nil && n > 0 {
			alive = append(alive, pool)
		}
	}
	if len(alive) == 0 {
		return fmt.Sprintf(" (start one: agent -pool %s -address %s)", not, f.Address)
	}
	return "; pools with agents: " + strings.Join(alive, ", ") + " (choose with -pool or BAKEHOUSE_POOL)"
}

// knownPools lists pools that agents report or that submissions went to.
func (f *Farm) knownPools(ctx context.Context) []string {
	var pools []string
	add := func(pool string) {
		if pool != "" && !slices.Contains(pools, pool) && len(pools) < 20 {
			pools = append(pools, pool)
		}
	}
	api := f.client.WorkflowService()
	if r, err := api.ListWorkers(ctx, &workflowservice.ListWorkersRequest{Namespace: f.Namespace, PageSize: 100}); err == nil {
		for _, w := range r.GetWorkers() {
			add(w.GetTaskQueue())
		}
	}
	r, err := api.ListWorkflowExecutions(ctx, &workflowservice.ListWorkflowExecutionsRequest{
		Namespace: f.Namespace, PageSize: 200, Query: "WorkflowType = 'Submission'",
	})
	if err == nil {
		for _, e := range r.GetExecutions() {
			add(e.GetTaskQueue())
		}
	}
	slices.Sort(pools)
	return pools
}
