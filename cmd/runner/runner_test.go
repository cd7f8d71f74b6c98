//go:build linux

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/bakehouse-farm/bakehouse/communicator/runner"
)

// The test binary is the runner, too: it starts what main starts.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && !strings.HasPrefix(os.Args[1], "-") {
		main()
		return
	}
	os.Exit(m.Run())
}

// call calls the runner and returns its last status, or its problem.
func call(t *testing.T, spec *runner.Spec, args ...string) (runner.Status, string) {
	t.Helper()
	cmd := exec.Command(os.Args[0], args...)
	if spec != nil {
		data, err := json.Marshal(spec)
		if err != nil {
			t.Fatal(err)
		}
		cmd.Stdin = bytes.NewReader(append(data, '\n'))
	}
	out, err := cmd.Output()
	if err != nil && len(out) == 0 {
		t.Fatal(err)
	}
	var status runner.Status
	r := runner.NewReader(bytes.NewReader(out))
	for {
		kind, data, err := r.Read()
		if err != nil {
			return status, ""
		}
		switch kind {
		case runner.StatusFrame:
			status = runner.Status{}
			if err := json.Unmarshal(data, &status); err != nil {
				t.Fatal(err)
			}
		case runner.ProblemFrame:
			return status, string(data)
		}
	}
}

