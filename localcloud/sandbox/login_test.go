package sandbox_test

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pkg/sftp"
	"golang.org/x/crypto/ssh"
)

// A command runs as sshd would run it.
func TestExec(t *testing.T) {
	h := newHost(t)
	l := newSpec(t, h, "i-exec")
	boot(t, h, l)
	c := l.dial(t, "ubuntu")

	var exit *ssh.ExitError
	_, err := l.trySh(t, "ubuntu", "exit 42")
	if !errors.As(err, &exit) || exit.ExitStatus() != 42 {
		t.Errorf("exit 42: %v", err)
	}
	_, err = l.trySh(t, "ubuntu", "kill -TERM $$")
	if !errors.As(err, &exit) || exit.Signal() != "TERM" {
		t.Errorf("killed: %v", err)
	}

	s, err := c.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Setenv("TRACEPARENT", "00-1-2-03"); err != nil {
		t.Error(err)
	}
	s.Stdin = strings.NewReader("from stdin")
	out, err := s.Output(`echo $TRACEPARENT; cat; echo; pwd; [ -t 0 ] || echo no terminal; echo $0`)
	if want := "00-1-2-03\nfrom stdin\n/home/ubuntu\nno terminal\nbash\n"; err != nil || string(out) != want {
		t.Errorf("%q, %v; want %q", out, err, want)
	}

	// A signal reaches the command and what it started.
	s, err = c.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	pipe, err := s.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start("trap 'echo heard; exit 3' INT; echo ready; sleep 1000 & wait"); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(pipe, make([]byte, 6)); err != nil {
		t.Fatal(err)
	}
	if err := s.Signal(ssh.SIGINT); err != nil {
		t.Fatal(err)
	}
	if b := make([]byte, 6); true {
		if _, err := io.ReadFull(pipe, b); err != nil || string(b) != "heard\n" {
			t.Errorf("%q, %v", b, err)
		}
	}
	s.Close()

	// Big output arrives whole.
	if got := l.sh(t, "ubuntu", "head -c 5000000 /dev/zero | tr '\\0' x"); len(got) != 5000000 {
		t.Errorf("%d bytes", len(got))
	}
	if _, _, err := c.SendRequest("keepalive@openssh.com", true, nil); err != nil {
		t.Errorf("keepalive: %v", err)
	}
}

// A login on a terminal has one, with the size that the client's has.
func TestTerminal(t *testing.T) {
	h := newHost(t)
	l := newSpec(t, h, "i-pty")
	boot(t, h, l)
	s, err := l.dial(t, "ubuntu").NewSession()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.RequestPty("xterm", 33, 77, ssh.TerminalModes{}); err != nil {
		t.Fatal(err)
	}
	in, err := s.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	s.Stdout = &out
	if err := s.Shell(); err != nil {
		t.Fatal(err)
	}
	if err := s.WindowChange(44, 88); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintln(in, "echo size=$(stty size) term=$TERM tty=$(tty) login=$0; exit 7")
	var exit *ssh.ExitError
	if err := s.Wait(); !errors.As(err, &exit) || exit.ExitStatus() != 7 {
		t.Errorf("exit: %v", err)
	}
	if want := "size=44 88 term=xterm tty=/dev/pts/0 login=-bash"; !strings.Contains(out.String(), want) {
		t.Errorf("%q lacks %q", out.String(), want)
	}
}

// Connections through the instance work in both directions.
func TestForwarding(t *testing.T) {
	h := newHost(t)
	l := newSpec(t, h, "i-fwd")
	boot(t, h, l)
	c := l.dial(t, "ubuntu")
	far, err := c.Listen("tcp", "127.0.0.1:0") // ssh -R
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		conn, err := far.Accept()
		if err != nil {
			return
		}
		_, _ = io.WriteString(conn, "through")
		conn.Close()
	}()
	near, err := c.Dial("tcp", far.Addr().String()) // ssh -L
	if err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(near); err != nil || string(b) != "through" {
		t.Errorf("%q, %v", b, err)
	}
	if _, err := c.Dial("tcp", "127.0.0.1:1"); err == nil {
		t.Error("a port without listener answers")
	}
}

