package lookup

import (
	"context"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	vault "github.com/hashicorp/vault/api"

	"github.com/bakehouse-farm/bakehouse"
)

// startVault starts OpenBao, which has Vault's API, with TLS, and returns a
// client that may do everything. The environment leads to it.
func startVault(t *testing.T) *vault.Client {
	t.Helper()
	bao := program(t, "OPENBAO", "openbao", "bin", "bao")
	address, certs := freeAddress(t), t.TempDir()
	ca := filepath.Join(certs, "vault-ca.pem")
	cmd := exec.Command(bao, "server", "-dev", "-dev-root-token-id=root", "-dev-no-store-token",
		"-dev-listen-address="+address, "-dev-tls", "-dev-tls-cert-dir="+certs)
	cmd.Env = append(os.Environ(), "HOME="+t.TempDir())
	var c *vault.Client
	start(t, cmd, func() bool {
		if _, err := os.Stat(ca); err != nil {
			return false
		}
		environment(t, map[string]string{"VAULT_ADDR": "https://" + address, "VAULT_CACERT": ca, "VAULT_TOKEN": "root"})
		var err error
		if c, err = vault.NewClient(nil); err != nil {
			return false
		}
		// Ready when the engine that -dev mounts is.
		_, err = c.KVv2("secret").Put(context.Background(), "db", map[string]any{"password": "old", "n": 42})
		return err == nil
	})
	return c
}

func TestVault(t *testing.T) {
	c, ctx := startVault(t), context.Background()
	must := func(_ any, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(c.KVv2("secret").Put(ctx, "db", map[string]any{
		"password": "s3cr3t-2", "n": 42, "f": 1.50, "on": true, "none": nil, "list": []string{"s3cr3t"}, "parts": map[string]string{"a": "s3cr3t"},
		"lines": "a\nb\n", "empty": "",
	}))
	must(c.KVv2("secret").Put(ctx, "gone", map[string]any{"password": "s3cr3t"}))
	must(nil, c.KVv2("secret").Delete(ctx, "gone"))
	must(nil, c.Sys().Mount("kv1", &vault.MountInput{Type: "kv", Options: map[string]string{"version": "1"}}))
	must(nil, c.KVv1("kv1").Put(ctx, "db", map[string]any{"password": "s3cr3t-1"}))
	must(nil, c.KVv1("kv1").Put(ctx, "data", map[string]any{"data": "s3cr3t-data"}))
	must(nil, c.Sys().PutPolicy("one", `path "secret/data/other" { capabilities = ["read"] }`))
	login, err := c.Auth().Token().Create(&vault.TokenCreateRequest{Policies: []string{"one"}})
	must(nil, err)
	limited := login.Auth.ClientToken

	tests := []struct {
		name, path, key string
		env             map[string]string
		want            outcome
	}{
		{"version 2", "secret/data/db", "password", nil, outcome{value: "s3cr3t-2"}},
		{"version 1", "kv1/db", "password", nil, outcome{value: "s3cr3t-1"}},
		{"slash before", "/secret/data/db", "password", nil, outcome{value: "s3cr3t-2"}},
		{"version 1, key data", "kv1/data", "data", nil, outcome{value: "s3cr3t-data"}},
		{"number", "secret/data/db", "n", nil, outcome{value: "42"}},
		{"fraction", "secret/data/db", "f", nil, outcome{value: "1.5"}},
		{"truth", "secret/data/db", "on", nil, outcome{value: "true"}},
		{"lines", "secret/data/db", "lines", nil, outcome{value: "a\nb\n"}},
		{"empty", "secret/data/db", "empty", nil, outcome{value: ""}},
		{"null", "secret/data/db", "none", nil, outcome{kind: bakehouse.Invalid, words: []string{`"none"`, "secret/data/db", "null"}}},
		{"list", "secret/data/db", "list", nil, outcome{kind: bakehouse.Invalid, words: []string{`"list"`, "a list"}}},
		{"object", "secret/data/db", "parts", nil, outcome{kind: bakehouse.Invalid, words: []string{`"parts"`, "an object"}}},
		{"no such key", "secret/data/db", "pasword", nil, outcome{kind: bakehouse.NotFound, words: []string{"secret/data/db", `"pasword"`, `"password"`}}},
		{"no such key, version 1", "kv1/db", "pasword", nil, outcome{kind: bakehouse.NotFound, words: []string{"kv1/db", `"pasword"`, `"password"`}}},
		{"no such path", "secret/data/dbs", "password", nil, outcome{kind: bakehouse.NotFound, words: []string{"secret/data/dbs"}}},
		{"no such engine", "nowhere/db", "password", nil, outcome{kind: bakehouse.NotFound, words: []string{"nowhere/db"}}},
		{"deleted", "secret/data/gone", "password", nil, outcome{kind: bakehouse.NotFound, words: []string{"secret/data/gone", "deleted"}}},
		{"version 2 without data", "secret/db", "password", nil, outcome{kind: bakehouse.NotFound, words: []string{"secret/db", "versioned"}}},
		{"wrong token", "secret/data/db", "password", map[string]string{"VAULT_TOKEN": "s3cr3t-token"}, outcome{kind: bakehouse.Denied, words: []string{"403", "secret/data/db"}}},
		{"token for another", "secret/data/db", "password", map[string]string{"VAULT_TOKEN": limited}, outcome{kind: bakehouse.Denied, words: []string{"403", "permission denied"}}},
		{"no token", "secret/data/db", "password", map[string]string{"VAULT_TOKEN": ""}, outcome{kind: bakehouse.Denied, words: []string{"VAULT_TOKEN is not set"}}},
		{"another's certificate", "secret/data/db", "password", map[string]string{"VAULT_CACERT": ""}, outcome{kind: bakehouse.Invalid, words: []string{"certificate"}}},
		{"no such certificate", "secret/data/db", "password", map[string]string{"VAULT_CACERT": "/nowhere.pem"}, outcome{kind: bakehouse.Invalid, words: []string{"VAULT_*", "/nowhere.pem"}}},
		{"no such namespace", "secret/data/db", "password", map[string]string{"VAULT_NAMESPACE": "team"}, outcome{kind: bakehouse.NotFound}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for k, v := range tt.env {
				t.Setenv(k, v)
			}
			value, err := New().Vault(ctx, tt.path, tt.key)
			tt.want.check(t, value, err)
		})
	}
}

