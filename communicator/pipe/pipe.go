// Package pipe reaches machines through programs, as ssh's ProxyCommand does:
// what is written to the connection is the standard input of the program, what
// the program prints comes back.
package pipe

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	// grace is how long a program that was told to end may take for it: some say
	// goodbye to a server.
	grace = 3 * time.Second
	// lastWords is how long one waits for the program to end when its output has
	// ended, to learn why.
	lastWords = 3 * time.Second
	// maxSaid bounds what is kept of the program's standard error.
	maxSaid = 4 << 10
)

// A Command is a program that leads to a machine.
type Command struct {
	// Path is the program, Args are its arguments without its name.
	Path string
	Args []string
	// Env is its environment; nil means that of this process.
	Env []string
	// Verdict says what it means that the program has failed; said is the end of
	// what it wrote to its standard error, failed the error that Read would return.
	// Nil: it means nothing more than that.
	Verdict func(said string, failed error) error
}

// Dial starts the program. That it runs does not tell that it gets through:
// Read and Write fail, with the program's own words, when it has failed, and
// Read returns io.EOF when it has ended well.
//
// The program runs in a process group of its own, so that what a terminal sends
// to this process does not reach it. Close tells the group to end, and makes it
// do so when it has not after some seconds.
func (c Command) Dial() (net.Conn, error) {
	stdin, in, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	out, stdout, err := os.Pipe()
	if err != nil {
		stdin.Close()
		in.Close()
		return nil, err
	}
	p := &conn{command: c, in: in, out: out, ended: make(chan struct{})}
	p.cmd = exec.Command(c.Path, c.Args...)
	p.cmd.Env, p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = c.Env, stdin, stdout, &p.said
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	// What it has started may hold its standard error for longer than it lives.
	p.cmd.WaitDelay = time.Second
	err = p.cmd.Start()
	stdin.Close()
	stdout.Close()
	if err != nil {
		in.Close()
		out.Close()
		return nil, fmt.Errorf("start %s: %w", c.Path, err)
	}
	go func() {
		p.failed = p.cmd.Wait()
		if errors.Is(p.failed, exec.ErrWaitDelay) {
			p.failed = nil
		}
		close(p.ended)
	}()
	return p, nil
}

// A conn is the connection that a running program is.
type conn struct {
	command Command
	in, out *os.File
	cmd     *exec.Cmd
	said    tail
	once    sync.Once
	ended   chan struct{} // closed when the program has ended
	failed  error         // why; to be read after that
}

// Read implements net.Conn.
func (p *conn) Read(b []byte) (int, error) {
	n, err := p.out.Read(b)
	if errors.Is(err, io.EOF) {
		err = p.why(err)
	}
	return n, err
}

// Write implements net.Conn.
func (p *conn) Write(b []byte) (int, error) {
	n, err := p.in.Write(b)
	if errors.Is(err, syscall.EPIPE) {
		err = p.why(err)
	}
	return n, err
}

// why says why nothing goes through any more.
func (p *conn) why(otherwise error) error {
	select {
	case <-p.ended:
	case <-time.After(lastWords):
		return otherwise
	}
	if p.failed == nil {
		return otherwise
	}
	said := p.said.String()
	err := fmt.Errorf("%s: %w", filepath.Base(p.command.Path), p.failed)
	if said != "" {
		err = fmt.Errorf("%w: %s", err, strings.Join(strings.Fields(said), " "))
	}
	if p.command.Verdict != nil {
		return p.command.Verdict(said, err)
	}
	return err
}

// Close implements net.Conn. It does not wait for the program.
func (p *conn) Close() error {
	p.once.Do(func() {
		p.in.Close()
		p.out.Close()
		go p.end()
	})
	return nil
}

// end ends the program: by the end of its input, which it has seen, then as
// Ctrl-C at a terminal would, then by force.
func (p *conn) end() {
	for _, s := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGKILL} {
		select {
		case <-p.ended:
			return
		default:
			_ = syscall.Kill(-p.cmd.Process.Pid, s)
		}
		select {
		case <-p.ended:
			return
		case <-time.After(grace):
		}
	}
}

// LocalAddr implements net.Conn.
func (p *conn) LocalAddr() net.Addr { return addr("pipe") }

// RemoteAddr implements net.Conn.
func (p *conn) RemoteAddr() net.Addr { return addr(filepath.Base(p.command.Path)) }

// SetDeadline implements net.Conn.
func (p *conn) SetDeadline(t time.Time) error {
	return errors.Join(p.SetReadDeadline(t), p.SetWriteDeadline(t))
}

// SetReadDeadline implements net.Conn.
func (p *conn) SetReadDeadline(t time.Time) error { return p.out.SetReadDeadline(t) }

// SetWriteDeadline implements net.Conn.
func (p *conn) SetWriteDeadline(t time.Time) error { return p.in.SetWriteDeadline(t) }

// An addr names the program.
type addr string

func (addr) Network() string  { return "pipe" }
func (a addr) String() string { return string(a) }

// A tail keeps the end of what is written to it.
type tail struct {
	mu   sync.Mutex
	text []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, p...)
	if over := len(t.text) - maxSaid; over > 0 {
		t.text = append(t.text[:0], t.text[over:]...)
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.TrimSpace(string(t.text))
}
