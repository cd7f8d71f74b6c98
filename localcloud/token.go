package localcloud

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/bakehouse-farm/bakehouse/localcloud/state"
	"github.com/bakehouse-farm/bakehouse/localcloud/wire"
)

// token returns the resource that a ClientToken was used for, if it was, and a
// function that remembers one for it. The same token with other parameters is
// EC2's IdempotentParameterMismatch.
func (c *call) token(token string) (resource string, keep func(resource string), err error) {
	if token == "" {
		return "", func(string) {}, nil
	}
	id := c.action + "/" + token
	digest := c.digest()
	keep = func(resource string) {
		state.Put(c.Tx, &state.Token{Region: c.region, ID: id, Digest: digest, Resource: resource, Used: c.now})
	}
	t := state.Get[state.Token](c.Tx, c.region, id)
	switch {
	case t == nil:
		return "", keep, nil
	case t.Digest != digest:
		return "", nil, wire.Errorf("IdempotentParameterMismatch", "Arguments on this idempotent request are inconsistent with arguments used in previous request(s).")
	}
	return t.Resource, keep, nil
}

// digest identifies the parameters of a call, whatever their order.
func (c *call) digest() string {
	h := sha256.New()
	for _, k := range slices.Sorted(maps.Keys(c.form)) {
		v := c.form.Get(k)
		if v == "" || k == "DryRun" || strings.HasPrefix(k, "X-Amz-") {
			continue
		}
		fmt.Fprintf(h, "%q=%q\n", k, v)
	}
	return hex.EncodeToString(h.Sum(nil))
}
