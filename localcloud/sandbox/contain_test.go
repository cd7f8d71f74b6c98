package sandbox_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/crypto/ssh"

	"github.com/bakehouse-farm/bakehouse/localcloud/sandbox"
)

// Root inside cannot reach out of the instance.
func TestContained(t *testing.T) {
	h := newHost(t)
	l := newSpec(t, h, "i-jail")
	boot(t, h, l)
	secret := "/root/.sandbox-test-secret"
	if err := os.WriteFile(secret, []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	defer os.Remove(secret)
	name, _ := os.Hostname()
	for _, line := range []string{
		"mount -t tmpfs none /mnt",
		"mount --bind / /mnt",
		"umount /proc/sys",
		"mount -o remount,rw /proc/sys",
		"unshare -m true",
		"unshare -U true",
		"unshare -Ur mount -t tmpfs none /mnt",
		"echo 1 > /proc/sys/kernel/panic",
		"echo jailbreak > /proc/sys/kernel/hostname",
		"echo h > /proc/sysrq-trigger",
		"hostname jailbreak",
		"mknod /tmp/disk b 254 0",
		"head -c1 /dev/vda",
		"dmesg",
		"cat /proc/kcore | head -c1 | grep -q .",
		"date -s 2001-01-01",
		"perl -e 'exit(syscall(169, 0xfee1dead, 672274793, 0x1234567) == 0 ? 0 : 1)'",
		"ip link add type dummy",
		"ls " + secret,
		"test -e /work -o -e /farm",
		"echo x > /sys/kernel/mm/transparent_hugepage/enabled",
		"echo x > /run/bakehouse/bin/init",
		"echo x > /proc/1/exe",
		"grep -v ':[*]:' /etc/shadow",
		"ls /etc/ssh/ssh_host_rsa_key",
	} {
		if out, err := l.trySh(t, "root", line); err == nil {
			t.Errorf("%s: possible: %s", line, out)
		}
	}
	if now, _ := os.Hostname(); now != name {
		t.Fatalf("the host's name is %s now", now)
	}
	if got := l.sh(t, "root", "ps ax | wc -l"); len(got) > 1 {
		t.Errorf("%s processes to be seen", got)
	}

	// To kill all is to kill all of the instance.
	_, _ = l.trySh(t, "root", "kill -9 -1; kill -9 1; kill -QUIT 1; kill -SEGV 1")
	if got := l.sh(t, "root", "echo alive"); got != "alive" {
		t.Error(got)
	}
}

// A fork bomb ends at the instance's limit, and the instance can be stopped.
func TestForkBomb(t *testing.T) {
	dir := t.TempDir()
	h := openHost(t, dir)
	l := newSpec(t, h, "i-bomb")
	l.spec.PidsMax = 60
	boot(t, h, l)
	c := l.dial(t, "ubuntu")
	s, err := c.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start("bomb() { bomb | bomb & }; bomb; while :; do bomb; done"); err != nil {
		t.Fatal(err)
	}
	groups, _ := filepath.Glob("/sys/fs/cgroup/*/bakehouse-" + sandbox.ShortName(dir, "i-bomb") + "/guest/pids.current")
	if len(groups) == 0 {
		groups, _ = filepath.Glob("/sys/fs/cgroup/bakehouse-" + sandbox.ShortName(dir, "i-bomb") + "/guest/pids.current")
	}
	if len(groups) != 1 {
		t.Fatalf("control groups: %v", groups)
	}
	most := 0
	for range 20 {
		b, err := os.ReadFile(groups[0])
		if err != nil {
			t.Fatal(err)
		}
		n, err := strconv.Atoi(strings.TrimSpace(string(b)))
		if err != nil {
			t.Fatal(err)
		}
		most = max(most, n)
		time.Sleep(50 * time.Millisecond)
	}
	// What joins the group, to log in, counts but is not refused.
	if most > 80 || most < 30 {
		t.Errorf("%d processes, of 60", most)
	}
	start := time.Now()
	if err := h.Stop(t.Context(), "i-bomb"); err != nil {
		t.Fatal(err)
	}
	if d := time.Since(start); d > 20*time.Second {
		t.Errorf("stop took %s", d)
	}
}

// A limit of memory kills what is over it, and not the instance.
func TestMemoryLimit(t *testing.T) {
	h := newHost(t)
	l := newSpec(t, h, "i-mem")
	l.spec.MemoryMax = 64 << 20
	boot(t, h, l)
	if out, err := l.trySh(t, "ubuntu", "perl -e '$x = \"a\" x 300_000_000; print length $x'"); err == nil {
		t.Errorf("300 MB within 64 MiB: %s", out)
	}
	if got := l.sh(t, "ubuntu", "echo alive"); got != "alive" {
		t.Error(got)
	}
}

// Instances reach what the host can reach, but not the host by its loopback
// addresses.
func TestEgress(t *testing.T) {
	h := newHost(t)
	l := newSpec(t, h, "i-out")

	// An address of the host that is no loopback: TEST-NET-2, on a link of its own.
	far := net.IPv4(198, 51, 100, byte(1+os.Getpid()%250))
	attrs := netlink.NewLinkAttrs()
	attrs.Name = fmt.Sprintf("bht%d", os.Getpid())
	cable := &netlink.Veth{LinkAttrs: attrs, PeerName: attrs.Name + "p"}
	if err := netlink.LinkAdd(cable); err != nil {
		t.Fatal(err)
	}
	defer netlink.LinkDel(cable)
	if err := netlink.AddrAdd(cable, &netlink.Addr{IPNet: &net.IPNet{IP: far, Mask: net.CIDRMask(32, 32)}}); err != nil {
		t.Fatal(err)
	}
	if err := netlink.LinkSetUp(cable); err != nil {
		t.Fatal(err)
	}
	page := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, strings.Repeat("page", 1<<18)) })
	var ports []int
	for _, at := range []string{far.String() + ":0", "127.0.0.1:0"} {
		in, err := net.Listen("tcp4", at)
		if err != nil {
			t.Fatal(err)
		}
		defer in.Close()
		ports = append(ports, in.Addr().(*net.TCPAddr).Port)
		go http.Serve(in, page)
	}

	boot(t, h, l)
	const fetch = `perl -MIO::Socket::INET -e '$s = IO::Socket::INET->new(PeerAddr=>$ARGV[0], Timeout=>5) or die "connect: $!\n"; print $s "GET / HTTP/1.0\r\n\r\n"; local $/; $_ = <$s>; print length' `
	if got := l.sh(t, "ubuntu", fmt.Sprintf("%s %s:%d", fetch, far, ports[0])); len(got) != 7 {
		t.Errorf("a megabyte and headers: %s bytes", got)
	}
	for _, closed := range []string{
		fmt.Sprintf("127.0.0.1:%d", ports[1]),
		fmt.Sprintf("198.18.0.1:%d", ports[1]),
		fmt.Sprintf("0.0.0.0:%d", ports[1]),
		fmt.Sprintf("%s:%d", far, 1), // nobody listens: a refusal is one
		"169.254.169.254:80",
	} {
		if out, err := l.trySh(t, "ubuntu", fetch+closed); err == nil {
			t.Errorf("%s is reachable: %s", closed, out)
		}
	}
	if got := l.sh(t, "ubuntu", "cat /etc/resolv.conf"); got != "nameserver 198.18.0.2" {
		t.Errorf("resolv.conf: %s", got)
	}
}

