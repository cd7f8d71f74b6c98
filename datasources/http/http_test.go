package http

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/bakehouse-farm/bakehouse"
)

func TestCheck(t *testing.T) {
	tests := []struct {
		name, settings string
		unknown        []string
		want           string // field: message, of each finding
	}{
		{"least", `{"url":"http://h/x"}`, nil, ""},
		{"all", `{"url":"https://u:p@h:8443/x?y#z","method":"POST","request_headers":{"Accept":"text/plain"},"request_body":"b"}`, nil, ""},
		{"no url", `{}`, nil, "url: The `url` must be specified"},
		{"empty url", `{"url":""}`, nil, "url: The `url` must be specified"},
		{"url unknown", `{"method":"PUT"}`, []string{"url"}, ""},
		{"all unknown", `{}`, []string{"url", "method", "request_headers"}, ""},
		{"file", `{"url":"file:///etc/passwd"}`, nil, "url: The `url` must begin with http:// or https://, not with \"file\""},
		{"no scheme", `{"url":"example.com/x"}`, nil, "url: The `url` must begin with http:// or https://, not with \"\""},
		{"no host", `{"url":"http:///x"}`, nil, "url: The `url` names no host"},
		{"not a url", `{"url":"http://h:port/%zz"}`, nil, "url: The `url` is not a URL"},
		{"method", `{"url":"http://h","method":"FETCH"}`, nil, "method: The `method` must be one of HEAD, GET, POST, PUT, DELETE, OPTIONS, PATCH"},
		{"method in small letters", `{"url":"http://h","method":"get"}`, nil, "method: The `method` must be one of HEAD, GET, POST, PUT, DELETE, OPTIONS, PATCH"},
		{"header's name", `{"url":"http://h","request_headers":{"a b":"c"}}`, nil, "request_headers: Header \"a b\" cannot be sent"},
		{"header's value", `{"url":"http://h","request_headers":{"a":"s3cr3t\r\nb: c"}}`, nil, "request_headers: Header \"a\" cannot be sent"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var got []string
			for _, f := range New().Check(json.RawMessage(tt.settings), tt.unknown, bakehouse.Files{}) {
				got = append(got, f.Field+": "+f.Message)
			}
			if diff := cmp.Diff(tt.want, strings.Join(got, "\n")); diff != "" {
				t.Error(diff)
			}
		})
	}
	for _, m := range methods {
		if found := New().Check(json.RawMessage(`{"url":"http://h","method":"`+m+`"}`), nil, bakehouse.Files{}); len(found) > 0 {
			t.Errorf("%s: %v", m, found)
		}
	}
}

// town answers as its paths say.
func town(w http.ResponseWriter, r *http.Request) {
	first, rest, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	n, _ := strconv.Atoi(rest)
	switch first {
	case "echo":
		body, _ := io.ReadAll(r.Body)
		w.Header().Add("X-Twice", "a")
		w.Header().Add("X-Twice", "b")
		fmt.Fprintf(w, "%s %s host=%s token=%s body=%s", r.Method, r.URL.RequestURI(), r.Host, r.Header.Get("X-Token"), body)
	case "status":
		w.WriteHeader(n)
	case "again": // n times
		if n > 0 {
			http.Redirect(w, r, fmt.Sprintf("/again/%d", n-1), http.StatusFound)
		}
		fmt.Fprint(w, "there")
	case "to-file":
		w.Header().Set("Location", "file:///etc/passwd")
		w.WriteHeader(http.StatusFound)
	case "bytes":
		w.Header().Set("Content-Type", "text/plain")
		chunk := strings.Repeat("x", 1<<20)
		for ; n > 0; n -= len(chunk) {
			_, _ = io.WriteString(w, chunk[:min(n, len(chunk))])
		}
	case "latin1":
		w.Header().Set("Content-Type", "text/plain; charset=latin1")
		_, _ = w.Write([]byte("caf\xe9"))
	case "utf8":
		fmt.Fprint(w, "café\n")
	case "short": // promises more than it says
		w.Header().Set("Content-Length", "100")
		fmt.Fprint(w, "not all")
	}
}

func read(ctx context.Context, d *DataSource, s Settings) (Outputs, error) {
	var out Outputs
	settings, err := json.Marshal(s)
	if err != nil {
		return out, err
	}
	raw, err := d.Read(ctx, settings, bakehouse.Files{})
	if err != nil {
		return out, err
	}
	return out, json.Unmarshal(raw, &out)
}

