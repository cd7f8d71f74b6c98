//go:build linux

package main

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/bakehouse-farm/bakehouse/communicator/runner"
)

// Two users of the machine who are not root.
const (
	victim   = 23451
	attacker = 65534 // nobody
)

// A machine is a folder that every user may enter, with a runner that every
// user may run.
type machine struct {
	t       *testing.T
	dir     string
	program string
}

func newMachine(t *testing.T) machine {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("becoming other users needs root")
	}
	dir, err := os.MkdirTemp("", "machine-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	m := machine{t, dir, filepath.Join(dir, "runner")}
	m.must(os.Chmod(dir, 0o755))
	program, err := os.ReadFile(os.Args[0])
	m.must(err)
	m.must(os.WriteFile(m.program, program, 0o755))
	return m
}

func (m machine) must(err error) {
	m.t.Helper()
	if err != nil {
		m.t.Fatal(err)
	}
}

// folder makes a folder of a user's.
func (m machine) folder(name string, uid int, mode os.FileMode) string {
	m.t.Helper()
	path := filepath.Join(m.dir, name)
	m.must(os.Mkdir(path, 0o700))
	m.must(os.Chmod(path, mode))
	m.must(os.Chown(path, uid, uid))
	return path
}

// as runs a line of shell as a user.
func (m machine) as(uid int, line string) (string, error) {
	cmd := exec.Command("/bin/sh", "-c", line)
	cmd.Dir = m.dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid)}}
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// call calls the runner as the victim.
func (m machine) call(spec *runner.Spec, args ...string) (runner.Status, string) {
	m.t.Helper()
	cmd := exec.Command(m.program, args...)
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=/usr/bin:/bin", "SHELL=/bin/sh"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: victim, Gid: victim}}
	return answer(m.t, cmd, spec)
}

func TestAnotherUserOfTheMachine(t *testing.T) {
	for name, prepare := range map[string]func(m machine) (base string){
		"base is the attacker's": func(m machine) string { return m.folder("base", attacker, 0o777) },
		"base is a link of the attacker's": func(m machine) string {
			tmp := m.folder("tmp", 0, 0o1777)
			m.folder("own", victim, 0o755)
			if out, err := m.as(attacker, "ln -s ../own tmp/base"); err != nil {
				m.t.Fatal(out, err)
			}
			return filepath.Join(tmp, "base")
		},
		"base was made first in a shared folder": func(m machine) string {
			tmp := m.folder("tmp", 0, 0o1777)
			if out, err := m.as(attacker, "mkdir -m 777 tmp/base tmp/base/b"); err != nil {
				m.t.Fatal(out, err)
			}
			return filepath.Join(tmp, "base")
		},
		"build was made first": func(m machine) string {
			base := m.folder("base", victim, 0o777)
			if out, err := m.as(attacker, "mkdir -m 777 base/b"); err != nil {
				m.t.Fatal(out, err)
			}
			m.must(os.Chmod(base, 0o755))
			return base
		},
		"command was made first": func(m machine) string {
			base := m.folder("base", victim, 0o755)
			m.folder("base/b", victim, 0o777)
			if out, err := m.as(attacker, "mkdir -m 777 base/b/c"); err != nil {
				m.t.Fatal(out, err)
			}
			m.must(os.Chmod(filepath.Join(base, "b"), 0o755))
			return base
		},
		"folder above can be written by all": func(m machine) string {
			m.folder("open", 0, 0o777)
			return m.folder("open/base", victim, 0o755)
		},
		"folder above can be written by another group": func(m machine) string {
			open := m.folder("open", 0, 0o775)
			m.must(os.Chown(open, 0, attacker))
			return m.folder("open/base", victim, 0o755)
		},
		"folder above is the attacker's": func(m machine) string {
			m.folder("open", attacker, 0o755)
			return m.folder("open/base", victim, 0o755)
		},
		"way to the base leads through the attacker's": func(m machine) string {
			m.folder("open", attacker, 0o755)
			m.folder("open/in", victim, 0o755)
			base := m.folder("open/in/base", victim, 0o755)
			m.must(os.Symlink("open/in", filepath.Join(m.dir, "link")))
			return filepath.Join(m.dir, "link", filepath.Base(base))
		},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			base := prepare(m)
			m.must(os.WriteFile(filepath.Join(m.dir, "ran"), nil, 0o666))
			m.must(os.Chmod(filepath.Join(m.dir, "ran"), 0o666))
			s, problem := m.call(&runner.Spec{Line: "echo x > " + m.dir + "/ran"}, "start", "-base", base, "-build", "b", "-id", "c")
			if problem == "" {
				t.Errorf("started all the same: %+v", s)
			}
			if !strings.Contains(problem, m.dir) {
				t.Errorf("the folder is not named: %s", problem)
			}
			time.Sleep(50 * time.Millisecond)
			if ran, _ := os.ReadFile(filepath.Join(m.dir, "ran")); len(ran) > 0 {
				t.Error("the command ran")
			}
			for _, verb := range []string{"probe", "tail", "stop"} {
				if s, problem := m.call(nil, verb, "-base", base, "-build", "b", "-id", "c"); problem == "" && s.State != runner.None {
					t.Errorf("%s believes what is there: %+v", verb, s)
				}
			}
		})
	}
}

