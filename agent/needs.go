package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	commonpb "go.temporal.io/api/common/v1"
	enumspb "go.temporal.io/api/enums/v1"
	historypb "go.temporal.io/api/history/v1"
	"go.temporal.io/api/proxy"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/converter"

	"github.com/bakehouse-farm/bakehouse"
	"github.com/bakehouse-farm/bakehouse/activities"
	"github.com/bakehouse-farm/bakehouse/agent/bundle"
)

// Needs implements activities.Memory. What a history names counts as needed,
// wherever it does: so nothing has to be added here when something new is put
// into the store.
func (r registrar) Needs(ctx context.Context, since time.Time) (activities.Needs, error) {
	needs := activities.Needs{Logs: map[bakehouse.BuildID]bool{}}
	query := fmt.Sprintf("(WorkflowType = 'Submission' OR WorkflowType = 'Build') AND (ExecutionStatus = 'Running' OR CloseTime >= '%s')", since.UTC().Format(time.RFC3339Nano))
	seen := map[bundle.Digest]bool{}
	var token []byte
	for {
		page, err := r.farm.ListWorkflow(ctx, &workflowservice.ListWorkflowExecutionsRequest{Namespace: r.namespace, Query: query, NextPageToken: token})
		if err != nil {
			return needs, fmt.Errorf("ask the farm for its builds: %w", err)
		}
		for _, e := range page.GetExecutions() {
			id := e.GetExecution().GetWorkflowId()
			needs.Logs[bakehouse.BuildID(id)] = true
			it := r.farm.GetWorkflowHistory(ctx, id, e.GetExecution().GetRunId(), false, enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
			for it.HasNext() {
				event, err := it.Next()
				if err == nil {
					err = needed(ctx, event, r.data, needs.Logs, seen)
				}
				if err != nil {
					return needs, fmt.Errorf("what %s needs is not known: %w", id, err)
				}
			}
		}
		if token = page.GetNextPageToken(); len(token) == 0 {
			break
		}
	}
	for d := range seen {
		needs.Blobs = append(needs.Blobs, d)
	}
	return needs, nil
}

// needed notes down the blobs that an event names, and the builds whose logs
// belong to it: children, and the build and submission of a build that is kept.
func needed(ctx context.Context, e *historypb.HistoryEvent, data converter.DataConverter, logs map[bakehouse.BuildID]bool, blobs map[bundle.Digest]bool) error {
	if a := e.GetStartChildWorkflowExecutionInitiatedEventAttributes(); a != nil {
		logs[bakehouse.BuildID(a.GetWorkflowId())] = true
	}
	begun := e.GetWorkflowExecutionStartedEventAttributes() != nil
	return proxy.VisitPayloads(ctx, e, proxy.VisitPayloadsOptions{
		SkipSearchAttributes: true,
		Visitor: func(_ *proxy.VisitPayloadsContext, payloads []*commonpb.Payload) ([]*commonpb.Payload, error) {
			for _, p := range payloads {
				var text json.RawMessage
				if err := data.FromPayload(p, &text); err != nil {
					return nil, err
				}
				for _, d := range bundle.Digests(text) {
					blobs[d] = true
				}
				var request struct {
					Build bakehouse.Build `json:"build"`
				}
				if begun && json.Unmarshal(text, &request) == nil && request.Build.ID != "" {
					logs[request.Build.ID] = true
					logs[bakehouse.BuildID(request.Build.Submission)] = true
				}
			}
			return payloads, nil
		},
	})
}
