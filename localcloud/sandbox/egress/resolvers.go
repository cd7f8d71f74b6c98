package egress

import (
	"net/netip"
	"strings"
)

// parseResolvers finds the name servers in a resolv.conf. As everywhere, an
// empty one means the host itself.
func parseResolvers(conf string) []string {
	var found []string
	for line := range strings.Lines(conf) {
		f := strings.Fields(line)
		if len(f) < 2 || f[0] != "nameserver" {
			continue
		}
		if a, err := netip.ParseAddr(f[1]); err == nil {
			found = append(found, netip.AddrPortFrom(a, 53).String())
		}
	}
	if len(found) == 0 {
		found = []string{"127.0.0.1:53"}
	}
	return found
}