// What a command is told and prints is its user's alone: secrets are in both.
func TestAnotherUserReadsNothing(t *testing.T) {
	m := newMachine(t)
	base := m.folder("base", victim, 0o755)
	m.folder("base/b", victim, 0o755) // as an old umask would have it
	s, problem := m.call(&runner.Spec{
		Line: "echo $PASSWORD; while ! test -e " + m.dir + "/go; do sleep 0.02; done", Env: map[string]string{"PASSWORD": "correct-horse"},
	}, "start", "-base", base, "-build", "b", "-id", "c")
	if problem != "" {
		t.Fatal(s, problem)
	}
	defer func() {
		m.must(os.WriteFile(filepath.Join(m.dir, "go"), nil, 0o644))
		for limit := time.Now().Add(time.Minute); s.State != runner.Done; time.Sleep(10 * time.Millisecond) {
			if s, problem = m.call(nil, "probe", "-base", base, "-build", "b", "-id", "c"); problem != "" || time.Now().After(limit) {
				t.Fatal(s, problem)
			}
		}
	}()
	for limit := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		if log, _ := os.ReadFile(filepath.Join(base, "b", "c", "log")); strings.Contains(string(log), "correct-horse") {
			break
		}
		if time.Now().After(limit) {
			t.Fatal("the command says nothing")
		}
	}
	out, _ := m.as(attacker, "cat base/b/c/* base/b/*; ls -la base/b base/b/c; cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' '\\n' | grep -a correct; find base -type f 2>/dev/null")
	if strings.Contains(out, "correct-horse") || strings.Contains(out, "result.json") || strings.Contains(out, "/log") {
		t.Errorf("another user sees:\n%s", out)
	}
	if out, err := m.as(attacker, "kill -9 $(cat base/b/c/state.json); rm -rf base/b; echo '{}' > base/b/c/result.json"); err == nil {
		t.Errorf("another user may change it: %s", out)
	}
	// Nothing of it lies on disk but what was printed.
	err := filepath.WalkDir(base, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || d.Name() == "log" {
			return err
		}
		data, err := os.ReadFile(path)
		if bytes.Contains(data, []byte("correct-horse")) || bytes.Contains(data, []byte("PASSWORD")) {
			t.Errorf("the secret is in %s", path)
		}
		return err
	})
	m.must(err)
	if s, problem := m.call(nil, "probe", "-base", base, "-build", "b", "-id", "c"); problem != "" || s.State != runner.Running {
		t.Errorf("%+v %s", s, problem)
	}
}

// Links and pipes in the place of the runner's files are refused, not followed
// and not waited for.
func TestFilesThatAreNoFiles(t *testing.T) {
	for _, name := range []string{"state.json", "result.json", "log", "lock", "trouble", "room"} {
		for kind, plant := range map[string]func(path, outside string) error{
			"link":   func(path, outside string) error { return os.Symlink(outside, path) },
			"pipe":   func(path, _ string) error { return syscall.Mkfifo(path, 0o600) },
			"folder": func(path, _ string) error { return os.Mkdir(path, 0o700) },
		} {
			t.Run(name+" is a "+kind, func(t *testing.T) {
				base := newBase(t)
				at := filepath.Join(base, "b", "c")
				if err := os.MkdirAll(at, 0o700); err != nil {
					t.Fatal(err)
				}
				outside := filepath.Join(t.TempDir(), "outside")
				if err := os.WriteFile(outside, []byte("precious"), 0o600); err != nil {
					t.Fatal(err)
				}
				if err := plant(filepath.Join(at, name), outside); err != nil {
					t.Fatal(err)
				}
				done := make(chan struct{})
				go func() {
					defer close(done)
					s, problem := call(t, &runner.Spec{Line: "echo x > " + base + "/ran"}, "start", "-base", base, "-build", "b", "-id", "c")
					if problem == "" {
						t.Errorf("started all the same: %+v", s)
					}
				}()
				select {
				case <-done:
				case <-time.After(time.Minute):
					t.Fatal("it waits for ever")
				}
				if data, err := os.ReadFile(outside); err != nil || string(data) != "precious" {
					t.Errorf("what lies outside is now %q, %v", data, err)
				}
				if _, err := os.Stat(base + "/ran"); err == nil {
					t.Error("the command ran")
				}
			})
		}
	}
}

