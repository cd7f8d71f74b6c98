package agent

import (
	"context"
	"errors"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"

	"github.com/bakehouse-farm/bakehouse"
	"github.com/bakehouse-farm/bakehouse/activities"
	"github.com/bakehouse-farm/bakehouse/workflows"
)

// A registrar knows what has become of builds, from Temporal's own record.
type registrar struct {
	farm      client.Client
	namespace string
	data      converter.DataConverter
}

// Fate implements activities.Farm.
func (r registrar) Fate(ctx context.Context, id bakehouse.BuildID) (activities.Fate, error) {
	fate := activities.Unknown
	for _, workflow := range []string{string(id), workflows.KeptID(id)} {
		d, err := r.farm.DescribeWorkflowExecution(ctx, workflow, "")
		var unknown *serviceerror.NotFound
		if errors.As(err, &unknown) {
			continue
		}
		if err != nil {
			return "", err
		}
		switch d.GetWorkflowExecutionInfo().GetStatus() {
		case enumspb.WORKFLOW_EXECUTION_STATUS_RUNNING, enumspb.WORKFLOW_EXECUTION_STATUS_CONTINUED_AS_NEW, enumspb.WORKFLOW_EXECUTION_STATUS_PAUSED:
			return activities.Living, nil
		case enumspb.WORKFLOW_EXECUTION_STATUS_TERMINATED, enumspb.WORKFLOW_EXECUTION_STATUS_TIMED_OUT:
			fate = activities.Broken
		default:
			if fate == activities.Unknown {
				fate = activities.Ended
			}
		}
	}
	return fate, nil
}
