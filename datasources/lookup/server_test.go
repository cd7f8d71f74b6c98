package lookup

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/bakehouse-farm/bakehouse"
)

// environment clears what the clients look at, and sets what the test wants.
func environment(t *testing.T, set map[string]string) {
	t.Helper()
	for _, kv := range os.Environ() {
		name, _, _ := strings.Cut(kv, "=")
		for _, prefix := range []string{"VAULT_", "CONSUL_", "AWS_"} {
			if strings.HasPrefix(name, prefix) {
				t.Setenv(name, "") // restores it at the end of the test
				os.Unsetenv(name)
			}
		}
	}
	// No file of the one who tests, and no metadata service, is asked.
	none := filepath.Join(t.TempDir(), "none")
	t.Setenv("AWS_CONFIG_FILE", none)
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", none)
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	for name, value := range set {
		t.Setenv(name, value)
	}
}

// program is where `make deps` puts a witness, or where the variable says.
func program(t *testing.T, variable string, path ...string) string {
	t.Helper()
	if testing.Short() {
		t.Skip("a server takes seconds to start")
	}
	name := os.Getenv(variable)
	if name == "" {
		name = filepath.Join(append([]string{"..", "..", ".cache"}, path...)...)
	}
	if _, err := os.Stat(name); err != nil {
		t.Skipf("not installed (make deps installs it): %v", err)
	}
	return name
}

// start runs a server until the test ends, and waits until it is ready.
func start(t *testing.T, cmd *exec.Cmd, ready func() bool) {
	t.Helper()
	log, err := os.Create(filepath.Join(t.TempDir(), "server.log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = log, log
	// It must not outlive a test that is killed. The signal is tied to the thread
	// that starts it, so this test keeps its thread.
	runtime.LockOSThread()
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { _ = cmd.Wait(); close(done) }()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-done
		log.Close()
		if t.Failed() {
			if text, err := os.ReadFile(log.Name()); err == nil {
				t.Logf("%s said, at last:\n%s", filepath.Base(cmd.Path), text[max(0, len(text)-4000):])
			}
		}
	})
	for deadline := time.Now().Add(time.Minute); !ready(); time.Sleep(100 * time.Millisecond) {
		select {
		case <-done:
			t.Fatalf("%s has ended: %v", cmd.Path, cmd.ProcessState)
		default:
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s does not answer", cmd.Path)
		}
	}
}

// freeAddress is a port of loopback that nobody listens at.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// always answers everything with one status and body, and counts the requests.
func always(t *testing.T, status int, body string) (url string, asked *int) {
	t.Helper()
	asked = new(int)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		*asked++
		w.Header().Set("Content-Type", "application/x-amz-json-1.1")
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	}))
	t.Cleanup(s.Close)
	return s.URL, asked
}

// silent accepts connections and never answers.
func silent(t *testing.T) string {
	t.Helper()
	let := make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-let:
		case <-r.Context().Done():
		}
	}))
	t.Cleanup(func() { close(let); s.Close() })
	return s.URL
}

// An outcome is what a question should end in: a value, or an error of a kind
// whose text has all the words and never shows a secret.
type outcome struct {
	value string
	kind  bakehouse.Kind
	words []string
}

func (o outcome) check(t *testing.T, value string, err error) {
	t.Helper()
	if o.kind == "" {
		if err != nil || value != o.value {
			t.Errorf("%q, %v; want %q", value, err, o.value)
		}
		return
	}
	if err == nil {
		t.Fatalf("%q, want an error of kind %s", value, o.kind)
	}
	if k := bakehouse.KindOf(err); k != o.kind {
		t.Errorf("error of kind %s, want %s: %v", k, o.kind, err)
	}
	for _, w := range o.words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("error %q does not say %q", err, w)
		}
	}
	if strings.Contains(err.Error(), "s3cr3t") {
		t.Errorf("error shows a secret: %v", err)
	}
}

// ask asks one of the functions.
func ask(ctx context.Context, l *Lookup, name string, args ...string) (string, error) {
	switch name {
	case "vault":
		return l.Vault(ctx, args[0], args[1])
	case "consul_key":
		return l.ConsulKey(ctx, args[0])
	case "aws_secretsmanager":
		return l.SecretsManager(ctx, args[0], args[1])
	}
	return l.SecretsManagerRaw(ctx, args[0])
}