// Whatever single thing happens to the bytes of what the runner keeps, it is
// noticed and named, or the answer is the right one.
func TestDamagedRecordsAreRefused(t *testing.T) {
	base := newBase(t)
	_, want := output(t, base, runner.Spec{Line: "echo hello; exit 3"})
	dir := filepath.Join(base, "b", "c")
	boot, err := readBootID("/proc/sys/kernel/random/boot_id")
	if err != nil {
		t.Fatal(err)
	}
	f := folder{path: dir, boot: boot}
	for _, name := range []string{"result.json", "state.json"} {
		good, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if name == "state.json" {
			if err := os.Remove(filepath.Join(dir, "result.json")); err != nil {
				t.Fatal(err)
			}
			if want, err = f.status(); err != nil || want.State != runner.Lost {
				t.Fatalf("%+v, %v", want, err)
			}
		}
		check := func(what string, n int, bad []byte) {
			if err := os.WriteFile(filepath.Join(dir, name), bad, 0o600); err != nil {
				t.Fatal(err)
			}
			got, err := f.status()
			if err != nil {
				if !strings.Contains(err.Error(), filepath.Join(dir, name)) {
					t.Fatalf("%s, %s %d: not named: %v", name, what, n, err)
				}
				return
			}
			a, _ := json.Marshal(got)
			b, _ := json.Marshal(want)
			if !bytes.Equal(a, b) {
				t.Fatalf("%s, %s %d: believed %s, not %s", name, what, n, a, b)
			}
		}
		for n := range good {
			check("cut to", n, good[:n])
			for _, bit := range []byte{1, 4, 0x80} {
				bad := bytes.Clone(good)
				bad[n] ^= bit
				check("altered byte", n, bad)
			}
		}
		check("longer by", 1, append(bytes.Clone(good), '0'))
		check("huge", 1, append(bytes.Clone(good), bytes.Repeat([]byte(" "), 1<<20)...))
		if err := os.WriteFile(filepath.Join(dir, name), good, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// The result of another command is none of this one.
	other := newBase(t)
	if _, s := output(t, other, runner.Spec{Line: "exit 0"}); s.State != runner.Done {
		t.Fatal(s)
	}
	moved := filepath.Join(other, "b", "d")
	if err := os.Rename(filepath.Join(other, "b", "c"), moved); err != nil {
		t.Fatal(err)
	}
	if s, problem := call(t, nil, "probe", "-base", other, "-build", "b", "-id", "d"); problem == "" {
		t.Errorf("the result of another command is believed: %+v", s)
	}
}

// A log that was cut short is said to be, before and after the command's end.
func TestALogThatWasCutShort(t *testing.T) {
	base := newBase(t)
	output(t, base, runner.Spec{Line: "echo hello"})
	log := filepath.Join(base, "b", "c", "log")
	for n := range int64(6) {
		if err := os.Truncate(log, n); err != nil {
			t.Fatal(err)
		}
		_, problem := answer(t, exec.Command(os.Args[0], "tail", "-base", base, "-build", "b", "-id", "c"), nil)
		if !strings.Contains(problem, "6") || !strings.Contains(problem, "log holds") {
			t.Errorf("cut to %d: %q", n, problem)
		}
	}
}

// answer calls a runner and returns its last status, or its problem.
func answer(t *testing.T, cmd *exec.Cmd, spec *runner.Spec) (runner.Status, string) {
	t.Helper()
	if spec != nil {
		data, err := json.Marshal(spec)
		if err != nil {
			t.Fatal(err)
		}
		cmd.Stdin = bytes.NewReader(append(data, '\n'))
	} else {
		hold, err := cmd.StdinPipe() // tail ends when nobody listens
		if err != nil {
			t.Fatal(err)
		}
		defer hold.Close()
	}
	out, err := cmd.Output()
	if err != nil && len(out) == 0 {
		t.Fatal(err)
	}
	var status runner.Status
	for r := runner.NewReader(bytes.NewReader(out)); ; {
		kind, data, err := r.Read()
		if err == io.EOF {
			return status, ""
		}
		if err != nil {
			t.Fatal(err)
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
