package manifest

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	lockWait  = 15 * time.Second
	lockStale = 10 * time.Second // how old a lock file nobody holds must be
)

// lock creates the lock file, as Packer does, and removes it afterwards. While
// we have it, it also carries a lock that the kernel takes back when we die: a
// file that is old and does not carry one was left behind by a crash (or by
// Packer, which holds its for milliseconds), and is taken over.
func lock(path string) (unlock func(), err error) {
	deadline := time.Now().Add(lockWait)
	for {
		f, err := acquire(path)
		if err != nil {
			return nil, err
		}
		if f != nil {
			return func() {
				_ = os.Remove(path) // before the kernel's lock is gone
				f.Close()
			}, nil
		}
		if time.Now().After(deadline) {
			return nil, fmt.Errorf("another process has held %s for %v: remove it if there is none", path, lockWait)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// acquire tries to get the lock once. It returns nil when somebody else has it.
func acquire(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	created := err == nil
	if errors.Is(err, fs.ErrExist) {
		f, err = os.OpenFile(path, os.O_RDWR, 0)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil // given back just now
		}
	}
	if err != nil {
		return nil, err
	}
	ours, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, err
	}
	if !created && time.Since(ours.ModTime()) < lockStale {
		// Its maker may not have come to lock it yet: do not get in its way.
		f.Close()
		return nil, nil
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, nil
		}
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	// Somebody may have removed it, or put a new one there, before we locked.
	if there, err := os.Stat(path); err != nil || !os.SameFile(ours, there) {
		f.Close()
		return nil, nil
	}
	return f, nil
}

// umask returns the bits that new files must not have. Reading it through
// syscall.Umask would change it for a moment, for the whole process.
func umask() fs.FileMode {
	text, err := os.ReadFile("/proc/self/status")
	if err == nil {
		for line := range strings.Lines(string(text)) {
			var m uint32
			if n, _ := fmt.Sscanf(line, "Umask: %o", &m); n == 1 {
				return fs.FileMode(m)
			}
		}
	}
	return 0o022
}
