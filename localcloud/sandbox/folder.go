package sandbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// An instanceDir is the folder of an instance. Its files:
//
//	spec.json      what it is; its Layers are what it stands on now
//	upper/         what it has written
//	work/          overlayfs's own, new for each boot
//	disk/          both of these, on a filesystem of limited size, if it has one
//	run.json       what the shim needs to know, written before each start
//	state.json     what the shim last said
//	hostkeys.json  its SSH host keys, made once
//	booted         it has booted before: no user data again
//	lock           held by the shim
//	still          there while it stands still for a snapshot
//	frozen/        a copy that is going to be a layer
//	run/           where the shim mounts things, in a namespace of its own
//	shim.log, console.log
type instanceDir struct{ id, dir string }

func (h *Host) instance(id string) instanceDir {
	return instanceDir{id: id, dir: filepath.Join(h.dir, "instances", id)}
}

func (h *Host) instances() ([]instanceDir, error) {
	entries, err := os.ReadDir(filepath.Join(h.dir, "instances"))
	if err != nil {
		return nil, err
	}
	var all []instanceDir
	for _, e := range entries {
		if e.IsDir() && !strings.HasPrefix(e.Name(), ".") {
			all = append(all, h.instance(e.Name()))
		}
	}
	return all, nil
}

func (i instanceDir) path(name ...string) string {
	return filepath.Join(append([]string{i.dir}, name...)...)
}

func (i instanceDir) exists() bool {
	_, err := os.Stat(i.path("spec.json"))
	return err == nil
}

func (i instanceDir) spec() (Spec, error) {
	var s Spec
	return s, readJSON(i.path("spec.json"), &s)
}

// state is what the shim says of the instance.
type state struct {
	Status  Status  `json:"status"`
	BootID  string  `json:"boot_id"`
	Init    int     `json:"init"` // PID 1's process id on the host
	Cgroups cgroups `json:"cgroups"`
}

func (i instanceDir) state() (state, error) {
	var s state
	err := readJSON(i.path("state.json"), &s)
	if errors.Is(err, fs.ErrNotExist) {
		return state{Status: Status{State: Stopped}}, nil
	}
	return s, err
}

// shim returns the process id of the instance's shim; 0 means there is none.
// The kernel knows it from the lock, so it is never that of another process.
func (i instanceDir) shim() (int, error) {
	f, err := os.Open(i.path("lock"))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer f.Close()
	l := unix.Flock_t{Type: unix.F_WRLCK}
	if err := unix.FcntlFlock(f.Fd(), unix.F_GETLK, &l); err != nil {
		return 0, fmt.Errorf("lock of %s: %w", i.id, err)
	}
	if l.Type == unix.F_UNLCK {
		return 0, nil
	}
	return int(l.Pid), nil
}

// signalShim sends a signal to the shim, if there is one.
func (i instanceDir) signalShim(sig unix.Signal) error {
	pid, err := i.shim()
	if err != nil || pid == 0 {
		return err
	}
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("shim of %s: %w", i.id, err)
	}
	defer unix.Close(fd)
	// Still the same: between the two calls the number may have changed hands.
	if again, err := i.shim(); err != nil || again != pid {
		return err
	}
	if err := unix.PidfdSendSignal(fd, sig, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("signal shim of %s: %w", i.id, err)
	}
	return nil
}

// giveBack removes what a dead shim has left outside its folder.
func (i instanceDir) giveBack(dir string) error {
	s, err := i.state()
	if err != nil {
		return err
	}
	s.Cgroups.remove()
	return disconnect(dir, i.id)
}

var errLocked = errors.New("locked")

// lockFile takes a lock that ends with the returned file, or with the process.
func lockFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	l := unix.Flock_t{Type: unix.F_WRLCK}
	err = unix.FcntlFlock(f.Fd(), unix.F_OFD_SETLK, &l)
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
		err = errLocked
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func readJSON(path string, v any) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// writeJSON replaces the file: a reader sees the old one or the new one.
func writeJSON(path string, v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	half := path + ".new"
	if err := os.WriteFile(half, append(b, '\n'), 0o600); err != nil {
		return err
	}
	return os.Rename(half, path)
}

// installInit copies the executable to where instances run it from: the
// original may be replaced by a newer one while they do. It is setuid, for the
// sake of sudo; nobody but root reaches the folder, and instances see it
// without but at one path.
func (h *Host) installInit(path string) (string, error) {
	var err error
	if path == "" {
		if path, err = os.Executable(); err != nil {
			return "", err
		}
	}
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("init executable: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", err
	}
	h.warnDynamic(path, f)
	name := strconv.FormatInt(info.Size(), 36) + "-" + strconv.FormatInt(info.ModTime().UnixNano(), 36)
	to := filepath.Join(h.dir, "bin", "init-"+name)
	if _, err := os.Stat(to); err == nil {
		return to, nil
	}
	half, err := os.CreateTemp(filepath.Join(h.dir, "bin"), ".init-")
	if err != nil {
		return "", err
	}
	defer os.Remove(half.Name())
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return "", err
	}
	_, err = io.Copy(half, f)
	if err = errors.Join(err, half.Chmod(0o755|fs.ModeSetuid), half.Close()); err != nil {
		return "", fmt.Errorf("copy init executable: %w", err)
	}
	return to, os.Rename(half.Name(), to)
}

// poll calls done every few milliseconds until it is true; false: too late.
func poll(limit time.Duration, done func() bool) bool {
	for end := time.Now().Add(limit); !done(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			return false
		}
	}
	return true
}
