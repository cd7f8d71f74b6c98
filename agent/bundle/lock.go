package bundle

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// What lies beside the folder of an unpacked bundle.
const (
	lockSuffix = ".lock" // held by who unpacks or removes it
	usedSuffix = ".used" // held, shared, by who uses it; its time is that of the last use
	tempSuffix = ".tmp"  // the folder while it is unpacked
)

// lock takes the lock file at path, shared or not, waiting until ctx ends. The
// kernel gives the lock back when its holder dies.
func lock(ctx context.Context, path string, how int) (unlock func(), err error) {
	for {
		f, err := tryLock(path, how)
		if err != nil {
			return nil, err
		}
		if f != nil {
			return func() { f.Close() }, nil
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// tryLock returns the locked file, or nil when another holds it, or has just
// removed it.
func tryLock(path string, how int) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	err = unix.Flock(int(f.Fd()), how|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) || errors.Is(err, unix.EINTR) {
		return nil, f.Close()
	}
	if err == nil {
		var mine, there os.FileInfo
		if mine, err = f.Stat(); err == nil {
			if there, err = os.Stat(path); errors.Is(err, os.ErrNotExist) {
				return nil, f.Close()
			}
		}
		if err == nil && !os.SameFile(mine, there) {
			return nil, f.Close()
		}
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return f, nil
}
