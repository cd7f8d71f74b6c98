//go:build linux

package main

import (
	"os"
	"syscall"
	"time"
)

// A watch wakes who waits for something to happen in a folder.
type watch struct {
	events *os.File // nil when the kernel gives none: then it is looked often
	buf    []byte
}

// pollEvery is how often a folder is looked at that cannot be watched.
const pollEvery = 50 * time.Millisecond

func newWatch(path string) *watch {
	w := &watch{buf: make([]byte, 16<<10)}
	fd, err := syscall.InotifyInit1(syscall.IN_CLOEXEC | syscall.IN_NONBLOCK)
	if err != nil {
		return w // often: the user has no instances left
	}
	if _, err := syscall.InotifyAddWatch(fd, path, syscall.IN_MODIFY|syscall.IN_MOVED_TO); err != nil {
		_ = syscall.Close(fd)
		return w
	}
	w.events = os.NewFile(uintptr(fd), "inotify")
	return w
}

// wait returns when something has happened since the last call, and after limit.
func (w *watch) wait(limit time.Duration) {
	if w.events == nil {
		time.Sleep(min(limit, pollEvery))
		return
	}
	if err := w.events.SetReadDeadline(time.Now().Add(limit)); err != nil {
		time.Sleep(pollEvery)
		return
	}
	_, _ = w.events.Read(w.buf)
}

func (w *watch) close() {
	if w.events != nil {
		w.events.Close()
	}
}
