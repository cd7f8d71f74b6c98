package guest

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/bakehouse-farm/bakehouse/internal/proc"
)

// An Entry says what to run inside an instance, from outside.
type Entry struct {
	Init    int      // PID 1 of the instance, as the host sees it
	Shim    int      // its parent, by which we know that it is the right one
	Cgroups []string // cgroup.procs files to join
	Argv    []string // empty: root's login shell
	Term    string
}

// Enter runs a command as root inside an instance, on this process's standard
// input, output and error, with no more rights than others have there. It
// returns the command's exit code.
func Enter(e Entry) (int, error) {
	runtime.LockOSThread() // namespaces and rights are a thread's; it is not given back
	var fds []int
	for _, ns := range []string{"cgroup", "ipc", "uts", "net", "pid", "mnt"} {
		fd, err := unix.Open(fmt.Sprintf("/proc/%d/ns/%s", e.Init, ns), unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return 0, fmt.Errorf("namespace %s: %w", ns, err)
		}
		fds = append(fds, fd)
	}
	if p, ok := proc.Read(e.Init); !ok || p.Parent != e.Shim {
		return 0, errors.New("it has just ended")
	}
	if err := joinByPath(e.Cgroups); err != nil {
		return 0, err
	}
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return 0, err
	}
	for _, fd := range fds {
		if err := unix.Setns(fd, 0); err != nil {
			return 0, fmt.Errorf("enter namespace: %w", err)
		}
	}
	if err := unix.Chdir("/"); err != nil {
		return 0, err
	}
	if err := confine(); err != nil {
		return 0, fmt.Errorf("give up rights: %w", err)
	}
	u, err := lookUser("/", "root")
	if err != nil {
		u = user{name: "root", home: "/root", shell: "/bin/sh"}
	}
	path, argv := u.shell, e.Argv
	if len(argv) == 0 {
		argv = []string{"-" + filepath.Base(u.shell)}
	} else if path, err = lookPath(argv[0]); err != nil {
		return 127, err
	}
	dir := u.home
	if _, err := os.Stat(dir); err != nil {
		dir = "/"
	}
	env := append(u.env(), "TERM="+e.Term)
	signal.Ignore(unix.SIGINT, unix.SIGQUIT) // the command's to answer
	p, err := os.StartProcess(path, argv, &os.ProcAttr{Dir: dir, Env: env, Files: []*os.File{os.Stdin, os.Stdout, os.Stderr}})
	if err != nil {
		return 126, err
	}
	state, err := p.Wait()
	if err != nil {
		return 0, err
	}
	if ws, ok := state.Sys().(interface{ Signal() unix.Signal }); ok && !state.Exited() {
		return 128 + int(ws.Signal()), nil
	}
	return state.ExitCode(), nil
}

func joinByPath(paths []string) error {
	for _, p := range paths {
		if err := os.WriteFile(p, []byte("0"), 0); err != nil {
			return fmt.Errorf("join cgroup: %w", err)
		}
	}
	return nil
}

func lookPath(name string) (string, error) {
	if strings.Contains(name, "/") {
		return name, nil
	}
	for d := range strings.SplitSeq(pathEnv, ":") {
		if info, err := os.Stat(filepath.Join(d, name)); err == nil && !info.IsDir() && info.Mode()&0o111 != 0 {
			return filepath.Join(d, name), nil
		}
	}
	return "", fmt.Errorf("%s: command not found", name)
}
