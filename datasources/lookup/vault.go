package lookup

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"

	vault "github.com/hashicorp/vault/api"

	"github.com/bakehouse-farm/bakehouse"
)

// Vault implements datasources.Lookup, for both versions of the KV engine and
// any other that answers a read. VAULT_TOKEN must be set.
func (l *Lookup) Vault(ctx context.Context, path, key string) (string, error) {
	if os.Getenv(vault.EnvVaultToken) == "" {
		return "", bakehouse.Errorf(bakehouse.Denied, "vault: read %s: VAULT_TOKEN is not set in the environment of the agent", path)
	}
	c, err := l.vault.get(func() (*vault.Client, error) {
		config := vault.DefaultConfig()
		if config.Error != nil {
			return nil, config.Error
		}
		if u, err := url.Parse(config.Address); err != nil || u.Host == "" && u.Scheme != "unix" {
			return nil, fmt.Errorf("VAULT_ADDR is %q, not a URL such as https://vault:8200", config.Address)
		}
		return vault.NewClient(config)
	})
	if err != nil {
		return "", bakehouse.Errorf(bakehouse.Invalid, "vault: read VAULT_* variables: %w", err)
	}
	within, cancel := context.WithTimeout(ctx, oneAnswer)
	defer cancel()
	s, err := c.Logical().ReadWithContext(within, path)
	if err != nil {
		kind, err := vaultFailure(err)
		return "", failed(ctx, kind, err, "vault: read %s at %s", path, c.Address())
	}
	if s == nil {
		return "", bakehouse.Errorf(bakehouse.NotFound, "vault: there is nothing at %s", path)
	}
	data, err := vaultData(s)
	if err != nil {
		return "", bakehouse.Errorf(bakehouse.NotFound, "vault: %s: %w", path, err)
	}
	v, ok := data[key]
	if !ok {
		return "", bakehouse.Errorf(bakehouse.NotFound, "vault: %s has no key %q: %s", path, key, keys(data))
	}
	value, err := text(v)
	if err != nil {
		return "", bakehouse.Errorf(bakehouse.Invalid, "vault: key %q of %s: %w", key, path, err)
	}
	return value, nil
}

// vaultData is what a secret consists of. Version 2 of the KV engine wraps it
// into data, beside metadata.
func vaultData(s *vault.Secret) (map[string]any, error) {
	inner, wrapped := s.Data["data"].(map[string]any)
	meta, versioned := s.Data["metadata"].(map[string]any)
	switch {
	case wrapped:
		return inner, nil
	case versioned && s.Data["data"] == nil:
		return nil, fmt.Errorf("version %v of the secret has been deleted", meta["version"])
	case len(s.Data) == 0 && len(s.Warnings) > 0:
		// Such as a path of version 2 without its data/.
		return nil, errors.New(strings.Join(s.Warnings, "; "))
	}
	return s.Data, nil
}

// vaultFailure says what an error means, without the client's many lines.
func vaultFailure(err error) (bakehouse.Kind, error) {
	var r *vault.ResponseError
	if !errors.As(err, &r) {
		return wireKind(err), err
	}
	said := "status " + fmt.Sprint(r.StatusCode)
	if len(r.Errors) > 0 && !r.RawError {
		said += ": " + strings.Join(r.Errors, "; ")
	}
	return statusKind(r.StatusCode), errors.New(said)
}
