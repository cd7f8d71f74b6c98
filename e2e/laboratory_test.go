//go:build e2e

package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/bakehouse-farm/bakehouse/laboratory"
)

// A short run of the fault laboratory (make faults): whatever is killed and
// whatever localcloud answers, nothing is lost, doubled or left behind.
func TestFaults(t *testing.T) {
	var progress, table strings.Builder
	report, err := laboratory.Run(t.Context(), laboratory.Config{
		Bin: filepath.Dir(bin(t, "submit")), Dir: short(t), Seed: 1, Faults: 8, Builds: 3, Parallel: 3, Progress: &progress,
		Kinds: []string{
			"kill -9 server", "kill -9 agent", "kill -9 localcloud", "kill -9 submit",
			"answer lost", "answer lost, 500", "throttled", "error 500", "terminate machine", "no capacity after all",
		},
	})
	if err != nil {
		t.Fatalf("%v\n%s", err, progress.String())
	}
	report.Write(&table)
	if !report.Good() {
		t.Errorf("%s\n%s", progress.String(), table.String())
	}
	if report.Faults < 4 || len(report.Findings) == 0 {
		t.Errorf("only %d faults happened:\n%s", report.Faults, table.String())
	}
}

// short returns a folder whose name is short enough for sockets in it.
func short(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "bakehouse-lab-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if left := mounts(dir); len(left) > 0 {
			t.Errorf("mounts left behind: %v", left)
		}
		if left := processes(dir); len(left) > 0 {
			t.Errorf("processes left behind: %v", left)
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}
