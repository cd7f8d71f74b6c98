package localcloud

import (
	"math/rand/v2"

	"github.com/vishvananda/netlink"
)

// routed returns the addresses that this machine has routes of their own to:
// those are taken, by another localcloud for instance. What cannot be listed is
// not known to be taken; the host then fails to start the instance, and says why.
func routed() map[string]bool {
	taken := map[string]bool{}
	routes, err := netlink.RouteList(nil, netlink.FAMILY_V4)
	if err != nil {
		return taken
	}
	for _, r := range routes {
		if r.Dst == nil {
			continue
		}
		if ones, bits := r.Dst.Mask.Size(); ones == bits {
			taken[r.Dst.IP.String()] = true
		}
	}
	return taken
}

func randomBelow(n int) int { return rand.IntN(n) }
