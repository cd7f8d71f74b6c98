package workflows_test

import (
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/workflow"

	"github.com/bakehouse-farm/bakehouse"
	"github.com/bakehouse-farm/bakehouse/activities"
	"github.com/bakehouse-farm/bakehouse/builders"
	"github.com/bakehouse-farm/bakehouse/workflows"
)

// A yard is a platform on which things have been left.
type yard struct {
	*oven
	owned []builders.Owned
	swept []string
	fail  map[string]error
}

func (y *yard) Regions(context.Context) ([]string, error) { return []string{"east", "west"}, nil }

func (y *yard) Owned(_ context.Context, region string) ([]builders.Owned, error) {
	var out []builders.Owned
	for _, o := range y.owned {
		if o.Region == region {
			out = append(out, o)
		}
	}
	return out, nil
}

func (y *yard) Sweep(_ context.Context, region string, id bakehouse.BuildID) error {
	y.swept = append(y.swept, region+" "+string(id))
	return y.fail[string(id)]
}

type fates map[bakehouse.BuildID]activities.Fate

func (f fates) Fate(_ context.Context, id bakehouse.BuildID) (activities.Fate, error) {
	if fate, ok := f[id]; ok {
		return fate, nil
	}
	return activities.Unknown, nil
}

// A sweep removes what no living build has a claim to, and nothing else.
func TestSweep(t *testing.T) {
	past, future := time.Now().Add(-time.Hour), time.Now().Add(1000*time.Hour)
	thing := func(build, region string, expires time.Time) builders.Owned {
		return builders.Owned{Build: bakehouse.BuildID(build), Region: region, Kind: "instance", ID: "i-" + build, Expires: expires}
	}
	owned := []builders.Owned{
		thing("runs", "east", future), thing("runs-long", "east", past),
		thing("terminated", "east", future), thing("terminated", "west", future), thing("terminated", "west", future),
		thing("aborted", "east", future), thing("aborted-long-ago", "east", past),
		thing("foreign", "west", future), thing("forgotten", "west", past), thing("stuck", "west", past),
	}
	known := fates{
		"runs": activities.Living, "runs-long": activities.Living, "terminated": activities.Broken,
		"aborted": activities.Ended, "aborted-long-ago": activities.Ended, "stuck": activities.Ended,
	}
	tests := []struct {
		name    string
		request workflows.SweepRequest
		want    []string
	}{
		{"all", workflows.SweepRequest{}, []string{"east terminated", "east aborted-long-ago", "west terminated", "west forgotten", "west stuck"}},
		{"one region", workflows.SweepRequest{Regions: []string{"west"}}, []string{"west terminated", "west forgotten", "west stuck"}},
		{"dry run", workflows.SweepRequest{DryRun: true}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			y := &yard{oven: newOven(), owned: owned, fail: map[string]error{"stuck": bakehouse.Errorf(bakehouse.Denied, "may not delete")}}
			env := new(testsuite.WorkflowTestSuite).NewTestWorkflowEnvironment()
			env.SetStartTime(time.Now())
			env.RegisterWorkflowWithOptions(workflows.Sweep, workflow.RegisterOptions{Name: "Sweep"})
			env.RegisterActivity(activities.New(activities.Config{Builders: map[string]builders.Builder{"yard": y}, Farm: known}))
			env.ExecuteWorkflow(workflows.Sweep, tt.request)
			var got workflows.Swept
			if err := env.GetWorkflowResult(&got); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, y.swept); diff != "" {
				t.Errorf("swept (-want +got):\n%s", diff)
			}
			for _, f := range got.Found {
				if f.Removed != (f.Lost && !tt.request.DryRun && f.Build != "stuck") || (f.Error != "") != (f.Build == "stuck" && !tt.request.DryRun) {
					t.Errorf("report: %+v", f)
				}
			}
		})
	}
}
