// Package proc reads what Linux tells of a process, see proc(5).
package proc

import (
	"bytes"
	"os"
	"strconv"
)

// A Process is how one process was when it was looked at.
type Process struct {
	PID int
	// State is the state of its first thread, one letter as in ps(1).
	State byte
	// Parent and Session are process numbers.
	Parent, Session int
	// Threads counts those that have not ended; 1 for a zombie.
	Threads int
	// Start is when it was started, in clock ticks since boot. With PID it tells
	// a process from a later one that has its number.
	Start uint64
}

// Read looks at the process of that number; ok is false when there is none.
func Read(pid int) (p Process, ok bool) {
	if pid <= 0 {
		return p, false
	}
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return p, false
	}
	// The name of the program may hold blanks and brackets: fields are counted
	// behind it, from the third on.
	i := bytes.LastIndexByte(data, ')')
	if i < 0 {
		return p, false
	}
	fields := bytes.Fields(data[i+1:])
	if len(fields) < 20 {
		return p, false
	}
	p.PID, p.State = pid, fields[0][0]
	p.Parent, _ = strconv.Atoi(string(fields[1]))
	p.Session, _ = strconv.Atoi(string(fields[3]))
	p.Threads, _ = strconv.Atoi(string(fields[17]))
	p.Start, _ = strconv.ParseUint(string(fields[19]), 10, 64)
	return p, true
}

// Ended tells whether nothing of it runs any more and its files are closed: it
// waits for its parent at most. A first thread that has ended before the others
// is a zombie too, with which the process is not at its end: until the last one
// has gone, files are open and locks are held.
func (p Process) Ended() bool {
	return (p.State == 'Z' || p.State == 'X') && p.Threads <= 1
}

// Alive tells whether pid is still the process that was started at start, and
// has not ended.
func Alive(pid int, start uint64) bool {
	p, ok := Read(pid)
	return ok && p.Start == start && !p.Ended()
}
