package secret

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/kms"

	"github.com/bakehouse-farm/bakehouse"
)

// A counter stands before moto, counts what KMS is asked for, and can answer
// for it.
type counter struct {
	mu    sync.Mutex
	asked map[string]int
	deny  func(w http.ResponseWriter) // nil: moto answers
	url   string
}

func (c *counter) count(what string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.asked[what]
}

func (c *counter) answer(deny func(w http.ResponseWriter)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.deny = deny
}

// startKMS starts moto, which knows KMS from others than us, and returns what
// stands before it.
func startKMS(t *testing.T) *counter {
	t.Helper()
	if testing.Short() {
		t.Skip("moto takes seconds to start")
	}
	server := os.Getenv("MOTO_SERVER")
	if server == "" {
		server = filepath.Join("..", "..", ".cache", "moto", "bin", "moto_server")
	}
	if _, err := os.Stat(server); err != nil {
		if server, err = exec.LookPath("moto_server"); err != nil {
			t.Skipf("moto is not installed (make deps installs it): %v", err)
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	l.Close()
	cmd := exec.Command(server, "-H", "127.0.0.1", "-p", fmt.Sprint(port))
	// It must not outlive a test that is killed. The signal is tied to the thread
	// that starts it, so this test keeps its thread.
	runtime.LockOSThread()
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	moto, _ := url.Parse(fmt.Sprintf("http://127.0.0.1:%d", port))
	for limit := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
		if resp, err := http.Get(moto.String() + "/moto-api/"); err == nil {
			resp.Body.Close()
			break
		}
		if time.Now().After(limit) {
			t.Fatal("moto does not answer")
		}
	}
	return before(t, httputil.NewSingleHostReverseProxy(moto))
}

// before points AWS's settings at next, with a counter before it.
func before(t *testing.T, next http.Handler) *counter {
	t.Helper()
	c := &counter{asked: map[string]int{}}
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c.mu.Lock()
		c.asked[strings.TrimPrefix(r.Header.Get("X-Amz-Target"), "TrentService.")]++
		deny := c.deny
		c.mu.Unlock()
		if deny != nil {
			deny(w)
			return
		}
		next.ServeHTTP(w, r)
	}))
	t.Cleanup(front.Close)
	c.url = front.URL
	t.Setenv("AWS_ENDPOINT_URL", front.URL)
	t.Setenv("AWS_ACCESS_KEY_ID", "test")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "test")
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	t.Setenv("AWS_CONFIG_FILE", filepath.Join(t.TempDir(), "none"))
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", filepath.Join(t.TempDir(), "none"))
	return c
}

// refuse answers as AWS does.
func refuse(status int, code string) func(w http.ResponseWriter) {
	return func(w http.ResponseWriter) {
		w.Header().Set("Content-Type", "application/x-amz-json-1.1")
		w.WriteHeader(status)
		fmt.Fprintf(w, `{"__type":%q,"message":"because"}`, code)
	}
}

