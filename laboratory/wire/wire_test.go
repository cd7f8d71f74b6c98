package wire_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/bakehouse-farm/bakehouse/laboratory/wire"
)

// TestMain lets the test program be what runs in a place: it connects and
// passes lines on.
func TestMain(m *testing.M) {
	if to := os.Getenv("WIRE_TEST_CONNECT"); to != "" {
		c, err := net.DialTimeout("tcp", to, 20*time.Second)
		if err != nil {
			fmt.Println("failed:", err)
			os.Exit(1)
		}
		go func() { _, _ = io.Copy(c, os.Stdin) }() // until the test ends it
		_, err = io.Copy(os.Stdout, c)
		fmt.Println("ended:", err)
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// A talk is a program in a place that talks to a service.
type talk struct {
	in    io.Writer
	lines chan string
}

func (t talk) say(word string) { fmt.Fprintln(t.in, word) }

// hears tells whether a line comes within a time.
func (t talk) hears(within time.Duration) (string, bool) {
	select {
	case l := <-t.lines:
		return l, true
	case <-time.After(within):
		return "", false
	}
}

func connect(t *testing.T, p *wire.Place, to string) talk {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), "WIRE_TEST_CONNECT="+to)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Start(cmd); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	c := talk{in, make(chan string, 10)}
	go func() {
		for s := bufio.NewScanner(out); s.Scan(); {
			c.lines <- s.Text()
		}
	}()
	return c
}

// echo answers lines on the host, and returns where.
func echo(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
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
				for s := bufio.NewScanner(c); s.Scan() && s.Text() != "bye"; {
					fmt.Fprintln(c, "you said", s.Text())
				}
			}()
		}
	}()
	return l.Addr().String()
}

// Each cable is cut by itself; what was said meanwhile comes when it is mended.
func TestCutOneCable(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("network namespaces need root")
	}
	before := links(t)
	e, err := wire.NewExchange([]wire.Service{
		{Name: "one", Prefix: netip.MustParsePrefix("10.200.0.1/32"), Port: 7000, To: echo(t)},
		{Name: "two", Prefix: netip.MustParsePrefix("10.200.0.2/32"), Port: 7000, To: echo(t)},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	p, err := e.NewPlace()
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	one, two := connect(t, p, "10.200.0.1:7000"), connect(t, p, "10.200.0.2:7000")
	for _, c := range []talk{one, two} {
		c.say("hello")
		if l, ok := c.hears(20 * time.Second); !ok || l != "you said hello" {
			t.Fatalf("heard %q", l)
		}
	}
	if err := p.Set("one", wire.Weather{Cut: true}); err != nil {
		t.Fatal(err)
	}
	one.say("lost?")
	two.say("still there")
	if l, ok := two.hears(20 * time.Second); !ok || l != "you said still there" {
		t.Errorf("the other cable: heard %q", l)
	}
	if l, ok := one.hears(time.Second); ok {
		t.Errorf("heard %q over a cut cable", l)
	}
	if err := p.Set("one", wire.Weather{}); err != nil {
		t.Fatal(err)
	}
	if l, ok := one.hears(time.Minute); !ok || l != "you said lost?" {
		t.Errorf("mended: heard %q", l)
	}
	one.say("bye")
	if l, ok := one.hears(20 * time.Second); !ok || !strings.HasPrefix(l, "ended: <nil>") {
		t.Errorf("farewell: heard %q", l)
	}
	if after := links(t); !bytes.Equal(before, after) {
		t.Errorf("links of the host changed:\n%s\n%s", before, after)
	}
}

// Each cable has a weather of its own; connections live through it all.
func TestWeather(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("network namespaces need root")
	}
	const delay = 300 * time.Millisecond
	before := links(t)
	e, err := wire.NewExchange([]wire.Service{
		{Name: "one", Prefix: netip.MustParsePrefix("10.200.0.1/32"), Port: 7000, To: echo(t)},
		{Name: "two", Prefix: netip.MustParsePrefix("10.200.0.2/32"), Port: 7000, To: echo(t)},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	p, err := e.NewPlace()
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	one, two := connect(t, p, "10.200.0.1:7000"), connect(t, p, "10.200.0.2:7000")
	trip := func(c talk, word string) time.Duration {
		t.Helper()
		begin := time.Now()
		c.say(word)
		if l, ok := c.hears(time.Minute); !ok || l != "you said "+word {
			t.Fatalf("heard %.80q", l)
		}
		return time.Since(begin)
	}
	quick := func(c talk) {
		t.Helper()
		for end := time.Now().Add(time.Minute); trip(c, "quick") >= 2*delay; {
			if time.Now().After(end) {
				t.Fatal("still slow")
			}
		}
	}
	set := func(w wire.Weather) {
		t.Helper()
		if err := p.Set("one", w); err != nil {
			t.Fatal(err)
		}
	}
	quick(one)
	quick(two)
	set(wire.Weather{Delay: delay})
	if d := trip(one, "slow"); d < 2*delay {
		t.Errorf("there and back in %s", d)
	}
	quick(two)
	set(wire.Weather{Rate: 32 << 10})
	if d := trip(one, strings.Repeat("x", 32<<10)); d < time.Second {
		t.Errorf("32 KiB at 32 KiB a second took %s", d)
	}
	for _, w := range []wire.Weather{{Cut: true}, {Loss: 100, Delay: delay, Rate: 1}} {
		set(w)
		one.say("lost")
		if l, ok := one.hears(500 * time.Millisecond); ok {
			t.Errorf("%+v: heard %q", w, l)
		}
		quick(two)
		set(wire.Weather{})
		if l, ok := one.hears(time.Minute); !ok || l != "you said lost" {
			t.Errorf("%+v, mended: heard %q", w, l)
		}
		quick(one)
	}
	set(wire.Weather{Loss: 10, Delay: 5 * time.Millisecond, Jitter: 5 * time.Millisecond})
	for range 20 {
		trip(one, "all of it comes")
	}
	if err := p.Set("one", wire.Weather{Loss: 101}); err == nil {
		t.Error("loses more than there is")
	}
	if err := p.Set("none", wire.Weather{}); err == nil {
		t.Error("there is no such cable")
	}
	if after := links(t); !bytes.Equal(before, after) {
		t.Errorf("links of the host changed:\n%s\n%s", before, after)
	}
}

func links(t *testing.T) []byte {
	t.Helper()
	list, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	for _, i := range list {
		if !strings.HasPrefix(i.Name, "bh-") { // localcloud's, of other tests
			fmt.Fprintln(&b, i.Name)
		}
	}
	return b.Bytes()
}
