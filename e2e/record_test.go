//go:build e2e

package e2e

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"go.temporal.io/api/enums/v1"
	"go.temporal.io/api/history/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"google.golang.org/protobuf/encoding/protojson"
)

// TestRecord records the histories of real runs for the replay test of package
// workflows, when $BAKEHOUSE_RECORD names the folder and a prefix for them:
// `make record NAME=v1`.
func TestRecord(t *testing.T) {
	to := os.Getenv("BAKEHOUSE_RECORD")
	if to == "" {
		t.Skip("records only when BAKEHOUSE_RECORD says where")
	}
	s := newStack(t)
	key, err := os.ReadFile(filepath.Join(filepath.Dir(to), "key"))
	if err == nil {
		err = os.WriteFile(filepath.Join(s.state, "key"), key, 0o600)
	}
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	dir := write(t, map[string]string{
		"good.pkr.hcl": source("good", `ami_regions = ["us-west-2", "eu-west-1"]`) + source("other", "encrypt_boot = true") + `
build {
  sources = ["source.amazon-ebs.good", "source.amazon-ebs.other"]
  provisioner "shell" {
    inline       = ["echo pausing"]
    pause_before = "1s"
  }
  provisioner "shell" {
    inline      = ["test -e ~/second || { touch ~/second; exit 3; }"]
    max_retries = 2
  }
  post-processor "manifest" {}
}`,
		"bad.pkr.hcl": source("bad", "") + `
build {
  sources = ["source.amazon-ebs.bad"]
  provisioner "shell" { inline = ["exit 3"] }
  error-cleanup-provisioner "shell" { inline = ["echo saving"] }
}`,
		"ask.pkr.hcl": source("ask", "") + `
build {
  sources = ["source.amazon-ebs.ask"]
  provisioner "shell" { inline = ["test -e ~/mended"] }
  provisioner "breakpoint" {}
}`,
		"spot.pkr.hcl": source("spot", "") + `
build {
  sources = ["source.amazon-ebs.spot"]
  provisioner "shell" { inline = ["echo one"] }
  provisioner "shell" { inline = ["echo begun", "sleep 8"] }
}`,
		"keep.pkr.hcl": source("keep", `ami_regions = ["us-west-2"]`) + `
build {
  sources = ["source.amazon-ebs.keep"]
  provisioner "shell" { inline = ["echo baked"] }
  post-processor "manifest" {}
}`,
		"long.pkr.hcl": source("long", "") + `
build {
  sources = ["source.amazon-ebs.long"]
  provisioner "shell" { inline = ["echo begun", "sleep 600"] }
}`,
	})
	s.must(dir, "good.pkr.hcl")
	if out, err := s.build(dir, "bad.pkr.hcl"); err == nil {
		t.Fatalf("bad template was baked:\n%s", out)
	}
	r := s.start(dir, "build", "-local", "long.pkr.hcl")
	eventually(t, "script is running", func() bool { return strings.Contains(r.out.String(), ": begun\n") })
	_ = r.Process.Signal(syscall.SIGINT)
	_ = r.Wait()

	s.recordTrouble(dir)

	_, address := s.entry("server")
	c, err := client.Dial(client.Options{HostPort: address})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx := context.Background()
	list, err := c.ListWorkflow(ctx, &workflowservice.ListWorkflowExecutionsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list.Executions {
		h := &history.History{}
		for it := c.GetWorkflowHistory(ctx, e.Execution.WorkflowId, e.Execution.RunId, false, enums.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT); it.HasNext(); {
			event, err := it.Next()
			if err != nil {
				t.Fatal(err)
			}
			h.Events = append(h.Events, event)
		}
		data, err := protojson.Marshal(h)
		if err != nil {
			t.Fatal(err)
		}
		name, rest, _ := strings.Cut(e.Execution.WorkflowId, "-")
		if strings.HasSuffix(rest, ".kept") {
			name += "-kept"
		}
		file := to + "-" + strings.ToLower(e.Type.Name) + "-" + name + ".json"
		if err := os.WriteFile(file, append(data, '\n'), 0o600); err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: %d events", filepath.Base(file), len(h.Events))
	}
	if key, err = os.ReadFile(filepath.Join(s.state, "key")); err == nil {
		err = os.WriteFile(filepath.Join(filepath.Dir(to), "key"), key, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// recordTrouble runs builds that park, lose their machine, and are kept.
func (s *stack) recordTrouble(dir string) {
	s.t.Helper()
	ask := func(args ...string) {
		s.t.Helper()
		if out, code := s.ask(dir, args...); code != 0 {
			s.t.Fatalf("submit %v: exit %d\n%s", args, code, out)
		}
	}
	waits := func(id, why string) {
		s.t.Helper()
		eventually(s.t, "build waits: "+why, func() bool {
			out, _ := s.ask(dir, "resolve", id)
			return strings.Contains(out, why)
		})
	}
	asked := s.detached(dir, "-on-error=ask", "ask.pkr.hcl")
	waits(asked, "failed")
	ask("exec", asked, "touch ~/mended")
	ask("resolve", asked, "retry")
	waits(asked, "breakpoint")
	ask("resume", asked)
	ask("attach", asked)

	r := s.start(dir, "build", "-local", "-on-machine-loss=restart", "-checkpoint", "-timeout=1h", "spot.pkr.hcl")
	eventually(s.t, "script is running", func() bool { return strings.Contains(r.out.String(), ": begun\n") })
	s.localcloud("machine", "terminate", "-tag", "bakehouse:source=amazon-ebs.spot")
	if err := r.Wait(); err != nil {
		s.t.Fatalf("%v\n%s", err, r.out)
	}

	s.localcloud("faults", "add", "fail", "-action", "CopyImage", "-count", "1")
	out, err := s.build(dir, "-keep=10m", "keep.pkr.hcl")
	again := regexp.MustCompile(`submit retry -local (\S+)`).FindStringSubmatch(out)
	if err == nil || again == nil {
		s.t.Fatalf("build with a copy that fails: %v\n%s", err, out)
	}
	ask("retry", again[1])
	ask("sweep")
}