// What Vault says when it cannot answer, and when it is not there.
func TestVaultInTrouble(t *testing.T) {
	const sealed = `{"errors":["Vault is sealed"]}`
	tests := []struct {
		name   string
		status int
		body   string
		want   outcome
	}{
		{"sealed", http.StatusServiceUnavailable, sealed, outcome{kind: bakehouse.Trouble, words: []string{"secret/data/db", "503", "sealed"}}},
		{"broken", http.StatusInternalServerError, `{"errors":["internal error"]}`, outcome{kind: bakehouse.Trouble, words: []string{"500"}}},
		{"too often", http.StatusTooManyRequests, `{"errors":["rate limited"]}`, outcome{kind: bakehouse.Trouble, words: []string{"429"}}},
		{"wrong", http.StatusBadRequest, `{"errors":["unsupported path"]}`, outcome{kind: bakehouse.Invalid, words: []string{"400", "unsupported path"}}},
		{"not Vault", http.StatusOK, `<html>s3cr3t</html>`, outcome{kind: bakehouse.Trouble}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			url, _ := always(t, tt.status, tt.body)
			environment(t, map[string]string{"VAULT_ADDR": url, "VAULT_TOKEN": "root", "VAULT_MAX_RETRIES": "0"})
			value, err := New().Vault(context.Background(), "secret/data/db", "password")
			tt.want.check(t, value, err)
		})
	}
	t.Run("nobody there", func(t *testing.T) {
		environment(t, map[string]string{"VAULT_ADDR": "http://" + freeAddress(t), "VAULT_TOKEN": "root", "VAULT_MAX_RETRIES": "0"})
		value, err := New().Vault(context.Background(), "secret/data/db", "password")
		outcome{kind: bakehouse.Trouble, words: []string{"secret/data/db", "refused"}}.check(t, value, err)
	})
	t.Run("not an address", func(t *testing.T) {
		environment(t, map[string]string{"VAULT_ADDR": "localhost:8200", "VAULT_TOKEN": "root"})
		value, err := New().Vault(context.Background(), "secret/data/db", "password")
		outcome{kind: bakehouse.Invalid, words: []string{"VAULT_ADDR", "localhost:8200"}}.check(t, value, err)
	})
}
