//go:build linux

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/bakehouse-farm/bakehouse/communicator/runner"
	"github.com/bakehouse-farm/bakehouse/internal/proc"
)

// A folder keeps what is known of one command. It and the folders above it, up
// to the base, belong to this user and nobody else may write there, so what
// has been checked stays as it is.
type folder struct {
	path string
	boot bootID
}

// A state says which process supervises the command. It is on disk before the
// command starts: a folder without it holds a command that never ran.
type state struct {
	Boot    bootID    `json:"boot"`
	PID     int       `json:"pid"`   // of the supervisor
	Start   uint64    `json:"start"` // its start time, in clock ticks since boot
	Started time.Time `json:"started"`
}

// A goingDownNote is what a supervisor leaves that is ended by a machine that
// goes down.
type goingDownNote struct {
	At time.Time `json:"at"`
}

// makeFolder makes the folder of a command, or checks the one that is there.
func makeFolder(o order) (folder, error) {
	if err := secure(o.base); err != nil {
		return folder{}, err
	}
	for _, path := range o.paths() {
		if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return folder{}, err
		}
	}
	return openFolder(o)
}

// openFolder finds the folder of a command. Without one the error is
// fs.ErrNotExist.
func openFolder(o order) (folder, error) {
	paths := o.paths()
	if err := secure(o.base); err != nil {
		return folder{}, err
	}
	for i, path := range paths {
		if err := ours(path); err != nil {
			return folder{}, err
		}
		if i == 0 {
			continue // other builds' are nobody's secret
		}
		if err := os.Chmod(path, 0o700); err != nil { // not a link: see above
			return folder{}, err
		}
	}
	return folder{path: paths[len(paths)-1], boot: o.boot}, nil
}

// paths are the folders from the base down.
func (o order) paths() []string {
	paths := []string{o.base, filepath.Join(o.base, o.build)}
	if o.id != "" {
		paths = append(paths, filepath.Join(o.base, o.build, o.id))
	}
	return paths
}

// ours refuses what another user made or could change.
func ours(path string) error {
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	sys, ok := info.Sys().(*syscall.Stat_t)
	switch {
	case !info.IsDir():
		return fmt.Errorf("%s is not a folder", path)
	case !ok || int(sys.Uid) != os.Geteuid():
		return fmt.Errorf("%s belongs to another user", path)
	case info.Mode().Perm()&0o022 != 0:
		return fmt.Errorf("%s can be written by other users", path)
	}
	return nil
}

func (f folder) file(name string) string { return filepath.Join(f.path, name) }

// write replaces a JSON file. It is on disk when write returns: whoever reads
// it after a crash finds the old one or the new one, whole.
func (f folder) write(name string, what any) error { return f.replace(name, what, true) }

// replace is write; when it need not be on disk yet, it saves the time for that.
func (f folder) replace(name string, what any, durable bool) error {
	data, err := json.Marshal(what)
	if err != nil {
		return err
	}
	tmp := f.file(name + ".tmp")
	if err := os.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	file, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(file, "%s\n%s\n", data, f.checksum(name, data))
	if err == nil && durable {
		err = file.Sync()
	}
	if err2 := file.Close(); err == nil {
		err = err2
	}
	if err != nil {
		return err
	}
	if err := os.Rename(tmp, f.file(name)); err != nil {
		return err
	}
	if !durable {
		return nil
	}
	return syncDir(f.path)
}

func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}

// lock takes the lock of the command. got is false when another process has it.
func (f folder) lock() (file *os.File, got bool, err error) {
	file, err = f.open("lock", os.O_RDWR|os.O_CREATE)
	if err != nil {
		return nil, false, err
	}
	err = syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if err == nil {
		return file, true, nil
	}
	file.Close()
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return nil, false, nil
	}
	return nil, false, fmt.Errorf("lock %s: %w", file.Name(), err)
}

// status tells what is known of the command. It takes no lock, so that looking
// never disturbs a start.
func (f folder) status() (runner.Status, error) {
	if s, err := f.done(); err != nil || s.State == runner.Done {
		return s, err
	}
	var st state
	ok, err := f.read("state.json", &st)
	if err != nil || !ok {
		return runner.Status{}, err
	}
	if !f.boot.same(st.Boot) {
		return runner.Status{State: runner.Rebooted}, nil
	}
	if proc.Alive(st.PID, st.Start) {
		return runner.Status{State: runner.Running}, nil
	}
	// It may have ended between the first look and this one.
	if s, err := f.done(); err != nil || s.State == runner.Done {
		return s, err
	}
	var note goingDownNote
	down, err := f.read("down.json", &note)
	return runner.Status{State: runner.Lost, Trouble: f.trouble(), GoingDown: down}, err
}

// A command may fill the disk, and must not take the note of its end along:
// reserve keeps room for it, record gives that up.
func (f folder) reserve() error {
	file, err := f.open("room", os.O_WRONLY|os.O_CREATE|os.O_TRUNC)
	if err != nil {
		return err
	}
	_, err = file.Write(bytes.Repeat([]byte("room\n"), 4096))
	if err2 := file.Close(); err == nil {
		err = err2
	}
	if err != nil {
		f.makeRoom()
	}
	return err
}

func (f folder) makeRoom() { _ = os.Remove(f.file("room")) } // without it, there may be room nevertheless

func (f folder) record(r runner.Result) error {
	f.makeRoom()
	for patience := time.Now().Add(time.Minute); ; time.Sleep(200 * time.Millisecond) {
		err := f.write("result.json", r)
		if !noRoom(err) || time.Now().After(patience) {
			return err
		}
	}
}

func noRoom(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

func (f folder) done() (runner.Status, error) {
	var r runner.Result
	ok, err := f.read("result.json", &r)
	if err != nil || !ok {
		return runner.Status{}, err
	}
	return runner.Status{State: runner.Done, Result: &r}, nil
}

// trouble is the end of what the supervisor wrote before it died, if anything.
func (f folder) trouble() string {
	data, err := f.slurp("trouble", 1<<20)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(data[max(0, len(data)-2000):]))
}
