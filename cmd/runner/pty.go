//go:build linux

package main

import (
	"io"
	"os"
	"strconv"
	"syscall"
	"time"
	"unsafe"
)

// A terminal copies what is written to it into the log. Unlike a plain
// command's, this output passes through the supervisor.
type terminal struct {
	master, slave *os.File
	log           io.Writer
	copied        chan struct{}
}

func openTerminal(log io.Writer) (*terminal, error) {
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	t := &terminal{master: master, log: log, copied: make(chan struct{})}
	var unlock, number int32
	conn, err := master.SyscallConn()
	if err != nil {
		return nil, err
	}
	size := [4]uint16{40, 80}
	// No echo: nobody types, and passwords have no business in the log.
	var modes syscall.Termios
	var errno error
	err = conn.Control(func(fd uintptr) {
		for _, call := range []struct {
			request uintptr
			arg     unsafe.Pointer
		}{
			{syscall.TIOCSPTLCK, unsafe.Pointer(&unlock)},
			{syscall.TIOCGPTN, unsafe.Pointer(&number)},
			{syscall.TIOCSWINSZ, unsafe.Pointer(&size)},
			{syscall.TCGETS, unsafe.Pointer(&modes)},
		} {
			if _, _, e := syscall.Syscall(syscall.SYS_IOCTL, fd, call.request, uintptr(call.arg)); e != 0 {
				errno = e
				return
			}
		}
		modes.Lflag &^= syscall.ECHO
		if _, _, e := syscall.Syscall(syscall.SYS_IOCTL, fd, syscall.TCSETS, uintptr(unsafe.Pointer(&modes))); e != 0 {
			errno = e
		}
	})
	if err == nil {
		err = errno
	}
	if err == nil {
		t.slave, err = os.OpenFile("/dev/pts/"+strconv.Itoa(int(number)), os.O_RDWR|syscall.O_NOCTTY, 0)
	}
	if err != nil {
		master.Close()
		return nil, err
	}
	return t, nil
}

// copy ends when all who have the terminal open have closed it, or at drain.
func (t *terminal) copy() {
	defer close(t.copied)
	_, _ = io.Copy(writerOnly{t.log}, t.master) // EIO is how the end looks
}

// drain takes what the command has written, without waiting for daemons that
// keep the terminal open.
func (t *terminal) drain() {
	_ = t.master.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
	<-t.copied
}

// writerOnly hides ReadFrom, which would try to splice.
type writerOnly struct{ io.Writer }
