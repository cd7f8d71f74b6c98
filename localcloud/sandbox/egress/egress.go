// Package egress is an instance's way into the world: a network stack in user
// space that takes the packets of a tun device, makes ordinary connections of
// the host of them, and answers. Nothing is forwarded or translated by the
// host's kernel, and nothing of its configuration is changed.
package egress

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/link/fdbased"
	"gvisor.dev/gvisor/pkg/tcpip/link/nested"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
	"gvisor.dev/gvisor/pkg/waiter"
)

const (
	device = "tun0"
	// mtu is large, for no wire limits it.
	mtu = 16384
	// connections is how many may be in the making at once.
	connections = 256
	dialLimit   = 30 * time.Second
	udpIdle     = time.Minute
)

// Config says whose way it is.
type Config struct {
	Pid    int          // a process in the instance's network namespace
	Own    netip.Addr   // the instance's address
	DNS    netip.Addr   // where it asks for names
	Closed netip.Prefix // there is no way to these, beside those that nobody may reach
}

// A Way is open until it is closed, or the namespace has ended.
type Way struct {
	config Config
	tun    int
	stack  *stack.Stack
	ctx    context.Context
	cancel context.CancelFunc
}

// Open makes the device and the default route in the namespace, and serves it
// from this process.
func Open(c Config) (*Way, error) {
	tun, err := makeDevice(c)
	if err != nil {
		return nil, err
	}
	w := &Way{config: c, tun: tun}
	w.ctx, w.cancel = context.WithCancel(context.Background())
	if err := w.serve(); err != nil {
		w.Close()
		return nil, err
	}
	return w, nil
}

// Close ends all connections.
func (w *Way) Close() error {
	w.cancel()
	if w.stack != nil {
		// First the reader of the device: its descriptor will be somebody else's.
		_ = w.stack.RemoveNIC(nic)
		w.stack.Close()
	}
	return unix.Close(w.tun)
}

// makeDevice makes the tun device in the instance's namespace, on a thread that
// goes there and is thrown away, but opens /dev/net/tun as the host has it.
func makeDevice(c Config) (fd int, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and never unlocked: the thread ends here
		fd, err = deviceHere(c)
	}()
	<-done
	return fd, err
}

func deviceHere(c Config) (int, error) {
	ns, err := unix.Open(fmt.Sprintf("/proc/%d/ns/net", c.Pid), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("network namespace: %w", err)
	}
	defer unix.Close(ns)
	if err := unix.Setns(ns, unix.CLONE_NEWNET); err != nil {
		return -1, fmt.Errorf("enter network namespace: %w", err)
	}
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return -1, fmt.Errorf("open /dev/net/tun: %w", err)
	}
	if err := configure(fd, c); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

func configure(fd int, c Config) error {
	req, err := unix.NewIfreq(device)
	if err != nil {
		return err
	}
	req.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, req); err != nil {
		return fmt.Errorf("make %s: %w", device, err)
	}
	l, err := netlink.LinkByName(device)
	if err != nil {
		return fmt.Errorf("find %s: %w", device, err)
	}
	if err := netlink.LinkSetMTU(l, mtu); err != nil {
		return fmt.Errorf("%s: mtu: %w", device, err)
	}
	if err := netlink.LinkSetUp(l); err != nil {
		return fmt.Errorf("set up %s: %w", device, err)
	}
	r := &netlink.Route{
		LinkIndex: l.Attrs().Index, Scope: netlink.SCOPE_LINK, Src: c.Own.AsSlice(),
		Dst: &net.IPNet{IP: net.IPv4zero.To4(), Mask: net.CIDRMask(0, 32)},
	}
	if err := netlink.RouteAdd(r); err != nil {
		return fmt.Errorf("default route: %w", err)
	}
	return nil
}

const nic = tcpip.NICID(1)

func (w *Way) serve() error {
	link, err := fdbased.New(&fdbased.Options{FDs: []int{w.tun}, MTU: mtu, RXChecksumOffload: true})
	if err != nil {
		return fmt.Errorf("network stack: %w", err)
	}
	w.stack = stack.New(stack.Options{
		NetworkProtocols:   []stack.NetworkProtocolFactory{ipv4.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol, udp.NewProtocol},
	})
	if err := w.stack.CreateNIC(nic, newGate(link)); err != nil {
		return fmt.Errorf("network stack: %s", err)
	}
	if err := w.stack.SetPromiscuousMode(nic, true); err != nil {
		return fmt.Errorf("network stack: %s", err)
	}
	if err := w.stack.SetSpoofing(nic, true); err != nil {
		return fmt.Errorf("network stack: %s", err)
	}
	w.stack.SetRouteTable([]tcpip.Route{{Destination: header.IPv4EmptySubnet, NIC: nic}})
	w.stack.SetTransportProtocolHandler(tcp.ProtocolNumber, tcp.NewForwarder(w.stack, 0, connections, w.tcp).HandlePacket)
	w.stack.SetTransportProtocolHandler(udp.ProtocolNumber, udp.NewForwarder(w.stack, w.udp).HandlePacket)
	return nil
}

