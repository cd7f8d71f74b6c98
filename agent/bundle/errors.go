package bundle

import (
	"errors"
	"fmt"

	"github.com/bakehouse-farm/bakehouse"
	"github.com/bakehouse-farm/bakehouse/agent/secret"
)

// broken says what it means that blob d cannot be opened. A missing key is no
// final failure: it can be added, and another agent may have it. What KMS said
// has a meaning of its own. Data that is damaged, or that nobody has the key of
// any more, stays so.
func broken(d Digest, err error) error {
	var kinded *bakehouse.Error
	if errors.Is(err, secret.ErrDamaged) || errors.Is(err, secret.ErrRetired) || errors.Is(err, errNewer) {
		return bakehouse.Errorf(bakehouse.Failed, "open blob %s: %w", d, err)
	}
	if errors.As(err, &kinded) {
		return bakehouse.Errorf(kinded.Kind, "open blob %s: %w", d, err)
	}
	return fmt.Errorf("open blob %s: %w", d, err)
}

// errNewer tells that a blob is in a form that this program does not read.
var errNewer = errors.New("written by a newer version")
