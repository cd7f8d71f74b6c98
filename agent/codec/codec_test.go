package codec_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/sdk/converter"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/bakehouse-farm/bakehouse/agent/codec"
	"github.com/bakehouse-farm/bakehouse/agent/secret"
)

const token = "a-token-that-is-long-enough"

// a farm's keys, and a payload of one of its builds.
func farm(t *testing.T) (*secret.Keys, *commonpb.Payload) {
	t.Helper()
	keys, err := secret.Generate()
	if err != nil {
		t.Fatal(err)
	}
	p, err := secret.DataConverter(keys).ToPayload("what is baked")
	if err != nil {
		t.Fatal(err)
	}
	return keys, p
}

func config(keys *secret.Keys) codec.Config {
	return codec.Config{
		Keys: keys, Tokens: map[string]secret.String{"ada": secret.New(token)},
		Origins: []string{"http://ui.example:8233"}, Namespaces: []string{"default"},
		Log: slog.New(slog.DiscardHandler),
	}
}

func serve(t *testing.T, c codec.Config) *httptest.Server {
	t.Helper()
	e, err := codec.New(c)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(e)
	t.Cleanup(s.Close)
	return s
}

// client is Temporal's own, that the UI's questions look like.
func client(url string, change func(*http.Request), c http.Client) converter.DataConverter {
	return converter.NewRemoteDataConverter(converter.GetDefaultDataConverter(), converter.RemoteDataConverterOptions{
		Endpoint: url, Client: c,
		ModifyRequest: func(r *http.Request) error {
			r.Header.Set("X-Namespace", "default")
			r.Header.Set("Authorization", "Bearer "+token)
			if change != nil {
				change(r)
			}
			return nil
		},
	})
}

func TestTemporalsOwnClientDecodes(t *testing.T) {
	keys, p := farm(t)
	s := serve(t, config(keys))
	for name, change := range map[string]func(*http.Request){
		"bearer":    nil,
		"browser":   func(r *http.Request) { r.Header.Set("Origin", "http://ui.example:8233") },
		"password":  func(r *http.Request) { r.SetBasicAuth("whoever", token) },
		"any case":  func(r *http.Request) { r.Header.Set("Authorization", "bearer "+token) },
		"unencoded": nil,
	} {
		t.Run(name, func(t *testing.T) {
			var got string
			dc := client(s.URL, change, http.Client{})
			if err := dc.FromPayload(p, &got); err != nil || got != "what is baked" {
				t.Errorf("%q, %v", got, err)
			}
			if _, err := dc.ToPayload("forged"); err == nil || !strings.Contains(err.Error(), "does not encode") {
				t.Errorf("it encodes: %v", err)
			}
		})
	}
}

func TestStrangersLearnNothing(t *testing.T) {
	keys, p := farm(t)
	s := serve(t, config(keys))
	for name, tt := range map[string]struct {
		change func(*http.Request)
		want   string
	}{
		"no token":        {func(r *http.Request) { r.Header.Del("Authorization") }, "Unauthorized"},
		"empty token":     {func(r *http.Request) { r.Header.Set("Authorization", "Bearer ") }, "Unauthorized"},
		"wrong token":     {func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+token+"x") }, "Unauthorized"},
		"part of a token": {func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+token[:20]) }, "Unauthorized"},
		"token as a user": {func(r *http.Request) { r.SetBasicAuth(token, "") }, "Unauthorized"},
		"other scheme":    {func(r *http.Request) { r.Header.Set("Authorization", "Digest "+token) }, "Unauthorized"},
		"other page":      {func(r *http.Request) { r.Header.Set("Origin", "http://evil.example") }, "Forbidden"},
		"null page":       {func(r *http.Request) { r.Header.Set("Origin", "null") }, "Forbidden"},
		"other namespace": {func(r *http.Request) { r.Header.Set("X-Namespace", "other") }, "Forbidden"},
		"no namespace":    {func(r *http.Request) { r.Header.Del("X-Namespace") }, "Forbidden"},
	} {
		t.Run(name, func(t *testing.T) {
			var got string
			err := client(s.URL, tt.change, http.Client{}).FromPayload(p, &got)
			if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "baked") {
				t.Errorf("%q, %v", got, err)
			}
		})
	}
}

