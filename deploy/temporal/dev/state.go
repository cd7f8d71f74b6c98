package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"go.temporal.io/server/common/headers"
	sqliteschema "go.temporal.io/server/schema/sqlite"
	"golang.org/x/sys/unix"
)

// Files in the state folder.
const (
	lockName     = "lock"    // held, and holding the pid, while a server runs
	versionName  = "version" // which server the database belongs to
	databaseName = "temporal.db"
)

// minFree is how much room the database must have to be started at all.
const minFree = 32 << 20

// version is what a database is tied to: there is no migration for SQLite.
const version = "temporal " + headers.ServerVersion

// A state is a state folder that is ours.
type state struct {
	database string
	lock     *os.File
}

// openState locks the folder and makes the database if there is none.
func openState(dir string) (_ *state, err error) {
	dir, err = filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("state folder: %w", err)
	}
	if strings.ContainsAny(dir, "?#%") {
		// The path becomes part of a URL, unescaped, inside of the server.
		return nil, fmt.Errorf("state folder %s: its path must not contain ?, # or %%", dir)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("state folder %s cannot be made: %w", dir, cause(err))
	}
	s := &state{database: filepath.Join(dir, databaseName)}
	if s.lock, err = lockState(dir); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	var room unix.Statfs_t
	if err := unix.Statfs(dir, &room); err == nil {
		if free := room.Bavail * uint64(room.Bsize); free < minFree {
			return nil, fmt.Errorf("state folder %s: the disk is full: %d KiB free, %d KiB needed", dir, free>>10, uint64(minFree)>>10)
		}
	}
	if err := s.prepare(dir); err != nil {
		return nil, err
	}
	return s, nil
}

func (s *state) close() { s.lock.Close() }

// prepare makes the database, or checks that it is one of this version.
func (s *state) prepare(dir string) error {
	note := filepath.Join(dir, versionName)
	_, err := os.Stat(s.database)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if info, err := os.Stat(s.database + "-wal"); err == nil && info.Size() > 0 {
			return fmt.Errorf("state folder %s: the database %s is gone, though its journal is there: put it back, or move the folder away and start with an empty one", dir, s.database)
		}
		if err := s.create(note); err != nil {
			return fmt.Errorf("make database in %s: %w", dir, cause(err))
		}
		return nil
	case err != nil:
		return fmt.Errorf("state folder %s: %w", dir, cause(err))
	}
	const wayOut = "start it with that version, or give another -state folder (builds in the old one are not carried over)"
	found, err := os.ReadFile(note)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("state folder %s: the database was made by an unknown version, this is %s: %s", dir, version, wayOut)
	case err != nil:
		return fmt.Errorf("state folder %s: %w", dir, cause(err))
	}
	if got := strings.TrimSpace(string(found)); got != version {
		return fmt.Errorf("state folder %s: the database was made by %s, this is %s: %s", dir, got, version, wayOut)
	}
	err = checkDatabase(s.database)
	if errors.Is(err, errDamaged) {
		return fmt.Errorf("state folder %s: %w: put back a copy of the folder, or move it away and start with an empty one (what its builds left in the cloud carries the tag bakehouse:build)", dir, err)
	}
	if err != nil {
		return fmt.Errorf("state folder %s: %w", dir, err)
	}
	return nil
}

// create makes the database beside its place and moves it there whole, so that
// a crash leaves none rather than half of one.
func (s *state) create(note string) error {
	tmp := s.database + ".new"
	for _, old := range []string{tmp, tmp + "-journal", s.database + "-wal", s.database + "-shm"} {
		if err := os.Remove(old); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	c := sqlConfig(tmp)
	// No WAL beside it, and one sync in the end instead of one per statement.
	c.ConnectAttributes["journal_mode"] = "memory"
	c.ConnectAttributes["synchronous"] = "0"
	if err := sqliteschema.SetupSchema(c); err != nil {
		return err
	}
	if err := syncPath(tmp); err != nil {
		return err
	}
	if err := os.WriteFile(note, []byte(version+"\n"), 0o600); err != nil {
		return err
	}
	if err := syncPath(note); err != nil {
		return err
	}
	if err := os.Rename(tmp, s.database); err != nil {
		return err
	}
	return syncPath(filepath.Dir(s.database))
}

func syncPath(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

// lockState makes sure that no other server uses the folder: SQLite would let
// it, and both would believe to be the only one. The kernel gives the lock back
// when its holder dies.
func lockState(dir string) (*os.File, error) {
	path := filepath.Join(dir, lockName)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("state folder %s cannot be written: %w", dir, cause(err))
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		defer f.Close()
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("lock state folder %s: %w", dir, err)
		}
		holder := "another process"
		if pid, err := os.ReadFile(path); err == nil && len(pid) > 0 {
			holder = "process " + strings.TrimSpace(string(pid))
		}
		return nil, fmt.Errorf("state folder %s is in use by another server, %s", dir, holder)
	}
	err = f.Truncate(0)
	if err == nil {
		_, err = f.WriteAt(fmt.Appendf(nil, "%d\n", os.Getpid()), 0)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("state folder %s cannot be written: %w", dir, cause(err))
	}
	return f, nil
}

// cause leaves of an error what went wrong: where is said already.
func cause(err error) error {
	var no syscall.Errno
	var op *net.OpError
	if errors.As(err, &no) {
		return no
	}
	if errors.As(err, &op) {
		return op.Err
	}
	return err
}