// newKMSAlias makes a key and an alias for it, and returns its ARN.
func newKMSAlias(t *testing.T, alias string) string {
	t.Helper()
	cfg, err := config.LoadDefaultConfig(t.Context(), config.WithRegion("eu-central-1"))
	if err != nil {
		t.Fatal(err)
	}
	client := kms.NewFromConfig(cfg)
	made, err := client.CreateKey(t.Context(), &kms.CreateKeyInput{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.CreateAlias(t.Context(), &kms.CreateAliasInput{
		AliasName: aws.String("alias/" + alias), TargetKeyId: made.KeyMetadata.KeyId,
	}); err != nil {
		t.Fatal(err)
	}
	return aws.ToString(made.KeyMetadata.Arn)
}

func load(t *testing.T, path string) *Keys {
	t.Helper()
	k, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func mustSeal(t *testing.T, k *Keys, text string) []byte {
	t.Helper()
	sealed, err := k.Seal(t.Context(), []byte(text), []byte("name"))
	if err != nil {
		t.Fatal(err)
	}
	if len(text) > 3 && bytes.Contains(sealed, []byte(text)) {
		t.Fatal("it can be read")
	}
	return sealed
}

func wantOpen(t *testing.T, k *Keys, sealed []byte, text string) {
	t.Helper()
	if got, err := k.Open(t.Context(), sealed, []byte("name")); err != nil || string(got) != text {
		t.Fatalf("opened %q, %v", got, err)
	}
}

func TestKMS(t *testing.T) {
	moto := startKMS(t)
	arn := newKMSAlias(t, "farm")
	other := newKMSAlias(t, "other")
	alias := "awskms://alias/farm?region=eu-central-1"

	t.Run("what one process seals another opens, by any name of the key", func(t *testing.T) {
		sealed := mustSeal(t, load(t, alias), "the plan")
		for _, name := range []string{alias, "awskms:///" + arn, "awskms://" + arn[strings.LastIndex(arn, "/")+1:] + "?region=eu-central-1"} {
			wantOpen(t, load(t, name), sealed, "the plan")
		}
		if _, err := load(t, "awskms:///"+other).Open(t.Context(), sealed, []byte("name")); !errors.Is(err, ErrUnknownKey) {
			t.Errorf("with another key in KMS: %v", err)
		}
		if _, err := load(t, alias).Open(t.Context(), sealed, []byte("other name")); !errors.Is(err, ErrDamaged) {
			t.Errorf("under another name: %v", err)
		}
	})

	t.Run("KMS is asked seldom", func(t *testing.T) {
		k := load(t, alias)
		made, unwrapped := moto.count("GenerateDataKey"), moto.count("Decrypt")
		var sealed [][]byte
		for range 100 {
			sealed = append(sealed, mustSeal(t, k, "x"))
		}
		for _, s := range sealed {
			wantOpen(t, k, s, "x")
		}
		if n := moto.count("GenerateDataKey") - made; n != 1 {
			t.Errorf("100 seals asked for %d data keys", n)
		}
		if n := moto.count("Decrypt") - unwrapped; n != 0 {
			t.Errorf("what we sealed ourselves was unwrapped %d times", n)
		}
		reader := load(t, alias)
		var wg sync.WaitGroup
		for _, s := range sealed {
			wg.Go(func() { wantOpen(t, reader, s, "x") })
		}
		wg.Wait()
		if n := moto.count("Decrypt") - unwrapped; n != 1 {
			t.Errorf("100 opens at once asked %d times", n)
		}
	})

	t.Run("but again when time has passed, or much was sealed", func(t *testing.T) {
		k := load(t, alias)
		source := k.ring.entries[0].kms
		now := time.Now()
		source.now = func() time.Time { return now }
		first := mustSeal(t, k, "x")
		made := moto.count("GenerateDataKey")
		now = now.Add(sealAge)
		mustSeal(t, k, "x")
		source.uses = sealUses
		mustSeal(t, k, "x")
		if n := moto.count("GenerateDataKey") - made; n != 2 {
			t.Errorf("asked for %d data keys, not 2", n)
		}
		unwrapped := moto.count("Decrypt")
		wantOpen(t, k, first, "x") // its data key is as old as openAge allows
		wantOpen(t, k, first, "x")
		if n := moto.count("Decrypt") - unwrapped; n != 1 {
			t.Errorf("unwrapped %d times, not once", n)
		}
	})

	t.Run("what is remembered is bounded", func(t *testing.T) {
		k := load(t, alias).ring.entries[0].kms
		for i := range openLimit + 10 {
			k.remember(dataKey{wrapped: []byte(fmt.Sprint(i)), since: k.now()})
		}
		if len(k.opened) != openLimit {
			t.Errorf("%d data keys are remembered", len(k.opened))
		}
	})

	t.Run("every byte counts", func(t *testing.T) {
		k := load(t, alias)
		good := mustSeal(t, k, "x")
		for n := range good {
			if got, err := k.Open(t.Context(), good[:n], []byte("name")); err == nil {
				t.Fatalf("cut to %d: %q", n, got)
			}
			if n%7 != 0 && n > 24 {
				continue // each asks KMS
			}
			bad := bytes.Clone(good)
			bad[n] ^= 1
			// KMS calls a wrapped key that it does not know many things.
			if got, err := k.Open(t.Context(), bad, []byte("name")); err == nil {
				t.Fatalf("byte %d altered: %q", n, got)
			}
		}
	})

	t.Run("data keys of a stranger's key in KMS are not believed", func(t *testing.T) {
		// The stranger lets us use their key, and claims that ours wrapped it.
		forged := mustSeal(t, load(t, "awskms:///"+other), "forged")
		e, _ := parseEnvelope(forged)
		id, err := load(t, alias).ring.entries[0].kms.identify(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		swapped := append(envelope{id: id, wrapped: e.wrapped}.header(), e.body...)
		if got, err := load(t, alias).Open(t.Context(), swapped, []byte("name")); err == nil {
			t.Errorf("opened %q", got)
		}
	})

	t.Run("from a file to KMS and back", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "key")
		agent, err := LoadOrCreate(path)
		if err != nil {
			t.Fatal(err)
		}
		own := agent.ID()
		before := mustSeal(t, agent, "before")
		if _, err := Add(path, alias); err != nil {
			t.Fatal(err)
		}
		if _, err := Add(path, alias); err == nil {
			t.Error("the same key was added twice")
		}
		wantOpen(t, agent, mustSeal(t, load(t, alias), "early"), "early")
		if got, err := Rotate(path, ""); err != nil || got != alias {
			t.Fatal(got, err)
		}
		submitter := load(t, path)
		during := mustSeal(t, submitter, "during")
		if e, _ := parseEnvelope(during); e.wrapped == nil {
			t.Error("KMS does not seal after the rotation")
		}
		for _, k := range []*Keys{agent, submitter} {
			wantOpen(t, k, before, "before")
			wantOpen(t, k, during, "during")
		}
		if _, err := Rotate(path, own); err != nil {
			t.Fatal(err)
		}
		if err := Retire(path, alias); err != nil {
			t.Fatal(err)
		}
		if _, err := load(t, path).Open(t.Context(), during, []byte("name")); !errors.Is(err, ErrUnknownKey) || !strings.Contains(err.Error(), kmsID) {
			t.Errorf("after KMS was retired: %v", err)
		}
	})

	t.Run("payloads", func(t *testing.T) {
		p, err := DataConverter(load(t, alias)).ToPayload("hello")
		if err != nil {
			t.Fatal(err)
		}
		var got string
		if err := DataConverter(load(t, alias)).FromPayload(p, &got); err != nil || got != "hello" {
			t.Errorf("%q, %v", got, err)
		}
		if id := string(p.Metadata[metadataKeyID]); !strings.HasPrefix(id, kmsID) {
			t.Errorf("the payload names key %q", id)
		}
	})

	t.Run("names stay the same", func(t *testing.T) {
		a, b := load(t, alias), load(t, alias)
		if _, ok := a.Digest("use", []byte("x")); ok {
			t.Fatal("a key that changes gives names")
		}
		n, sealed, err := a.NewName(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		m, err := b.OpenName(t.Context(), n.ID(), sealed)
		if err != nil || m.Digest("use", []byte("x")) != n.Digest("use", []byte("x")) {
			t.Errorf("%v", err)
		}
		if err := m.Verify(n.Digest("use", []byte("x")), "use", []byte("y")); !errors.Is(err, ErrDamaged) {
			t.Errorf("other data: %v", err)
		}
		if _, err := b.OpenName(t.Context(), n.ID()+"0", sealed); !errors.Is(err, ErrDamaged) {
			t.Errorf("under another ID: %v", err)
		}
		prefix, ok, err := b.NamePrefix(t.Context())
		if err != nil || !ok || !strings.HasPrefix(n.ID(), prefix) || !IsName(n.ID()) {
			t.Errorf("%q, %v, %v", prefix, ok, err)
		}
	})

	t.Run("verdicts", func(t *testing.T) {
		sealed := mustSeal(t, load(t, alias), "x")
		t.Setenv("AWS_MAX_ATTEMPTS", "1")
		for code, want := range map[string]struct {
			status int
			kind   bakehouse.Kind
		}{
			"AccessDeniedException":      {400, bakehouse.Denied},
			"DisabledException":          {400, bakehouse.Denied},
			"KMSInvalidStateException":   {400, bakehouse.Denied},
			"NotFoundException":          {400, bakehouse.NotFound},
			"ThrottlingException":        {400, bakehouse.Trouble},
			"KMSInternalException":       {500, bakehouse.Trouble},
			"DependencyTimeoutException": {500, bakehouse.Trouble},
			"KeyUnavailableException":    {500, bakehouse.Trouble},
		} {
			moto.answer(nil)
			reader := load(t, alias)
			if _, err := reader.ring.entries[0].kms.identify(t.Context()); err != nil {
				t.Fatal(err)
			}
			moto.answer(refuse(want.status, code))
			_, err := reader.Open(t.Context(), sealed, []byte("name"))
			if err == nil || bakehouse.KindOf(err) != want.kind || !strings.Contains(err.Error(), alias) {
				t.Errorf("open, %s: %s, %v", code, bakehouse.KindOf(err), err)
			}
			if _, err := load(t, alias).Seal(t.Context(), nil, nil); err == nil || bakehouse.KindOf(err) != want.kind || !strings.Contains(err.Error(), alias) {
				t.Errorf("seal, %s: %s, %v", code, bakehouse.KindOf(err), err)
			}
		}
		moto.answer(nil)
	})
}

// A farm whose KMS does not answer is in trouble, which passes.
func TestKMSThatCannotBeReached(t *testing.T) {
	t.Setenv("AWS_MAX_ATTEMPTS", "1")
	c := before(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) }))
	k := load(t, "awskms://alias/farm?region=eu-central-1")
	t.Setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
	if _, err := k.Seal(t.Context(), nil, nil); err == nil || bakehouse.KindOf(err).Final() {
		t.Errorf("nobody listens: %s, %v", bakehouse.KindOf(err), err)
	}
	// It takes the question and never answers.
	t.Setenv("AWS_ENDPOINT_URL", c.url)
	hang := make(chan struct{})
	c.answer(func(http.ResponseWriter) { <-hang })
	defer close(hang)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := load(t, "awskms://alias/farm?region=eu-central-1").Seal(ctx, nil, nil); err == nil || bakehouse.KindOf(err).Final() {
		t.Errorf("no answer: %s, %v", bakehouse.KindOf(err), err)
	}
}