// The host reaches any port of an instance.
func TestHostToInstance(t *testing.T) {
	h := newHost(t)
	l := newSpec(t, h, "i-in")
	boot(t, h, l)
	l.sh(t, "ubuntu", `perl -MIO::Socket::INET -e '$l = IO::Socket::INET->new(LocalPort=>8080, Listen=>1, ReuseAddr=>1) or die; exit if fork; close STDOUT; close STDERR; close STDIN; $c = $l->accept; print $c "hello\n"'`)
	c, err := net.DialTimeout("tcp", l.spec.Addr.String()+":8080", 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	if b, err := io.ReadAll(c); err != nil || string(b) != "hello\n" {
		t.Errorf("%q, %v", b, err)
	}
}

// Many instances at once do not disturb each other.
func TestSeveral(t *testing.T) {
	h := newHost(t)
	const n = 6
	errs := make(chan error, n)
	logins := make([]login, n)
	for i := range n {
		logins[i] = newSpec(t, h, fmt.Sprintf("i-many%d", i))
	}
	t.Cleanup(func() {
		for _, l := range logins {
			if err := h.Remove(context.Background(), l.spec.ID); err != nil {
				t.Error(err)
			}
		}
	})
	for _, l := range logins {
		go func() { errs <- h.Start(t.Context(), l.spec) }()
	}
	for range n {
		if err := <-errs; err != nil {
			t.Fatal(err)
		}
	}
	for i, l := range logins {
		if got := l.sh(t, "ubuntu", "hostname"); got != fmt.Sprintf("test-i-many%d", i) {
			t.Error(got)
		}
	}
}

// How long it takes from nothing to a command that has run over SSH.
func BenchmarkStartToSSH(b *testing.B) {
	h := newHost(b)
	for i := 0; b.Loop(); i++ {
		l := newSpec(b, h, fmt.Sprintf("i-bench%d", i))
		if err := h.Start(b.Context(), l.spec); err != nil {
			b.Fatal(err)
		}
		c, err := l.tryDial("ubuntu")
		if err != nil {
			b.Fatal(err)
		}
		run(b, c, "true")
		b.StopTimer()
		c.Close()
		if err := h.Remove(b.Context(), l.spec.ID); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}

func run(t testing.TB, c *ssh.Client, line string) string {
	t.Helper()
	s, err := c.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	out, err := s.CombinedOutput(line)
	if err != nil {
		t.Fatalf("%s: %v\n%s", line, err, out)
	}
	return strings.TrimSpace(string(out))
}
