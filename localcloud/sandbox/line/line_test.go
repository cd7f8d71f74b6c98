package line

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// TestMain lets the test program be one that lays a line and can be killed.
func TestMain(m *testing.M) {
	if os.Getenv("LINE_TEST_LAY") != "" {
		if os.Getenv("LINE_TEST_LAY") == "hidden" {
			if err := unix.Mount("none", "/dev/net", "tmpfs", 0, ""); err != nil {
				panic(err)
			}
		}
		near, far := ends(netns.NsHandle(3), netns.NsHandle(4))
		if _, err := Lay(near, far, mtu, Weather{Delay: delay}); err != nil {
			fmt.Println(err)
			os.Exit(map[bool]int{true: 2, false: 1}[errors.Is(err, ErrMissing)])
		}
		fmt.Println("laid")
		time.Sleep(10 * time.Minute)
		os.Exit(0)
	}
	os.Exit(m.Run())
}

const (
	mtu   = 1500
	delay = 150 * time.Millisecond
)

var nearAddr, farAddr = netip.MustParseAddr("10.203.0.1"), netip.MustParseAddr("10.203.0.2")

func ends(a, b netns.NsHandle) (near, far End) {
	return End{Namespace: a, Own: nearAddr, Peer: netip.PrefixFrom(farAddr, 32)},
		End{Namespace: b, Own: farAddr, Peer: netip.PrefixFrom(nearAddr, 32)}
}

// cabled returns two namespaces that a cable connects.
func cabled(t *testing.T) (near, far netns.NsHandle) {
	t.Helper()
	both := namespaces(t)
	return both[0], both[1]
}

// namespaces are those that cabled returns. One may be closed before the end.
func namespaces(t *testing.T) *[2]netns.NsHandle {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("network namespaces need root")
	}
	var both [2]netns.NsHandle
	for i := range both {
		here, err := netns.Get()
		if err != nil {
			t.Fatal(err)
		}
		// Within comes back by itself, whatever do has entered meanwhile.
		err = Within(here, func() (err error) {
			both[i], err = netns.New()
			return err
		})
		here.Close()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { both[i].Close() })
	}
	var handles [2]*netlink.Handle
	for i, ns := range both {
		h, err := netlink.NewHandleAt(ns, unix.NETLINK_ROUTE)
		if err != nil {
			t.Fatal(err)
		}
		defer h.Close()
		handles[i] = h
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "cable"
	if err := handles[0].LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "cable", PeerNamespace: netlink.NsFd(int(both[1]))}); err != nil {
		t.Fatal(err)
	}
	for i, a := range []netip.Addr{nearAddr, farAddr} {
		peer := [...]netip.Addr{farAddr, nearAddr}[i]
		l, err := handles[i].LinkByName("cable")
		if err != nil {
			t.Fatal(err)
		}
		if err := handles[i].AddrAdd(l, &netlink.Addr{IPNet: network(netip.PrefixFrom(a, 32)), Peer: network(netip.PrefixFrom(peer, 32))}); err != nil {
			t.Fatal(err)
		}
		if err := handles[i].LinkSetUp(l); err != nil {
			t.Fatal(err)
		}
	}
	return &both
}

func lay(t *testing.T, a, b netns.NsHandle, w Weather) *Line {
	t.Helper()
	near, far := ends(a, b)
	l, err := Lay(near, far, mtu, w)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Close)
	return l
}

// serve lets answer talk on each connection to the far end.
func serve(t *testing.T, far netns.NsHandle, answer func(net.Conn)) string {
	t.Helper()
	var l net.Listener
	if err := Within(far, func() (err error) {
		l, err = net.Listen("tcp4", netip.AddrPortFrom(farAddr, 0).String())
		return err
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				answer(c)
			}()
		}
	}()
	return l.Addr().String()
}

func echo(c net.Conn) { _, _ = io.Copy(c, c) }

func dial(t *testing.T, near netns.NsHandle, to string) net.Conn {
	t.Helper()
	var c net.Conn
	if err := Within(near, func() (err error) {
		c, err = net.DialTimeout("tcp4", to, time.Minute)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(5 * time.Minute)) // no test hangs
	return c
}

// trip says a word and waits until it comes back.
func trip(t *testing.T, c net.Conn) time.Duration {
	t.Helper()
	begin := time.Now()
	word := fmt.Sprint("word ", rand.Uint64())
	if _, err := c.Write([]byte(word)); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(word))
	if _, err := io.ReadFull(c, got); err != nil || string(got) != word {
		t.Fatalf("heard %q, %v; said %q", got, err, word)
	}
	return time.Since(begin)
}

// quick waits until the least time of a trip is less than the line's delay.
func quick(t *testing.T, c net.Conn) {
	t.Helper()
	for end := time.Now().Add(time.Minute); trip(t, c) >= 2*delay; {
		if time.Now().After(end) {
			t.Fatal("still slow")
		}
	}
}

