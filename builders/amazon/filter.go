package amazon

import (
	"encoding/csv"
	"maps"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/bakehouse-farm/bakehouse"
)

// filters turns a template's filters into EC2's, in the order of their names. A
// value is a list of comma-separated values, as CSV has them: what holds a
// comma itself is put in quotes.
func filters(m map[string]string) ([]types.Filter, error) {
	var out []types.Filter
	for _, name := range slices.Sorted(maps.Keys(m)) {
		r := csv.NewReader(strings.NewReader(m[name]))
		r.LazyQuotes = true
		r.TrimLeadingSpace = true
		values := []string{m[name]}
		if m[name] != "" {
			var err error
			if values, err = r.Read(); err != nil {
				return nil, bakehouse.Errorf(bakehouse.Invalid, "read filter %q: %w", name, err)
			}
		}
		out = append(out, filter(name, values...))
	}
	return out, nil
}
