package ssh

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"time"

	xssh "golang.org/x/crypto/ssh"
	"golang.org/x/net/proxy"

	"github.com/bakehouse-farm/bakehouse"
	"github.com/bakehouse-farm/bakehouse/communicator"
)

const (
	// dialLimit bounds one try to reach the machine, handshakeLimit the exchange
	// of keys and the login after it. Slow machines need long for the latter.
	dialLimit      = 15 * time.Second
	handshakeLimit = time.Minute
)

// A dialer makes one try after another to log in to a machine.
type dialer struct {
	settings communicator.Settings
	address  string
	config   *xssh.ClientConfig
	login    login
	bastion  *bastion           // nil without
	route    communicator.Route // nil without
}

// A bastion is a machine on the way. Its host key is not checked, as in Packer:
// a template has no place to name it, and the machine's own key is checked
// through it.
type bastion struct {
	address string
	user    string
	login   login
}

func newDialer(t communicator.Target, pinned string, files bakehouse.Files) (*dialer, error) {
	s := t.Settings
	own, err := machineLogin(t, files)
	if err != nil {
		return nil, err
	}
	d := &dialer{settings: s, address: hostPort(t.Host, s.SSHPort, 22), login: own, route: t.Route}
	d.config = &xssh.ClientConfig{User: s.SSHUsername, ClientVersion: "SSH-2.0-Bakehouse"}
	d.config.Ciphers = s.SSHCiphers
	d.config.KeyExchanges = s.SSHKEXAlgos
	if pinned != "" {
		key, _, _, _, err := xssh.ParseAuthorizedKey([]byte(pinned))
		if err != nil {
			return nil, bakehouse.Errorf(bakehouse.Invalid, "host key of %s: %w", t.Host, err)
		}
		// Else a server that got a key of another type since then shows that one.
		d.config.HostKeyAlgorithms = algorithms(key.Type())
		d.config.HostKeyCallback = func(_ string, _ net.Addr, got xssh.PublicKey) error {
			if !bytes.Equal(got.Marshal(), key.Marshal()) {
				return &wrongHostKey{got: xssh.FingerprintSHA256(got), want: xssh.FingerprintSHA256(key)}
			}
			return nil
		}
	}
	if s.SSHBastionHost != "" {
		b, err := bastionLogin(s, files)
		if err != nil {
			return nil, err
		}
		d.bastion = &bastion{address: hostPort(s.SSHBastionHost, s.SSHBastionPort, 22), user: s.SSHBastionUsername, login: b}
	}
	return d, nil
}

func hostPort(host string, port, otherwise int) string {
	if port == 0 {
		port = otherwise
	}
	return net.JoinHostPort(strings.Trim(host, "[]"), strconv.Itoa(port))
}

// algorithms are those by which a key of this type signs.
func algorithms(keyType string) []string {
	if keyType == xssh.KeyAlgoRSA {
		return []string{xssh.KeyAlgoRSASHA512, xssh.KeyAlgoRSASHA256, xssh.KeyAlgoRSA}
	}
	return []string{keyType}
}

// try logs in, once.
func (d *dialer) try(ctx context.Context, log *slog.Logger) (*link, error) {
	conn, below, err := d.reach(ctx)
	if err != nil {
		return nil, err
	}
	l := newLink(conn, below, d.settings, log)
	auth, done, err := d.login.methods()
	if err != nil {
		l.close()
		return nil, err
	}
	defer done()
	config := *d.config
	config.Auth = auth
	check := config.HostKeyCallback
	config.HostKeyCallback = func(name string, addr net.Addr, key xssh.PublicKey) error {
		l.hostKey = strings.TrimSpace(string(xssh.MarshalAuthorizedKey(key)))
		if check != nil {
			return check(name, addr, key)
		}
		return nil
	}
	client, err := handshake(ctx, l.conn, d.address, &config)
	if err != nil {
		l.close()
		return nil, fmt.Errorf("ssh to %s: %w", d.address, err)
	}
	if err := l.begin(client); err != nil {
		l.close()
		return nil, err
	}
	return l, nil
}

// handshake turns conn into a connection that one is logged in to. It ends,
// with conn, when ctx or its own limit does.
func handshake(ctx context.Context, conn net.Conn, address string, config *xssh.ClientConfig) (*xssh.Client, error) {
	ctx, cancel := context.WithTimeout(ctx, handshakeLimit)
	defer cancel()
	// Not by deadlines: a connection through a bastion has none.
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	c, chans, reqs, err := xssh.NewClientConn(conn, address, config)
	if err != nil {
		if ctx.Err() != nil {
			return nil, fmt.Errorf("handshake: %w", context.Cause(ctx))
		}
		return nil, err
	}
	return xssh.NewClient(c, chans, reqs), nil
}

// reach opens a connection to the machine's port: by the target's own route,
// directly, through the proxy, or through the bastion, which then is below it.
func (d *dialer) reach(ctx context.Context) (conn net.Conn, below *xssh.Client, err error) {
	ctx, cancel := context.WithTimeout(ctx, dialLimit)
	defer cancel()
	direct := &net.Dialer{KeepAlive: 15 * time.Second}
	switch {
	case d.route != nil:
		if err := context.Cause(ctx); err != nil {
			return nil, nil, err // a program would be started in vain
		}
		conn, err := d.route(ctx)
		return conn, nil, err
	case d.bastion != nil:
		raw, err := direct.DialContext(ctx, "tcp", d.bastion.address)
		if err != nil {
			return nil, nil, fmt.Errorf("bastion: %w", err)
		}
		auth, done, err := d.bastion.login.methods()
		if err != nil {
			raw.Close()
			return nil, nil, err
		}
		defer done()
		below, err := handshake(ctx, raw, d.bastion.address, &xssh.ClientConfig{
			User: d.bastion.user, Auth: auth, ClientVersion: "SSH-2.0-Bakehouse",
			HostKeyCallback: xssh.InsecureIgnoreHostKey(), // see bastion
		})
		if err != nil {
			raw.Close()
			return nil, nil, fmt.Errorf("bastion %s: %w", d.bastion.address, err)
		}
		conn, err := below.DialContext(ctx, "tcp", d.address)
		if err != nil {
			below.Close()
			return nil, nil, fmt.Errorf("through bastion %s to %s: %w", d.bastion.address, d.address, err)
		}
		return conn, below, nil
	case d.settings.SSHProxyHost != "":
		var auth *proxy.Auth
		if d.settings.SSHProxyUsername != "" {
			auth = &proxy.Auth{User: d.settings.SSHProxyUsername, Password: d.settings.SSHProxyPassword}
		}
		socks, err := proxy.SOCKS5("tcp", hostPort(d.settings.SSHProxyHost, d.settings.SSHProxyPort, 1080), auth, direct)
		if err != nil {
			return nil, nil, fmt.Errorf("proxy: %w", err)
		}
		conn, err := socks.(proxy.ContextDialer).DialContext(ctx, "tcp", d.address)
		if err != nil {
			return nil, nil, fmt.Errorf("proxy: %w", err)
		}
		return conn, nil, nil
	}
	conn, err = direct.DialContext(ctx, "tcp", d.address)
	return conn, nil, err
}
