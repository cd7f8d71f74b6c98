package sandbox

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"github.com/google/uuid"
	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"

	"github.com/bakehouse-farm/bakehouse/localcloud/sandbox/egress"
	"github.com/bakehouse-farm/bakehouse/localcloud/sandbox/guest"
	"github.com/bakehouse-farm/bakehouse/localcloud/sandbox/layer"
)

// shimName is how the executable knows that it is a shim.
const shimName = "localcloud-shim"

// bootLimit is how long an instance may take from its first process to SSH.
const bootLimit = 30 * time.Second

// started is what the shim writes to its Host, at descriptor 3, when the
// instance runs. Anything else is an error message.
const started = "started\n"

// A run is what the shim needs to know, as run.json says it.
type run struct {
	Spec  Spec     `json:"spec"`
	Dir   string   `json:"dir"`   // the Host's folder
	Init  string   `json:"init"`  // the executable
	Lower []string `json:"lower"` // folders of the layers, topmost first
	Host  bool     `json:"host"`  // the host's root lies below them
}

// shim runs an instance until it has ended for good, and ends the process.
func shim(dir string) {
	// PID 1 dies with the thread that made it: this one must stay.
	runtime.LockOSThread()
	in := instanceDir{id: filepath.Base(dir), dir: dir}
	report := os.NewFile(3, "report")
	syscall.CloseOnExec(3)
	s := &shimProcess{in: in, report: report, stop: make(chan os.Signal, 1)}
	signal.Notify(s.stop, unix.SIGTERM)
	signal.Ignore(unix.SIGINT, unix.SIGHUP, unix.SIGPIPE)
	if err := s.run(); err != nil {
		fmt.Fprintf(os.Stderr, "%s %v\n", time.Now().UTC().Format(time.RFC3339), err)
		s.tell(err.Error())
		os.Exit(1)
	}
	os.Exit(0)
}

type shimProcess struct {
	in       instanceDir
	settings run
	report   *os.File // nil once the Host knows
	stop     chan os.Signal
	boots    int
}

func (s *shimProcess) tell(text string) {
	if s.report != nil {
		_, _ = io.WriteString(s.report, text)
		s.report.Close()
		s.report = nil
	}
}

