package proc

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"
)

// headless makes this program one whose first thread ends while others go on,
// until its standard input is closed.
const headless = "PROC_TEST_HEADLESS"

func init() {
	if os.Getenv(headless) == "" {
		return
	}
	runtime.LockOSThread() // init runs on the first thread
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	// Not RawSyscall: the scheduler must learn that it can run the others.
	_, _, _ = syscall.Syscall(syscall.SYS_EXIT, 0, 0, 0)
}

func eventually(t *testing.T, what string, fact func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !fact(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("did not happen: %s", what)
		}
	}
}

func TestRead(t *testing.T) {
	p, ok := Read(os.Getpid())
	sid, _, _ := syscall.Syscall(syscall.SYS_GETSID, 0, 0, 0)
	if !ok || p.PID != os.Getpid() || p.Parent != os.Getppid() || p.Session != int(sid) || p.Threads < 2 || p.Start == 0 || p.Ended() {
		t.Errorf("this process is read as %+v, %t", p, ok)
	}
	for _, pid := range []int{0, -1, 1 << 30} {
		if p, ok := Read(pid); ok {
			t.Errorf("process %d is %+v", pid, p)
		}
	}
}

// The name of a program is what its author likes.
func TestReadOfHostileName(t *testing.T) {
	name := filepath.Join(t.TempDir(), ") Z 1 (2 3")
	sleep, err := exec.LookPath("sleep")
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(sleep)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, data, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := &exec.Cmd{Path: name, Args: []string{"sleep", "600"}}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	eventually(t, "it has its name", func() bool {
		b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", cmd.Process.Pid))
		return string(b) == ") Z 1 (2 3\n"
	})
	if p, ok := Read(cmd.Process.Pid); !ok || p.Parent != os.Getpid() || p.Ended() {
		t.Errorf("read as %+v, %t", p, ok)
	}
}

// Its first thread has ended, and it still holds its files: kill -9 and exit
// pass through this for a moment.
func TestFirstThreadEnded(t *testing.T) {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), headless+"=1")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill() }()
	pid := cmd.Process.Pid
	var p Process
	eventually(t, "its first thread is a zombie", func() bool {
		p, _ = Read(pid)
		return p.State == 'Z'
	})
	if p.Ended() || !Alive(pid, p.Start) {
		t.Errorf("its other threads run and it is said to have ended: %+v", p)
	}
	if Alive(pid, p.Start+1) {
		t.Error("it is taken for another")
	}
	in.Close()
	eventually(t, "all of it has ended", func() bool { return !Alive(pid, p.Start) })
	if p, ok := Read(pid); !ok || !p.Ended() {
		t.Errorf("not waited for yet, and read as %+v, %t", p, ok)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	if p, ok := Read(pid); ok && p.Parent == os.Getpid() {
		t.Errorf("it is gone and read as %+v", p)
	}
}
