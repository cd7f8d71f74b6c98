package sandbox

import (
	"cmp"
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"

	"github.com/bakehouse-farm/bakehouse"
)

// Start boots an instance and returns when one can log in. The first time, it
// makes the instance's writable layer; later it goes on with the files there
// are, with whatever else the spec says by then. Starting a running instance
// does nothing.
//
// When Start fails, nothing runs and nothing stays mounted; the instance's
// files stay, for Start to try again or Remove to delete.
func (h *Host) Start(ctx context.Context, spec Spec) error {
	if err := spec.check(); err != nil {
		return err
	}
	for _, k := range spec.Keys {
		if _, _, _, _, err := ssh.ParseAuthorizedKey([]byte(k)); err != nil {
			return bakehouse.Errorf(bakehouse.Invalid, "instance %s: key %.40q: %w", spec.ID, k, err)
		}
	}
	defer h.locked(spec.ID)()
	in := h.instance(spec.ID)
	if pid, err := in.shim(); err != nil || pid != 0 {
		return err
	}
	if err := h.start(ctx, in, spec); err != nil {
		return fmt.Errorf("start instance %s: %w", spec.ID, err)
	}
	return nil
}

func (h *Host) start(ctx context.Context, in instanceDir, spec Spec) error {
	if old, err := in.spec(); err == nil {
		spec.Layers, spec.Disk = old.Layers, old.Disk // Freeze may have added layers
	} else {
		spec.Disk = cmp.Or(spec.Disk, h.disk)
	}
	lower, host, err := h.layers.Lower(spec.Layers)
	if err != nil {
		return err
	}
	if err := h.addressFree(in, spec); err != nil {
		return err
	}
	if err := os.MkdirAll(in.dir, 0o700); err != nil {
		return err
	}
	if err := in.giveBack(h.dir); err != nil {
		return err
	}
	if err := os.RemoveAll(in.path("still")); err != nil {
		return err
	}
	if spec.Disk > 0 {
		if err := in.attach(spec.Disk); err != nil {
			return err
		}
	}
	if err := h.makeUpper(in, lower, host); err != nil {
		return err
	}
	if err := writeJSON(in.path("spec.json"), spec); err != nil {
		return err
	}
	if err := writeJSON(in.path("run.json"), run{Spec: spec, Dir: h.dir, Init: h.init, Lower: lower, Host: host}); err != nil {
		return err
	}
	if err := fence(); err != nil {
		return err
	}
	h.setWanted(in.id, false)
	return h.startShim(ctx, in)
}

// addressFree refuses an address that another running instance has: two routes
// to it would make one of them unreachable, silently.
func (h *Host) addressFree(in instanceDir, spec Spec) error {
	all, err := h.instances()
	if err != nil {
		return err
	}
	for _, other := range all {
		if other.id == in.id {
			continue
		}
		s, err := other.spec()
		if err != nil || s.Addr != spec.Addr {
			continue
		}
		if pid, err := other.shim(); err == nil && pid != 0 {
			return bakehouse.Errorf(bakehouse.Conflict, "address %s belongs to instance %s, which runs", spec.Addr, other.id)
		}
	}
	return nil
}