// A connection lives through all that becomes of the line.
func TestDelay(t *testing.T) {
	a, b := cabled(t)
	c := dial(t, a, serve(t, b, echo))
	quick(t, c)
	l := lay(t, a, b, Weather{Delay: delay})
	for range 3 {
		if d := trip(t, c); d < 2*delay {
			t.Errorf("there and back in %s", d)
		}
	}
	l.Set(Weather{Delay: 2 * delay, Jitter: delay})
	for range 3 {
		if d := trip(t, c); d < 2*delay {
			t.Errorf("with jitter, there and back in %s", d)
		}
	}
	l.Set(Weather{})
	quick(t, c)
	before := l.Tally().Carried
	if before == 0 {
		t.Error("nothing has taken the line")
	}
	l.Close()
	l.Close()
	quick(t, c)
	if n := l.Tally().Carried; n != before && n != before+1 { // the last word's acknowledgement
		t.Errorf("a line that is closed has carried %d packets more", n-before)
	}
	// Again, at the same place.
	lay(t, a, b, Weather{Delay: delay})
	if d := trip(t, c); d < 2*delay {
		t.Errorf("there and back in %s", d)
	}
}

// What is held back arrives when the line is closed.
func TestCloseDelivers(t *testing.T) {
	a, b := cabled(t)
	c := dial(t, a, serve(t, b, echo))
	trip(t, c)
	l := lay(t, a, b, Weather{Delay: time.Hour})
	if _, err := c.Write([]byte("late")); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		l.ways[0].mu.Lock()
		n := len(l.ways[0].held)
		l.ways[0].mu.Unlock()
		if n > 0 {
			break
		}
		if time.Now().After(end) {
			t.Fatal("nothing is held back")
		}
	}
	if n := l.Tally().Carried; n > 0 {
		t.Errorf("carried %d packets an hour early", n)
	}
	l.Close()
	if n := l.Tally().Carried; n == 0 {
		t.Error("what was held back is lost")
	}
	if _, err := io.ReadFull(c, make([]byte, 4)); err != nil {
		t.Error(err)
	}
}

func TestAllLost(t *testing.T) {
	a, b := cabled(t)
	to := serve(t, b, echo)
	c := dial(t, a, to)
	trip(t, c)
	l := lay(t, a, b, Weather{Loss: 100})
	if _, err := c.Write([]byte("lost")); err != nil {
		t.Fatal(err)
	}
	_ = c.SetReadDeadline(time.Now().Add(time.Second))
	if n, err := c.Read(make([]byte, 4)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("heard %d bytes, %v", n, err)
	}
	if got := l.Tally(); got.Carried != 0 || got.Lost == 0 {
		t.Errorf("%+v", got)
	}
	l.Close()
	_ = c.SetReadDeadline(time.Now().Add(2 * time.Minute))
	if _, err := io.ReadFull(c, make([]byte, 4)); err != nil {
		t.Errorf("mended: %v", err)
	}
}

// Each line is as its weather, and TCP brings all to the other end over it.
func TestTransfer(t *testing.T) {
	for _, tt := range []struct {
		name    string
		weather Weather
		bytes   int
		least   time.Duration
		bad     func(Tally) bool
	}{
		{"fair", Weather{}, 20 << 20, 0, func(y Tally) bool { return y.Lost > 0 || y.Full > 0 || y.Carried < 20<<20/mtu }},
		// More loss can let TCP wait for minutes, each time longer.
		{"loss", Weather{Loss: 10}, 1 << 20, 0, func(y Tally) bool { return y.Lost < 20 || y.Lost > y.Carried/4 }},
		{"rate", Weather{Rate: 1 << 20}, 2 << 20, 1800 * time.Millisecond, func(y Tally) bool { return y.Lost > 0 }},
		{"narrow", Weather{Rate: 64 << 10}, 256 << 10, 3900 * time.Millisecond, func(y Tally) bool { return y.Lost > 0 }},
		{"jitter", Weather{Delay: 5 * time.Millisecond, Jitter: 5 * time.Millisecond}, 4 << 20, 0, func(y Tally) bool { return y.Lost > 0 || y.Full > 0 }},
		{"all", Weather{Loss: 2, Delay: 5 * time.Millisecond, Jitter: 2 * time.Millisecond, Rate: 1 << 20}, 1 << 20, 900 * time.Millisecond, func(y Tally) bool { return y.Lost == 0 }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a, b := cabled(t)
			data := make([]byte, tt.bytes)
			for i := range data {
				data[i] = byte(rand.Uint32())
			}
			c := dial(t, a, serve(t, b, func(c net.Conn) {
				sum := sha256.New()
				if _, err := io.Copy(sum, c); err == nil {
					_, _ = c.Write(sum.Sum(nil))
				}
			}))
			l := lay(t, a, b, tt.weather)
			begin := time.Now()
			if _, err := c.Write(data); err != nil {
				t.Fatal(err)
			}
			if err := c.(*net.TCPConn).CloseWrite(); err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(c)
			took := time.Since(begin)
			if err != nil {
				t.Fatal(err)
			}
			if want := sha256.Sum256(data); !bytes.Equal(got, want[:]) {
				t.Error("it has not arrived as it was")
			}
			if took < tt.least {
				t.Errorf("it took %s, less than %s", took, tt.least)
			}
			y := l.Tally()
			if tt.bad(y) {
				t.Errorf("%+v", y)
			}
			t.Logf("%+v in %s", y, took)
		})
	}
}

