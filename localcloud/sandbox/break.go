package sandbox

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bakehouse-farm/bakehouse"
	"github.com/bakehouse-farm/bakehouse/internal/proc"
)

// Kill ends an instance as a power failure does: its processes are killed, all
// at once, and told nothing. Its files stay as the kernel has them; a real
// machine would also lose what it had not synced. Killing one that does not run
// is no error, and no event tells of it.
func (h *Host) Kill(ctx context.Context, id string) error {
	if err := checkID("instance", id); err != nil {
		return err
	}
	defer h.locked(id)()
	// PID 1 dies with the shim, and all others with PID 1.
	if err := h.end(ctx, h.instance(id), push{unix.SIGKILL, 5 * time.Second}); err != nil {
		return fmt.Errorf("kill instance %s: %w", id, err)
	}
	return nil
}

// Pause stops all processes of a running instance with SIGSTOP: it hangs, and
// its network is silent. A stop or a restart ends it. Pausing twice is no error.
func (h *Host) Pause(id string) error {
	defer h.locked(id)()
	_, init, err := h.running("pause", id)
	if err != nil {
		return err
	}
	if _, err := standStill(init); err != nil {
		_, wake := signalInside(init, unix.SIGCONT)
		return fmt.Errorf("pause instance %s: %w", id, errors.Join(err, wake))
	}
	return nil
}

// standStill stops all processes of the instance of init, and returns those
// that were not stopped before, also when it fails.
//
// One that waits in the kernel cannot be seen to stop. After vfork it waits for
// a child that is stopped, so it would never be seen to: it counts as standing
// when it has not moved for a while, as it will not get further than the kernel.
func standStill(init int) (stopped []int, err error) {
	// Processes make others while we look: until nobody is left to make any.
	waited := 0
	for range 200 {
		more, err := signalInside(init, unix.SIGSTOP)
		stopped = append(stopped, more...)
		if err != nil || len(more) == 0 {
			return stopped, err
		}
		if waited++; slices.ContainsFunc(more, func(pid int) bool { return !waits(pid) }) {
			waited = 0
		}
		if waited == 50 {
			return stopped, nil
		}
		time.Sleep(time.Millisecond)
	}
	return stopped, errors.New("its processes do not stand still")
}

// waits tells whether a process waits in the kernel for what no signal ends.
func waits(pid int) bool {
	p, ok := proc.Read(pid)
	return ok && p.State == 'D'
}

// Resume lets all processes of an instance go on, also those that something
// inside had stopped. One that is not paused stays as it is.
func (h *Host) Resume(id string) error {
	defer h.locked(id)()
	_, init, err := h.running("resume", id)
	if err != nil {
		return err
	}
	if _, err := signalInside(init, unix.SIGCONT); err != nil {
		return fmt.Errorf("resume instance %s: %w", id, err)
	}
	return nil
}

// PauseLogin stops the instance's SSH server alone, which is its first process:
// connections are made by the kernel and then nothing is said on them, sessions
// stand still, while what was started goes on. Nor does anything hear a request
// to reboot or to power off from inside.
func (h *Host) PauseLogin(id string) error { return h.signalInit("pause login of", id, unix.SIGSTOP) }

// ResumeLogin takes PauseLogin back.
func (h *Host) ResumeLogin(id string) error { return h.signalInit("resume login of", id, unix.SIGCONT) }

func (h *Host) signalInit(verb, id string, s unix.Signal) error {
	defer h.locked(id)()
	_, init, err := h.running(verb, id)
	if err != nil {
		return err
	}
	if _, err := signalProcess(init, init, s); err != nil {
		return fmt.Errorf("%s instance %s: %w", verb, id, err)
	}
	return nil
}

// running returns a running instance and its PID 1, as the host sees it.
func (h *Host) running(verb, id string) (instanceDir, int, error) {
	in := h.instance(id)
	if err := checkID("instance", id); err != nil {
		return in, 0, err
	}
	shim, err := in.shim()
	if err != nil {
		return in, 0, err
	}
	st, err := in.state()
	if err != nil {
		return in, 0, err
	}
	if shim == 0 || st.Init == 0 || !isChild(st.Init, shim) {
		return in, 0, bakehouse.Errorf(bakehouse.Conflict, "%s instance %s: it does not run", verb, id)
	}
	return in, st.Init, nil
}

// isChild tells whether a process is there and is a child of parent.
func isChild(pid, parent int) bool {
	p, ok := proc.Read(pid)
	return ok && p.Parent == parent
}

// signalInside sends a signal to all processes of the instance of which init is
// the first, and returns those that needed it.
func signalInside(init int, s unix.Signal) (needed []int, err error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	pids := []int{init}
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil && pid != init {
			pids = append(pids, pid)
		}
	}
	for _, pid := range pids {
		sent, err := signalProcess(init, pid, s)
		if err != nil {
			return needed, err
		}
		if sent {
			needed = append(needed, pid)
		}
	}
	return needed, nil
}

// signalProcess sends a signal to a process if it belongs to the instance of
// init and is not yet as the signal would make it.
func signalProcess(init, pid int, s unix.Signal) (sent bool, err error) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return false, nil //nolint:nilerr // it has ended
	}
	defer unix.Close(fd)
	// Looked at only now: the descriptor holds the process, not its number.
	own, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", init))
	if err != nil {
		return false, errors.New("it has just ended")
	}
	if ns, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", pid)); err != nil || ns != own {
		return false, nil //nolint:nilerr // ended, or somebody else's
	}
	p, ok := proc.Read(pid)
	stands := p.State == 'T'
	if !ok || p.Ended() || s == unix.SIGSTOP && stands {
		return false, nil
	}
	// One that does not stand may be about to, by a signal that it has not seen.
	if err := unix.PidfdSendSignal(fd, s, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return false, err
	}
	if p.State == 'Z' {
		// Its first thread has ended, and does not tell how the others are.
		return false, nil
	}
	return s != unix.SIGCONT || stands, nil
}
