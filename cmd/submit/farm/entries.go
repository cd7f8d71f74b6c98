package farm

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	workflowpb "go.temporal.io/api/workflow/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/converter"
)

// Names of the two workflows.
const (
	submissionType = "Submission"
	buildType      = "Build"
)

// An Entry is a submission or a build as lists show it.
type Entry struct {
	ID  string `json:"id"`
	Run string `json:"run"`
	// Submission is the submission's ID: the entry's own when it is one.
	Submission string `json:"submission"`
	// IsBuild tells a build from a submission.
	IsBuild bool   `json:"is_build,omitempty"`
	Pool    string `json:"pool"`
	// Template is the template's title, Source a build's name.
	Template string `json:"template,omitempty"`
	Source   string `json:"source,omitempty"`
	// Status is running, done, failed, cancelled, terminated or timed out.
	Status  string    `json:"status"`
	Started time.Time `json:"started"`
	// State is "parked" while a build waits for somebody.
	State string `json:"state,omitempty"`
	// Ended is zero while it runs.
	Ended time.Time `json:"ended,omitzero"`
}

// Running tells whether the entry has not ended.
func (e Entry) Running() bool { return e.Status == "running" }

func entry(i *workflowpb.WorkflowExecutionInfo) Entry {
	e := Entry{
		ID: i.GetExecution().GetWorkflowId(), Run: i.GetExecution().GetRunId(),
		IsBuild: i.GetType().GetName() == buildType,
		Pool:    i.GetTaskQueue(),
		Status:  status(i.GetStatus()),
		Started: i.GetStartTime().AsTime(),
	}
	if i.GetCloseTime() != nil {
		e.Ended = i.GetCloseTime().AsTime()
	}
	attribute := func(name string) (v string) {
		if p := i.GetSearchAttributes().GetIndexedFields()[name]; p != nil {
			// Search attributes are never encrypted.
			_ = converter.GetDefaultDataConverter().FromPayload(p, &v)
		}
		return v
	}
	e.Template, e.Source = attribute("BakehouseTemplate"), attribute("BakehouseSource")
	e.State = attribute("BakehouseState")
	e.Submission = e.ID
	if e.IsBuild {
		e.Submission = cmp.Or(attribute("BakehouseSubmission"), i.GetParentExecution().GetWorkflowId())
	}
	return e
}

func status(s enumspb.WorkflowExecutionStatus) string {
	switch s {
	case enumspb.WORKFLOW_EXECUTION_STATUS_COMPLETED:
		return "done"
	case enumspb.WORKFLOW_EXECUTION_STATUS_FAILED:
		return "failed"
	case enumspb.WORKFLOW_EXECUTION_STATUS_CANCELED:
		return "cancelled"
	case enumspb.WORKFLOW_EXECUTION_STATUS_TERMINATED:
		return "terminated"
	case enumspb.WORKFLOW_EXECUTION_STATUS_TIMED_OUT:
		return "timed out"
	}
	return "running"
}

// ErrUnknown tells that nothing has the ID.
var ErrUnknown = errors.New("no submission or build")

// Find returns the submission or build with this ID, or the only one whose ID
// begins with it. The error is ErrUnknown when there is none, and names the
// candidates when there are several.
func (f *Farm) Find(ctx context.Context, id string) (Entry, error) {
	d, err := f.client.DescribeWorkflowExecution(ctx, id, "")
	var unknown *serviceerror.NotFound
	switch {
	case err == nil:
		info := d.GetWorkflowExecutionInfo()
		if typ := info.GetType().GetName(); typ != submissionType && typ != buildType {
			return Entry{}, fmt.Errorf("%w %q (there is a workflow of type %s with this ID)", ErrUnknown, id, typ)
		}
		return entry(info), nil
	case !errors.As(err, &unknown):
		return Entry{}, fmt.Errorf("look up %s: %w", id, err)
	}
	found, err := f.search(ctx, fmt.Sprintf("WorkflowId STARTS_WITH %s AND WorkflowType IN ('Submission', 'Build')", quote(id)), 50)
	if err != nil {
		return Entry{}, fmt.Errorf("look up %s: %w", id, err)
	}
	return choose(id, found)
}

// choose returns the only entry that a prefix can mean. Runs of one ID are one,
// and a submission counts more than its builds, whose IDs may begin alike.
func choose(prefix string, found []Entry) (Entry, error) {
	var distinct []Entry
	seen := map[string]bool{}
	for _, e := range found {
		if build := string(BuildID(e.ID)); build != e.ID && slices.ContainsFunc(found, func(o Entry) bool { return o.ID == build }) {
			continue // what is kept of a build is that build
		}
		if !seen[e.ID] {
			seen[e.ID] = true
			distinct = append(distinct, e) // the newest comes first
		}
	}
	switch len(distinct) {
	case 0:
		return Entry{}, fmt.Errorf("%w %q", ErrUnknown, prefix)
	case 1:
		return distinct[0], nil
	}
	for _, e := range distinct {
		foreign := func(o Entry) bool { return o.ID != e.ID && o.Submission != e.ID }
		if !e.IsBuild && !slices.ContainsFunc(distinct, foreign) {
			return e, nil
		}
	}
	var ids []string
	for _, e := range distinct {
		ids = append(ids, e.ID)
	}
	return Entry{}, fmt.Errorf("%q may mean %s", prefix, strings.Join(ids, ", "))
}

// quote makes a string of Temporal's query language.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }

// List returns submissions, newest first, at most limit of them; those of one
// pool when pool is not empty.
func (f *Farm) List(ctx context.Context, pool string, running bool, limit int) ([]Entry, error) {
	query := "WorkflowType = 'Submission'"
	if pool != "" {
		query += " AND TaskQueue = " + quote(pool)
	}
	if running {
		query += " AND ExecutionStatus = 'Running'"
	}
	found, err := f.search(ctx, query, limit)
	if err != nil {
		return nil, fmt.Errorf("list submissions: %w", err)
	}
	return found, nil
}

func (f *Farm) search(ctx context.Context, query string, limit int) ([]Entry, error) {
	var found []Entry
	var token []byte
	for {
		r, err := f.client.WorkflowService().ListWorkflowExecutions(ctx, &workflowservice.ListWorkflowExecutionsRequest{
			Namespace: f.Namespace, PageSize: int32(min(limit-len(found), 200)), Query: query, NextPageToken: token,
		})
		if err != nil {
			return nil, err
		}
		for _, e := range r.GetExecutions() {
			found = append(found, entry(e))
		}
		if token = r.GetNextPageToken(); len(token) == 0 || len(found) >= limit {
			return found, nil
		}
	}
}
