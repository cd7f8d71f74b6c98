package localcloud

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"
)

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