// Old clients with RSA keys, that know SHA-1 only, get in; with a key from the
// user's own file, too.
func TestKeys(t *testing.T) {
	h := newHost(t)
	l := newSpec(t, h, "i-keys")
	boot(t, h, l)
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	old, err := ssh.NewSignerWithAlgorithms(signer.(ssh.AlgorithmSigner), []string{ssh.KeyAlgoRSA})
	if err != nil {
		t.Fatal(err)
	}
	other := login{spec: l.spec, signer: old}
	if _, err := other.tryDial("ubuntu"); err == nil {
		t.Error("a key gets in that nobody authorized")
	}
	l.sh(t, "ubuntu", "mkdir -p ~/.ssh; echo '"+strings.TrimSpace(string(ssh.MarshalAuthorizedKey(signer.PublicKey())))+" mine' >> ~/.ssh/authorized_keys")
	if got := other.sh(t, "ubuntu", "whoami"); got != "ubuntu" {
		t.Error(got)
	}
	if _, err := other.tryDial("debian"); err == nil {
		t.Error("the key of one user is good for another")
	}
}

// keyFile writes the login's private key for programs.
func keyFile(t *testing.T, key any) string {
	t.Helper()
	block, err := ssh.MarshalPrivateKey(key, "")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func rsaLogin(t *testing.T, l *login) (key string) {
	t.Helper()
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	if l.signer, err = ssh.NewSignerFromKey(private); err != nil {
		t.Fatal(err)
	}
	l.spec.Keys = []string{string(ssh.MarshalAuthorizedKey(l.signer.PublicKey()))}
	return keyFile(t, private)
}

// Files travel by SFTP, with the user's rights.
func TestSFTP(t *testing.T) {
	h := newHost(t)
	l := newSpec(t, h, "i-sftp")
	boot(t, h, l)
	c, err := sftp.NewClient(l.dial(t, "ubuntu"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if wd, err := c.Getwd(); err != nil || wd != "/home/ubuntu" {
		t.Errorf("folder %s, %v", wd, err)
	}
	f, err := c.Create("up.txt")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(f, "content"); err != nil {
		t.Fatal(err)
	}
	f.Close()
	if err := c.Chmod("up.txt", 0o640); err != nil {
		t.Error(err)
	}
	if got := l.sh(t, "ubuntu", "cat up.txt; stat -c ' %U %a' up.txt"); got != "content ubuntu 640" {
		t.Errorf("%q", got)
	}
	if _, err := c.Create("/etc/not-mine"); err == nil {
		t.Error("a user writes root's files")
	}
}

// The usual clients move files and folders.
func TestClients(t *testing.T) {
	for _, tool := range []string{"scp", "sftp", "ssh"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skip("no ", tool)
		}
	}
	h := newHost(t)
	l := newSpec(t, h, "i-scp")
	key := rsaLogin(t, &l)
	l.spec.Layers = []string{"tiny"}
	if err := h.ImportLayer(t.Context(), "tiny", tinyRoot(t)); err != nil {
		t.Fatal(err)
	}
	boot(t, h, l)

	local := t.TempDir()
	files := map[string]string{"dir/a": "A", "dir/sub/b": strings.Repeat("B", 100000), "dir/empty": ""}
	for name, text := range files {
		path := filepath.Join(local, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o640); err != nil {
			t.Fatal(err)
		}
		when := time.Date(2020, 1, 2, 3, 4, 5, 0, time.UTC)
		if err := os.Chtimes(path, when, when); err != nil {
			t.Fatal(err)
		}
	}
	options := []string{"-i", key, "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "IdentitiesOnly=yes", "-q"}
	at := "root@" + l.spec.Addr.String() + ":"
	for n, protocol := range [][]string{{"-O"}, {}} { // scp by its own protocol, and by SFTP
		far := fmt.Sprintf("/root/far%d", n)
		back := filepath.Join(local, fmt.Sprintf("back%d", n))
		up := append(append([]string{"scp"}, protocol...), options...)
		mustRun(t, append(up, "-r", "-p", filepath.Join(local, "dir"), at+far)...)
		mustRun(t, append(up, "-r", "-p", at+far, back)...)
		for name, text := range files {
			path := filepath.Join(back, strings.TrimPrefix(name, "dir/"))
			b, err := os.ReadFile(path)
			if err != nil || string(b) != text {
				t.Errorf("%v %s: %d bytes, %v", protocol, name, len(b), err)
				continue
			}
			info, err := os.Stat(path)
			if err != nil || info.Mode().Perm() != 0o640 || info.ModTime().Unix() != 1577934245 {
				t.Errorf("%v %s: %v %v", protocol, name, info, err)
			}
		}
		if out, err := exec.Command("scp", append(append(protocol, options...), at+"/none", local)...).CombinedOutput(); err == nil {
			t.Errorf("%v: a missing file is no error: %s", protocol, out)
		}
		mustRun(t, append(up, filepath.Join(local, "dir/a"), at+"/root/single")...)
		if got := l.sh(t, "root", "read x < /root/single; echo $x"); got != "A" && !strings.HasPrefix(got, "A") {
			t.Errorf("single: %q", got)
		}
	}
	batch := filepath.Join(local, "batch")
	if err := os.WriteFile(batch, []byte("put "+filepath.Join(local, "dir/a")+" /root/by-sftp\nget /root/by-sftp "+filepath.Join(local, "got")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	mustRun(t, append(append([]string{"sftp"}, options...), "-b", batch, strings.TrimSuffix(at, ":"))...)
	if b, err := os.ReadFile(filepath.Join(local, "got")); err != nil || string(b) != "A" {
		t.Errorf("sftp: %q, %v", b, err)
	}
}

// Debian's Packer, with its SSH of 2020, logs in and provisions.
func TestPacker(t *testing.T) {
	packer, err := exec.LookPath("packer")
	if err != nil {
		t.Skip("no packer")
	}
	h := newHost(t)
	l := newSpec(t, h, "i-packer")
	key := rsaLogin(t, &l)
	boot(t, h, l)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "sent"), []byte("sent"), 0o600); err != nil {
		t.Fatal(err)
	}
	template := fmt.Sprintf(`{"builders": [{"type": "null", "ssh_host": %q, "ssh_username": "ubuntu", "ssh_private_key_file": %q}],
"provisioners": [{"type": "file", "source": %q, "destination": "/tmp/sent"},
{"type": "shell", "inline": ["sudo cp /tmp/sent /etc/sent", "echo done as $(id -un)"]},
{"type": "shell", "inline": ["sudo reboot"], "expect_disconnect": true},
{"type": "shell", "inline": ["sudo cat /etc/sent"], "pause_before": "1s"}]}`, l.spec.Addr, key, filepath.Join(dir, "sent"))
	path := filepath.Join(dir, "t.json")
	if err := os.WriteFile(path, []byte(template), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), packer, "build", path)
	cmd.Env = append(os.Environ(), "CHECKPOINT_DISABLE=1", "HOME="+dir, "PACKER_CONFIG_DIR="+dir)
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "done as ubuntu") || !strings.Contains(string(out), "null: sent") {
		t.Errorf("%v\n%s", err, out)
	}
}

// A connection to an instance that is stopped is refused at once.
func TestFence(t *testing.T) {
	h := newHost(t)
	l := newSpec(t, h, "i-fence")
	if c, err := net.DialTimeout("tcp", l.spec.Addr.String()+":22", 2*time.Second); err == nil {
		c.Close()
		t.Error("somebody answers for an instance that is not there")
	} else if !strings.Contains(err.Error(), "unreachable") && !strings.Contains(err.Error(), "no route") {
		t.Errorf("not refused by this host: %v", err)
	}
}
