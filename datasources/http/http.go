package http

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/bakehouse-farm/bakehouse"
	"github.com/bakehouse-farm/bakehouse/datasources"
)

// MaxBody is the longest answer, in bytes, that is read: it becomes part of the
// plan.
const MaxBody = 16 << 20

// oneAnswer bounds a request, its redirects and its whole answer included.
const oneAnswer = 2 * time.Minute

// DataSource is the data source http. It trusts the certificates that the
// system trusts, and goes through the proxy that HTTPS_PROXY and its kin name.
type DataSource struct{ client *http.Client }

var _ datasources.DataSource = (*DataSource)(nil)

// New returns the data source. It does not talk to anyone yet.
func New() *DataSource {
	return &DataSource{client: &http.Client{CheckRedirect: follow}}
}

// maxRedirects is how often a server may send us on.
const maxRedirects = 10

func follow(r *http.Request, via []*http.Request) error {
	switch {
	case len(via) > maxRedirects:
		return bakehouse.Errorf(bakehouse.Invalid, "redirected more than %d times", maxRedirects)
	case wrongURL(r.URL.String()) != "":
		return bakehouse.Errorf(bakehouse.Invalid, "redirected to %s", r.URL.Redacted())
	}
	return nil
}

// Read asks. An answer that is not a success (2xx) is an error, final unless
// the server says that it is its own fault or that it is asked too often. A
// plan that is interrupted is made again: then the server is asked again, also
// by POST.
func (d *DataSource) Read(ctx context.Context, settings json.RawMessage, _ bakehouse.Files) (json.RawMessage, error) {
	var s Settings
	if err := json.Unmarshal(settings, &s); err != nil {
		return nil, bakehouse.Errorf(bakehouse.Invalid, "read settings of http: %w", err)
	}
	method := s.Method
	if method == "" {
		method = http.MethodGet
	}
	within, cancel := context.WithTimeout(ctx, oneAnswer)
	defer cancel()
	r, err := http.NewRequestWithContext(within, method, s.URL, strings.NewReader(s.RequestBody))
	if err != nil {
		return nil, bakehouse.Errorf(bakehouse.Invalid, "%s: not a URL that can be asked", method)
	}
	for name, value := range s.RequestHeaders {
		if strings.EqualFold(name, "Host") {
			r.Host = value // net/http does not send it as a header
			continue
		}
		r.Header.Set(name, value)
	}
	asked := method + " " + r.URL.Redacted()
	resp, err := d.client.Do(r)
	if err != nil {
		return nil, unanswered(ctx, asked, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return nil, refused(asked, resp.StatusCode)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, MaxBody+1))
	if err != nil {
		return nil, unanswered(ctx, asked, err)
	}
	if len(body) > MaxBody {
		return nil, bakehouse.Errorf(bakehouse.Invalid, "%s: the answer is longer than %d MiB", asked, MaxBody>>20)
	}
	if !utf8.Valid(body) {
		return nil, bakehouse.Errorf(bakehouse.Invalid, "%s: the answer (%s) is not text in UTF-8, as a template's strings are", asked, resp.Header.Get("Content-Type"))
	}
	out := Outputs{URL: s.URL, Body: string(body), ResponseHeaders: map[string]string{}}
	for name, values := range resp.Header {
		out.ResponseHeaders[name] = strings.ToValidUTF8(strings.Join(values, ", "), "\uFFFD")
	}
	return json.Marshal(out)
}

// unanswered says why there was no answer. It is nobody's last word, unless it
// is the certificate that is not trusted or a redirect that leads nowhere.
func unanswered(ctx context.Context, asked string, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	// What net/http puts before the reason is in asked.
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	if errors.Is(err, context.DeadlineExceeded) {
		err = fmt.Errorf("no answer within %s", oneAnswer)
	}
	var untrusted *tls.CertificateVerificationError
	if errors.As(err, &untrusted) || bakehouse.KindOf(err).Final() {
		return bakehouse.Errorf(bakehouse.Invalid, "%s: %w", asked, err)
	}
	return fmt.Errorf("%s: %w", asked, err)
}

// refused says what an answer that is no success means.
func refused(asked string, status int) error {
	err := fmt.Errorf("%s: HTTP status %d %s", asked, status, http.StatusText(status))
	kind := bakehouse.Invalid
	switch {
	case status == 401, status == 403, status == 407:
		kind = bakehouse.Denied
	case status == 404, status == 410:
		kind = bakehouse.NotFound
	case status == 408, status == 425, status == 429, status >= 500 && status != 501 && status != 505:
		return err
	}
	return &bakehouse.Error{Kind: kind, Err: err}
}
