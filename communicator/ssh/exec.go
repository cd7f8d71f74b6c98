package ssh

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

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
	s, err := l.session()
	if err != nil {
		return communicator.Result{}, nil, err
	}
	defer func() { go s.Close() }() // may block on a dead peer
	var out buffer
	s.Stdin, s.Stdout, s.Stderr = in, &out, &out
	if pty {
		if err := s.RequestPty("xterm", 40, 80, xssh.TerminalModes{xssh.ECHO: 0}); err != nil {
			return communicator.Result{}, nil, fmt.Errorf("ask for a terminal: %w", err)
		}
	}
	if err := s.Start(line); err != nil {
		return communicator.Result{}, nil, fmt.Errorf("ssh exec: %w", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- s.Wait() }()
	select {
	case err = <-ended:
	case <-ctx.Done():
		return communicator.Result{}, out.bytes(), context.Cause(ctx)
	case <-l.dead:
		return communicator.Result{}, out.bytes(), errors.New("ssh exec: connection is gone")
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

// A buffer takes output from two streams. Its reader may look before they end.
type buffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *buffer) bytes() []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	return bytes.Clone(b.buf.Bytes())
}

// ok turns an exit status other than 0 into an error.
func ok(r communicator.Result, out []byte, err error) error {
	if err == nil && r.Exit != 0 {
		return bakehouse.Errorf(bakehouse.Failed, "exit status %d: %s", r.Exit, bytes.TrimSpace(out))
	}
	return err
}