// When the process that carries is killed, the cable is in force again.
func TestKilled(t *testing.T) {
	a, b := cabled(t)
	c := dial(t, a, serve(t, b, echo))
	cmd := exec.CommandContext(context.Background(), "/proc/self/exe")
	cmd.Env = append(os.Environ(), "LINE_TEST_LAY=1")
	cmd.ExtraFiles = []*os.File{reopened(t, a), reopened(t, b)}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	killed := false
	kill := func() {
		if !killed {
			killed = true
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
	}
	defer kill()
	buf := make([]byte, 200)
	n, err := out.Read(buf)
	if said := strings.TrimSpace(string(buf[:n])); said != "laid" {
		t.Fatalf("%s, %v", said, err)
	}
	if d := trip(t, c); d < 2*delay {
		t.Errorf("there and back in %s", d)
	}
	if _, err := c.Write([]byte("half")); err != nil { // held back when it dies
		t.Fatal(err)
	}
	kill()
	if _, err := io.ReadFull(c, make([]byte, 4)); err != nil {
		t.Fatal(err)
	}
	quick(t, c)
}

// Where there is no /dev/net/tun, that is what is said, and nothing changes.
func TestMissing(t *testing.T) {
	a, b := cabled(t)
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), "LINE_TEST_LAY=hidden")
	cmd.ExtraFiles = []*os.File{reopened(t, a), reopened(t, b)}
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS}
	out, err := cmd.Output()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 2 || !strings.Contains(string(out), "/dev/net/tun") {
		t.Errorf("%v: %s", err, out)
	}
	for _, ns := range []netns.NsHandle{a, b} {
		if got := devices(t, ns); len(got) > 0 {
			t.Errorf("left behind: %s", got)
		}
	}
}

func reopened(t *testing.T, ns netns.NsHandle) *os.File {
	t.Helper()
	f, err := os.Open(fmt.Sprintf("/proc/self/fd/%d", int(ns)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// A line ends with the namespace of its far end.
func TestFarEndGone(t *testing.T) {
	both := namespaces(t)
	l := lay(t, both[0], both[1], Weather{Delay: delay})
	select {
	case <-l.Done():
		t.Fatal("has ended by itself")
	case <-time.After(100 * time.Millisecond):
	}
	if err := both[1].Close(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-l.Done():
	case <-time.After(time.Minute):
		t.Fatal("goes on without its far end")
	}
	l.Close()
	if got := devices(t, both[0]); len(got) > 0 {
		t.Errorf("left behind: %s", got)
	}
}

// A line that cannot be laid changes nothing, wherever it fails.
func TestNeither(t *testing.T) {
	a, b := cabled(t)
	c := dial(t, a, serve(t, b, echo))
	near, far := ends(a, b)
	for _, tt := range []struct {
		name      string
		near, far End
		mtu       int
	}{
		{"no far namespace", near, End{Namespace: netns.None(), Own: far.Own, Peer: far.Peer}, mtu},
		{"no such address near", End{Namespace: a, Own: farAddr, Peer: near.Peer}, far, mtu},
		{"no such address far", near, End{Namespace: b, Own: nearAddr, Peer: far.Peer}, mtu},
		{"no packets", near, far, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if l, err := Lay(tt.near, tt.far, tt.mtu, Weather{Loss: 100}); err == nil {
				l.Close()
				t.Fatal("was laid")
			}
			for _, ns := range []netns.NsHandle{a, b} {
				if got := devices(t, ns); len(got) > 0 {
					t.Errorf("left behind: %s", got)
				}
			}
			trip(t, c)
		})
	}
}

// devices lists the TUN devices of a namespace.
func devices(t *testing.T, ns netns.NsHandle) (names []string) {
	t.Helper()
	h, err := netlink.NewHandleAt(ns, unix.NETLINK_ROUTE)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	links, err := h.LinkList()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range links {
		if strings.HasPrefix(l.Attrs().Name, "bh-") {
			names = append(names, l.Attrs().Name)
		}
	}
	return names
}

func TestWeatherCheck(t *testing.T) {
	nan := 0.0
	nan /= nan
	for _, tt := range []struct {
		weather Weather
		ok      bool
	}{
		{Weather{}, true},
		{Weather{Loss: 100, Delay: time.Hour, Jitter: 2 * time.Hour, Rate: 1}, true},
		{Weather{Loss: 100.1}, false},
		{Weather{Loss: -0.1}, false},
		{Weather{Loss: nan}, false},
		{Weather{Delay: -1}, false},
		{Weather{Jitter: -1}, false},
	} {
		if err := tt.weather.Check(); (err == nil) != tt.ok {
			t.Errorf("%+v: %v", tt.weather, err)
		}
	}
}
