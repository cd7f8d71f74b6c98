// Package sshd is the SSH server of the instances: whatever is in an image,
// one can log in. It knows the protocol only; starting processes is its
// caller's.
package sshd

import (
	"bytes"
	"crypto/subtle"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/crypto/ssh"
)

// A Server answers SSH clients. Its fields are set before Serve.
type Server struct {
	HostKeys []ssh.Signer
	// Authorized returns the keys with which the user may log in; none when
	// there is no such user.
	Authorized func(user string) []ssh.PublicKey
	// Start starts what a client asked for, and does not wait for it. The files
	// of the command are the server's to close.
	Start func(Command) (Process, error)
	// OpenPTY opens a terminal for the user; nil refuses terminals.
	OpenPTY func(user string) (master, slave *os.File, name string, err error)
	Log     *slog.Logger
}

// A Command is what a client asked for.
type Command struct {
	User  string
	Line  string      // for the login shell; empty: an interactive login
	SFTP  bool        // the sftp subsystem, instead of Line
	PTY   bool        // the files are a terminal, to become the controlling one
	Env   []string    // what the client set, and TERM, SSH_…
	Files [3]*os.File // standard input, output, error
}

// A Process runs. It leads a session of its own.
type Process interface {
	// Wait returns how it ended. It is called once.
	Wait() syscall.WaitStatus
	// Signal reaches the process and those it started.
	Signal(syscall.Signal) error
}

// Serve answers the clients that come to l until l is closed.
func (s *Server) Serve(l net.Listener) {
	for {
		c, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			s.Log.Error("accept", "error", err)
			time.Sleep(50 * time.Millisecond) // out of descriptors, most likely
			continue
		}
		go s.connection(c)
	}
}

func (s *Server) config() *ssh.ServerConfig {
	c := &ssh.ServerConfig{
		ServerVersion: "SSH-2.0-OpenSSH_9.2 localcloud",
		MaxAuthTries:  20, // agents offer many keys
		// ssh-rsa by SHA-1 too: clients as old as Packer 1.6 sign with nothing else.
		PublicKeyAuthAlgorithms: []string{
			ssh.KeyAlgoED25519, ssh.KeyAlgoSKED25519, ssh.KeyAlgoSKECDSA256,
			ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA521,
			ssh.KeyAlgoRSASHA256, ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSA,
		},
		PublicKeyCallback: func(m ssh.ConnMetadata, k ssh.PublicKey) (*ssh.Permissions, error) {
			want := k.Marshal()
			for _, a := range s.Authorized(m.User()) {
				if subtle.ConstantTimeCompare(a.Marshal(), want) == 1 && bytes.Equal(a.Marshal(), want) {
					return &ssh.Permissions{}, nil
				}
			}
			return nil, fmt.Errorf("key %s is not authorized for %s", ssh.FingerprintSHA256(k), m.User())
		},
	}
	for _, k := range s.HostKeys {
		c.AddHostKey(k)
	}
	return c
}

func (s *Server) connection(c net.Conn) {
	_ = c.SetDeadline(time.Now().Add(2 * time.Minute)) // to log in, as sshd's LoginGraceTime
	conn, channels, requests, err := ssh.NewServerConn(c, s.config())
	if err != nil {
		s.Log.Info("no login", "from", c.RemoteAddr().String(), "error", err)
		c.Close()
		return
	}
	_ = c.SetDeadline(time.Time{})
	defer conn.Close()
	l := &link{server: s, conn: conn, listeners: map[string]net.Listener{}}
	defer l.close()
	go l.global(requests)
	var open sync.WaitGroup
	for n := range channels {
		open.Add(1)
		go func() {
			defer open.Done()
			l.channel(n)
		}()
	}
	open.Wait()
}

// A link is one client's connection.
type link struct {
	server *Server
	conn   *ssh.ServerConn

	mu        sync.Mutex
	listeners map[string]net.Listener // of tcpip-forward
}

func (l *link) channel(n ssh.NewChannel) {
	switch n.ChannelType() {
	case "session":
		c, requests, err := n.Accept()
		if err != nil {
			return
		}
		(&session{link: l, channel: c}).serve(requests)
	case "direct-tcpip":
		l.direct(n)
	default:
		_ = n.Reject(ssh.UnknownChannelType, "unknown channel type "+n.ChannelType())
	}
}

// global answers what is asked of the connection. An unknown request is
// answered too, by no: that is what keepalives wait for.
func (l *link) global(requests <-chan *ssh.Request) {
	for r := range requests {
		switch r.Type {
		case "keepalive@openssh.com":
			_ = r.Reply(true, nil)
		case "tcpip-forward":
			l.forward(r)
		case "cancel-tcpip-forward":
			l.cancelForward(r)
		default:
			if r.WantReply {
				_ = r.Reply(false, nil)
			}
		}
	}
}
