package egress

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// There is a way to the world, and none to what trusts the host.
func TestReachable(t *testing.T) {
	w := &Way{config: Config{Closed: netip.MustParsePrefix("198.18.0.0/15")}}
	for addr, want := range map[string]bool{
		"192.0.2.10": true, "10.0.0.1": true, "8.8.8.8": true,
		"127.0.0.1": false, "127.9.9.9": false, "0.0.0.0": false, "0.1.2.3": false, "169.254.169.254": false, "224.0.0.1": false,
		"255.255.255.255": false, "198.19.3.4": false, "168.63.129.16": false, "::1": false, "fd00:ec2::254": false, "::ffff:127.0.0.1": false,
	} {
		if got := w.reachable(netip.MustParseAddr(addr)); got != want {
			t.Errorf("%s: %v", addr, got)
		}
	}
}

func TestParseResolvers(t *testing.T) {
	for conf, want := range map[string][]string{
		"": {"127.0.0.1:53"},
		"# x\nsearch a b\nnameserver 10.0.0.2\nnameserver fd00::1\n": {"10.0.0.2:53", "[fd00::1]:53"},
		"nameserver nonsense\nnameserver 127.0.0.53":                 {"127.0.0.53:53"},
	} {
		if diff := cmp.Diff(want, parseResolvers(conf)); diff != "" {
			t.Errorf("%q (-want +got):\n%s", conf, diff)
		}
	}
}
