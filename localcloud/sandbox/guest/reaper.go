package guest

import (
	"errors"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A reaper waits for all children of PID 1: those it started and those that it
// inherited from the dead. Nobody else may wait, not even os/exec.
type reaper struct {
	mu   sync.Mutex // held while a child is started: its end must find it known
	mine map[int]chan syscall.WaitStatus
	wake chan os.Signal
}

func newReaper() *reaper {
	r := &reaper{mine: map[int]chan syscall.WaitStatus{}, wake: make(chan os.Signal, 1)}
	signal.Notify(r.wake, unix.SIGCHLD)
	go r.run()
	return r
}

func (r *reaper) run() {
	for {
		for r.reap() {
		}
		// The timer is for a signal that came while we looked away.
		select {
		case <-r.wake:
		case <-time.After(time.Second):
		}
	}
}

func (r *reaper) reap() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	var ws syscall.WaitStatus
	pid, err := syscall.Wait4(-1, &ws, syscall.WNOHANG, nil)
	if errors.Is(err, syscall.EINTR) {
		return true
	}
	if err != nil || pid <= 0 {
		return false
	}
	if c := r.mine[pid]; c != nil {
		delete(r.mine, pid)
		c <- ws
	}
	return true
}

// alone tells whether PID 1 has no children left.
func (r *reaper) alone() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	err := unix.Waitid(unix.P_ALL, 0, nil, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil)
	return errors.Is(err, unix.ECHILD)
}

// start starts a process whose end arrives at the channel.
func (r *reaper) start(path string, argv []string, attr *os.ProcAttr) (int, <-chan syscall.WaitStatus, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	p, err := os.StartProcess(path, argv, attr)
	if err != nil {
		return 0, nil, err
	}
	end := make(chan syscall.WaitStatus, 1)
	r.mine[p.Pid] = end
	pid := p.Pid
	_ = p.Release()
	return pid, end, nil
}
