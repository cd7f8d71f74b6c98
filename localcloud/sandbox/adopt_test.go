package sandbox_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/bakehouse-farm/bakehouse"
	"github.com/bakehouse-farm/bakehouse/localcloud/sandbox"
)

// hostProcess is a process that has a Host and starts an instance with it, to
// be killed. It does not return.
func hostProcess(dir string) {
	ctx := context.Background()
	var spec sandbox.Spec
	if err := json.Unmarshal([]byte(os.Getenv("SANDBOX_TEST_SPEC")), &spec); err != nil {
		panic(err)
	}
	h, err := sandbox.New(ctx, sandbox.Config{Dir: dir, Init: os.Getenv("SANDBOX_TEST_INIT")})
	if err != nil {
		panic(err)
	}
	if err := h.Start(ctx, spec); err != nil {
		panic(err)
	}
	var bad sandbox.Impairment
	if asked := os.Getenv("SANDBOX_TEST_IMPAIR"); asked != "" {
		if err := json.Unmarshal([]byte(asked), &bad); err != nil {
			panic(err)
		}
		if err := h.Impair(spec.ID, bad); err != nil {
			panic(err)
		}
	}
	fmt.Println("started")
	time.Sleep(10 * time.Minute)
	os.Exit(0)
}

// startHost starts a process that has a Host over dir, an instance in it, and a
// bad network to that.
func startHost(t *testing.T, dir string, l login, bad sandbox.Impairment) *exec.Cmd {
	t.Helper()
	spec, err := json.Marshal(l.spec)
	if err != nil {
		t.Fatal(err)
	}
	impair, err := json.Marshal(bad)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "SANDBOX_TEST_HOST="+dir, "SANDBOX_TEST_INIT="+initPath, "SANDBOX_TEST_SPEC="+string(spec), "SANDBOX_TEST_IMPAIR="+string(impair))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // if the test has not
		_ = cmd.Wait()
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || line != "started\n" {
		t.Fatalf("%q, %v", line, err)
	}
	return cmd
}

// An instance outlives the process that started it, killed without warning,
// and belongs to the next.
func TestAdopt(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("instances need root")
	}
	dir := t.TempDir()
	first := openHost(t, dir)
	l := newSpec(t, first, "i-adopt")
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	cmd := startHost(t, dir, l, sandbox.Impairment{})
	if _, err := sandbox.New(t.Context(), sandbox.Config{Dir: dir, Init: initPath}); bakehouse.KindOf(err) != bakehouse.Invalid {
		t.Errorf("a second Host over the same folder: %v", err)
	}
	before := l.sh(t, "ubuntu", "echo here > ~/file; cat /proc/sys/kernel/random/boot_id")
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()

	h, err := sandbox.New(t.Context(), sandbox.Config{Dir: dir, Init: initPath})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	defer h.Remove(context.Background(), "i-adopt")
	if st, err := h.Status("i-adopt"); err != nil || st.State != sandbox.Running {
		t.Errorf("status %+v, %v", st, err)
	}
	if err := h.Start(t.Context(), l.spec); err != nil {
		t.Error(err)
	}
	if got := l.sh(t, "ubuntu", "cat /proc/sys/kernel/random/boot_id"); got != before {
		t.Error("the instance was booted again")
	}

	// It still tells of its end.
	_, _ = l.trySh(t, "ubuntu", "sudo poweroff")
	select {
	case e := <-h.Events():
		if e.Status.Reason != sandbox.FromInside {
			t.Errorf("event %+v", e)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("no event")
	}
	if err := h.Start(t.Context(), l.spec); err != nil {
		t.Fatal(err)
	}

	// A shim that is killed takes the instance with it, and nothing is left.
	b, err := exec.Command("pgrep", "-f", "^localcloud-shim "+dir).Output()
	pid, convErr := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil || convErr != nil {
		t.Fatalf("shim: %q, %v, %v", b, err, convErr)
	}
	p, err := os.FindProcess(pid)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Kill(); err != nil {
		t.Fatal(err)
	}
	select {
	case e := <-h.Events():
		if e.Status.Reason != sandbox.Killed {
			t.Errorf("event %+v", e)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("no event")
	}
	eventually(t, "the dead instance leaves nothing", func() bool { return len(traces(t, dir)) == 0 })
	if _, err := os.Stat(filepath.Join(dir, "instances", "i-adopt", "upper/home/ubuntu/file")); err != nil {
		t.Errorf("its files: %v", err)
	}
}

// A bad line ends with the process that holds it, killed without warning, and
// the connections that took it go on. A cut goes on.
func TestImpairedByTheKilled(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("instances need root")
	}
	const delay = 300 * time.Millisecond
	dir := t.TempDir()
	first := openHost(t, dir)
	l := newSpec(t, first, "i-held")
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	cmd := startHost(t, dir, l, sandbox.Impairment{Delay: delay})
	c := l.chat(t)
	if d := c.trip(t); d < 2*delay {
		t.Errorf("there and back in %s", d)
	}
	c.say(t, "half ") // on its way when the process is killed
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	eventually(t, "echo", c.heard)
	eventually(t, "fast again", func() bool { return c.trip(t) < 2*delay })

	h := openHost(t, dir)
	defer h.Remove(context.Background(), "i-held")
	if err := h.Impair("i-held", sandbox.Impairment{Cut: true}); err != nil {
		t.Fatal(err)
	}
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	if answers(l, 300*time.Millisecond) {
		t.Error("answers over a cut network")
	}
	h = openHost(t, dir)
	if err := h.Impair("i-held", sandbox.Impairment{}); err != nil {
		t.Fatal(err)
	}
	if d := c.trip(t); d >= time.Minute {
		t.Errorf("there and back in %s", d)
	}
}
