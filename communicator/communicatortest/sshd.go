package communicatortest

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/bakehouse-farm/bakehouse/communicator"
)

// SSHD starts a real OpenSSH server for the current user on a loopback port and
// returns how to log in. Each target has a Build of its own; what a runner
// keeps for it is removed at the end of the test. more are lines of
// sshd_config that come before ours ("Subsystem sftp /nonexistent").
//
// Where there is no sshd the test is skipped.
func SSHD(t testing.TB, more ...string) communicator.Target {
	t.Helper()
	program := ""
	for _, p := range []string{"/usr/sbin/sshd", "/usr/local/sbin/sshd"} {
		if _, err := os.Stat(p); err == nil {
			program = p
		}
	}
	if program == "" {
		t.Skip("no sshd on this machine: install openssh-server")
	}
	if os.Geteuid() == 0 {
		if err := os.MkdirAll("/run/sshd", 0o755); err != nil {
			t.Fatal(err)
		}
	}
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	hostPrivate, _ := newKey(t)
	loginPrivate, loginPublic := newKey(t)
	write(t, filepath.Join(dir, "host"), hostPrivate)
	write(t, filepath.Join(dir, "authorized"), loginPublic)
	port := freePort(t)
	config := append(more,
		fmt.Sprintf("Port %d", port), "ListenAddress 127.0.0.1", "HostKey "+filepath.Join(dir, "host"),
		"AuthorizedKeysFile "+filepath.Join(dir, "authorized"), "PidFile none", "StrictModes no", "UsePAM no",
		"PermitRootLogin yes", "PasswordAuthentication no", "MaxStartups 100")
	// So bash does not read the tester's own ~/.bashrc for each command, which may
	// take long and print things.
	config = append(config, "SetEnv SHLVL=1")
	if !strings.Contains(strings.Join(more, "\n"), "Subsystem sftp") {
		config = append(config, "Subsystem sftp internal-sftp")
	}
	write(t, filepath.Join(dir, "config"), strings.Join(config, "\n")+"\n")
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "-D", "-e", "-f", filepath.Join(dir, "config"))
	cmd.Stderr = log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		log.Close()
	})
	address := fmt.Sprintf("127.0.0.1:%d", port)
	Eventually(t, "sshd listens", func() bool {
		c, err := net.Dial("tcp", address)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	build := fmt.Sprintf("test-%d-%d", os.Getpid(), time.Now().UnixNano())
	t.Cleanup(func() {
		for _, base := range []string{"/var/lib/bakehouse", filepath.Join(me.HomeDir, ".bakehouse")} {
			_ = os.RemoveAll(filepath.Join(base, build))
			_ = os.Remove(base)
		}
	})
	return communicator.Target{
		Host: "127.0.0.1", PrivateKey: loginPrivate, Build: build,
		Settings: communicator.Settings{SSHPort: port, SSHUsername: me.Username},
	}
}

func newKey(t testing.TB) (private, public string) {
	t.Helper()
	pub, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(key, "")
	if err != nil {
		t.Fatal(err)
	}
	sshPub, err := ssh.NewPublicKey(pub)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(block)), string(ssh.MarshalAuthorizedKey(sshPub))
}

func write(t testing.TB, name, content string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func freePort(t testing.TB) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// Eventually waits until is tells true, for a minute at most.
func Eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	for limit := time.Now().Add(time.Minute); time.Now().Before(limit); time.Sleep(20 * time.Millisecond) {
		if is() {
			return
		}
	}
	t.Fatalf("waited a minute in vain: %s", what)
}

var built struct {
	sync.Mutex
	program []byte
}

// Runner builds cmd/runner for this machine, once for all tests of a package.
func Runner(t testing.TB) func(arch string) ([]byte, error) {
	t.Helper()
	built.Lock()
	defer built.Unlock()
	if built.program == nil {
		out := filepath.Join(t.TempDir(), "runner")
		cmd := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", out, "github.com/bakehouse-farm/bakehouse/cmd/runner")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if text, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("build the runner: %v\n%s", err, text)
		}
		data, err := os.ReadFile(out)
		if err != nil {
			t.Fatal(err)
		}
		built.program = data
	}
	program := built.program
	return func(string) ([]byte, error) { return program, nil }
}

// A Wire stands between a client and a server. It can be cut and it can go
// silent, as networks do.
type Wire struct {
	listener net.Listener
	to       string
	mu       sync.Mutex
	conns    []net.Conn
	silent   bool
	refuse   bool
}

// NewWire puts a wire before the target and returns the target as it is reached
// through it.
func NewWire(t testing.TB, target communicator.Target) (*Wire, communicator.Target) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &Wire{listener: l, to: fmt.Sprintf("%s:%d", target.Host, target.Settings.SSHPort)}
	go w.accept()
	t.Cleanup(func() {
		l.Close()
		w.Cut()
	})
	target.Settings.SSHPort = l.Addr().(*net.TCPAddr).Port
	return w, target
}

func (w *Wire) accept() {
	for {
		a, err := w.listener.Accept()
		if err != nil {
			return
		}
		w.mu.Lock()
		refuse := w.refuse
		w.mu.Unlock()
		if refuse {
			a.Close()
			continue
		}
		b, err := net.Dial("tcp", w.to)
		if err != nil {
			a.Close()
			continue
		}
		w.mu.Lock()
		w.conns = append(w.conns, a, b)
		w.mu.Unlock()
		go w.carry(a, b)
		go w.carry(b, a)
	}
}

func (w *Wire) carry(from, to net.Conn) {
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		w.mu.Lock()
		silent := w.silent
		w.mu.Unlock()
		if n > 0 && !silent {
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			if !silent || !errors.Is(err, io.EOF) {
				to.Close()
			}
			return
		}
	}
}

// Cut closes all connections. New ones are possible.
func (w *Wire) Cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.conns {
		c.Close()
	}
	w.conns = nil
}

// Silence makes everything that is sent vanish, on old and new connections.
func (w *Wire) Silence(on bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.silent = on
}

// Refuse makes new connections end at once.
func (w *Wire) Refuse(on bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.refuse = on
}