// What a browser asks before it asks, and what it is told.
func TestPagesOfTheUIOnly(t *testing.T) {
	keys, _ := farm(t)
	s := serve(t, config(keys))
	ask := func(method, path, origin string) *http.Response {
		r, _ := http.NewRequestWithContext(t.Context(), method, s.URL+path, nil)
		r.Header.Set("Origin", origin)
		r.Header.Set("Access-Control-Request-Method", "POST")
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp
	}
	r := ask("OPTIONS", "/decode", "http://ui.example:8233")
	if r.StatusCode != http.StatusNoContent || r.Header.Get("Access-Control-Allow-Origin") != "http://ui.example:8233" ||
		!strings.Contains(r.Header.Get("Access-Control-Allow-Headers"), "X-Namespace") || r.Header.Get("Access-Control-Allow-Credentials") != "true" {
		t.Errorf("%d %v", r.StatusCode, r.Header)
	}
	r = ask("OPTIONS", "/decode", "http://evil.example")
	if r.StatusCode != http.StatusForbidden || r.Header.Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("%d %v", r.StatusCode, r.Header)
	}
	for path, want := range map[string]int{"/decode": 405, "/other": 404, "/": 401} {
		if r := ask("GET", path, ""); r.StatusCode != want {
			t.Errorf("GET %s: %d", path, r.StatusCode)
		}
	}
	if r := ask("GET", "/", ""); !strings.Contains(strings.Join(r.Header.Values("WWW-Authenticate"), " "), "Basic") {
		t.Errorf("a browser does not ask for the token: %v", r.Header)
	}
}

func TestPrivateKeysAreNotShown(t *testing.T) {
	keys, _ := farm(t)
	s := serve(t, config(keys))
	pem := "-----BEGIN OPENSSH PRIVATE KEY-----\nc2VjcmV0\nc2VjcmV0\n-----END OPENSSH PRIVATE KEY-----\n"
	p, err := secret.DataConverter(keys).ToPayload(map[string]string{"private": pem, "host": "10.0.0.1"})
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]string
	if err := client(s.URL, nil, http.Client{}).FromPayload(p, &got); err != nil {
		t.Fatal(err)
	}
	if got["host"] != "10.0.0.1" || strings.Contains(fmt.Sprint(got), "c2VjcmV0") {
		t.Errorf("%v", got)
	}
}

func TestQuestionsAreBounded(t *testing.T) {
	keys, _ := farm(t)
	c := config(keys)
	c.Body = 10_000
	s := serve(t, c)
	post := func(body io.Reader) (int, string) {
		r, _ := http.NewRequestWithContext(t.Context(), "POST", s.URL+"/decode", body)
		r.Header.Set("X-Namespace", "default")
		r.Header.Set("Authorization", "Bearer "+token)
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		text, _ := io.ReadAll(resp.Body)
		return resp.StatusCode, string(text)
	}
	big := bytes.Repeat([]byte("x"), 10_001)
	if status, _ := post(bytes.NewReader(big)); status != http.StatusRequestEntityTooLarge {
		t.Errorf("too big, and says so: %d", status)
	}
	if status, text := post(io.MultiReader(bytes.NewReader(big))); status != http.StatusBadRequest || !strings.Contains(text, "too large") {
		t.Errorf("too big, and does not say so: %d %s", status, text)
	}
	for _, body := range []string{"", "{", "[]", `{"payloads":[{"metadata":{"encoding":"YmluYXJ5L2VuY3J5cHRlZA=="},"data":"AAAA"}]}`, `{"payloads":[{"metadata":{"encoding":"YmluYXJ5L2VuY3J5cHRlZA=="}}]}`} {
		if status, text := post(strings.NewReader(body)); status != http.StatusBadRequest {
			t.Errorf("%q: %d %s", body, status, text)
		}
	}
	plain, err := protojson.Marshal(&commonpb.Payloads{Payloads: []*commonpb.Payload{{Metadata: map[string][]byte{"encoding": []byte("json/plain")}, Data: []byte("1")}}})
	if err != nil {
		t.Fatal(err)
	}
	if status, text := post(bytes.NewReader(plain)); status != http.StatusOK || !strings.Contains(text, "MQ==") {
		t.Errorf("what is not encrypted: %d %s", status, text)
	}
}

// Without authentication, only this computer is answered, and no page that has
// its own name point to it.
func TestOpenIsForThisComputer(t *testing.T) {
	keys, p := farm(t)
	c := config(keys)
	c.Tokens, c.Open = nil, true
	s := serve(t, c)
	none := func(r *http.Request) { r.Header.Del("Authorization") }
	var got string
	if err := client(s.URL, none, http.Client{}).FromPayload(p, &got); err != nil || got != "what is baked" {
		t.Errorf("%q, %v", got, err)
	}
	err := client(s.URL, func(r *http.Request) { none(r); r.Host = "evil.example" }, http.Client{}).FromPayload(p, &got)
	if err == nil || !strings.Contains(err.Error(), "Unauthorized") {
		t.Errorf("under another name: %v", err)
	}
	e, err := codec.New(c)
	if err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequest("GET", "http://127.0.0.1/", nil)
	r.RemoteAddr = "192.0.2.1:1234"
	w := httptest.NewRecorder()
	e.ServeHTTP(w, r)
	if w.Code != http.StatusUnauthorized {
		t.Errorf("from elsewhere: %d", w.Code)
	}
}

