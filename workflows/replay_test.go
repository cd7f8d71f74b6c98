package workflows_test

import (
	"os"
	"path/filepath"
	"testing"

	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/bakehouse-farm/bakehouse/agent/secret"
	"github.com/bakehouse-farm/bakehouse/workflows"
)

// Builds that run while an agent is upgraded go on: the workflows replay the
// histories that real runs recorded. `make record` adds a set for a release;
// testdata/histories/key is the key of these recordings only.
func TestRecordedHistoriesReplay(t *testing.T) {
	const dir = "testdata/histories"
	files, err := filepath.Glob(dir + "/*.json")
	if err != nil {
		t.Fatal(err)
	}
	if len(files) == 0 {
		t.Fatal("no recorded histories")
	}
	text, err := os.ReadFile(filepath.Join(dir, "key"))
	if err != nil {
		t.Fatal(err)
	}
	keys, err := secret.Parse(string(text)) // not Load: git does not keep who may read the file
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			replayer, err := worker.NewWorkflowReplayerWithOptions(worker.WorkflowReplayerOptions{
				DataConverter:    secret.DataConverter(keys),
				FailureConverter: secret.FailureConverter(keys),
			})
			if err != nil {
				t.Fatal(err)
			}
			replayer.RegisterWorkflowWithOptions(workflows.Submission, workflow.RegisterOptions{Name: "Submission"})
			replayer.RegisterWorkflowWithOptions(workflows.Build, workflow.RegisterOptions{Name: "Build"})
			replayer.RegisterWorkflowWithOptions(workflows.Sweep, workflow.RegisterOptions{Name: "Sweep"})
			if err := replayer.ReplayWorkflowHistoryFromJSONFile(nil, file); err != nil {
				t.Error(err)
			}
		})
	}
}