func TestRead(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(town))
	defer server.Close()
	host := strings.TrimPrefix(server.URL, "http://")
	tests := []struct {
		name string
		s    Settings
		body string
		kind bakehouse.Kind
		err  string
	}{
		{name: "get", s: Settings{URL: "/echo/a?b=c"}, body: "GET /echo/a?b=c host=" + host + " token= body="},
		{name: "post", s: Settings{URL: "/echo", Method: "POST", RequestBody: "b", RequestHeaders: map[string]string{"x-token": "T"}}, body: "POST /echo host=" + host + " token=T body=b"},
		{name: "get with body", s: Settings{URL: "/echo", RequestBody: "b"}, body: "GET /echo host=" + host + " token= body=b"},
		{name: "delete", s: Settings{URL: "/echo", Method: "DELETE"}, body: "DELETE /echo host=" + host + " token= body="},
		{name: "another host", s: Settings{URL: "/echo", RequestHeaders: map[string]string{"host": "example.com"}}, body: "GET /echo host=example.com token= body="},
		{name: "head", s: Settings{URL: "/echo", Method: "HEAD"}},
		{name: "created", s: Settings{URL: "/status/201"}},
		{name: "no content", s: Settings{URL: "/status/204"}},
		{name: "redirected", s: Settings{URL: "/again/10"}, body: "there"},
		{name: "redirected for ever", s: Settings{URL: "/again/11"}, kind: bakehouse.Invalid, err: "redirected more than 10 times"},
		{name: "redirected to a file", s: Settings{URL: "/to-file"}, kind: bakehouse.Invalid, err: "redirected to file:"},
		{name: "utf-8", s: Settings{URL: "/utf8"}, body: "café\n"},
		{name: "not utf-8", s: Settings{URL: "/latin1"}, kind: bakehouse.Invalid, err: "charset=latin1"},
		{name: "longest", s: Settings{URL: fmt.Sprintf("/bytes/%d", MaxBody)}, body: strings.Repeat("x", MaxBody)},
		{name: "too long", s: Settings{URL: fmt.Sprintf("/bytes/%d", MaxBody+1)}, kind: bakehouse.Invalid, err: "longer than 16 MiB"},
		{name: "cut off", s: Settings{URL: "/short"}, kind: bakehouse.Trouble, err: "EOF"},
		{name: "unauthorized", s: Settings{URL: "/status/401"}, kind: bakehouse.Denied, err: "401"},
		{name: "forbidden", s: Settings{URL: "/status/403"}, kind: bakehouse.Denied, err: "403 Forbidden"},
		{name: "not found", s: Settings{URL: "/status/404"}, kind: bakehouse.NotFound, err: "GET " + server.URL + "/status/404: HTTP status 404"},
		{name: "gone", s: Settings{URL: "/status/410"}, kind: bakehouse.NotFound, err: "410"},
		{name: "wrong method", s: Settings{URL: "/status/405", Method: "PUT"}, kind: bakehouse.Invalid, err: "PUT"},
		{name: "not modified", s: Settings{URL: "/status/304"}, kind: bakehouse.Invalid, err: "304"},
		{name: "too often", s: Settings{URL: "/status/429"}, kind: bakehouse.Trouble, err: "429"},
		{name: "broken", s: Settings{URL: "/status/500"}, kind: bakehouse.Trouble, err: "500"},
		{name: "away", s: Settings{URL: "/status/503"}, kind: bakehouse.Trouble, err: "503"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.s.URL = server.URL + tt.s.URL
			out, err := read(context.Background(), New(), tt.s)
			if tt.kind != "" {
				if err == nil || bakehouse.KindOf(err) != tt.kind || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("error of kind %s: %v; want %s, %q", bakehouse.KindOf(err), err, tt.kind, tt.err)
				}
				return
			}
			if err != nil || out.Body != tt.body || out.URL != tt.s.URL {
				t.Errorf("%.200q of %q (%v), want %.200q", out.Body, out.URL, err, tt.body)
			}
		})
	}
	out, err := read(context.Background(), New(), Settings{URL: server.URL + "/echo"})
	if err != nil || out.ResponseHeaders["X-Twice"] != "a, b" || !strings.HasPrefix(out.ResponseHeaders["Content-Type"], "text/plain") {
		t.Errorf("headers %v (%v)", out.ResponseHeaders, err)
	}
}

func TestReadWithoutAnswer(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := "http://user:s3cr3t@" + l.Addr().String() + "/x"
	l.Close()
	if _, err := read(context.Background(), New(), Settings{URL: nobody}); err == nil ||
		bakehouse.KindOf(err).Final() || !strings.Contains(err.Error(), "refused") || strings.Contains(err.Error(), "s3cr3t") {
		t.Errorf("nobody there: %v", err)
	}

	tls := httptest.NewTLSServer(http.HandlerFunc(town))
	defer tls.Close()
	if _, err := read(context.Background(), New(), Settings{URL: tls.URL + "/echo"}); err == nil ||
		bakehouse.KindOf(err) != bakehouse.Invalid || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("not trusted: %v", err)
	}
	trusting := &DataSource{client: tls.Client()}
	if out, err := read(context.Background(), trusting, Settings{URL: tls.URL + "/utf8"}); err != nil || out.Body != "café\n" {
		t.Errorf("trusted: %q, %v", out.Body, err)
	}

	let := make(chan struct{})
	silent := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-let:
		case <-r.Context().Done():
		}
	}))
	defer silent.Close()
	defer close(let)
	letGo := errors.New("agent lets go")
	ctx, cancel := context.WithCancelCause(context.Background())
	defer time.AfterFunc(50*time.Millisecond, func() { cancel(letGo) }).Stop()
	if _, err := read(ctx, New(), Settings{URL: silent.URL}); !errors.Is(err, letGo) {
		t.Errorf("given up: %v", err)
	}
}