// A gate lets pings by unanswered: the stack would answer for the whole world.
type gate struct{ nested.Endpoint }

func newGate(child stack.LinkEndpoint) *gate {
	g := &gate{}
	g.Init(child, g)
	return g
}

// DeliverNetworkPacket implements stack.NetworkDispatcher.
func (g *gate) DeliverNetworkPacket(protocol tcpip.NetworkProtocolNumber, pkt *stack.PacketBuffer) {
	if b, ok := pkt.Data().PullUp(header.IPv4MinimumSize); ok && header.IPv4(b).Protocol() == uint8(header.ICMPv4ProtocolNumber) {
		return
	}
	g.Endpoint.DeliverNetworkPacket(protocol, pkt)
}

// metadata are the addresses where clouds tell machines their secrets: they
// are the host's, not the instance's. (That of AWS and others is link-local.)
var metadata = []netip.Addr{netip.MustParseAddr("168.63.129.16"), netip.MustParseAddr("100.100.100.200")}

// reachable tells whether there is a way to an address. There is none to the
// host itself by its loopback addresses: what listens there trusts the host.
func (w *Way) reachable(a netip.Addr) bool {
	switch {
	case !a.Is4(), a.IsLoopback(), a.IsUnspecified(), a.IsMulticast(), a.IsLinkLocalUnicast(), a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return false
	case a.As4()[0] == 0, w.config.Closed.Contains(a):
		return false
	}
	for _, m := range metadata {
		if a == m {
			return false
		}
	}
	return true
}

// target is where a packet wants to go, and whether that is the resolver.
func (w *Way) target(id stack.TransportEndpointID) (to netip.AddrPort, dns, ok bool) {
	a, valid := netip.AddrFromSlice(id.LocalAddress.AsSlice())
	if !valid {
		return netip.AddrPort{}, false, false
	}
	to = netip.AddrPortFrom(a, id.LocalPort)
	if a == w.config.DNS && id.LocalPort == 53 {
		return to, true, true
	}
	return to, false, w.reachable(a)
}

// dial connects for the instance: the connection is made before the instance
// hears that it is, so that a refusal is one.
func (w *Way) dial(network string, to netip.AddrPort, dns bool) (net.Conn, error) {
	d := net.Dialer{Timeout: dialLimit}
	if !dns {
		return d.DialContext(w.ctx, network, to.String())
	}
	var last error
	for _, r := range resolvers() {
		c, err := d.DialContext(w.ctx, network, r)
		if err == nil {
			return c, nil
		}
		last = err
	}
	return nil, fmt.Errorf("no name server: %w", last)
}

func (w *Way) tcp(r *tcp.ForwarderRequest) {
	to, dns, ok := w.target(r.ID())
	if !ok {
		r.Complete(true)
		return
	}
	out, err := w.dial("tcp4", to, dns)
	if err != nil {
		r.Complete(true)
		return
	}
	var queue waiter.Queue
	ep, tcpErr := r.CreateEndpoint(&queue)
	r.Complete(tcpErr != nil)
	if tcpErr != nil {
		out.Close()
		return
	}
	relay(gonet.NewTCPConn(&queue, ep), out)
}

// relay copies in both directions until both have ended, each in its time.
func relay(a, b net.Conn) {
	one := func(to, from net.Conn) {
		_, _ = io.Copy(to, from)
		if c, ok := to.(interface{ CloseWrite() error }); ok {
			_ = c.CloseWrite()
		}
	}
	var done sync.WaitGroup
	done.Go(func() { one(a, b) })
	done.Go(func() { one(b, a) })
	done.Wait()
	a.Close()
	b.Close()
}

func (w *Way) udp(r *udp.ForwarderRequest) {
	to, dns, ok := w.target(r.ID())
	if !ok {
		return
	}
	var queue waiter.Queue
	ep, err := r.CreateEndpoint(&queue)
	if err != nil {
		return
	}
	in := gonet.NewUDPConn(&queue, ep)
	go func() {
		defer in.Close()
		out, err := w.dial("udp", to, dns)
		if err != nil {
			return
		}
		defer out.Close()
		var done sync.WaitGroup
		done.Go(func() { datagrams(in, out) })
		done.Go(func() { datagrams(out, in) })
		done.Wait()
	}()
}

// datagrams copies until nothing has come for a while.
func datagrams(to, from net.Conn) {
	b := make([]byte, 1<<16)
	for {
		_ = from.SetReadDeadline(time.Now().Add(udpIdle))
		n, err := from.Read(b)
		if err != nil {
			return
		}
		if _, err := to.Write(b[:n]); err != nil {
			return
		}
	}
}

// resolvers returns the host's name servers, as they are now.
func resolvers() []string {
	b, err := os.ReadFile("/etc/resolv.conf")
	if err != nil {
		return nil
	}
	return parseResolvers(string(b))
}