func TestClientCertificates(t *testing.T) {
	keys, p := farm(t)
	c := config(keys)
	c.Tokens, c.Certificates = nil, true
	e, err := codec.New(c)
	if err != nil {
		t.Fatal(err)
	}
	authority, ada := certificates(t)
	_, stranger := certificates(t)
	s := httptest.NewUnstartedServer(e)
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	pool := x509.NewCertPool()
	pool.AddCert(authority)
	s.TLS = &tls.Config{ClientCAs: pool, ClientAuth: tls.VerifyClientCertIfGiven}
	s.StartTLS()
	defer s.Close()
	for name, tt := range map[string]struct {
		cert []tls.Certificate
		ok   bool
	}{"ada": {[]tls.Certificate{ada}, true}, "stranger": {[]tls.Certificate{stranger}, false}, "nobody": {nil, false}} {
		t.Run(name, func(t *testing.T) {
			roots := x509.NewCertPool()
			roots.AddCert(s.Certificate())
			hc := http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, Certificates: tt.cert}}}
			var got string
			err := client(s.URL, func(r *http.Request) { r.Header.Del("Authorization") }, hc).FromPayload(p, &got)
			if (err == nil) != tt.ok || (got == "what is baked") != tt.ok {
				t.Errorf("%q, %v", got, err)
			}
		})
	}
}

// certificates makes an authority and a client's certificate.
func certificates(t *testing.T) (*x509.Certificate, tls.Certificate) {
	t.Helper()
	make := func(template, parent *x509.Certificate, signer *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		if signer == nil {
			parent, signer = template, key
		}
		der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
		if err != nil {
			t.Fatal(err)
		}
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		return cert, key
	}
	until := time.Now().Add(time.Hour)
	authority, key := make(&x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, NotAfter: until,
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}, nil, nil)
	leaf, leafKey := make(&x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "ada"}, NotAfter: until,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}, authority, key)
	return authority, tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: leafKey}
}

// Retired and unknown keys are named to who asks.
func TestWhatCannotBeDecodedIsNamed(t *testing.T) {
	keys, _ := farm(t)
	stranger, p := farm(t)
	err := client(serve(t, config(keys)).URL, nil, http.Client{}).FromPayload(p, new(string))
	if err == nil || !strings.Contains(err.Error(), stranger.ID()) {
		t.Errorf("%v", err)
	}
}

func TestWrongSettingsAreRefused(t *testing.T) {
	keys, _ := farm(t)
	for name, change := range map[string]func(*codec.Config){
		"nobody may ask": func(c *codec.Config) { c.Tokens = nil },
		"short token":    func(c *codec.Config) { c.Tokens["x"] = secret.New("short") },
		"no namespace":   func(c *codec.Config) { c.Namespaces = nil },
		"any origin":     func(c *codec.Config) { c.Origins = []string{"*"} },
		"a path":         func(c *codec.Config) { c.Origins = []string{"http://ui.example/"} },
	} {
		c := config(keys)
		change(&c)
		if _, err := codec.New(c); err == nil {
			t.Errorf("%s: it is served", name)
		}
	}
	for text, want := range map[string]string{
		"":                                      "no token",
		"# ada x\n":                             "no token",
		"ada\n":                                 "line 1",
		"ada short\n":                           "line 1",
		"\nada " + token + " x\n":               "line 2",
		"ada " + token + "\nada " + token + "2": "line 2",
		"ada " + token + "\n\nbob " + token + "2\n": "",
	} {
		got, err := codec.ReadTokens(strings.NewReader(text))
		if want == "" && (err != nil || len(got) != 2 || got["bob"].Reveal() != token+"2") || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: %v", text, err)
		}
		if err != nil && strings.Contains(err.Error(), token) {
			t.Errorf("the token is in the message: %v", err)
		}
	}
}

func TestServeEndsWithItsContext(t *testing.T) {
	keys, p := farm(t)
	e, err := codec.New(config(keys))
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- codec.Serve(ctx, l, e) }()
	if err := client("http://"+l.Addr().String(), nil, http.Client{}).FromPayload(p, new(string)); err != nil {
		t.Error(err)
	}
	cancel()
	select {
	case err := <-ended:
		if err != nil && !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("it goes on")
	}
}
