//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
)

// forget makes the farm forget a submission, as it does of itself when its
// retention is over.
func (s *stack) forget(id string) {
	s.t.Helper()
	_, address := s.entry("server")
	c, err := client.Dial(client.Options{HostPort: address})
	if err != nil {
		s.t.Fatal(err)
	}
	defer c.Close()
	ctx := context.Background()
	eventually(s.t, "the farm forgets "+id, func() bool {
		list, err := c.ListWorkflow(ctx, &workflowservice.ListWorkflowExecutionsRequest{Query: "BakehouseSubmission = '" + id + "'"})
		if err != nil {
			s.t.Fatal(err)
		}
		for _, e := range list.Executions {
			_, _ = c.WorkflowService().DeleteWorkflowExecution(ctx, &workflowservice.DeleteWorkflowExecutionRequest{Namespace: "default", WorkflowExecution: e.Execution})
		}
		return len(list.Executions) == 0
	})
}

// A prune takes nothing from builds that wait, and all of what nobody needs;
// the same template is then simply sent again.
//
// covers: exit prune 0
func TestPrune(t *testing.T) {
	s := newStack(t)
	dir := write(t, map[string]string{
		"waits.pkr.hcl": source("waits", "") + `
build {
  sources = ["source.amazon-ebs.waits"]
  provisioner "breakpoint" {}
  provisioner "shell" { script = "late.sh" }
}`,
		"late.sh": "#!/bin/sh\necho the script was there\n",
	})
	old := func() {
		t.Helper()
		err := filepath.WalkDir(filepath.Join(s.state, "store"), func(name string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			at := time.Now().Add(-100 * 24 * time.Hour)
			if err := os.Chtimes(name, at, at); !errors.Is(err, fs.ErrNotExist) {
				return err // a file that was being written has its name now
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	prune := func(args ...string) (blobs, logs int) {
		t.Helper()
		out, code := s.ask(dir, append([]string{"prune", "-json"}, args...)...)
		var done struct {
			Blobs struct{ Blobs int }
			Logs  struct{ Logs int }
		}
		if err := json.Unmarshal([]byte(out), &done); code != 0 || err != nil {
			t.Fatalf("prune: exit %d, %v\n%s", code, err, out)
		}
		return done.Blobs.Blobs, done.Logs.Logs
	}
	gone := write(t, map[string]string{"gone.pkr.hcl": `
source "null" "n" { communicator = "none" }
build {
  sources = ["source.null.n"]
  post-processor "manifest" {}
}`})
	first := regexp.MustCompile(`gone-[a-z2-7]{10}`).FindString(s.must(gone, "gone.pkr.hcl"))
	build := s.detached(dir, "waits.pkr.hcl")
	eventually(t, "build waits", func() bool {
		out, _ := s.ask(dir, "resolve", build)
		return strings.Contains(out, "breakpoint")
	})
	old()
	// What ended just now is not old, whatever its files say.
	if blobs, logs := prune("-older-than", "90d"); blobs != 0 || logs != 0 {
		t.Errorf("pruned %d blobs and %d logs of builds of today", blobs, logs)
	}
	s.forget(first)
	if blobs, logs := prune("-older-than", "90d", "-dry-run"); blobs == 0 || logs == 0 {
		t.Errorf("would prune %d blobs and %d logs of a build that is forgotten", blobs, logs)
	}
	if blobs, logs := prune("-older-than", "90d"); blobs == 0 || logs == 0 {
		t.Errorf("pruned %d blobs and %d logs of a build that is forgotten", blobs, logs)
	}
	if blobs, logs := prune("-older-than", "90d"); blobs != 0 || logs != 0 {
		t.Errorf("pruned %d blobs and %d logs once more", blobs, logs)
	}
	// The agent's own copy goes, too: what the build needs comes from the store.
	if err := os.RemoveAll(filepath.Join(s.state, "agent", "bundles")); err != nil {
		t.Fatal(err)
	}
	if out, code := s.ask(dir, "resume", build); code != 0 {
		t.Fatalf("resume: exit %d\n%s", code, out)
	}
	if out, code := s.ask(dir, "attach", build); code != 0 || !strings.Contains(out, "the script was there") {
		t.Errorf("build that waited while the store was pruned: exit %d\n%s", code, out)
	}
	s.must(gone, "gone.pkr.hcl")
}
