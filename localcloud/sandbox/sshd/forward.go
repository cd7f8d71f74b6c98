package sshd

import (
	"io"
	"net"
	"strconv"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
)

// direct connects the client to an address as seen from here (ssh -L).
func (l *link) direct(n ssh.NewChannel) {
	var to struct {
		Host       string
		Port       uint32
		OriginHost string
		OriginPort uint32
	}
	if err := ssh.Unmarshal(n.ExtraData(), &to); err != nil {
		_ = n.Reject(ssh.ConnectionFailed, "malformed request")
		return
	}
	c, err := net.DialTimeout("tcp", net.JoinHostPort(to.Host, strconv.Itoa(int(to.Port))), 30*time.Second)
	if err != nil {
		_ = n.Reject(ssh.ConnectionFailed, err.Error())
		return
	}
	ch, requests, err := n.Accept()
	if err != nil {
		c.Close()
		return
	}
	go ssh.DiscardRequests(requests)
	both(ch, c)
}

type address struct {
	Host string
	Port uint32
}

// forward listens here for the client (ssh -R).
func (l *link) forward(r *ssh.Request) {
	var at address
	if err := ssh.Unmarshal(r.Payload, &at); err != nil {
		_ = r.Reply(false, nil)
		return
	}
	host := at.Host
	if host == "" || host == "*" {
		host = "0.0.0.0"
	}
	in, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(int(at.Port))))
	if err != nil {
		l.server.Log.Info("forward", "error", err)
		_ = r.Reply(false, nil)
		return
	}
	port := uint32(in.Addr().(*net.TCPAddr).Port)
	l.mu.Lock()
	l.listeners[key(at.Host, port)] = in
	l.mu.Unlock()
	if at.Port == 0 {
		_ = r.Reply(true, ssh.Marshal(struct{ Port uint32 }{port}))
	} else {
		_ = r.Reply(true, nil)
	}
	go func() {
		for {
			c, err := in.Accept()
			if err != nil {
				return
			}
			go l.forwarded(c, address{at.Host, port})
		}
	}()
}

func (l *link) forwarded(c net.Conn, at address) {
	from := c.RemoteAddr().(*net.TCPAddr)
	ch, requests, err := l.conn.OpenChannel("forwarded-tcpip", ssh.Marshal(struct {
		Host       string
		Port       uint32
		OriginHost string
		OriginPort uint32
	}{at.Host, at.Port, from.IP.String(), uint32(from.Port)}))
	if err != nil {
		c.Close()
		return
	}
	go ssh.DiscardRequests(requests)
	both(ch, c)
}

func (l *link) cancelForward(r *ssh.Request) {
	var at address
	err := ssh.Unmarshal(r.Payload, &at)
	l.mu.Lock()
	defer l.mu.Unlock()
	in := l.listeners[key(at.Host, at.Port)]
	if err != nil || in == nil {
		_ = r.Reply(false, nil)
		return
	}
	delete(l.listeners, key(at.Host, at.Port))
	in.Close()
	_ = r.Reply(true, nil)
}

func (l *link) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, in := range l.listeners {
		in.Close()
	}
}

func key(host string, port uint32) string { return host + ":" + strconv.Itoa(int(port)) }

// both copies in both directions until both have ended, each in its time.
func both(ch ssh.Channel, c net.Conn) {
	var done sync.WaitGroup
	done.Go(func() {
		_, _ = io.Copy(ch, c)
		_ = ch.CloseWrite()
	})
	done.Go(func() {
		_, _ = io.Copy(c, ch)
		if t, ok := c.(*net.TCPConn); ok {
			_ = t.CloseWrite()
		}
	})
	done.Wait()
	ch.Close()
	c.Close()
}
