package ssh

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"unicode"

	xssh "golang.org/x/crypto/ssh"

	"github.com/bakehouse-farm/bakehouse"
	"github.com/bakehouse-farm/bakehouse/communicator"
)

// tries is how often something is done that may be done again, when the
// connection is lost under it.
const tries = 3

// Exec implements communicator.Communicator. The line is run again when the
// connection is lost before its exit status is known.
func (c *Conn) Exec(ctx context.Context, line string) (communicator.Result, []byte, error) {
	var out []byte
	var r communicator.Result
	err := c.again(ctx, func(l *link) (err error) {
		r, out, err = l.exec(ctx, line, c.target.Settings.SSHPty, nil)
		return err
	})
	return r, out, err
}

// again does something that may be done again, on a live link.
func (c *Conn) again(ctx context.Context, do func(l *link) error) error {
	for try := 1; ; try++ {
		l, err := c.connectedWithin(ctx, absence(c.target.Settings))
		if err != nil {
			return err
		}
		err = do(l)
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case try == tries || !c.lost(ctx, l, err):
			return err
		}
		c.log.Info("ssh connection lost, trying again", "error", err)
		l.close()
	}
}

// exec runs a line with in as its standard input, and returns what it wrote.
func (l *link) exec(ctx context.Context, line string, pty bool, in io.Reader) (communicator.Result, []byte, error) {
	s, err := l.session(ctx)
	if err != nil {
		return communicator.Result{}, nil, err
	}
	defer func() { go s.Close() }() // may block on a dead peer
	out := buffer{limit: maxAnswer, over: make(chan struct{})}
	s.Stdin, s.Stdout, s.Stderr = in, &out, &out
	ended := make(chan error, 1)
	go func() { // each question may never be answered
		if pty {
			if err := s.RequestPty("xterm", 40, 80, xssh.TerminalModes{xssh.ECHO: 0}); err != nil {
				ended <- fmt.Errorf("ask for a terminal: %w", err)
				return
			}
		}
		if err := s.Start(line); err != nil {
			ended <- err
			return
		}
		ended <- s.Wait()
	}()
	select {
	case err = <-ended:
	case <-ctx.Done():
		return communicator.Result{}, out.bytes(), context.Cause(ctx)
	case <-l.dead:
		return communicator.Result{}, out.bytes(), errors.New("ssh exec: connection is gone")
	case <-out.over:
	}
	if out.full() {
		return communicator.Result{}, nil, bakehouse.Errorf(bakehouse.Failed, "machine answers a short command with more than %d bytes", maxAnswer)
	}
	var exit *xssh.ExitError
	switch {
	case err == nil:
		return communicator.Result{}, out.bytes(), nil
	case errors.As(err, &exit):
		if n, ok := signals[exit.Signal()]; ok {
			return communicator.Result{Exit: 128 + n}, out.bytes(), nil
		}
		return communicator.Result{Exit: exit.ExitStatus()}, out.bytes(), nil
	}
	return communicator.Result{}, out.bytes(), fmt.Errorf("ssh exec: %w", err)
}

// signals are those of RFC 4254, with their numbers on Linux.
var signals = map[string]int{
	"HUP": 1, "INT": 2, "QUIT": 3, "ILL": 4, "ABRT": 6, "FPE": 8, "KILL": 9,
	"USR1": 10, "SEGV": 11, "USR2": 12, "PIPE": 13, "ALRM": 14, "TERM": 15,
}

// maxAnswer is how much a short command may say, and maxComplaint how much of
// what the shell says about a call of the runner is kept.
const (
	maxAnswer    = 16 << 20
	maxComplaint = 64 << 10
)

// A buffer takes output from two streams. Its reader may look before they end.
// What is behind its limit is dropped: a machine may have no end of it.
type buffer struct {
	limit int
	over  chan struct{} // closed when something was dropped; may be nil

	mu      sync.Mutex
	buf     bytes.Buffer
	dropped bool
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	room := b.limit - b.buf.Len()
	b.buf.Write(p[:min(len(p), room)])
	if len(p) > room && !b.dropped {
		b.dropped = true
		if b.over != nil {
			close(b.over)
		}
	}
	return len(p), nil
}

// full tells whether something was dropped.
func (b *buffer) full() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.dropped
}

func (b *buffer) bytes() []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	return bytes.Clone(b.buf.Bytes())
}

// ok turns an exit status other than 0 into an error.
func ok(r communicator.Result, out []byte, err error) error {
	if err == nil && r.Exit != 0 {
		return bakehouse.Errorf(bakehouse.Failed, "exit status %d: %s", r.Exit, said(out))
	}
	return err
}

// said is what a machine says, fit for a message: its beginning, on one line,
// without what drives a terminal.
func said(text []byte) string {
	const most = 2000
	text = bytes.TrimSpace(text)
	cut := len(text) > most
	line := strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t':
			return ' '
		case !unicode.IsPrint(r):
			return -1
		}
		return r
	}, strings.ToValidUTF8(string(text[:min(len(text), most)]), ""))
	if cut {
		line += " …"
	}
	return line
}
