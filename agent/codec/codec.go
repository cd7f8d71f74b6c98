// Package codec answers Temporal's web UI, in its remote codec protocol, with
// what encrypted payloads hold: for people who may read them, and nobody else.
package codec

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/sdk/converter"

	"github.com/bakehouse-farm/bakehouse/agent/secret"
)

// DefaultBody is the most bytes that a question may have, when Config says
// nothing.
const DefaultBody = 8 << 20

// Config says who may ask what.
type Config struct {
	// Keys open the payloads. Required.
	Keys *secret.Keys
	// Tokens are who may ask, by name. Their token comes as a bearer token, as the
	// UI passes it on, or as the password of HTTP's basic authentication, as
	// browsers remember it.
	Tokens map[string]secret.String
	// Certificates asks for a verified client certificate where no token comes.
	// The listener's TLS settings must ask for one and verify it.
	Certificates bool
	// Open lets everybody ask who reaches the endpoint by a loopback address.
	// Required to be set when there are neither Tokens nor Certificates.
	Open bool
	// Origins are the web UIs that browsers may ask from, as
	// "http://127.0.0.1:8233". Questions from pages of other origins are refused.
	// Empty means that no browser may ask.
	Origins []string
	// Namespaces are those of Temporal whose payloads are answered. Required.
	Namespaces []string
	// Body is the most bytes of a question; 0 means DefaultBody.
	Body int64
	// Log is told of each answer and refusal, with who asked; nil means
	// slog.Default().
	Log *slog.Logger
}

// New returns the endpoint: POST /decode as in Temporal's protocol, with the
// header X-Namespace; GET / tells a browser's user whether they may ask, and
// asks for a token. There is no way to encode: what is shown must not be sent.
// Private keys in what is decoded are not shown.
func New(c Config) (http.Handler, error) {
	if len(c.Tokens) == 0 && !c.Certificates && !c.Open {
		return nil, errors.New("codec endpoint: neither tokens nor client certificates say who may ask")
	}
	for name, t := range c.Tokens {
		if len(t.Reveal()) < minToken {
			return nil, fmt.Errorf("codec endpoint: the token of %s is shorter than %d characters", name, minToken)
		}
	}
	if len(c.Namespaces) == 0 {
		return nil, errors.New("codec endpoint: no namespace")
	}
	for _, o := range c.Origins {
		u, err := url.Parse(o)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || o != u.Scheme+"://"+u.Host {
			return nil, fmt.Errorf("codec endpoint: origin %q is not of the form http://host:port", o)
		}
	}
	if c.Body == 0 {
		c.Body = DefaultBody
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	e := &endpoint{Config: c, answer: converter.NewPayloadCodecHTTPHandler(shown{secret.NewCodec(c.Keys)})}
	mux := http.NewServeMux()
	mux.HandleFunc("OPTIONS /decode", e.preflight)
	mux.HandleFunc("POST /decode", e.decode)
	mux.HandleFunc("/encode", func(w http.ResponseWriter, r *http.Request) {
		e.refuse(w, r, http.StatusForbidden, "this endpoint does not encode")
	})
	mux.HandleFunc("GET /{$}", e.greet)
	return mux, nil
}

// minToken is what a token must have so that nobody guesses it.
const minToken = 16

// Serve answers on l until ctx ends, with time limits, so that nobody who sends
// slowly or never holds it up.
func Serve(ctx context.Context, l net.Listener, h http.Handler) error {
	s := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 30 * time.Second, WriteTimeout: 60 * time.Second, IdleTimeout: 2 * time.Minute,
		MaxHeaderBytes: 32 << 10,
		ErrorLog:       slog.NewLogLogger(slog.DiscardHandler, slog.LevelError), // strangers' broken TLS
	}
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(l) }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	return s.Shutdown(stop)
}

type endpoint struct {
	Config
	answer http.Handler
}

func (e *endpoint) preflight(w http.ResponseWriter, r *http.Request) {
	if !e.origin(w, r) {
		return
	}
	w.Header().Set("Access-Control-Allow-Methods", "POST")
	w.Header().Set("Access-Control-Allow-Headers", "Authorization, Content-Type, X-Namespace, Authorization-Extras")
	w.Header().Set("Access-Control-Max-Age", "600")
	w.WriteHeader(http.StatusNoContent)
}

func (e *endpoint) greet(w http.ResponseWriter, r *http.Request) {
	who, ok := e.who(w, r)
	if !ok {
		return
	}
	fmt.Fprintf(w, "This is the codec endpoint of a Bakehouse farm, and %s may use it: give its address to Temporal's UI.\n", who)
}

func (e *endpoint) decode(w http.ResponseWriter, r *http.Request) {
	if !e.origin(w, r) {
		return
	}
	who, ok := e.who(w, r)
	if !ok {
		return
	}
	namespace := r.Header.Get("X-Namespace")
	if !slices.Contains(e.Namespaces, namespace) {
		e.refuse(w, r, http.StatusForbidden, fmt.Sprintf("namespace %q is none of this endpoint's", namespace))
		return
	}
	if r.ContentLength > e.Body {
		e.refuse(w, r, http.StatusRequestEntityTooLarge, fmt.Sprintf("a question may have %d bytes", e.Body))
		return
	}
	// The SDK reads all that there is.
	r.Body = http.MaxBytesReader(w, r.Body, e.Body)
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	noted := &noted{ResponseWriter: w, status: http.StatusOK}
	e.answer.ServeHTTP(noted, r)
	e.Log.Info("codec endpoint decoded", "who", who, "namespace", namespace, "status", noted.status, "from", r.RemoteAddr)
}

