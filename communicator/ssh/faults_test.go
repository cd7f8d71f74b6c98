package ssh

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/bakehouse-farm/bakehouse"
	"github.com/bakehouse-farm/bakehouse/communicator"
	"github.com/bakehouse-farm/bakehouse/communicator/communicatortest"
)

// A counted command prints numbered lines for a while and notes in a file that
// it ran. It ends when the file "go" is there.
func counted(t *testing.T, dir string) communicator.Command {
	t.Helper()
	return communicator.Command{
		ID: fmt.Sprintf("counted-%d", time.Now().UnixNano()),
		Line: "cd " + dir + "; echo run >> counter; i=0; while ! test -e go; do i=$((i+1)); echo line $i; sleep 0.02; done; " +
			"echo over; exit 7",
	}
}

func release(t *testing.T, dir string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, "go"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
}

// once checks that the command ran once, and that out holds every line once.
func once(t *testing.T, dir string, out []byte) {
	t.Helper()
	if data, _ := os.ReadFile(filepath.Join(dir, "counter")); string(data) != "run\n" {
		t.Errorf("the command ran %d times", strings.Count(string(data), "run"))
	}
	lines := strings.Split(strings.TrimSuffix(string(out), "\n"), "\n")
	for i, line := range lines[:len(lines)-1] {
		if line != fmt.Sprintf("line %d", i+1) {
			t.Fatalf("line %d of the output is %q", i+1, line)
		}
	}
	if lines[len(lines)-1] != "over" {
		t.Errorf("the output ends with %q", lines[len(lines)-1])
	}
}

// Whatever happens to the connection, Run goes on where it was.
func TestRunSurvivesTheConnection(t *testing.T) {
	for name, harm := range map[string]func(w *communicatortest.Wire){
		"cut": func(w *communicatortest.Wire) { w.Cut() },
		"cut and away": func(w *communicatortest.Wire) {
			w.Refuse(true)
			w.Cut()
			time.AfterFunc(time.Second, func() { w.Refuse(false) })
		},
		"silent": func(w *communicatortest.Wire) { w.Silence(true) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			wire, target := communicatortest.NewWire(t, communicatortest.SSHD(t))
			target.Settings.SSHKeepAliveInterval = bakehouse.Duration(500 * time.Millisecond)
			c := dial(t, target)
			before, err := c.connected(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if name == "silent" { // what was sent into the silence is gone: end that link, then hear again
				go func() {
					<-before.dead
					wire.Silence(false)
				}()
			}
			dir := t.TempDir()
			var out communicatortest.Output
			harmed := false
			got, err := c.Run(t.Context(), counted(t, dir), 0, func(p []byte, end int64) error {
				if !harmed {
					harmed = true
					harm(wire)
				}
				if !before.alive() { // followed again
					release(t, dir)
				}
				return out.Sink(p, end)
			})
			if err != nil || got.Exit != 7 {
				t.Fatalf("%+v, %v", got, err)
			}
			once(t, dir, out.Bytes())
		})
	}
}

