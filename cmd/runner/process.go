//go:build linux

package main

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"time"
)

// A process is what /proc tells of one.
type process struct {
	pid     int
	state   byte
	parent  int
	session int
	start   uint64
}

// readProcess reads /proc/PID/stat; ok is false when there is no such process.
func readProcess(pid int) (p process, ok bool) {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return p, false
	}
	// The name of the program may hold blanks and parentheses.
	i := bytes.LastIndexByte(data, ')')
	if i < 0 {
		return p, false
	}
	fields := bytes.Fields(data[i+1:])
	if len(fields) < 20 {
		return p, false
	}
	p.pid, p.state = pid, fields[0][0]
	p.parent, _ = strconv.Atoi(string(fields[1]))
	p.session, _ = strconv.Atoi(string(fields[3]))
	p.start, _ = strconv.ParseUint(string(fields[19]), 10, 64)
	return p, true
}

// alive tells whether pid still is the process that started at start.
func alive(pid int, start uint64) bool {
	p, ok := readProcess(pid)
	return ok && p.start == start && p.state != 'Z' && p.state != 'X'
}

// processes lists all living processes.
func processes() []process {
	dir, err := os.Open("/proc")
	if err != nil {
		return nil
	}
	defer dir.Close()
	names, _ := dir.Readdirnames(-1)
	var all []process
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		if p, ok := readProcess(pid); ok && p.state != 'Z' && p.state != 'X' {
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
		children[p.parent] = append(children[p.parent], p.pid)
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
		if p.session == session {
			found = append(found, p.pid)
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
