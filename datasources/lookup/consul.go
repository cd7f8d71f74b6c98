package lookup

import (
	"context"
	"errors"
	"fmt"
	"strings"

	consul "github.com/hashicorp/consul/api"

	"github.com/bakehouse-farm/bakehouse"
)

// ConsulKey implements datasources.Lookup. A key whose value is empty is an
// error, as in Packer.
func (l *Lookup) ConsulKey(ctx context.Context, path string) (string, error) {
	c, err := l.consul.get(func() (*consul.Client, error) { return consul.NewClient(consul.DefaultConfig()) })
	if err != nil {
		return "", bakehouse.Errorf(bakehouse.Invalid, "consul: read CONSUL_* variables: %w", err)
	}
	within, cancel := context.WithTimeout(ctx, oneAnswer)
	defer cancel()
	pair, _, err := c.KV().Get(path, new(consul.QueryOptions).WithContext(within))
	if err != nil {
		kind, err := consulFailure(err)
		return "", failed(ctx, kind, err, "consul: read key %s", path)
	}
	if pair == nil {
		return "", bakehouse.Errorf(bakehouse.NotFound, "consul: there is no key %s", path)
	}
	if len(pair.Value) == 0 {
		return "", bakehouse.Errorf(bakehouse.NotFound, "consul: key %s is empty", path)
	}
	return string(pair.Value), nil
}

func consulFailure(err error) (bakehouse.Kind, error) {
	var s consul.StatusError
	if !errors.As(err, &s) {
		return wireKind(err), err
	}
	return statusKind(s.Code), fmt.Errorf("status %d: %s", s.Code, strings.TrimSpace(s.Body))
}
