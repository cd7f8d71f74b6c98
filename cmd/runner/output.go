//go:build linux

package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"
	"time"
)

// roomPatience is how long a command that prints waits for room on a full disk.
// After that it goes on, and what it prints is lost, which the log says.
const roomPatience = 5 * time.Second

// A journal is the log of a command. Only the supervisor writes to it: were it
// the standard output of the command itself, `echo x > /dev/stderr` would open
// it anew and cut off what is there.
type journal struct {
	file *os.File

	mu     sync.Mutex
	lost   int64 // bytes that there was no room for and that the log does not tell of
	giveUp bool  // there was no room for as long as we wait
}

func openJournal(f folder) (*journal, error) {
	file, err := f.open("log", os.O_WRONLY|os.O_APPEND)
	if err != nil {
		return nil, err
	}
	return &journal{file: file}, nil
}

// Write never fails: what the command prints must not stop it.
func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	rest := p
	if j.lost == 0 || j.confess() {
		rest = j.put(p)
	}
	j.lost += int64(len(rest))
	return len(p), nil
}

// put writes p and returns what there was no room for.
func (j *journal) put(p []byte) []byte {
	for limit := time.Now().Add(roomPatience); ; time.Sleep(50 * time.Millisecond) {
		n, err := j.file.Write(p)
		p = p[n:]
		switch {
		case err == nil:
			j.giveUp = false
			return nil
		case j.giveUp || !noRoom(err) || time.Now().After(limit):
			j.giveUp = true
			return p
		}
	}
}

// confess says in the log that something is missing there, once there is room.
func (j *journal) confess() bool {
	note := fmt.Appendf(nil, "\n[%d bytes of output are missing here: the disk of the machine was full]\n", j.lost)
	info, err := j.file.Stat()
	if err != nil {
		return false
	}
	if rest := j.put(note); len(rest) > 0 {
		// Not half of it.
		_ = j.file.Truncate(info.Size())
		return false
	}
	j.lost = 0
	return true
}

// end is called when nothing more comes. It returns the length of the log.
func (j *journal) end() (int64, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.lost > 0 {
		j.giveUp = false
		j.confess()
	}
	if err := j.file.Sync(); err != nil && !errors.Is(err, syscall.EINVAL) && !noRoom(err) {
		return 0, err
	}
	info, err := j.file.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// A conduit carries what the command prints into its journal.
type conduit struct {
	read, write *os.File
	copied      chan struct{}
}

func openConduit() (*conduit, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	return &conduit{read: r, write: w, copied: make(chan struct{})}, nil
}

// copy ends when all who have the other end have closed it, or at drain.
func (c *conduit) copy(to io.Writer) {
	defer close(c.copied)
	_, _ = io.Copy(writerOnly{to}, c.read)
}

// drain takes what the command has written before it ended, without waiting for
// daemons that keep the pipe open.
func (c *conduit) drain(to io.Writer) {
	_ = c.read.SetReadDeadline(time.Now())
	<-c.copied
	_ = c.read.SetReadDeadline(time.Time{})
	conn, err := c.read.SyscallConn()
	if err != nil {
		return
	}
	_ = conn.Read(func(fd uintptr) bool {
		buf := make([]byte, 64<<10)
		// No more than a pipe can hold: daemons may print for ever.
		for left := pipeLimit; left > 0; {
			n, err := syscall.Read(int(fd), buf)
			if n <= 0 || err != nil {
				break
			}
			_, _ = to.Write(buf[:n])
			left -= n
		}
		return true
	})
}

const pipeLimit = 1 << 20

// linger lets daemons that the command has left behind print, to nowhere, until
// the last of them is gone: without a reader, printing would kill them.
func (c *conduit) linger() { _, _ = io.Copy(writerOnly{io.Discard}, c.read) }