// A script may kill the very connection that asked for it.
func TestScriptKillsItsConnection(t *testing.T) {
	c := dial(t, communicatortest.SSHD(t))
	before, err := c.connected(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cmd := counted(t, dir)
	// The follower's parent is the sshd of this very connection.
	cmd.Line = "for p in $(ls /proc | grep '^[0-9]*$'); do { tr '\\0' '\\n' < /proc/$p/environ; } 2>/dev/null | " +
		"grep -qxF \"SSH_CONNECTION=$SSH_CONNECTION\" || continue; " +
		"n=$(sed 's/.*) . \\([0-9]*\\) .*/\\1/' /proc/$p/stat 2>/dev/null); test \"$(cat /proc/$n/comm)\" = sshd && kill -9 $n; done 2>/dev/null; " + cmd.Line
	var out communicatortest.Output
	got, err := c.Run(t.Context(), cmd, 0, func(p []byte, end int64) error {
		if !before.alive() {
			release(t, dir)
		}
		return out.Sink(p, end)
	})
	if err != nil || got.Exit != 7 {
		t.Fatalf("%+v, %v", got, err)
	}
	once(t, dir, out.Bytes())
}

// An agent that is killed lets go of nothing: another follows.
func TestAnotherAgentFollows(t *testing.T) {
	target := communicatortest.SSHD(t)
	dir := t.TempDir()
	cmd := counted(t, dir)
	runner, err := communicatortest.Runner(t)("")
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(t.TempDir(), "runner")
	if err := os.WriteFile(program, runner, 0o600); err != nil {
		t.Fatal(err)
	}
	spec, err := json.Marshal(agentOrder{Target: target, Command: cmd, Runner: program, Out: filepath.Join(dir, "out")})
	if err != nil {
		t.Fatal(err)
	}
	agent := exec.Command(os.Args[0], "-test.run=^TestAgentProcess$")
	agent.Env = append(os.Environ(), "BAKEHOUSE_TEST_AGENT="+string(spec))
	if err := agent.Start(); err != nil {
		t.Fatal(err)
	}
	stored := func() []byte {
		data, _ := os.ReadFile(filepath.Join(dir, "out"))
		return data
	}
	communicatortest.Eventually(t, "the first agent has stored something", func() bool { return len(stored()) > 20 })
	if err := agent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = agent.Wait()
	have := stored()
	release(t, dir)
	var out communicatortest.Output
	if err := out.Sink(have, int64(len(have))); err != nil {
		t.Fatal(err)
	}
	got, err := dial(t, target).Run(t.Context(), cmd, out.Offset(), out.Sink)
	if err != nil || got.Exit != 7 {
		t.Fatalf("%+v, %v", got, err)
	}
	once(t, dir, out.Bytes())
}

type agentOrder struct {
	Target  communicator.Target
	Command communicator.Command
	Runner  string
	Out     string
}

// TestAgentProcess is the process that TestAnotherAgentFollows kills.
func TestAgentProcess(t *testing.T) {
	spec := os.Getenv("BAKEHOUSE_TEST_AGENT")
	if spec == "" {
		t.Skip("only within TestAnotherAgentFollows")
	}
	var o agentOrder
	if err := json.Unmarshal([]byte(spec), &o); err != nil {
		t.Fatal(err)
	}
	out, err := os.Create(o.Out)
	if err != nil {
		t.Fatal(err)
	}
	c, err := Dial(t.Context(), o.Target, Options{Runner: func(string) ([]byte, error) { return os.ReadFile(o.Runner) }})
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.Run(t.Context(), o.Command, 0, func(p []byte, _ int64) error {
		_, err := out.Write(p)
		return err
	})
	t.Fatal("ended before it was killed: ", err)
}

// A command that was lost is never run again; one that may reboot the machine
// has done so.
func TestLostCommands(t *testing.T) {
	target := communicatortest.SSHD(t)
	boot := filepath.Join(t.TempDir(), "boot")
	for _, tt := range []struct {
		name   string
		reboot bool
		expect bool
		state  communicator.State
		slowly bool // it goes down for longer than nothing said would be waited for
	}{
		{"supervisor killed", false, false, communicator.Lost, false},
		{"supervisor killed under expect_disconnect", false, true, communicator.Lost, false},
		{"rebooted", true, false, communicator.Rebooted, false},
		{"rebooted under expect_disconnect", true, true, communicator.Rebooted, false},
		{"rebooted slowly under expect_disconnect", true, true, communicator.Rebooted, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := os.WriteFile(boot, []byte("first\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			c := dial(t, target, func(o *Options) { o.bootFile = boot })
			before, err := c.connected(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			t.Cleanup(func() {
				// It still runs, and must not outlive the test.
				release(t, dir)
				pid, _ := os.ReadFile(filepath.Join(dir, "pid"))
				communicatortest.Eventually(t, "the command has ended", func() bool {
					_, err := os.Stat("/proc/" + strings.TrimSpace(string(pid)) + "/cwd")
					return len(pid) > 0 && err != nil
				})
			})
			cmd := counted(t, dir)
			cmd.ExpectDisconnect = tt.expect
			// Its parent is the supervisor.
			cmd.Line = "echo $PPID > " + dir + "/supervisor; echo $$ > " + dir + "/pid; " + cmd.Line
			harmed := false
			got, err := c.Run(t.Context(), cmd, 0, func([]byte, int64) error {
				if harmed {
					return nil
				}
				harmed = true
				if tt.slowly {
					time.AfterFunc(downGrace+time.Second, func() {
						if err := os.WriteFile(boot, []byte("second\n"), 0o600); err != nil {
							t.Error(err)
						}
					})
					return kill("-TERM", dir)
				}
				if tt.reboot {
					// A reboot takes the connection with it.
					defer before.close()
					return os.WriteFile(boot, []byte("second\n"), 0o600)
				}
				return kill("-KILL", dir)
			})
			if now, _ := os.ReadFile(boot); tt.reboot && string(now) != "second\n" {
				t.Error("it was not waited for the reboot")
			}
			if tt.expect {
				if err != nil || !got.Disconnected {
					t.Errorf("%+v, %v", got, err)
				}
			} else if bakehouse.KindOf(err) != bakehouse.Lost {
				t.Errorf("%+v, %v", got, err)
			}
			if st, err := c.Probe(t.Context(), cmd.ID); st != tt.state || err != nil {
				t.Errorf("Probe() = %q, %v", st, err)
			}
			if tt.state == communicator.Lost {
				// Nobody supervises it, but a cancellation still finds it.
				c.stop(t.Context(), cmd.ID)
				pid, err := os.ReadFile(filepath.Join(dir, "pid"))
				if err != nil {
					t.Fatal(err)
				}
				if _, err := os.Stat("/proc/" + strings.TrimSpace(string(pid)) + "/cwd"); err == nil {
					t.Error("the command runs on")
				}
			}
		})
	}
}

// kill sends a signal to the supervisor of the command in dir.
func kill(signal, dir string) error {
	data, err := os.ReadFile(filepath.Join(dir, "supervisor"))
	if err != nil {
		return err
	}
	return exec.Command("kill", signal, strings.TrimSpace(string(data))).Run()
}

// Only the machine that the build began with is let in.
func TestHostKeyIsPinned(t *testing.T) {
	first, second := communicatortest.SSHD(t), communicatortest.SSHD(t)
	var told string
	key, err := Wait(t.Context(), first, Options{OnHostKey: func(k string) { told = k }})
	if err != nil || !strings.HasPrefix(key, "ssh-ed25519 ") || told != key {
		t.Fatalf("Wait() = %q, %v; told %q", key, err, told)
	}
	first.HostKey, second.HostKey = key, key
	if _, err := Wait(t.Context(), first, Options{}); err != nil {
		t.Error(err)
	}
	_, err = Wait(t.Context(), second, Options{})
	if bakehouse.KindOf(err) != bakehouse.Lost || !strings.Contains(err.Error(), "host key") {
		t.Errorf("another machine: %v", err)
	}
}

func TestWaitGivesUp(t *testing.T) {
	real := communicatortest.SSHD(t)
	nobody := real
	nobody.Settings.SSHUsername = "nobody-of-this-name"
	nobody.Settings.SSHHandshakeAttempts = 1
	wire, away := communicatortest.NewWire(t, real)
	wire.Refuse(true)
	away.Settings.SSHTimeout = bakehouse.Duration(300 * time.Millisecond)
	mute, silent := communicatortest.NewWire(t, real)
	mute.Silence(true)
	silent.Settings.SSHTimeout = bakehouse.Duration(300 * time.Millisecond)
	for _, tt := range []struct {
		name   string
		target communicator.Target
		kind   bakehouse.Kind
		text   string
	}{
		{"refused", nobody, bakehouse.Denied, "ssh_username"},
		{"away", away, bakehouse.Timeout, "Timeout waiting for SSH."},
		{"silent", silent, bakehouse.Timeout, "Timeout waiting for SSH."},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Wait(t.Context(), tt.target, Options{})
			if bakehouse.KindOf(err) != tt.kind || !strings.Contains(fmt.Sprint(err), tt.text) {
				t.Errorf("Wait() = %v (%s)", err, bakehouse.KindOf(err))
			}
		})
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	time.AfterFunc(100*time.Millisecond, func() { cancel(errors.New("agent drains")) })
	away.Settings.SSHTimeout = 0
	if _, err := Wait(ctx, away, Options{}); err == nil || err.Error() != "agent drains" {
		t.Errorf("Wait() = %v, want the cause", err)
	}
}

// A machine that comes up late is found soon.
func TestWaitForAMachineThatBoots(t *testing.T) {
	wire, target := communicatortest.NewWire(t, communicatortest.SSHD(t))
	wire.Refuse(true)
	time.AfterFunc(500*time.Millisecond, func() { wire.Refuse(false) })
	target.Settings.PauseBeforeConnecting = bakehouse.Duration(50 * time.Millisecond)
	if _, err := Wait(t.Context(), target, Options{}); err != nil {
		t.Error(err)
	}
}

// Files keep coming after the connection was lost.
func TestFilesAfterALostConnection(t *testing.T) {
	wire, target := communicatortest.NewWire(t, communicatortest.SSHD(t))
	c := dial(t, target)
	dst := filepath.Join(t.TempDir(), "f")
	for i := range 3 {
		if err := c.Upload(t.Context(), dst, strings.NewReader(fmt.Sprint(i)), 0); err != nil {
			// The cut may show only in this call; then the failure is no verdict.
			if bakehouse.KindOf(err).Final() {
				t.Fatal(err)
			}
			if err := c.Upload(t.Context(), dst, strings.NewReader(fmt.Sprint(i)), 0); err != nil {
				t.Fatal(err)
			}
		}
		if data, _ := os.ReadFile(dst); string(data) != fmt.Sprint(i) {
			t.Errorf("file holds %q", data)
		}
		wire.Cut()
	}
}

// A terminal is there when the template wants one.
func TestPty(t *testing.T) {
	target := communicatortest.SSHD(t)
	target.Settings.SSHPty = true
	c := dial(t, target)
	var out communicatortest.Output
	got, err := c.Run(t.Context(), communicator.Command{ID: "pty", Line: "tty >/dev/null && stty size; exit 3"}, 0, out.Sink)
	if err != nil || got.Exit != 3 || string(out.Bytes()) != "40 80\r\n" {
		t.Errorf("%+v, %v, %q", got, err, out.Bytes())
	}
}

func BenchmarkExec(b *testing.B) {
	c := dial(b, communicatortest.SSHD(b))
	for b.Loop() {
		if _, _, err := c.Exec(b.Context(), "true"); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkRun(b *testing.B) {
	c := dial(b, communicatortest.SSHD(b))
	if _, err := c.Probe(b.Context(), "none"); err != nil { // brings the runner
		b.Fatal(err)
	}
	i := 0
	for b.Loop() {
		i++
		if _, err := c.Run(b.Context(), communicator.Command{ID: fmt.Sprintf("c%d", i), Line: "true"}, 0, nil); err != nil {
			b.Fatal(err)
		}
	}
}
