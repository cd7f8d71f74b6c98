package sandbox_test

import (
	"testing"
)

// An instance boots from the host's root and lets its users in.
func TestBootHostLayer(t *testing.T) {
	h := newHost(t)
	l := newSpec(t, h, "i-boot")
	boot(t, h, l)
	t.Log(l.sh(t, "ubuntu", "id; hostname; ls /; ls -la ~; ps ax; env; cat /etc/resolv.conf; mount; sudo id; sudo -E whoami; which reboot sudo scp; ls /root"))
}