// makeUpper makes the writable layer, with the mode that its root shows.
func (h *Host) makeUpper(in instanceDir, lower []string, host bool) error {
	upper := in.upper()
	if _, err := os.Stat(upper); err == nil {
		return nil
	}
	like := "/"
	if len(lower) > 0 && !host {
		like = lower[0]
	}
	info, err := os.Stat(like)
	if err != nil {
		return err
	}
	if err := mkdirs(upper); err != nil {
		return err
	}
	if err := os.Chmod(upper, info.Mode().Perm()|0o555); err != nil {
		return err
	}
	return syncDir(in.dir)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// startShim starts the instance's shim and waits until the instance runs.
func (h *Host) startShim(ctx context.Context, in instanceDir) error {
	log, err := os.OpenFile(in.path("shim.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	report, said, err := os.Pipe()
	if err != nil {
		return err
	}
	defer report.Close()
	cmd := &exec.Cmd{
		Path: h.init, Args: []string{shimName, in.dir},
		Env:    []string{"PATH=" + os.Getenv("PATH"), "GOMAXPROCS=2", "GOGC=25"},
		Dir:    "/",
		Stdout: log, Stderr: log, ExtraFiles: []*os.File{said},
		SysProcAttr: &syscall.SysProcAttr{Setsid: true, Cloneflags: unix.CLONE_NEWNS},
	}
	err = cmd.Start()
	said.Close()
	if err != nil {
		return fmt.Errorf("start shim: %w", err)
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(ended)
	}()
	go h.watch(in, ended)

	stop := context.AfterFunc(ctx, func() { _ = report.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	_ = report.SetReadDeadline(time.Now().Add(bootLimit + 10*time.Second))
	b, err := io.ReadAll(report)
	if string(b) == started {
		return nil
	}
	_ = cmd.Process.Kill()
	<-ended
	if giveErr := in.giveBack(h.dir); giveErr != nil {
		h.log.Error("give back after a failed start", "instance", in.id, "error", giveErr)
	}
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case len(b) > 0:
		return errors.New(strings.TrimSpace(string(b)))
	case err != nil:
		return fmt.Errorf("shim does not answer: %w", err)
	}
	return fmt.Errorf("shim died%s", tail(in.path("shim.log")))
}

// watch waits for the end of an instance's shim, gives back what it left and
// tells of an end that nobody asked for. ended is nil for a shim that is not
// our child.
func (h *Host) watch(in instanceDir, ended <-chan struct{}) {
	if ended != nil {
		select {
		case <-ended:
		case <-h.done:
			return
		}
	} else {
		for {
			if pid, err := in.shim(); err == nil && pid == 0 {
				break
			}
			select {
			case <-h.done:
				return
			case <-time.After(200 * time.Millisecond):
			}
		}
	}
	h.mu.Lock()
	wanted := h.wanted[in.id]
	h.mu.Unlock()
	if wanted {
		return // Stop sees to the rest
	}
	unlock := h.locked(in.id)
	defer unlock()
	if pid, err := in.shim(); err != nil || pid != 0 || !in.exists() {
		return // started again, or removed, meanwhile
	}
	if err := in.giveBack(h.dir); err != nil {
		h.log.Error("give back", "instance", in.id, "error", err)
	}
	st, err := h.Status(in.id)
	if err != nil || st.Reason == BootFailed || st.Reason == ByRequest {
		return
	}
	select {
	case h.events <- Event{ID: in.id, Status: st}:
	default:
		h.log.Warn("event dropped: nobody reads them", "instance", in.id)
	}
}

func (h *Host) setWanted(id string, wanted bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.wanted[id] = wanted
}

// Status tells how an instance is. One that is not known is Gone.
func (h *Host) Status(id string) (Status, error) {
	if err := checkID("instance", id); err != nil {
		return Status{}, err
	}
	in := h.instance(id)
	if !in.exists() {
		return Status{State: Gone}, nil
	}
	// The lock before the state: the shim writes its last words, then lets go.
	pid, err := in.shim()
	if err != nil {
		return Status{}, err
	}
	st, err := in.state()
	if err != nil {
		return Status{}, fmt.Errorf("status of instance %s: %w", id, err)
	}
	switch {
	case pid != 0:
		st.Status.State = Running
	case st.Status.State == Running:
		st.Status.State, st.Status.Reason = Stopped, Killed
	}
	return st.Status, nil
}

// adopt finds the instances that run and cleans up after those that died.
func (h *Host) adopt(context.Context) error {
	all, err := h.instances()
	if err != nil {
		return err
	}
	alive := map[string]bool{}
	inits := map[string]bool{h.init: true}
	for _, in := range all {
		pid, err := in.shim()
		if err != nil {
			return err
		}
		if pid == 0 {
			if err := in.giveBack(h.dir); err != nil {
				return fmt.Errorf("instance %s: %w", in.id, err)
			}
			continue
		}
		alive[in.id] = true
		if err := in.wake(); err != nil {
			return err
		}
		var r run
		if err := readJSON(in.path("run.json"), &r); err == nil {
			inits[r.Init] = true
		}
		go h.watch(in, nil)
	}
	ids, err := cables(h.dir)
	if err != nil {
		return err
	}
	for _, id := range ids {
		if !alive[id] {
			if err := disconnect(h.dir, id); err != nil {
				return err
			}
		}
	}
	old, err := filepath.Glob(filepath.Join(h.dir, "bin", "init-*"))
	if err != nil {
		return err
	}
	for _, o := range old {
		if !inits[o] {
			if err := os.Remove(o); err != nil {
				return err
			}
		}
	}
	return h.finishRemovals()
}

// warnDynamic says that the executable will not serve every image.
func (h *Host) warnDynamic(path string, r io.ReaderAt) {
	f, err := elf.NewFile(r)
	if err != nil {
		return
	}
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			h.log.Warn("init executable is dynamically linked: images without the host's libraries will not boot; build it with CGO_ENABLED=0", "path", path)
			return
		}
	}
}

// probeError makes one sentence of what the probe found.
func probeError(out []byte, err error) error {
	if err == nil {
		return nil
	}
	text := strings.TrimSpace(string(out))
	if text == "" {
		text = err.Error()
	}
	switch {
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOSPC):
		return bakehouse.Errorf(bakehouse.Invalid, "this host does not allow new namespaces (%s): instances need a root that may make them, as on a machine of one's own or in a privileged container", text)
	case strings.Contains(text, "no such device"):
		return bakehouse.Errorf(bakehouse.Invalid, "this kernel has no overlayfs (%s): load it with modprobe overlay", text)
	}
	return bakehouse.Errorf(bakehouse.Invalid, "instances cannot run here: %s", text)
}
