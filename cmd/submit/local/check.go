package local

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// least is the room that the processes need to begin: a database, logs and the
// layers of an image or two.
const least = 256 << 20

// little is so little room that the server soon cannot write, and nothing moves.
const little = 4 << 20

// check tells what makes it pointless to start anything.
func (c *Config) check() error {
	if runtime.GOOS != "linux" {
		return fmt.Errorf("-local needs Linux, whose namespaces are its machines; on %s, submit to a farm instead (-address, -store)", runtime.GOOS)
	}
	euid := os.Geteuid
	if c.euid != nil {
		euid = c.euid
	}
	if euid() != 0 {
		return errors.New("-local needs root, as its machines are Linux namespaces (machines in Docker containers are not supported yet): run it with sudo, or submit to a farm instead (-address, -store)")
	}
	if !filepath.IsAbs(c.State) {
		return fmt.Errorf("state folder %q is not absolute", c.State)
	}
	if err := c.room(); err != nil {
		return fmt.Errorf("state folder %s: %w (choose another with -state or BAKEHOUSE_STATE)", c.State, err)
	}
	return c.programs()
}

// room makes the state folder, and makes sure that one can write to it.
func (c *Config) room() error {
	if err := os.MkdirAll(c.path("log"), 0o700); err != nil {
		return reason(err)
	}
	probe, err := os.CreateTemp(c.State, ".probe-")
	if err != nil {
		return reason(err)
	}
	defer os.Remove(probe.Name())
	_, err = probe.Write(make([]byte, 64<<10))
	if serr := probe.Sync(); err == nil {
		err = serr
	}
	if cerr := probe.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return reason(err)
	}
	if free, ok := c.free(); ok && free < least {
		return fmt.Errorf("only %d MiB are free, at least %d are needed", free>>20, least>>20)
	}
	return nil
}

// free returns the room in the state folder.
func (c *Config) free() (bytes uint64, ok bool) {
	var fs unix.Statfs_t
	if err := unix.Statfs(c.State, &fs); err != nil {
		return 0, false
	}
	return fs.Bavail * uint64(fs.Bsize), true
}

// full says that there is no room left; it is empty when there is.
func (c *Config) full() string {
	if free, ok := c.free(); ok && free < little {
		return fmt.Sprintf("The disk of state folder %s is full (%d MiB left): builds wait. They go on when there is room again; Ctrl-C cancels them then.", c.State, free>>20)
	}
	return ""
}

// reason is an error without the path, which the caller names.
func reason(err error) error {
	var p *os.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}

// programs finds the programs.
func (c *Config) programs() error {
	if c.Programs == "" {
		self, err := os.Executable()
		if err != nil {
			return fmt.Errorf("find the programs beside submit: %w", err)
		}
		if self, err = filepath.EvalSymlinks(self); err != nil {
			return fmt.Errorf("find the programs beside submit: %w", err)
		}
		c.Programs = filepath.Dir(self)
	}
	for _, name := range names {
		if _, err := os.Stat(filepath.Join(c.Programs, name)); err != nil {
			return fmt.Errorf("program %s is not beside submit in %s: build all programs with `make build`", name, c.Programs)
		}
	}
	return nil
}

// lock keeps others from starting or stopping the same set meanwhile.
func (c *Config) lock(ctx context.Context) (unlock func(), err error) {
	f, err := os.OpenFile(c.path("lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock state folder: %w%s", err, asRoot(err))
	}
	begin, said := time.Now(), false
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { _ = f.Close() }, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			_ = f.Close()
			return nil, fmt.Errorf("lock state folder %s: %w", c.State, err)
		}
		if !said && time.Since(begin) > time.Second {
			said = true
			c.say("Waiting for another submit that starts or stops the local processes")
		}
		select {
		case <-ctx.Done():
			_ = f.Close()
			return nil, context.Cause(ctx)
		case <-time.After(20 * time.Millisecond):
		}
	}
}
