//go:build linux

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// The machine switches itself off when nobody has talked to the runner of a
// build for a while: the farm has lost it, and it costs money.
const (
	followedFile = "followed" // touched by each call, and by each tail that lives
	expireLock   = "expire.lock"
	expireLimit  = "expire.limit"
)

// switchOff is for a shell. Without a way to become root the machine stays.
const switchOff = `if test "$(id -u)" = 0; then shutdown -P now || poweroff -f; else sudo -n shutdown -P now || sudo -n poweroff -f; fi`

// touch notes down that somebody follows the build. That it fails is seen by
// whoever writes something that matters.
func touch(o order) {
	name := filepath.Join(o.base, o.build, followedFile)
	now := time.Now()
	if err := os.Chtimes(name, now, now); errors.Is(err, fs.ErrNotExist) {
		if f, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY|syscall.O_NOFOLLOW, 0o600); err == nil {
			f.Close()
		}
	}
}

// expire starts the process that waits for that, or tells the one that waits
// of another limit.
func expire(o order) error {
	o.id = ""
	if _, err := makeFolder(o); err != nil {
		return err
	}
	dir := filepath.Join(o.base, o.build)
	touch(o)
	temp := filepath.Join(dir, expireLimit+".tmp")
	if err := os.WriteFile(temp, []byte(o.limit.String()), 0o600); err != nil {
		return err
	}
	if err := os.Rename(temp, filepath.Join(dir, expireLimit)); err != nil {
		return err
	}
	lock, err := os.OpenFile(filepath.Join(dir, expireLock), os.O_CREATE|os.O_RDWR|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil // it waits already
		}
		return err
	}
	cmd := exec.Command("/proc/self/exe", "expirer", dir, o.off)
	cmd.Args[0] = "bakehouse-runner"
	cmd.Dir = "/"
	cmd.ExtraFiles = []*os.File{lock} // held as long as it waits
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start what waits: %w", err)
	}
	return cmd.Process.Release()
}

// expirer waits until nobody has followed for the limit. It goes by the time
// that passes here, not by the clock, which may be set while it waits.
func expirer(dir, off string) int {
	syscall.CloseOnExec(lockFD)
	var seen time.Time
	since := time.Now()
	for {
		limit, err := readLimit(dir)
		if err != nil {
			return 0 // the build has cleaned up
		}
		info, err := os.Stat(filepath.Join(dir, followedFile))
		if err != nil {
			return 0
		}
		if !info.ModTime().Equal(seen) {
			seen, since = info.ModTime(), time.Now()
		}
		left := limit - time.Since(since)
		if left <= 0 {
			if err := exec.Command("/bin/sh", "-c", off).Run(); err != nil {
				return 1
			}
			return 0
		}
		time.Sleep(min(left, max(limit/20, 100*time.Millisecond), 30*time.Second))
	}
}

func readLimit(dir string) (time.Duration, error) {
	text, err := os.ReadFile(filepath.Join(dir, expireLimit))
	if err != nil {
		return 0, err
	}
	return time.ParseDuration(string(text))
}
