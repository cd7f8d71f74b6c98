package sandbox_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/bakehouse-farm/bakehouse/localcloud/sandbox"
)

// initPath is a static executable that can be an instance's init: the tests'
// own is linked against the C library where there is a compiler for it.
var initPath string

func TestMain(m *testing.M) {
	if sandbox.Main() {
		return
	}
	if dir := os.Getenv("SANDBOX_TEST_HOST"); dir != "" {
		hostProcess(dir)
	}
	dir, err := os.MkdirTemp("", "sandbox-test-")
	if err != nil {
		panic(err)
	}
	initPath = filepath.Join(dir, "init")
	build := exec.Command("go", "build", "-o", initPath, "./testdata/init")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build init: %v\n%s", err, out)
		os.Exit(1)
	}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// newHost returns a Host over a folder of the test's own, and makes sure at the
// end that nothing is left of it.
func newHost(t testing.TB) *sandbox.Host {
	t.Helper()
	return openHost(t, t.TempDir())
}

func openHost(t testing.TB, dir string) *sandbox.Host {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("instances need root")
	}
	h, err := sandbox.New(t.Context(), sandbox.Config{Dir: dir, Init: initPath})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	return h
}

// addresses gives each instance of this process its own. Other processes of
// the tests draw from another range.
var addresses atomic.Uint32

func nextAddr() netip.Addr {
	n := addresses.Add(1)
	pid := uint32(os.Getpid())
	return netip.AddrFrom4([4]byte{198, 19, byte(pid), byte(10 + n%240)})
}

// A login is what a test needs to get into its instance.
type login struct {
	spec   sandbox.Spec
	signer ssh.Signer
}

func newSpec(t testing.TB, h *sandbox.Host, id string, layers ...string) login {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	if len(layers) == 0 {
		layers = []string{h.HostLayer()}
	}
	return login{signer: signer, spec: sandbox.Spec{
		ID: id, Layers: layers, Hostname: "test-" + id, Addr: nextAddr(),
		Keys: []string{string(ssh.MarshalAuthorizedKey(signer.PublicKey()))},
	}}
}

// boot starts an instance that is removed at the end of the test.
func boot(t testing.TB, h *sandbox.Host, l login) {
	t.Helper()
	t.Cleanup(func() {
		if err := h.Remove(context.Background(), l.spec.ID); err != nil {
			t.Errorf("remove: %v", err)
		}
	})
	if err := h.Start(t.Context(), l.spec); err != nil {
		t.Fatal(err)
	}
}

func (l login) dial(t testing.TB, user string) *ssh.Client {
	t.Helper()
	c, err := l.tryDial(user)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func (l login) tryDial(user string) (*ssh.Client, error) {
	addr := net.JoinHostPort(l.spec.Addr.String(), "22")
	conn, err := net.DialTimeout("tcp", addr, 5*time.Second)
	if err != nil {
		return nil, err
	}
	_ = conn.SetDeadline(time.Now().Add(30 * time.Second)) // no test hangs
	c, channels, requests, err := ssh.NewClientConn(conn, addr, &ssh.ClientConfig{
		User: user, Auth: []ssh.AuthMethod{ssh.PublicKeys(l.signer)},
		HostKeyCallback: ssh.InsecureIgnoreHostKey(), //nolint:gosec // the test's own instance
	})
	if err != nil {
		conn.Close()
		return nil, err
	}
	return ssh.NewClient(c, channels, requests), nil
}

// sh runs a line as the user and returns its output; it must succeed.
func (l login) sh(t testing.TB, user, line string) string {
	t.Helper()
	out, err := l.trySh(t, user, line)
	if err != nil {
		t.Fatalf("%s: %v\n%s", line, err, out)
	}
	return out
}

func (l login) trySh(t testing.TB, user, line string) (string, error) {
	t.Helper()
	c, err := l.tryDial(user)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	s, err := c.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	out, err := s.CombinedOutput(line)
	return strings.TrimSpace(string(out)), err
}

// eventually waits until ok, for as long as a slow machine may need.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("still not: %s", what)
		}
	}
}
