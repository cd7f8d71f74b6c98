//go:build linux

package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/bakehouse-farm/bakehouse/communicator/runner"
)

// newBase returns a folder that a runner accepts.
func newBase(t *testing.T) string {
	t.Helper()
	base := filepath.Join(t.TempDir(), "base")
	if err := os.Mkdir(base, 0o755); err != nil {
		t.Fatal(err)
	}
	return base
}

// await waits until the command has ended and returns its status.
func await(t *testing.T, base, id string) runner.Status {
	t.Helper()
	for limit := time.Now().Add(time.Minute); time.Now().Before(limit); time.Sleep(10 * time.Millisecond) {
		s, problem := call(t, nil, "probe", "-base", base, "-build", "b", "-id", id)
		if problem != "" {
			t.Fatal(problem)
		}
		if s.State != runner.Running && s.State != runner.None {
			return s
		}
	}
	t.Fatal("the command does not end")
	return runner.Status{}
}

// output runs a command to its end and returns what it printed, as the log has
// it.
func output(t *testing.T, base string, spec runner.Spec) (string, runner.Status) {
	t.Helper()
	if _, problem := call(t, &spec, "start", "-base", base, "-build", "b", "-id", "c"); problem != "" {
		t.Fatal(problem)
	}
	s := await(t, base, "c")
	log, err := os.ReadFile(filepath.Join(base, "b", "c", "log"))
	if err != nil {
		t.Fatal(err)
	}
	if s.State == runner.Done && s.Result.LogBytes != int64(len(log)) {
		t.Errorf("the log holds %d bytes, the result says %d", len(log), s.Result.LogBytes)
	}
	return string(log), s
}

// All that a command prints is in the log, once and in order, however it opens
// its output.
func TestOutputIsWhole(t *testing.T) {
	big := strings.Repeat("0123456789abcde\n", 40_000)
	file := filepath.Join(t.TempDir(), "big")
	if err := os.WriteFile(file, []byte(big), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		line, want string
		pty        bool
	}{
		"both streams":         {line: "echo a; echo b >&2; echo c", want: "a\nb\nc\n"},
		"opened again":         {line: "echo a; echo b > /dev/stderr; echo c > /dev/stdout; echo d", want: "a\nb\nc\nd\n"},
		"tee":                  {line: "echo a; echo b | tee /dev/stderr; echo c", want: "a\nb\nb\nc\n"},
		"no line end":          {line: "printf a", want: "a"},
		"nothing":              {line: ":", want: ""},
		"much, at the end":     {line: "cat " + file, want: big},
		"much, of two":         {line: "cat " + file + "; cat " + file + " >&2", want: big + big},
		"terminal, at the end": {line: "echo a; echo b >/dev/stderr", want: "a\r\nb\r\n", pty: true},
	} {
		t.Run(name, func(t *testing.T) {
			got, s := output(t, newBase(t), runner.Spec{Line: tt.line, Pty: tt.pty})
			if s.State != runner.Done || s.Result.Exit != 0 {
				t.Errorf("%+v %+v", s, s.Result)
			}
			if got != tt.want {
				t.Errorf("got %d bytes %.60q, want %d bytes %.60q", len(got), got, len(tt.want), tt.want)
			}
		})
	}
}

// A daemon that a command leaves behind neither delays its end nor dies of
// printing, and what it prints is not the command's.
func TestDaemonsStay(t *testing.T) {
	dir := t.TempDir()
	line := "(while ! test -e " + dir + "/stop; do echo noise; sleep 0.02; done; echo alive > " + dir + "/end) & echo $! > " + dir + "/pid; echo over"
	base := newBase(t)
	began := time.Now()
	_, s := output(t, base, runner.Spec{Line: line})
	if s.State != runner.Done || s.Result.Exit != 0 || time.Since(began) > 30*time.Second {
		t.Fatalf("%+v", s)
	}
	before, err := os.ReadFile(filepath.Join(base, "b", "c", "log"))
	if err != nil {
		t.Fatal(err)
	}
	if _, problem := call(t, nil, "clean", "-base", base, "-build", "b"); problem != "" {
		t.Errorf("clean: %s", problem)
	}
	time.Sleep(300 * time.Millisecond) // the daemon prints meanwhile
	pid, _ := os.ReadFile(filepath.Join(dir, "pid"))
	n, _ := strconv.Atoi(strings.TrimSpace(string(pid)))
	if n < 2 || syscall.Kill(n, 0) != nil {
		t.Errorf("the daemon %d is gone", n)
	}
	if !bytes.Contains(before, []byte("over\n")) {
		t.Errorf("%q", before)
	}
	if err := os.WriteFile(filepath.Join(dir, "stop"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for limit := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if end, _ := os.ReadFile(filepath.Join(dir, "end")); string(end) == "alive\n" {
			return
		}
		if time.Now().After(limit) {
			t.Fatal("the daemon did not end by itself")
		}
	}
}

// A shell that cannot be started is said as a shell would say it.
func TestNoShell(t *testing.T) {
	t.Setenv("SHELL", "/nonexistent/shell")
	for _, pty := range []bool{false, true} {
		got, s := output(t, newBase(t), runner.Spec{Line: ":", Pty: pty})
		if s.State != runner.Done || s.Result.Exit != 127 || !strings.Contains(got, "/nonexistent/shell") {
			t.Errorf("pty %v: %+v %q", pty, s, got)
		}
	}
}

// A command that prints on a full disk goes on, and the log says what is
// missing.
func TestOutputOnAFullDisk(t *testing.T) {
	disk := smallDisk(t, "512k")
	base := filepath.Join(disk, "base")
	if err := os.Mkdir(base, 0o755); err != nil {
		t.Fatal(err)
	}
	got, s := output(t, base, runner.Spec{
		Line: "echo first; until grep -q first " + base + "/b/c/log; do sleep 0.01; done; cat /dev/zero > " + disk + "/fill 2>/dev/null; head -c 300000 /dev/zero | tr '\\0' x; rm " + disk + "/fill; sleep 0.2; echo last; exit 9",
	})
	if s.State != runner.Done || s.Result.Exit != 9 {
		t.Fatalf("%+v %+v", s, s.Result)
	}
	kept := strings.Count(got, "x")
	if !strings.HasPrefix(got, "first\n") || !strings.HasSuffix(got, "last\n") ||
		!strings.Contains(got, "\n["+strconv.Itoa(300000-kept)+" bytes of output are missing here") {
		t.Errorf("%d kept: %.80q … %.120q", kept, got, got[max(0, len(got)-120):])
	}
}