func TestKMSURLs(t *testing.T) {
	t.Setenv("AWS_REGION", "")
	t.Setenv("AWS_CONFIG_FILE", "/nonexistent")
	for raw, want := range map[string]string{
		"awskms://alias/farm?region=eu-central-1":                    "alias/farm@eu-central-1",
		"awskms://1234abcd-12ab-34cd-56ef-1234567890ab?region=x":     "1234abcd-12ab-34cd-56ef-1234567890ab@x",
		"awskms:///arn:aws:kms:us-east-1:111122223333:key/1":         "arn:aws:kms:us-east-1:111122223333:key/1@us-east-1",
		"awskms:///arn:aws-cn:kms:cn-north-1:111122223333:alias/a/b": "arn:aws-cn:kms:cn-north-1:111122223333:alias/a/b@cn-north-1",
		"awskms://alias/farm":                                        "alias/farm@",
		"awskms://":                                                  "",
		"awskms:alias":                                               "",
		"awskms:///arn:aws:s3:::bucket":                              "",
		"awskms://alias/farm?region=a&region=b":                      "",
		"awskms://alias/farm?profile=x":                              "",
		"awskms://user@alias/farm":                                   "",
		"awskms://alias/farm#x":                                      "",
	} {
		k, err := newKMSKey(raw)
		switch {
		case want == "" && (err == nil || bakehouse.KindOf(err) != bakehouse.Invalid):
			t.Errorf("%s: %+v, %v", raw, k, err)
		case want != "" && err != nil:
			t.Errorf("%s: %v", raw, err)
		case want != "" && k.keyID+"@"+k.region != want:
			t.Errorf("%s is %s@%s", raw, k.keyID, k.region)
		}
	}
	if _, err := load(t, "awskms://alias/farm").Seal(t.Context(), nil, nil); err == nil || bakehouse.KindOf(err) != bakehouse.Invalid || !strings.Contains(err.Error(), "region") {
		t.Errorf("without a region: %v", err)
	}
}
