package guest

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"syscall"

	"github.com/creack/pty"
	"github.com/pkg/sftp"
	"golang.org/x/sys/unix"

	"github.com/bakehouse-farm/bakehouse/localcloud/sandbox/sshd"
)

// A sessionRequest says what a process of the instance is to become. It
// reaches the process at ConfigFD; the cgroups follow from FirstCgroup on.
type sessionRequest struct {
	Path    string
	Argv    []string
	Env     []string
	Dir     string
	UID     int
	GID     int
	Groups  []int
	SFTP    bool // serve SFTP on standard input and output instead of executing
	Cgroups int
}

// Session joins the limits of the instance, becomes the user and executes what
// was asked for. It never returns.
func Session() {
	err := session()
	fmt.Fprintln(os.Stderr, err)
	if errors.Is(err, os.ErrNotExist) {
		os.Exit(127)
	}
	os.Exit(126)
}

func session() error {
	f := os.NewFile(ConfigFD, "request")
	b, err := io.ReadAll(f)
	if err != nil {
		return err
	}
	f.Close()
	var r sessionRequest
	if err := json.Unmarshal(b, &r); err != nil {
		return err
	}
	fds := make([]int, r.Cgroups)
	for n := range fds {
		fds[n] = ConfigFD + 1 + n
	}
	if err := joinCgroups(fds); err != nil {
		return err
	}
	for _, fd := range fds {
		unix.Close(fd)
	}
	unix.Umask(0o022)
	if err := become(r.UID, r.GID, r.Groups); err != nil {
		return err
	}
	if err := os.Chdir(r.Dir); err != nil {
		if err := os.Chdir("/"); err != nil {
			return err
		}
	}
	if r.SFTP {
		return serveSFTP()
	}
	if err := unix.Exec(r.Path, r.Argv, r.Env); err != nil {
		return fmt.Errorf("%s: %w", r.Path, err)
	}
	return nil
}

// become changes the user of the whole process.
func become(uid, gid int, groups []int) error {
	if err := syscall.Setgroups(groups); err != nil {
		return fmt.Errorf("set groups: %w", err)
	}
	if err := syscall.Setresgid(gid, gid, gid); err != nil {
		return fmt.Errorf("set group: %w", err)
	}
	if err := syscall.Setresuid(uid, uid, uid); err != nil {
		return fmt.Errorf("set user: %w", err)
	}
	return nil
}

func serveSFTP() error {
	wd, err := os.Getwd()
	if err != nil {
		wd = "/"
	}
	s, err := sftp.NewServer(struct {
		io.Reader
		io.WriteCloser
	}{os.Stdin, os.Stdout}, sftp.WithServerWorkingDirectory(wd))
	if err != nil {
		return err
	}
	if err := s.Serve(); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	os.Exit(0)
	return nil
}

// spawn starts a process of the instance.
func (i *initProcess) spawn(r sessionRequest, std [3]*os.File, attr *syscall.SysProcAttr) (*process, error) {
	r.Cgroups = i.config.Cgroups
	b, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	fd, err := unix.MemfdCreate("request", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, err
	}
	request := os.NewFile(uintptr(fd), "request")
	defer request.Close()
	if _, err := request.WriteAt(b, 0); err != nil {
		return nil, err
	}
	files := []*os.File{std[0], std[1], std[2], request}
	for n := range i.config.Cgroups {
		d, err := unix.FcntlInt(uintptr(FirstCgroup+n), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			return nil, err
		}
		f := os.NewFile(uintptr(d), "cgroup.procs")
		defer f.Close()
		files = append(files, f)
	}
	pid, end, err := i.reaper.start(initPath, []string{SessionName}, &os.ProcAttr{
		Dir: "/", Env: []string{"GOMAXPROCS=2"}, Files: files, Sys: attr,
	})
	if err != nil {
		return nil, fmt.Errorf("start: %w", err)
	}
	return &process{pid: pid, end: end}, nil
}

type process struct {
	pid int
	end <-chan syscall.WaitStatus
}

// Wait returns how the process ended.
func (p *process) Wait() syscall.WaitStatus { return <-p.end }

// Signal sends a signal to the process and its group: it leads its session.
func (p *process) Signal(s syscall.Signal) error { return unix.Kill(-p.pid, s) }

// login starts what a client of the SSH server asks for.
func (i *initProcess) login(c sshd.Command) (sshd.Process, error) {
	u, err := lookUser("/", c.User)
	if err != nil {
		return nil, err
	}
	r := sessionRequest{Path: u.shell, Dir: u.home, UID: u.uid, GID: u.gid, Groups: u.groups, SFTP: c.SFTP}
	r.Env = append(u.env(), c.Env...)
	base := filepath.Base(u.shell)
	switch {
	case c.Line != "":
		r.Argv = []string{base, "-c", c.Line}
	default:
		r.Argv = []string{"-" + base}
	}
	attr := &syscall.SysProcAttr{Setsid: true}
	if c.PTY {
		attr.Setctty = true // the terminal is descriptor 0
	}
	p, err := i.spawn(r, c.Files, attr)
	if err != nil {
		return nil, err
	}
	return p, nil
}

// openPTY opens a terminal that belongs to the user.
func openPTY(name string) (master, slave *os.File, path string, err error) {
	master, slave, err = pty.Open()
	if err != nil {
		return nil, nil, "", err
	}
	if u, err := lookUser("/", name); err == nil {
		_ = slave.Chown(u.uid, 5) // the tty group; the mode comes from the mount
	}
	return master, slave, "/dev/pts/" + strconv.Itoa(ptyNumber(slave)), nil
}

func ptyNumber(slave *os.File) int { return atoi(filepath.Base(slave.Name())) }
