//go:build e2e

package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// Agents may be started before their server: they wait for it, and stop when
// they are told to.
func TestAgentWaitsForServer(t *testing.T) {
	dir, err := os.MkdirTemp("", "bakehouse-farm-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	f := &farm{t: t, dir: dir, address: freePort(t), endpoint: freePort(t)}
	if out, err := exec.Command(bin(t, "submit"), "key", filepath.Join(dir, "key")).CombinedOutput(); err != nil {
		t.Fatalf("submit key: %v\n%s", err, out)
	}
	waits := "waiting for the server at " + f.address
	says := func(pool string) string {
		t.Helper()
		logs, _ := filepath.Glob(filepath.Join(dir, "agent--pool_"+pool+"_*.log"))
		if len(logs) != 1 {
			t.Fatalf("logs of the agent of pool %s: %v", pool, logs)
		}
		data, err := os.ReadFile(logs[0])
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	for _, pool := range []string{"early", "stopped"} {
		cmd := f.start("agent", "-pool", pool, "-state", filepath.Join(dir, pool))
		eventually(t, "agent waits", func() bool { return strings.Contains(says(pool), waits) })
		if pool == "stopped" {
			if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			if err := cmd.Wait(); err != nil {
				t.Errorf("agent that was told to stop while it waited: %v", err)
			}
		}
	}
	f.start("server", "-state", filepath.Join(dir, "temporal"), "-listen", f.address, "-no-ui")
	f.waitFor("agent", "agent is polling pool early")
	work := write(t, nullTemplate)
	r := f.submit(work, "build", "-pool", "early", "null.pkr.hcl")
	if err := r.Wait(); err != nil {
		t.Errorf("%v\n%s", err, r.out)
	}
}
