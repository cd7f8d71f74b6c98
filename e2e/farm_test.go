//go:build e2e

package e2e

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A farm is server, localcloud and agents as an operator starts them, apart
// from submit: they meet at Temporal and the blob store only.
type farm struct {
	t                      testing.TB
	dir, address, endpoint string
}

func newFarm(t testing.TB) *farm {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("instances of localcloud need root")
	}
	dir, err := os.MkdirTemp("", "bakehouse-farm-")
	if err != nil {
		t.Fatal(err)
	}
	f := &farm{t: t, dir: dir, address: freePort(t), endpoint: freePort(t)}
	t.Cleanup(func() {
		if left := mounts(dir); len(left) > 0 {
			t.Errorf("mounts left behind: %v", left)
		}
		if left := processes(dir); len(left) > 0 {
			t.Errorf("processes left behind: %v", left)
		}
		_ = os.RemoveAll(dir)
	})
	f.start("server", "-state", filepath.Join(dir, "temporal"), "-listen", f.address, "-no-ui")
	f.start("localcloud", "serve", "-listen", f.endpoint, "-state", filepath.Join(dir, "cloud"), "-stop-instances")
	f.waitFor("server", "temporal is listening")
	f.waitFor("localcloud", "localcloud is listening")
	return f
}

func freePort(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// env is what a process of the farm is told by its environment.
func (f *farm) env() []string {
	return append(environ(),
		"TEMPORAL_ADDRESS="+f.address, "AWS_ENDPOINT_URL=http://"+f.endpoint,
		"AWS_ACCESS_KEY_ID=test", "AWS_SECRET_ACCESS_KEY=test", "AWS_EC2_METADATA_DISABLED=true",
		"BAKEHOUSE_STORE=file://"+filepath.Join(f.dir, "store"), "BAKEHOUSE_KEY="+filepath.Join(f.dir, "key"))
}

// start starts a program of the farm; it ends with the test.
func (f *farm) start(program string, args ...string) *exec.Cmd {
	f.t.Helper()
	name := filepath.Join(f.dir, fmt.Sprintf("%s-%s.log", program, strings.ReplaceAll(strings.Join(args, "_"), "/", "_")[:min(20, len(strings.Join(args, "_")))]))
	log, err := os.OpenFile(name, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		f.t.Fatal(err)
	}
	cmd := exec.Command(bin(f.t, program), args...)
	cmd.Env, cmd.Stdout, cmd.Stderr = f.env(), log, log
	if err := cmd.Start(); err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() {
		if cmd.ProcessState == nil {
			_ = cmd.Process.Signal(syscall.SIGTERM)
			_ = cmd.Wait()
		}
		log.Close()
		if f.t.Failed() {
			data, _ := os.ReadFile(name)
			f.t.Logf("---- %s\n%s", filepath.Base(name), data[max(0, len(data)-3000):])
		}
	})
	return cmd
}

// waitFor waits until a program's log says it.
func (f *farm) waitFor(program, line string) {
	f.t.Helper()
	eventually(f.t, program+" says "+line, func() bool {
		logs, _ := filepath.Glob(filepath.Join(f.dir, program+"-*.log"))
		for _, l := range logs {
			if data, _ := os.ReadFile(l); strings.Contains(string(data), line) {
				return true
			}
		}
		return false
	})
}

// agent starts an agent and waits until it polls.
func (f *farm) agent(pool, name string) *exec.Cmd {
	f.t.Helper()
	cmd := f.start("agent", "-pool", pool, "-state", filepath.Join(f.dir, name))
	f.waitFor("agent", "agent is polling pool "+pool)
	return cmd
}

// submit runs submit against the farm.
func (f *farm) submit(dir string, args ...string) *run {
	f.t.Helper()
	r := &run{Cmd: exec.Command(bin(f.t, "submit"), args...), out: &syncBuffer{}}
	r.Dir, r.Stdout, r.Stderr, r.Env = dir, r.out, r.out, f.env()
	if err := r.Start(); err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() {
		if r.ProcessState == nil {
			_ = r.Process.Kill()
			_ = r.Wait()
		}
	})
	return r
}

// Server, agent and submit are three processes; a second pool with an agent of
// its own works by configuration alone; a pool without one is refused at once.
func TestFarmOfTwoPools(t *testing.T) {
	f := newFarm(t)
	key := exec.Command(bin(t, "submit"), "key", filepath.Join(f.dir, "key"))
	if out, err := key.CombinedOutput(); err != nil {
		t.Fatalf("submit key: %v\n%s", err, out)
	}
	f.agent("east", "agent-east")
	dir := write(t, map[string]string{"pool.pkr.hcl": source("pool", "") + `
build {
  sources = ["source.amazon-ebs.pool"]
  provisioner "shell" { inline = ["echo traced by $TRACEPARENT"] }
}`})
	refused := f.submit(dir, "build", "-pool", "west", "pool.pkr.hcl")
	_ = refused.Wait()
	if refused.ProcessState.ExitCode() != 1 || !strings.Contains(refused.out.String(), `"west"`) {
		t.Errorf("pool without an agent: exit %d\n%s", refused.ProcessState.ExitCode(), refused.out)
	}
	f.agent("west", "agent-west")
	for _, pool := range []string{"east", "west"} {
		r := f.submit(dir, "build", "-pool", pool, "pool.pkr.hcl")
		if err := r.Wait(); err != nil {
			t.Errorf("pool %s: %v\n%s", pool, err, r.out)
		}
		if !strings.Contains(r.out.String(), "traced by 00-") {
			t.Errorf("no trace context in the provisioner:\n%s", r.out)
		}
	}
}

// An agent that is told to stop lets go of a running script, and another agent
// of the pool follows it at once; nothing is lost or done twice.
func TestDrainHandsOver(t *testing.T) {
	f := newFarm(t)
	if out, err := exec.Command(bin(t, "submit"), "key", filepath.Join(f.dir, "key")).CombinedOutput(); err != nil {
		t.Fatalf("submit key: %v\n%s", err, out)
	}
	first := f.agent("drain", "agent-1")
	dir := write(t, counted(12))
	r := f.submit(dir, "build", "-pool", "drain", "kill.pkr.hcl")
	eventually(t, "script is running", func() bool { return strings.Contains(r.out.String(), "line 3 of the script") })
	f.start("agent", "-pool", "drain", "-state", filepath.Join(f.dir, "agent-2"))
	time.Sleep(time.Second) // the second agent polls: there is no log line of its own to wait for
	if err := first.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := first.Wait(); err != nil {
		t.Errorf("drained agent: %v", err)
	}
	if err := r.Wait(); err != nil {
		t.Fatalf("%v\n%s", err, r.out)
	}
	out := r.out.String()
	for _, line := range []string{"line 1 of the script\n", "line 24 of the script\n", "the script ends\n", "runs counted: 1\n"} {
		if n := strings.Count(out, line); n != 1 {
			t.Errorf("%q is in the log %d times:\n%s", line, n, out)
		}
	}
}
