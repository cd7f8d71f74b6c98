package sshd

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/creack/pty"
	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"
)

// A session is one channel in which one command runs.
type session struct {
	link    *link
	channel ssh.Channel

	env     []string
	tty     *os.File // our end of the terminal; nil: no terminal
	slave   *os.File
	ttyName string
	process Process
}

type windowSize struct{ Columns, Rows, Width, Height uint32 }

func (w windowSize) pty() *pty.Winsize {
	return &pty.Winsize{Cols: uint16(w.Columns), Rows: uint16(w.Rows), X: uint16(w.Width), Y: uint16(w.Height)}
}

func (s *session) serve(requests <-chan *ssh.Request) {
	for r := range requests {
		ok := s.request(r)
		if r.WantReply {
			_ = r.Reply(ok, nil)
		}
	}
	// The client has closed the channel or is gone. What it started goes on,
	// but for what hangs on the terminal.
	if s.tty != nil && s.process == nil {
		s.tty.Close()
		s.slave.Close()
	}
}

func (s *session) request(r *ssh.Request) bool {
	switch r.Type {
	case "env":
		var v struct{ Name, Value string }
		if ssh.Unmarshal(r.Payload, &v) != nil || !acceptEnv(v.Name) {
			return false
		}
		s.env = append(s.env, v.Name+"="+v.Value)
		return true
	case "pty-req":
		return s.terminal(r.Payload)
	case "window-change":
		var w windowSize
		if s.tty == nil || ssh.Unmarshal(r.Payload, &w) != nil {
			return false
		}
		return pty.Setsize(s.tty, w.pty()) == nil
	case "shell":
		return s.start(Command{})
	case "exec":
		var v struct{ Line string }
		if ssh.Unmarshal(r.Payload, &v) != nil {
			return false
		}
		if v.Line == "" {
			v.Line = ":" // not a login: an empty command
		}
		return s.start(Command{Line: v.Line})
	case "subsystem":
		var v struct{ Name string }
		if ssh.Unmarshal(r.Payload, &v) != nil || v.Name != "sftp" {
			return false
		}
		return s.start(Command{SFTP: true})
	case "signal":
		var v struct{ Name string }
		if ssh.Unmarshal(r.Payload, &v) != nil || s.process == nil {
			return false
		}
		sig := unix.SignalNum("SIG" + v.Name)
		return sig != 0 && s.process.Signal(sig) == nil
	case "keepalive@openssh.com":
		return true
	}
	return false
}

// acceptEnv tells what a client may set. sshd takes LANG and LC_* by default;
// here TRACEPARENT and the like shall pass too. Not what changes how programs
// are loaded: a command may be forced one day.
func acceptEnv(name string) bool {
	return name != "" && !strings.HasPrefix(name, "LD_") && !strings.ContainsAny(name, "=\x00") && name != "PATH" && name != "HOME" && name != "USER" && name != "SHELL"
}

func (s *session) terminal(payload []byte) bool {
	var q struct {
		Term                         string
		Columns, Rows, Width, Height uint32
		Modes                        string
	}
	if s.tty != nil || s.process != nil || s.link.server.OpenPTY == nil || ssh.Unmarshal(payload, &q) != nil {
		return false
	}
	master, slave, name, err := s.link.server.OpenPTY(s.link.conn.User())
	if err != nil {
		s.link.server.Log.Error("open terminal", "error", err)
		return false
	}
	_ = pty.Setsize(master, windowSize{q.Columns, q.Rows, q.Width, q.Height}.pty())
	s.tty, s.slave, s.ttyName = master, slave, name
	s.env = append(s.env, "TERM="+q.Term, "SSH_TTY="+name)
	return true
}

// start starts the command and sees it through in the background.
func (s *session) start(c Command) bool {
	if s.process != nil {
		return false
	}
	c.User = s.link.conn.User()
	c.Env = append(s.env, s.addresses()...)
	run := s.pipes
	if s.tty != nil && !c.SFTP {
		run = s.onTerminal
	}
	if err := run(c); err != nil {
		s.link.server.Log.Error("start command", "error", err)
		fmt.Fprintf(s.channel.Stderr(), "%v\r\n", err)
		s.channel.Close()
		return false
	}
	return true
}