func (s *shimProcess) run() error {
	lock, err := os.OpenFile(s.in.path("lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	// The file must stay open, and be the only one of it in this process.
	defer runtime.KeepAlive(lock)
	if err := unix.FcntlFlock(lock.Fd(), unix.F_SETLK, &unix.Flock_t{Type: unix.F_WRLCK}); err != nil {
		return fmt.Errorf("instance has a shim already: %w", err)
	}
	if err := readJSON(s.in.path("run.json"), &s.settings); err != nil {
		return err
	}
	if old, err := s.in.state(); err == nil {
		s.boots = old.Status.Boots
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	for {
		again, err := s.boot()
		if err != nil {
			s.write(state{Status: Status{State: Stopped, Reason: BootFailed, Detail: err.Error()}})
			return err
		}
		if !again {
			return nil
		}
	}
}

func (s *shimProcess) write(st state) {
	st.Status.Boots = s.boots
	st.Status.Since = time.Now().UTC()
	if err := writeJSON(s.in.path("state.json"), st); err != nil {
		fmt.Fprintln(os.Stderr, "write state:", err)
	}
}

// boot runs the instance once, from its first process to its last. again tells
// that it wants to be booted another time.
func (s *shimProcess) boot() (again bool, err error) {
	root, unmount, err := s.mountRoot()
	if err != nil {
		return false, err
	}
	defer unmount()
	name := "bakehouse-" + shortName(s.settings.Dir, s.in.id)
	cg, err := makeCgroups(name, s.settings.Spec.MemoryMax, s.settings.Spec.PidsMax)
	if err != nil {
		return false, err
	}
	defer cg.remove()
	st := state{Status: Status{State: Running}, BootID: uuid.NewString(), Cgroups: cg}
	s.write(st) // what is to be given back is known before it is used

	p, err := s.startInit(cg)
	if err != nil {
		return false, err
	}
	defer p.kill()
	defer func() {
		if err := disconnect(s.settings.Dir, s.in.id); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}()
	if err := cg.adopt(p.cmd.Process.Pid); err != nil {
		return false, err
	}
	if err := connect(s.settings.Dir, s.in.id, p.cmd.Process.Pid, s.settings.Spec.Addr); err != nil {
		return false, fmt.Errorf("network: %w", err)
	}
	way, err := egress.Open(egress.Config{Pid: p.cmd.Process.Pid, Own: s.settings.Spec.Addr, DNS: dnsAddr, Closed: fabric})
	if err != nil {
		// An instance without a way out is of use still; but say so.
		fmt.Fprintln(os.Stderr, "no way out of the instance:", err)
	} else {
		defer way.Close()
	}
	config, err := s.config(root, st.BootID, len(cg.Guest), err == nil)
	if err != nil {
		return false, err
	}
	if err := p.begin(config); err != nil {
		return false, err
	}

	s.boots++
	st.Init = p.cmd.Process.Pid
	s.write(st)
	if err := os.WriteFile(s.in.path("booted"), nil, 0o600); err != nil {
		return false, err
	}
	s.tell(started)
	debug.FreeOSMemory()
	return s.await(p)
}

// await waits for the instance's end and records why it came.
func (s *shimProcess) await(p *initProcess) (again bool, err error) {
	end := Status{State: Stopped}
	asked := false
	var kill <-chan time.Time
	for {
		select {
		case <-s.stop:
			if !asked {
				asked = true
				_, _ = p.lifeline.Write([]byte{1})
				kill = time.After(graceStop + time.Second)
			}
			continue
		case <-kill:
			_ = p.cmd.Process.Kill()
			continue
		case <-p.ended:
		}
		break
	}
	code := p.cmd.ProcessState.ExitCode()
	switch {
	case asked:
		end.Reason = ByRequest
	case code == guest.ExitReboot:
		return true, nil
	case code == guest.ExitPowerOff:
		end.Reason = FromInside
	default:
		end.Reason = Crashed
		end.Detail = p.cmd.ProcessState.String() + tail(s.in.path("console.log"))
	}
	s.write(state{Status: end})
	return false, nil
}

// tail returns the last lines of a log, to go with an error.
func tail(path string) string {
	b, err := os.ReadFile(path)
	if err != nil || len(b) == 0 {
		return ""
	}
	if len(b) > 600 {
		b = b[len(b)-600:]
	}
	return ": " + strings.TrimSpace(string(b))
}

// mountRoot mounts the instance's root in this process's mount namespace.
func (s *shimProcess) mountRoot() (root string, unmount func(), err error) {
	scratch := s.in.path("run")
	if err := mkdirs(scratch); err != nil {
		return "", nil, err
	}
	if err := unix.Mount("tmpfs", scratch, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=700,size=8m"); err != nil {
		return "", nil, fmt.Errorf("mount %s: %w", scratch, err)
	}
	unmount = func() {
		for _, m := range []string{"root", "host", ""} {
			_ = unix.Unmount(filepath.Join(scratch, m), unix.MNT_DETACH)
		}
	}
	defer func() {
		if err != nil {
			unmount()
		}
	}()
	root = filepath.Join(scratch, "root")
	tools := filepath.Join(scratch, "tools")
	if err := mkdirs(root, tools); err != nil {
		return "", nil, err
	}
	under := append([]string(nil), s.settings.Lower...)
	if s.settings.Host {
		under = append(under, "/")
	}
	if err := makeTools(tools, under); err != nil {
		return "", nil, err
	}
	// overlayfs wants its own folder new after each time without fsync.
	work := s.in.work()
	if err := os.RemoveAll(work); err != nil {
		return "", nil, err
	}
	work = filepath.Join(work, uuid.NewString())
	if err := os.MkdirAll(work, 0o700); err != nil {
		return "", nil, err
	}
	return root, unmount, layer.Mount(layer.Stack{
		Lower: append([]string{tools}, s.settings.Lower...),
		Host:  s.settings.Host, Dir: s.in.dir, Upper: s.in.upper(), Work: work,
	}, root, scratch)
}

// An initProcess is PID 1 of an instance, as its parent sees it.
type initProcess struct {
	cmd      *exec.Cmd
	config   *os.File // write end
	report   *os.File // read end
	lifeline *os.File // write end
	ended    chan struct{}
}

// startInit starts the first process, which waits for its config.
func (s *shimProcess) startInit(cg cgroups) (*initProcess, error) {
	doors, err := cg.doors()
	if err != nil {
		return nil, err
	}
	theirs := doors
	defer func() {
		for _, f := range theirs {
			f.Close()
		}
	}()
	console, err := os.OpenFile(s.in.path("console.log"), os.O_CREATE|os.O_TRUNC|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer console.Close()
	p := &initProcess{ended: make(chan struct{})}
	var configR, reportW, lifelineR *os.File
	for _, e := range []struct {
		r, w **os.File
	}{{&configR, &p.config}, {&p.report, &reportW}, {&lifelineR, &p.lifeline}} {
		if *e.r, *e.w, err = os.Pipe(); err != nil {
			return nil, err
		}
	}
	theirs = append(theirs, configR, reportW, lifelineR)
	p.cmd = &exec.Cmd{
		Path: s.settings.Init, Args: []string{guest.BootName}, Env: []string{"GOMAXPROCS=1"}, Dir: "/",
		Stdout: console, Stderr: console,
		ExtraFiles: append([]*os.File{configR, reportW, lifelineR}, doors...),
		SysProcAttr: &syscall.SysProcAttr{
			Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWNET | unix.CLONE_NEWCGROUP,
			Setsid:     true,
			Pdeathsig:  unix.SIGKILL,
		},
	}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start init in new namespaces: %w", err)
	}
	go func() {
		_ = p.cmd.Wait()
		close(p.ended)
	}()
	return p, nil
}

// begin lets init go on and waits until it serves SSH.
func (p *initProcess) begin(c guest.Config) error {
	b, err := json.Marshal(c)
	if err != nil {
		return err
	}
	go func() { // the pipe may be smaller than the user data
		_, _ = p.config.Write(b)
		p.config.Close()
	}()
	_ = p.report.SetReadDeadline(time.Now().Add(bootLimit))
	said, err := io.ReadAll(p.report)
	p.report.Close()
	switch {
	case string(said) == guest.Ready:
		return nil
	case len(said) > 0:
		return fmt.Errorf("init: %s", strings.TrimSpace(string(said)))
	case errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Errorf("init: not ready after %s", bootLimit)
	}
	return fmt.Errorf("init: it died: %w", err)
}

// kill ends PID 1, and so all of the instance, if it is alive still.
func (p *initProcess) kill() {
	_ = p.cmd.Process.Kill()
	<-p.ended
	p.lifeline.Close()
	p.config.Close()
	p.report.Close()
}

func (s *shimProcess) config(root, bootID string, cgroups int, egress bool) (guest.Config, error) {
	spec := s.settings.Spec
	c := guest.Config{
		Root: root, Init: s.settings.Init, Hostname: spec.Hostname, Addr: spec.Addr.String(), Keys: spec.Keys,
		Metadata: spec.Metadata, BootID: bootID, Cgroups: cgroups,
	}
	if c.Hostname == "" {
		c.Hostname = spec.ID
	}
	if egress {
		c.Resolvers = []string{dnsAddr.String()}
	}
	_, err := os.Stat(s.in.path("booted"))
	if errors.Is(err, fs.ErrNotExist) && strings.HasPrefix(string(spec.UserData), "#!") {
		c.UserData = spec.UserData
	}
	c.HostKeys, err = hostKeys(s.in.path("hostkeys.json"))
	return c, err
}

// hostKeys reads the instance's host keys, or makes them. They are not kept in
// its files: instances of one image must not have the same.
func hostKeys(path string) ([]string, error) {
	var keys []string
	err := readJSON(path, &keys)
	if err == nil || !errors.Is(err, fs.ErrNotExist) {
		return keys, err
	}
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	for _, k := range []any{ed, ec} {
		block, err := ssh.MarshalPrivateKey(k, "")
		if err != nil {
			return nil, err
		}
		keys = append(keys, string(pem.EncodeToMemory(block)))
	}
	return keys, writeJSON(path, keys)
}

// probeName is how the executable knows that it is to try out what instances
// need.
const probeName = "localcloud-probe"

// probe finds out whether instances can run here at all.
func (h *Host) probe(ctx context.Context) error {
	dir, err := os.MkdirTemp(h.dir, ".probe-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, h.init)
	cmd.Args = []string{probeName, dir, h.layers.Mask()}
	cmd.Env = []string{"GOMAXPROCS=1"}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWNET | unix.CLONE_NEWCGROUP,
		Pdeathsig:  unix.SIGKILL,
	}
	out, err := cmd.CombinedOutput()
	return probeError(out, err)
}

func probeMain(dir, mask string) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("mounts cannot be made private: %w", err)
	}
	at := func(n string) string { return filepath.Join(dir, n) }
	if err := mkdirs(at("run"), at("upper"), at("work")); err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", at("run"), "tmpfs", 0, "mode=700"); err != nil {
		return fmt.Errorf("mount tmpfs: %w", err)
	}
	if err := mkdirs(at("run/root")); err != nil {
		return err
	}
	return layer.Mount(layer.Stack{Lower: []string{mask}, Host: true, Dir: dir, Upper: at("upper"), Work: at("work")}, at("run/root"), at("run"))
}