// noted remembers the status of an answer.
type noted struct {
	http.ResponseWriter
	status int
}

func (n *noted) WriteHeader(status int) {
	n.status = status
	n.ResponseWriter.WriteHeader(status)
}

// origin lets browsers ask from the UI's pages only. Programs that are no
// browsers send no origin.
func (e *endpoint) origin(w http.ResponseWriter, r *http.Request) bool {
	origin := r.Header.Get("Origin")
	w.Header().Add("Vary", "Origin")
	if origin == "" {
		return true
	}
	if !slices.Contains(e.Origins, origin) {
		e.refuse(w, r, http.StatusForbidden, fmt.Sprintf("origin %q is not that of the UI", origin))
		return false
	}
	w.Header().Set("Access-Control-Allow-Origin", origin)
	w.Header().Set("Access-Control-Allow-Credentials", "true")
	return true
}

// who tells who asks, or refuses.
func (e *endpoint) who(w http.ResponseWriter, r *http.Request) (string, bool) {
	if token, ok := presented(r); ok {
		if name, ok := e.named(token); ok {
			return name, true
		}
	} else if e.Certificates && r.TLS != nil && len(r.TLS.VerifiedChains) > 0 {
		return r.TLS.VerifiedChains[0][0].Subject.String(), true
	}
	if e.Open && local(r) {
		return "everybody on this computer", true
	}
	if len(e.Tokens) > 0 {
		w.Header().Add("WWW-Authenticate", `Basic realm="Bakehouse codec", charset="UTF-8"`)
		w.Header().Add("WWW-Authenticate", `Bearer realm="Bakehouse codec"`)
	}
	e.refuse(w, r, http.StatusUnauthorized, "who asks is not known here")
	return "", false
}

func presented(r *http.Request) (string, bool) {
	if _, password, ok := r.BasicAuth(); ok {
		return password, true
	}
	scheme, token, ok := strings.Cut(r.Header.Get("Authorization"), " ")
	return strings.TrimSpace(token), ok && strings.EqualFold(scheme, "Bearer")
}

// named returns whose token it is. It compares with all of them, and digests
// rather than texts, so that time tells nothing.
func (e *endpoint) named(token string) (who string, ok bool) {
	got := sha256.Sum256([]byte(token))
	for name, t := range e.Tokens {
		want := sha256.Sum256([]byte(t.Reveal()))
		if subtle.ConstantTimeCompare(got[:], want[:]) == 1 {
			who, ok = name, true
		}
	}
	return who, ok
}

// local tells whether a question came over loopback, and was meant to: a page
// that has a name of its own point to 127.0.0.1 sends that name.
func local(r *http.Request) bool {
	peer, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil || !net.ParseIP(peer).IsLoopback() {
		return false
	}
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	return host == "localhost" || net.ParseIP(strings.Trim(host, "[]")).IsLoopback()
}

func (e *endpoint) refuse(w http.ResponseWriter, r *http.Request, status int, why string) {
	e.Log.Warn("codec endpoint refused", "why", why, "status", status, "path", r.URL.Path, "from", r.RemoteAddr)
	http.Error(w, why, status)
}

// shown decodes for eyes: private keys, which builds carry in their payloads,
// are left out.
type shown struct{ converter.PayloadCodec }

var privateKey = regexp.MustCompile(`-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----(?s:.*?)-----END [A-Z0-9 ]*PRIVATE KEY-----`)

func (s shown) Decode(payloads []*commonpb.Payload) ([]*commonpb.Payload, error) {
	out, err := s.PayloadCodec.Decode(payloads)
	if err != nil {
		return nil, err
	}
	for i, p := range out {
		if p == payloads[i] || !privateKey.Match(p.GetData()) {
			continue
		}
		p.Data = privateKey.ReplaceAll(p.Data, []byte(secret.Sensitive))
	}
	return out, nil
}

// ReadTokens reads a file of tokens: a name and a token on each line. Empty
// lines and those that begin with # are skipped. Errors name the line, never
// the token.
func ReadTokens(r io.Reader) (map[string]secret.String, error) {
	text, err := io.ReadAll(io.LimitReader(r, 1<<20))
	if err != nil {
		return nil, err
	}
	out := map[string]secret.String{}
	n := 0
	for line := range strings.Lines(string(text)) {
		n++
		fields := strings.Fields(line)
		switch {
		case len(fields) == 0 || strings.HasPrefix(fields[0], "#"):
			continue
		case len(fields) != 2:
			return nil, fmt.Errorf("line %d is not of the form NAME TOKEN", n)
		case len(fields[1]) < minToken:
			return nil, fmt.Errorf("line %d: the token of %s is shorter than %d characters", n, fields[0], minToken)
		}
		if _, ok := out[fields[0]]; ok {
			return nil, fmt.Errorf("line %d: %s has a token already", n, fields[0])
		}
		out[fields[0]] = secret.New(fields[1])
	}
	if len(out) == 0 {
		return nil, errors.New("there is no token in it")
	}
	return out, nil
}
