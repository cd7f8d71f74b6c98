package agent

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	historypb "go.temporal.io/api/history/v1"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/bakehouse-farm/bakehouse"
	"github.com/bakehouse-farm/bakehouse/activities"
	"github.com/bakehouse-farm/bakehouse/agent/bundle"
	"github.com/bakehouse-farm/bakehouse/agent/secret"
	"github.com/bakehouse-farm/bakehouse/workflows"
)

// recorded reads a history that a real run has left.
func recorded(t *testing.T, name string) *historypb.History {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("..", "workflows", "testdata", "histories", name))
	if err != nil {
		t.Fatal(err)
	}
	h := new(historypb.History)
	if err := protojson.Unmarshal(data, h); err != nil {
		t.Fatal(err)
	}
	return h
}

// Every history of a real run tells which blobs and logs it needs: a submission
// its bundle, variables, plan and builds; a build, also a kept one, its bundle
// and plan, and the log of its submission.
func TestNeeded(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "workflows", "testdata", "histories", "key"))
	if err != nil {
		t.Fatal(err)
	}
	keys, err := secret.Parse(string(text))
	if err != nil {
		t.Fatal(err)
	}
	data := secret.DataConverter(keys)
	files, err := filepath.Glob(filepath.Join("..", "workflows", "testdata", "histories", "*.json"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no recorded histories: %v", err)
	}
	for _, file := range files {
		name := filepath.Base(file)
		t.Run(name, func(t *testing.T) {
			h := recorded(t, name)
			logs, blobs := map[bakehouse.BuildID]bool{}, map[bundle.Digest]bool{}
			for _, e := range h.Events {
				if err := needed(t.Context(), e, data, logs, blobs); err != nil {
					t.Fatal(err)
				}
			}
			in := h.Events[0].GetWorkflowExecutionStartedEventAttributes().GetInput().GetPayloads()[0]
			var raw json.RawMessage
			if err := data.FromPayload(in, &raw); err != nil {
				t.Fatal(err)
			}
			var want []string
			switch {
			case strings.Contains(name, "-submission-"):
				var s bakehouse.Submission
				var p activities.Planned
				if err := json.Unmarshal(raw, &s); err != nil {
					t.Fatal(err)
				}
				for _, e := range h.Events {
					if a := e.GetActivityTaskCompletedEventAttributes(); a != nil {
						if err := data.FromPayload(a.GetResult().GetPayloads()[0], &p); err != nil {
							t.Fatal(err)
						}
						break
					}
				}
				want = []string{s.Bundle, s.Values, p.Digest}
				if len(logs) == 0 {
					t.Error("a submission needs the logs of its builds")
				}
			case strings.Contains(name, "-build-"):
				var r workflows.BuildRequest
				if err := json.Unmarshal(raw, &r); err != nil {
					t.Fatal(err)
				}
				want = []string{r.Plan.Digest, r.Plan.Files.Bundle}
				if !logs[r.Build.ID] || !logs[bakehouse.BuildID(r.Build.Submission)] {
					t.Errorf("logs %v lack those of %s and %s", logs, r.Build.ID, r.Build.Submission)
				}
			}
			for _, d := range want {
				if d == "" || !blobs[bundle.Digest(d)] {
					t.Errorf("blob %q is not among %v", d, blobs)
				}
			}
		})
	}
}
