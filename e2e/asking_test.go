//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	vault "github.com/hashicorp/vault/api"
)

// startVault starts OpenBao, a server with Vault's API, and lets the
// environment lead to it.
func startVault(t *testing.T) *vault.Client {
	t.Helper()
	bao := os.Getenv("OPENBAO")
	if bao == "" {
		bao, _ = filepath.Abs("../.cache/openbao/bin/bao")
	}
	if _, err := os.Stat(bao); err != nil {
		t.Skipf("OpenBao is not installed (make deps installs it): %v", err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	cmd := exec.Command(bao, "server", "-dev", "-dev-root-token-id=root", "-dev-no-store-token", "-dev-listen-address="+address)
	cmd.Env = append(os.Environ(), "HOME="+t.TempDir())
	var said syncBuffer
	cmd.Stdout, cmd.Stderr = &said, &said
	// It must not outlive a test that is killed. The signal is tied to the thread
	// that starts it, so this test keeps its thread.
	runtime.LockOSThread()
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	t.Setenv("VAULT_ADDR", "http://"+address)
	t.Setenv("VAULT_TOKEN", "root")
	c, err := vault.NewClient(nil)
	if err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
		if _, err = c.KVv2("secret").Put(context.Background(), "warm", map[string]any{"a": "b"}); err == nil {
			return c
		}
		if time.Now().After(deadline) {
			t.Fatalf("OpenBao does not answer: %v\n%s", err, said.String())
		}
	}
}

// The agent asks Vault and a web server when it plans the build, and the
// machine gets what they say, though the answers change before it does. The
// secret is in no line that anybody sees, and nothing that is kept holds it.
func TestAgentAsks(t *testing.T) {
	v := startVault(t)
	put := func(password string) {
		t.Helper()
		if _, err := v.KVv2("secret").Put(context.Background(), "db", map[string]any{"password": password}); err != nil {
			t.Fatal(err)
		}
	}
	const first, second = "first-hunter22", "second-hunter22"
	put(first)
	var asked atomic.Int32
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n := asked.Add(1)
		if r.Header.Get("Authorization") != "Bearer "+first {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		if n == 1 {
			put(second) // whoever asks Vault again is told something else
		}
		fmt.Fprintf(w, "v%d\n", n)
	}))
	defer web.Close()

	s := newStack(t)
	dir := write(t, map[string]string{"t.pkr.hcl": fmt.Sprintf(`
data "http" "version" {
  url             = %q
  request_headers = { Authorization = "Bearer ${vault("secret/data/db", "password")}" }
}
data "null" "name" {
  input = "asked-${trimspace(data.http.version.body)}"
}
source "amazon-ebs" "a" {
  region        = "us-east-1"
  instance_type = "t3.micro"
  ssh_username  = "ubuntu"
  ami_name      = data.null.name.output
  source_ami_filter {
    filters     = { name = "ubuntu/images/*" }
    owners      = ["099720109477"]
    most_recent = true
  }
}
build {
  sources = ["amazon-ebs.a"]
  provisioner "shell" {
    environment_vars = ["PASSWORD=${vault("secret/data/db", "password")}"]
    inline           = ["echo password is $PASSWORD", "test $PASSWORD = first-hunter2$((1 + 1)) && echo it is the first"]
  }
  post-processor "manifest" {
    custom_data = { version = data.null.name.output }
  }
}
`, web.URL)})
	if out, err := exec.Command(bin(t, "submit"), "validate", dir).CombinedOutput(); err != nil {
		t.Fatalf("validate: %v\n%s", err, out)
	}
	if n := asked.Load(); n != 0 {
		t.Errorf("validate asked the server %d times", n)
	}
	out := s.must(dir, ".")
	for _, want := range []string{"==> amazon-ebs.a: password is <sensitive>", "==> amazon-ebs.a: it is the first", "AMIs were created"} {
		if !strings.Contains(out, want) {
			t.Errorf("output lacks %q:\n%s", want, out)
		}
	}
	if n := asked.Load(); n != 1 {
		t.Errorf("the web server was asked %d times", n)
	}
	text, err := os.ReadFile(filepath.Join(dir, "packer-manifest.json"))
	if err != nil || !strings.Contains(string(text), `"version": "asked-v1"`) {
		t.Errorf("manifest (%v):\n%s", err, text)
	}
	if strings.Contains(out, first) || strings.Contains(out, second) {
		t.Errorf("output shows the password:\n%s", out)
	}
	s.clean()
	for _, name := range holding(t, s.state, first, second) {
		t.Errorf("%s holds the password", name)
	}
}

// holding lists the regular files below dir that hold one of the words.
func holding(t *testing.T, dir string, words ...string) []string {
	t.Helper()
	var found []string
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return nil // what is being removed, or is no file
		}
		data, err := os.ReadFile(name)
		if err != nil {
			return nil
		}
		for _, w := range words {
			if bytes.Contains(data, []byte(w)) {
				found = append(found, name)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}
