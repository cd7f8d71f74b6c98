package lookup

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/bakehouse-farm/bakehouse"
)

// kv is Consul's key-value store as its API is documented: no server of it is to
// be had from the package registries. The values of it are by key; token is who
// may read, and secret/ is closed to all.
type kv struct {
	values map[string]string
	token  string
	asked  []string
}

func (s *kv) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.asked = append(s.asked, r.Method+" "+r.URL.RequestURI())
	key, ok := strings.CutPrefix(r.URL.Path, "/v1/kv/")
	switch value, exists := s.values[key]; {
	case !ok || r.Method != http.MethodGet:
		http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
	case r.Header.Get("X-Consul-Token") != s.token:
		http.Error(w, "ACL not found", http.StatusForbidden)
	case strings.HasPrefix(key, "secret/"):
		http.Error(w, "Permission denied: token lacks permission 'key:read'", http.StatusForbidden)
	case !exists:
		w.WriteHeader(http.StatusNotFound)
	default:
		w.Header().Set("Content-Type", "application/json")
		pair := map[string]any{"Key": key, "Value": nil, "Flags": 0, "LockIndex": 0, "CreateIndex": 10, "ModifyIndex": 10}
		if value != "" {
			pair["Value"] = []byte(value) // base64
		}
		_ = json.NewEncoder(w).Encode([]any{pair})
	}
}

func TestConsulKey(t *testing.T) {
	store := &kv{token: "s3cr3t-token", values: map[string]string{
		"base/ami": "ami-123", "motd": "hello\n", "blank": "", "two words/ä": "odd",
	}}
	plain, tls := httptest.NewServer(store), httptest.NewTLSServer(store)
	defer plain.Close()
	defer tls.Close()
	tests := []struct {
		name, key string
		env       map[string]string
		want      outcome
	}{
		{"value", "base/ami", nil, outcome{value: "ami-123"}},
		{"slash before", "/base/ami", nil, outcome{value: "ami-123"}},
		{"line end stays", "motd", nil, outcome{value: "hello\n"}},
		{"odd key", "two words/ä", nil, outcome{value: "odd"}},
		{"with scheme", "base/ami", map[string]string{"CONSUL_HTTP_ADDR": plain.URL}, outcome{value: "ami-123"}},
		{"no such key", "base/iam", nil, outcome{kind: bakehouse.NotFound, words: []string{"base/iam"}}},
		{"empty", "blank", nil, outcome{kind: bakehouse.NotFound, words: []string{"blank", "empty"}}},
		{"closed", "secret/x", nil, outcome{kind: bakehouse.Denied, words: []string{"secret/x", "403", "Permission denied"}}},
		{"wrong token", "base/ami", map[string]string{"CONSUL_HTTP_TOKEN": "other"}, outcome{kind: bakehouse.Denied, words: []string{"base/ami", "ACL not found"}}},
		{"tls, not verified", "base/ami", map[string]string{"CONSUL_HTTP_ADDR": tls.URL, "CONSUL_HTTP_SSL_VERIFY": "false"}, outcome{value: "ami-123"}},
		{"tls, not trusted", "base/ami", map[string]string{"CONSUL_HTTP_ADDR": tls.URL}, outcome{kind: bakehouse.Invalid, words: []string{"certificate"}}},
		{"no such certificate", "base/ami", map[string]string{"CONSUL_CACERT": "/nowhere.pem"}, outcome{kind: bakehouse.Invalid, words: []string{"CONSUL_*", "/nowhere.pem"}}},
		{"nobody there", "base/ami", map[string]string{"CONSUL_HTTP_ADDR": freeAddress(t)}, outcome{kind: bakehouse.Trouble, words: []string{"base/ami", "refused"}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			environment(t, map[string]string{"CONSUL_HTTP_ADDR": strings.TrimPrefix(plain.URL, "http://"), "CONSUL_HTTP_TOKEN": store.token})
			for k, v := range tt.env {
				t.Setenv(k, v)
			}
			value, err := New().ConsulKey(context.Background(), tt.key)
			tt.want.check(t, value, err)
		})
	}
	t.Run("broken", func(t *testing.T) {
		url, _ := always(t, http.StatusInternalServerError, "No cluster leader\n")
		environment(t, map[string]string{"CONSUL_HTTP_ADDR": url})
		value, err := New().ConsulKey(context.Background(), "base/ami")
		outcome{kind: bakehouse.Trouble, words: []string{"base/ami", "500", "No cluster leader"}}.check(t, value, err)
	})
}
