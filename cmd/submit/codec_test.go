package main

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.temporal.io/sdk/converter"

	"github.com/bakehouse-farm/bakehouse/agent/secret"
)

// submit codec, as Temporal's own client uses it, while the farm's key is
// rotated under it.
func TestCodecEndpoint(t *testing.T) {
	dir := t.TempDir()
	key, tokens := filepath.Join(dir, "key"), filepath.Join(dir, "tokens")
	keys, err := secret.LoadOrCreate(key)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(tokens, []byte("ada a-token-that-is-long-enough\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	out, w := io.Pipe()
	ended := make(chan int, 1)
	go func() {
		ended <- run(ctx, &console{out: w, err: io.Discard}, []string{"codec", "-key", key, "-tokens", tokens, "-listen", "127.0.0.1:0"})
		w.Close()
	}()
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	_, url, _ := strings.Cut(strings.TrimSpace(line), "listening on ")
	dc := converter.NewRemoteDataConverter(converter.GetDefaultDataConverter(), converter.RemoteDataConverterOptions{
		Endpoint: url, ModifyRequest: func(r *http.Request) error {
			r.Header.Set("X-Namespace", "default")
			r.Header.Set("Authorization", "Bearer a-token-that-is-long-enough")
			return nil
		},
	})
	shows := func(k *secret.Keys, what string) {
		t.Helper()
		p, err := secret.DataConverter(k).ToPayload(what)
		if err != nil {
			t.Fatal(err)
		}
		var got string
		if err := dc.FromPayload(p, &got); err != nil || got != what {
			t.Errorf("%q, %v", got, err)
		}
	}
	shows(keys, "before")
	if _, err := secret.Rotate(key, ""); err != nil {
		t.Fatal(err)
	}
	rotated, err := secret.Load(key)
	if err != nil {
		t.Fatal(err)
	}
	shows(rotated, "after")
	cancel()
	if code := <-ended; code != 0 {
		t.Errorf("exit code %d", code)
	}
}
