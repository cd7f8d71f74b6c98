// Package lookup asks Vault, Consul and AWS Secrets Manager for single values,
// with the official clients and as the environment of the process says:
// VAULT_ADDR, VAULT_TOKEN and their kin, CONSUL_HTTP_ADDR and its kin, and the
// default chain of the AWS SDK, AWS_ENDPOINT_URL included.
package lookup

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	consul "github.com/hashicorp/consul/api"
	vault "github.com/hashicorp/vault/api"

	"github.com/bakehouse-farm/bakehouse"
	"github.com/bakehouse-farm/bakehouse/datasources"
)

// Lookup is a datasources.Lookup. The zero value is ready for use, by several
// goroutines at once. It looks at the environment when it is first asked, and
// again every few minutes.
type Lookup struct {
	vault          lasting[*vault.Client]
	consul         lasting[*consul.Client]
	secretsManager lasting[*secretsmanager.Client]
}

var _ datasources.Lookup = (*Lookup)(nil)

// New returns a Lookup.
func New() *Lookup { return new(Lookup) }

// oneAnswer bounds one question, with what a client tries again by itself.
const oneAnswer = time.Minute

// staleAfter is the age at which a client is made anew: credentials may have
// been replaced in a file that is read only once.
const staleAfter = 15 * time.Minute

// lasting keeps a client for a while.
type lasting[C any] struct {
	mu     sync.Mutex
	client C
	made   time.Time
}

func (l *lasting[C]) get(open func() (C, error)) (C, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.made.IsZero() && time.Since(l.made) < staleAfter {
		return l.client, nil
	}
	c, err := open()
	if err != nil {
		return c, err
	}
	l.client, l.made = c, time.Now()
	return c, nil
}

// failed puts what was asked before err. A context of the caller's that ended is
// passed on as its cause, so that the one who ended it recognises it.
func failed(ctx context.Context, kind bakehouse.Kind, err error, format string, args ...any) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if errors.Is(err, context.DeadlineExceeded) {
		err = fmt.Errorf("no answer within %s", oneAnswer)
	}
	err = fmt.Errorf("%s: %w", fmt.Sprintf(format, args...), err)
	if kind.Final() {
		return &bakehouse.Error{Kind: kind, Err: err}
	}
	return err
}

// statusKind says what an answer of HTTP status code means.
func statusKind(code int) bakehouse.Kind {
	switch {
	case code == 401, code == 403:
		return bakehouse.Denied
	case code == 404:
		return bakehouse.NotFound
	case code == 408, code == 412, code == 425, code == 429: // too early, too often
		return bakehouse.Trouble
	case code >= 400 && code < 500:
		return bakehouse.Invalid
	}
	return bakehouse.Trouble
}

// wireKind says what it means that there was no answer. A certificate that is
// not trusted now will not be in a minute.
func wireKind(err error) bakehouse.Kind {
	var untrusted *tls.CertificateVerificationError
	if errors.As(err, &untrusted) {
		return bakehouse.Invalid
	}
	return bakehouse.Trouble
}

// maxKeys is how many keys an error lists.
const maxKeys = 20

// keys lists what a secret has, without what it says.
func keys[V any](m map[string]V) string {
	if len(m) == 0 {
		return "it has none"
	}
	var list []string
	for k := range m {
		list = append(list, fmt.Sprintf("%q", k))
	}
	sort.Strings(list)
	if len(list) > maxKeys {
		list = append(list[:maxKeys], "...")
	}
	return "it has " + strings.Join(list, ", ")
}