// However many start a command at once, one of them does.
func TestStartOnce(t *testing.T) {
	dir := t.TempDir()
	base := filepath.Join(dir, "base")
	if err := os.Mkdir(base, 0o755); err != nil {
		t.Fatal(err)
	}
	const callers = 12
	states := make([]runner.State, callers)
	var wg sync.WaitGroup
	for i := range callers {
		wg.Go(func() {
			s, problem := call(t, &runner.Spec{Line: "echo x >> " + dir + "/count; while ! test -e " + dir + "/go; do sleep 0.02; done"},
				"start", "-base", base, "-build", "b", "-id", "c")
			if problem != "" {
				t.Error(problem)
			}
			states[i] = s.State
		})
	}
	wg.Wait()
	started := 0
	for _, s := range states {
		switch s {
		case runner.Started:
			started++
		case runner.Running:
		default:
			t.Errorf("a caller was told %q", s)
		}
	}
	if started != 1 {
		t.Errorf("%d callers started it", started)
	}
	if err := os.WriteFile(filepath.Join(dir, "go"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for s, _ := call(t, nil, "probe", "-base", base, "-build", "b", "-id", "c"); s.State != runner.Done; {
		s, _ = call(t, nil, "probe", "-base", base, "-build", "b", "-id", "c")
	}
	if data, _ := os.ReadFile(filepath.Join(dir, "count")); string(data) != "x\n" {
		t.Errorf("it ran: %q", data)
	}
}

// smallDisk mounts a disk of that size until the test ends.
func smallDisk(t *testing.T, size string) string {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("a small disk is mounted, which needs root")
	}
	disk := t.TempDir()
	if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, "size="+size); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(disk, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return disk
}

// A command that fills the disk fails as it says, and is not taken for one
// that was killed.
func TestFullDisk(t *testing.T) {
	disk := smallDisk(t, "256k")
	base := filepath.Join(disk, "base")
	if err := os.Mkdir(base, 0o755); err != nil {
		t.Fatal(err)
	}
	s, problem := call(t, &runner.Spec{Line: "cat /dev/zero > " + disk + "/fill; exit 9"}, "start", "-base", base, "-build", "b", "-id", "c")
	for problem == "" && s.State != runner.Done && s.State != runner.Lost {
		s, problem = call(t, nil, "probe", "-base", base, "-build", "b", "-id", "c")
	}
	if s.State != runner.Done || s.Result.Exit != 9 {
		t.Errorf("%+v, result %+v, %s", s, s.Result, problem)
	}
}

// A command that could not be started for want of room has not run: once there
// is room it does, and nobody takes it for one that was killed.
func TestNoRoomToStart(t *testing.T) {
	for _, left := range []int64{0, 4 << 10, 8 << 10, 12 << 10, 16 << 10} {
		disk := smallDisk(t, "256k")
		base, fill := filepath.Join(disk, "base"), filepath.Join(disk, "fill")
		if err := os.Mkdir(base, 0o755); err != nil {
			t.Fatal(err)
		}
		err := os.WriteFile(fill, make([]byte, 1<<20), 0o600)
		if !errors.Is(err, syscall.ENOSPC) {
			t.Fatal(err)
		}
		if err := os.Truncate(fill, 256<<10-left); err != nil {
			t.Fatal(err)
		}
		spec := &runner.Spec{Line: "echo ran >> " + base + "/ran"}
		if s, problem := call(t, spec, "start", "-base", base, "-build", "b", "-id", "c"); problem == "" {
			t.Fatalf("%d bytes left: %+v", left, s)
		}
		if s, problem := call(t, nil, "probe", "-base", base, "-build", "b", "-id", "c"); problem != "" || s.State != runner.None {
			t.Errorf("%d bytes left: %q, %s", left, s.State, problem)
		}
		if err := os.Remove(fill); err != nil {
			t.Fatal(err)
		}
		s, problem := call(t, spec, "start", "-base", base, "-build", "b", "-id", "c")
		for problem == "" && s.State != runner.Done && s.State != runner.Lost {
			s, problem = call(t, nil, "probe", "-base", base, "-build", "b", "-id", "c")
		}
		if ran, err := os.ReadFile(base + "/ran"); s.State != runner.Done || err != nil || string(ran) != "ran\n" {
			t.Errorf("%d bytes left: %+v %s; ran %q, %v", left, s, problem, ran, err)
		}
	}
}

// What others could have prepared is not used.
func TestFoldersOfOthers(t *testing.T) {
	for name, prepare := range map[string]func(base string) error{
		"link": func(base string) error {
			if err := os.Mkdir(base+".real", 0o755); err != nil {
				return err
			}
			return os.Symlink(base+".real", filepath.Join(base, "b"))
		},
		"writable": func(base string) error {
			if err := os.Mkdir(filepath.Join(base, "b"), 0o700); err != nil {
				return err
			}
			return os.Chmod(filepath.Join(base, "b"), 0o777)
		},
		"file": func(base string) error { return os.WriteFile(filepath.Join(base, "b"), nil, 0o600) },
	} {
		t.Run(name, func(t *testing.T) {
			base := filepath.Join(t.TempDir(), "base")
			if err := os.Mkdir(base, 0o755); err != nil {
				t.Fatal(err)
			}
			if err := prepare(base); err != nil {
				t.Fatal(err)
			}
			if s, problem := call(t, &runner.Spec{Line: "touch " + base + "/ran"}, "start", "-base", base, "-build", "b", "-id", "c"); problem == "" {
				t.Errorf("started all the same: %+v", s)
			}
			if _, err := os.Stat(base + "/ran"); err == nil {
				t.Error("the command ran")
			}
		})
	}
}

func TestBadCalls(t *testing.T) {
	base := t.TempDir()
	for _, args := range [][]string{
		{"probe", "-base", "relative", "-build", "b", "-id", "c"},
		{"probe", "-base", base, "-build", "../b", "-id", "c"},
		{"probe", "-base", base, "-build", "b", "-id", ".."},
		{"tail", "-base", base, "-build", "b", "-id", "c", "-from", "-1"},
		{"dance", "-base", base, "-build", "b", "-id", "c"},
		{"probe", "-base", base, "-build", "b", "-id", "c", "-boot-id", "/nonexistent"},
		{"probe", "-base", base, "-build", "b", "-id", "c", "more"},
	} {
		if s, problem := call(t, nil, args...); problem == "" {
			t.Errorf("%v: %+v", args, s)
		}
	}
}
