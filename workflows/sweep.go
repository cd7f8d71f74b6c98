package workflows

import (
	"fmt"
	"time"

	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/bakehouse-farm/bakehouse"
	"github.com/bakehouse-farm/bakehouse/activities"
	"github.com/bakehouse-farm/bakehouse/builders"
)

// A SweepRequest is the input of workflow Sweep.
type SweepRequest struct {
	// Regions are those to look in; all of the account when there are none.
	Regions []string `json:"regions,omitempty"`
	// DryRun removes nothing.
	DryRun bool `json:"dry_run,omitempty"`
}

// Swept is what a sweep found.
type Swept struct {
	Found []Found `json:"found"`
}

// Found is one thing that a build owns, and what the sweep did about it.
type Found struct {
	builders.Owned
	Fate activities.Fate `json:"fate"`
	// Lost tells that no living build has a claim to it.
	Lost bool `json:"lost,omitempty"`
	// Removed tells that it was removed; Error why it could not be.
	Removed bool   `json:"removed,omitempty"`
	Error   string `json:"error,omitempty"`
}

// Sweep finds what belongs to no living build, and removes it.
//
// What a build that was terminated has left is removed at once, as nobody has
// decided to leave it. What has another reason to be there (-on-error=abort,
// a release that failed, another farm, a lost database) is removed when its
// time has come, as bakehouse:expires-at says. What a living build holds is
// never touched.
func Sweep(ctx workflow.Context, r SweepRequest) (Swept, error) {
	var owned []builders.Owned
	find := named(givesBack(ctx), "find")
	if err := workflow.ExecuteActivity(find, do.FindOwned, r.Regions).Get(find, &owned); err != nil {
		return Swept{}, plainly(err)
	}
	var ids []bakehouse.BuildID
	seen := map[bakehouse.BuildID]bool{}
	for _, o := range owned {
		if !seen[o.Build] {
			seen[o.Build] = true
			ids = append(ids, o.Build)
		}
	}
	fates := map[bakehouse.BuildID]activities.Fate{}
	if len(ids) > 0 {
		ask := named(asks(ctx), "fates")
		if err := workflow.ExecuteActivity(ask, do.Fates, ids).Get(ask, &fates); err != nil {
			return Swept{}, plainly(err)
		}
	}
	swept := Swept{Found: make([]Found, 0, len(owned))}
	for _, o := range owned {
		fate := fates[o.Build]
		lost := fate == activities.Broken || fate != activities.Living && !workflow.Now(ctx).Before(o.Expires)
		swept.Found = append(swept.Found, Found{Owned: o, Fate: fate, Lost: lost})
	}
	if !r.DryRun {
		remove(ctx, swept.Found)
	}
	return swept, nil
}

// remove sweeps each build once in each region that it has left something in.
// A build has one time at which all that it holds expires.
func remove(ctx workflow.Context, found []Found) {
	type place struct {
		region string
		build  bakehouse.BuildID
	}
	ended := map[place]error{}
	n := 0
	for i := range found {
		f := &found[i]
		if !f.Lost {
			continue
		}
		at := place{f.Region, f.Build}
		err, done := ended[at]
		if !done {
			n++
			sweep := named(givesBack(ctx), fmt.Sprintf("sweep-%d", n))
			err = workflow.ExecuteActivity(sweep, do.SweepBuild, f.Region, f.Build).Get(sweep, nil)
			ended[at] = err
		}
		if err != nil {
			f.Error = cause(err)
		}
		f.Removed = err == nil
	}
}

// named gives an activity its ID. A sweep is worth a few minutes of trying: the
// next one comes.
func named(ctx workflow.Context, id string) workflow.Context {
	o := workflow.GetActivityOptions(ctx)
	o.ActivityID = id
	o.ScheduleToCloseTimeout = 30 * time.Minute
	return workflow.WithActivityOptions(ctx, o)
}

// plainly makes a failure one that is shown as it is.
func plainly(err error) error {
	if temporal.IsCanceledError(err) {
		return err
	}
	return temporal.NewApplicationErrorWithOptions(cause(err), string(kind(err)), temporal.ApplicationErrorOptions{NonRetryable: true})
}
