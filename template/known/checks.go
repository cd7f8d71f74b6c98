package known

import "github.com/bakehouse-farm/bakehouse"

// checks returns what is looked at in the settings of a component that the
// rules in its file have no words for; nil for most.
func checks(ref Ref) func(*settings) []bakehouse.Finding {
	return nil
}