func (s *session) addresses() []string {
	fh, fp := split(s.link.conn.RemoteAddr())
	th, tp := split(s.link.conn.LocalAddr())
	return []string{
		fmt.Sprintf("SSH_CLIENT=%s %s %s", fh, fp, tp),
		fmt.Sprintf("SSH_CONNECTION=%s %s %s %s", fh, fp, th, tp),
	}
}

func split(a net.Addr) (host, port string) {
	t, ok := a.(*net.TCPAddr)
	if !ok {
		return "UNKNOWN", "0"
	}
	return t.IP.String(), strconv.Itoa(t.Port)
}

// pipes runs the command on pipes. As with OpenSSH, its end is told at once,
// and the channel stays open for as long as anything it started may write.
func (s *session) pipes(c Command) error {
	var ours, theirs [3]*os.File
	closeAll := func(files [3]*os.File) {
		for _, f := range files {
			if f != nil {
				f.Close()
			}
		}
	}
	for n := range 3 {
		r, w, err := os.Pipe()
		if err != nil {
			closeAll(ours)
			closeAll(theirs)
			return err
		}
		ours[n], theirs[n] = r, w
		if n == 0 {
			ours[n], theirs[n] = w, r
		}
	}
	c.Files = theirs
	p, err := s.link.server.Start(c)
	closeAll(theirs)
	if err != nil {
		closeAll(ours)
		return err
	}
	s.process = p
	go func() {
		_, _ = io.Copy(ours[0], s.channel)
		ours[0].Close()
	}()
	var output sync.WaitGroup
	for n, to := range map[int]io.Writer{1: s.channel, 2: s.channel.Stderr()} {
		output.Go(func() {
			_, _ = io.Copy(to, ours[n])
			ours[n].Close()
		})
	}
	go func() {
		s.exit(p.Wait())
		output.Wait()
		_ = s.channel.CloseWrite()
		s.channel.Close()
	}()
	return nil
}

// onTerminal runs the command on the session's terminal. Its end ends the
// session: what is left hears a hangup.
func (s *session) onTerminal(c Command) error {
	c.PTY = true
	c.Files = [3]*os.File{s.slave, s.slave, s.slave}
	p, err := s.link.server.Start(c)
	s.slave.Close()
	if err != nil {
		s.tty.Close()
		return err
	}
	s.process = p
	go func() {
		_, _ = io.Copy(s.tty, s.channel)
		_ = p.Signal(syscall.SIGHUP) // the client is gone, or has hung up
	}()
	go func() {
		var output sync.WaitGroup
		output.Go(func() {
			_, err := io.Copy(s.channel, s.tty)
			if err != nil && !errors.Is(err, syscall.EIO) { // EIO: nobody has the other end any more
				s.link.server.Log.Debug("terminal", "error", err)
			}
		})
		ws := p.Wait()
		drained := make(chan struct{})
		go func() { output.Wait(); close(drained) }()
		select {
		case <-drained:
		case <-time.After(200 * time.Millisecond):
			s.tty.Close() // a process in the background has it still
			<-drained
		}
		s.tty.Close()
		s.exit(ws)
		_ = s.channel.CloseWrite()
		s.channel.Close()
	}()
	return nil
}

// exit tells the client how the command ended.
func (s *session) exit(ws syscall.WaitStatus) {
	if ws.Signaled() {
		name := strings.TrimPrefix(unix.SignalName(ws.Signal()), "SIG")
		_, _ = s.channel.SendRequest("exit-signal", false, ssh.Marshal(struct {
			Name    string
			Core    bool
			Message string
			Lang    string
		}{name, false, "", ""}))
		return
	}
	_, _ = s.channel.SendRequest("exit-status", false, ssh.Marshal(struct{ Status uint32 }{uint32(ws.ExitStatus())}))
}
