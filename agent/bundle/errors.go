package bundle

import (
	"errors"
	"fmt"

	"github.com/bakehouse-farm/bakehouse"
	"github.com/bakehouse-farm/bakehouse/agent/secret"
)

// broken says what it means that blob d cannot be opened. A missing key is no
// final failure: it can be added, and another agent may have it.
func broken(d Digest, err error) error {
	if errors.Is(err, secret.ErrUnknownKey) {
		return fmt.Errorf("open blob %s: %w", d, err)
	}
	return bakehouse.Errorf(bakehouse.Failed, "open blob %s: %w", d, err)
}
