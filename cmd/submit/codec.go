package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"syscall"

	"github.com/bakehouse-farm/bakehouse/agent/codec"
	"github.com/bakehouse-farm/bakehouse/agent/secret"
)

var codecTopic = topic{
	name: "codec", args: "", least: 0, most: 0,
	summary: "let Temporal's web UI show what payloads hold, to those who may see it",
	text: `
Serves Temporal's remote codec protocol: the UI sends it the encrypted payloads
that it shows, and gets back what they hold (but for private keys). In the UI,
give its address as codec endpoint. Who asks shows a token: the UI's user access
token, or a password that the browser keeps once one has opened the address in
it (then have the UI include cross-origin credentials); or a client certificate.
It only decodes, only for the namespaces named, and only for pages of -origin.`,
	exits: `  0  told to stop (SIGINT, SIGTERM)
  1  it could not serve
`,
	make: func() command { return &serveCodec{} },
}

type serveCodec struct {
	listen, key, tokens      string
	cert, certKey, clientCA  string
	origins, namespaces      many
	insecureNoAuthentication bool
}

func (s *serveCodec) flags(f *flag.FlagSet) {
	f.StringVar(&s.listen, "listen", "127.0.0.1:8234", "`host:port` to listen on; port 0 takes a free one")
	f.StringVar(&s.key, "key", "", "`file` with the farm's key, or its URL in KMS ($BAKEHOUSE_KEY, else ~/.config/bakehouse/key)")
	f.StringVar(&s.tokens, "tokens", "", "`file` that says who may ask: NAME TOKEN on each line; private to its owner")
	f.StringVar(&s.cert, "tls-cert", "", "`file` with the certificate to serve with")
	f.StringVar(&s.certKey, "tls-key", "", "`file` with its key")
	f.StringVar(&s.clientCA, "tls-client-ca", "", "`file` with the authority whose client certificates may ask")
	f.Var(&s.origins, "origin", "`URL` of the UI's pages (several times for several; else http://127.0.0.1:8233 and http://localhost:8233)")
	f.Var(&s.namespaces, "namespace", "`name` of a Temporal namespace to decode for (several times for several; $TEMPORAL_NAMESPACE, else default)")
	f.BoolVar(&s.insecureNoAuthentication, "insecure-no-authentication", false, "let everybody on this computer ask; refused on other than loopback addresses")
}

func (s *serveCodec) run(ctx context.Context, c *console, _ []string) error {
	config, listen, err := s.config(c)
	if err != nil {
		return err
	}
	config.Log = slog.New(slog.NewTextHandler(c.err, nil))
	endpoint, err := codec.New(config)
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", s.listen)
	if err != nil {
		return fmt.Errorf("-listen %s: %w", s.listen, err)
	}
	scheme := "http"
	if listen != nil {
		scheme, l = "https", tls.NewListener(l, listen)
	}
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	fmt.Fprintf(c.out, "codec endpoint is listening on %s://%s\n", scheme, l.Addr())
	return codec.Serve(ctx, l, endpoint)
}

// config reads what the flags name, and refuses what would let strangers read.
func (s *serveCodec) config(c *console) (codec.Config, *tls.Config, error) {
	var out codec.Config
	host, _, err := net.SplitHostPort(s.listen)
	if err != nil {
		return out, nil, fmt.Errorf("-listen %s: it is not of the form host:port", s.listen)
	}
	loopback := host == "localhost" || net.ParseIP(host).IsLoopback()
	switch {
	case s.tokens == "" && s.clientCA == "" && !s.insecureNoAuthentication:
		return out, nil, errors.New("nothing says who may ask: give -tokens FILE or -tls-client-ca FILE (or, for this computer alone, -insecure-no-authentication)")
	case s.insecureNoAuthentication && !loopback:
		return out, nil, fmt.Errorf("-insecure-no-authentication on %s would show everybody what builds hold: listen on 127.0.0.1, or give -tokens", s.listen)
	case s.insecureNoAuthentication && (s.tokens != "" || s.clientCA != ""):
		return out, nil, errors.New("-insecure-no-authentication contradicts -tokens and -tls-client-ca: leave out one")
	case (s.cert == "") != (s.certKey == ""):
		return out, nil, errors.New("-tls-cert and -tls-key belong together")
	case s.cert == "" && s.clientCA != "":
		return out, nil, errors.New("-tls-client-ca needs -tls-cert and -tls-key")
	case s.cert == "" && !loopback:
		return out, nil, fmt.Errorf("without TLS, tokens and what builds hold could be read on the way to %s: give -tls-cert and -tls-key, or listen on 127.0.0.1 behind a proxy that does", s.listen)
	}
	path := cmp.Or(s.key, c.getenv("BAKEHOUSE_KEY"), defaultKey())
	if out.Keys, err = secret.Load(path); err != nil {
		return out, nil, err
	}
	out.Origins, out.Namespaces = s.origins, s.namespaces
	if len(out.Origins) == 0 {
		out.Origins = []string{"http://127.0.0.1:8233", "http://localhost:8233"}
	}
	if len(out.Namespaces) == 0 {
		out.Namespaces = []string{cmp.Or(c.getenv("TEMPORAL_NAMESPACE"), "default")}
	}
	out.Open, out.Certificates = s.insecureNoAuthentication, s.clientCA != ""
	if s.tokens != "" {
		if out.Tokens, err = readTokens(s.tokens); err != nil {
			return out, nil, err
		}
	}
	if s.cert == "" {
		return out, nil, nil
	}
	listen, err := s.tls()
	return out, listen, err
}

// tls returns how to listen. A token may stand for a certificate, so none is
// demanded by TLS itself when there are tokens.
func (s *serveCodec) tls() (*tls.Config, error) {
	cert, err := tls.LoadX509KeyPair(s.cert, s.certKey)
	if err != nil {
		return nil, fmt.Errorf("-tls-cert %s: %w", s.cert, err)
	}
	config := &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}
	if s.clientCA == "" {
		return config, nil
	}
	text, err := os.ReadFile(s.clientCA)
	if err != nil {
		return nil, fmt.Errorf("-tls-client-ca: %w", err)
	}
	config.ClientCAs = x509.NewCertPool()
	if !config.ClientCAs.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("-tls-client-ca %s: there is no certificate in it", s.clientCA)
	}
	config.ClientAuth = tls.VerifyClientCertIfGiven
	return config, nil
}

func readTokens(path string) (map[string]secret.String, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("-tokens: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("-tokens: %w", err)
	}
	if perm := info.Mode().Perm(); perm&0o077 != 0 {
		return nil, fmt.Errorf("-tokens %s may be read by others (mode %04o): make it private with chmod 600 %s", path, perm, path)
	}
	tokens, err := codec.ReadTokens(f)
	if err != nil {
		return nil, fmt.Errorf("-tokens %s: %w", path, err)
	}
	return tokens, nil
}
