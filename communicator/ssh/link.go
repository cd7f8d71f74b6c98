package ssh

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pkg/sftp"
	xssh "golang.org/x/crypto/ssh"

	"github.com/bakehouse-farm/bakehouse/communicator"
)

const (
	// defaultKeepAlive is ssh_keep_alive_interval when the template sets none.
	defaultKeepAlive = 5 * time.Second
	// A peer is dead when nothing came from it for deadAfter intervals, and not
	// less than deadAtLeast.
	deadAfter   = 3
	deadAtLeast = 10 * time.Second
)

// A link is one connection that one is logged in to. Once dead it stays dead.
type link struct {
	conn     *watchedConn
	below    *xssh.Client // the bastion, or nil
	client   *xssh.Client
	settings communicator.Settings
	log      *slog.Logger
	hostKey  string
	dead     chan struct{}
	once     sync.Once
	tunnels  []io.Closer

	files sync.Mutex // held while sftp is opened
	sftp  *sftp.Client
	plain bool // the machine has no sftp
}

func newLink(conn net.Conn, below *xssh.Client, s communicator.Settings, log *slog.Logger) *link {
	w := &watchedConn{Conn: conn, limit: time.Duration(s.SSHReadWriteTimeout)}
	w.heard.Store(time.Now().UnixNano())
	return &link{conn: w, below: below, settings: s, log: log, dead: make(chan struct{})}
}

// begin takes the link into use after the login.
func (l *link) begin(client *xssh.Client) error {
	l.client = client
	if err := l.openTunnels(); err != nil {
		return err
	}
	go func() {
		err := client.Wait()
		l.log.Debug("ssh connection ended", "error", err)
		l.close()
	}()
	interval := time.Duration(l.settings.SSHKeepAliveInterval)
	if interval == 0 {
		interval = defaultKeepAlive
	}
	if interval > 0 {
		go l.keepAlive(interval)
	}
	return nil
}

// keepAlive asks the peer for a sign of life now and then, and closes the link
// when nothing at all is heard from it.
func (l *link) keepAlive(interval time.Duration) {
	ticks := time.NewTicker(interval)
	defer ticks.Stop()
	var asking atomic.Bool
	for {
		select {
		case <-l.dead:
			return
		case <-ticks.C:
		}
		if silence := time.Since(l.conn.lastHeard()); silence > max(deadAfter*interval, deadAtLeast) {
			l.log.Warn("machine does not answer, connecting again", "silent", silence.Round(time.Second))
			l.close()
			return
		}
		if asking.CompareAndSwap(false, true) {
			go func() { // may block for as long as the peer is silent
				defer asking.Store(false)
				_, _, _ = l.client.SendRequest("keepalive@openssh.com", true, nil)
			}()
		}
	}
}

func (l *link) alive() bool {
	select {
	case <-l.dead:
		return false
	default:
		return true
	}
}

// aliveAfter tells whether the link still lives after an operation on it has
// failed. The end of a connection may show in an operation a moment before it
// shows in the link.
func (l *link) aliveAfter(err error) bool {
	var refused *xssh.OpenChannelError
	if errors.As(err, &refused) {
		return l.alive()
	}
	select {
	case <-l.dead:
		return false
	case <-time.After(200 * time.Millisecond):
		return true
	}
}

func (l *link) close() {
	l.once.Do(func() {
		close(l.dead)
		for _, t := range l.tunnels {
			t.Close()
		}
		// The connection first: a polite goodbye may block on a dead peer.
		l.conn.Close()
		if l.client != nil {
			go l.client.Close()
		}
		if l.below != nil {
			go l.below.Close()
		}
	})
}

// session opens a channel for one command. A machine may answer everything but
// that, so ctx counts.
func (l *link) session(ctx context.Context) (*xssh.Session, error) {
	type opened struct {
		s   *xssh.Session
		err error
	}
	done := make(chan opened, 1)
	go func() {
		s, err := l.client.NewSession()
		done <- opened{s, err}
	}()
	select {
	case o := <-done:
		if o.err != nil {
			return nil, fmt.Errorf("open ssh session: %w", o.err)
		}
		return o.s, nil
	case <-ctx.Done():
		go func() { // it may be opened later
			if o := <-done; o.s != nil {
				o.s.Close()
			}
		}()
		return nil, context.Cause(ctx)
	case <-l.dead:
		return nil, errors.New("open ssh session: connection is gone")
	}
}

// A watchedConn notes when something came in, and bounds each read and write.
type watchedConn struct {
	net.Conn
	limit time.Duration // ssh_read_write_timeout; zero means none
	heard atomic.Int64  // Unix nanoseconds
}

func (c *watchedConn) lastHeard() time.Time { return time.Unix(0, c.heard.Load()) }

func (c *watchedConn) Read(p []byte) (int, error) {
	if c.limit > 0 {
		_ = c.Conn.SetReadDeadline(time.Now().Add(c.limit))
	}
	n, err := c.Conn.Read(p)
	if n > 0 {
		c.heard.Store(time.Now().UnixNano())
	}
	return n, err
}

func (c *watchedConn) Write(p []byte) (int, error) {
	if c.limit > 0 {
		_ = c.Conn.SetWriteDeadline(time.Now().Add(c.limit))
	}
	return c.Conn.Write(p)
}
