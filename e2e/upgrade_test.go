//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"
)

// While agents with other workflows come and become the current version, a
// build is finished by agents of the version that it began with, and new builds
// begin with the new one.
func TestUpgradeKeepsBuildsOnTheirVersion(t *testing.T) {
	f := newFarm(t)
	if out, err := exec.Command(bin(t, "submit"), "key", filepath.Join(f.dir, "key")).CombinedOutput(); err != nil {
		t.Fatalf("submit key: %v\n%s", err, out)
	}
	agent := func(version int) *exec.Cmd {
		return f.start("agent", fmt.Sprintf("-workflow-version=%d", version), "-deployment", "farm", "-pool", "up", "-state", filepath.Join(f.dir, fmt.Sprint("agent-", version)))
	}
	c, err := client.Dial(client.Options{HostPort: f.address})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	current := func(version string) {
		t.Helper()
		eventually(t, "version "+version+" is current", func() bool {
			d, err := c.WorkerDeploymentClient().GetHandle("farm").Describe(context.Background(), client.WorkerDeploymentDescribeOptions{})
			return err == nil && d.Info.RoutingConfig.CurrentVersion != nil && d.Info.RoutingConfig.CurrentVersion.BuildID == version
		})
	}
	first := agent(1)
	current("1")
	dir := write(t, counted(12))
	started := regexp.MustCompile(`Started submission (\S+)`)
	begin := func(id string) (*run, string) {
		t.Helper()
		r := f.submit(dir, "build", "-pool", "up", "-id", id, "kill.pkr.hcl")
		eventually(t, "script is running", func() bool { return strings.Contains(r.out.String(), "line 2 of the script") })
		return r, started.FindStringSubmatch(r.out.String())[1]
	}
	old, oldID := begin("old")
	second := agent(2)
	current("2")
	young, youngID := begin("young")
	for _, r := range []*run{old, young} {
		if err := r.Wait(); err != nil {
			t.Errorf("%v\n%s", err, r.out)
		}
	}
	for id, want := range map[string]*exec.Cmd{oldID: first, youngID: second} {
		history := c.GetWorkflowHistory(context.Background(), id, "", false, enumspb.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
		for history.HasNext() {
			e, err := history.Next()
			if err != nil {
				t.Fatal(err)
			}
			by := e.GetWorkflowTaskStartedEventAttributes().GetIdentity()
			if by != "" && !strings.HasPrefix(by, fmt.Sprintf("%d@", want.Process.Pid)) {
				t.Errorf("%s was worked on by %s, want process %d", id, by, want.Process.Pid)
			}
		}
	}
}
