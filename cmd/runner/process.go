//go:build linux

package main

import (
	"errors"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"time"

	"github.com/bakehouse-farm/bakehouse/internal/proc"
)

// processes lists all living processes.
func processes() []proc.Process {
	dir, err := os.Open("/proc")
	if err != nil {
		return nil
	}
	defer dir.Close()
	names, _ := dir.Readdirnames(-1)
	var all []proc.Process
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		if p, ok := proc.Read(pid); ok && !p.Ended() {
			all = append(all, p)
		}
	}
	return all
}

// below finds what root started, directly or not. It is complete as long as
// root is a subreaper: orphans come to it.
func below(root int) []int {
	children := make(map[int][]int)
	for _, p := range processes() {
		children[p.Parent] = append(children[p.Parent], p.PID)
	}
	var found []int
	for queue := []int{root}; len(queue) > 0; queue = queue[1:] {
		found = append(found, children[queue[0]]...)
		queue = append(queue, children[queue[0]]...)
	}
	return found
}

// inSession finds the processes of a session.
func inSession(session int) []int {
	var found []int
	for _, p := range processes() {
		if p.Session == session {
			found = append(found, p.PID)
		}
	}
	return found
}

// end ends the processes that find finds: politely, and after grace for good.
// It returns when none is left, or those that are left after all.
func end(find func() []int, grace time.Duration) []int {
	const pause = 20 * time.Millisecond
	send(find(), syscall.SIGTERM)
	for limit := time.Now().Add(grace); time.Now().Before(limit); time.Sleep(pause) {
		if len(find()) == 0 {
			return nil
		}
	}
	// What is killed may have forked meanwhile, so look again and again.
	for limit := time.Now().Add(5 * time.Second); time.Now().Before(limit); time.Sleep(pause) {
		left := find()
		if len(left) == 0 {
			return nil
		}
		send(left, syscall.SIGKILL)
	}
	return find()
}

// send sends sig to all of pids. Processes that belong to root, because the
// command used sudo, are reached by sudo, if that asks for no password.
func send(pids []int, sig syscall.Signal) {
	var denied []string
	for _, pid := range pids {
		if errors.Is(syscall.Kill(pid, sig), syscall.EPERM) {
			denied = append(denied, strconv.Itoa(pid))
		}
	}
	if len(denied) == 0 {
		return
	}
	args := append([]string{"-n", "kill", "-" + strconv.Itoa(int(sig))}, denied...)
	sudo := exec.Command("sudo", args...)
	_ = sudo.Run()
}
