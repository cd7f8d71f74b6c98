package ssh

import (
	"fmt"
	"io"
	"net"
	"strconv"

	"github.com/bakehouse-farm/bakehouse/communicator"
)

// openTunnels opens what ssh_local_tunnels and ssh_remote_tunnels ask for. They
// live as long as the link: a command that outlives it has none until it is
// followed again.
func (l *link) openTunnels() error {
	for _, spec := range l.settings.SSHLocalTunnels {
		t, err := communicator.ParseTunnel(spec)
		if err != nil {
			return err
		}
		in, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(t.Listen)))
		if err != nil {
			return fmt.Errorf("ssh_local_tunnels: %w", err)
		}
		l.tunnels = append(l.tunnels, in)
		go forward(in, func() (net.Conn, error) { return l.client.Dial("tcp", t.Dial) })
	}
	for _, spec := range l.settings.SSHRemoteTunnels {
		t, err := communicator.ParseTunnel(spec)
		if err != nil {
			return err
		}
		in, err := l.client.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(t.Listen)))
		if err != nil {
			return fmt.Errorf("ssh_remote_tunnels: %w", err)
		}
		// Not among l.tunnels: it ends with the connection, while closing it would
		// ask a machine that may not answer.
		go forward(in, func() (net.Conn, error) { return net.Dial("tcp", t.Dial) })
	}
	return nil
}

// forward joins each connection that comes in with one that dial makes.
func forward(in net.Listener, dial func() (net.Conn, error)) {
	for {
		a, err := in.Accept()
		if err != nil {
			return
		}
		go func() {
			defer a.Close()
			b, err := dial()
			if err != nil {
				return
			}
			defer b.Close()
			go func() {
				_, _ = io.Copy(b, a)
				closeWrite(b)
			}()
			_, _ = io.Copy(a, b)
		}()
	}
}

func closeWrite(c net.Conn) {
	if half, ok := c.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
	}
}
