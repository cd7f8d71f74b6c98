package wire

import (
	"errors"
	"fmt"
	"net/netip"
	"os/exec"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// ErrMissing tells that this kernel cannot do it.
var ErrMissing = errors.New("not available in this kernel")

// A Place is a network namespace with a cable to each service.
type Place struct {
	e      *Exchange
	ns     netns.NsHandle
	handle *netlink.Handle
	cables map[string]cable
}

// A cable has an end in the place and one in the exchange.
type cable struct{ near, far netlink.Link }

// A Weather is what a cable does to packets, each way. The zero value is fair.
type Weather struct {
	// Cut drops all packets, silently.
	Cut bool
	// Rate limits the bytes per second; zero does not.
	Rate uint64
	// Loss is the percentage of packets lost, Delay how many milliseconds they
	// are held back. Both need a kernel with netem.
	Loss  float64
	Delay int
}

// NewPlace makes a place. Close takes it away.
func (e *Exchange) NewPlace() (*Place, error) {
	e.mu.Lock()
	e.places++
	n := e.places
	e.mu.Unlock()
	ns, err := namespace()
	if err != nil {
		return nil, err
	}
	p := &Place{e: e, ns: ns, cables: map[string]cable{}}
	if p.handle, err = netlink.NewHandleAt(ns, unix.NETLINK_ROUTE); err != nil {
		p.Close()
		return nil, fmt.Errorf("place %d: %w", n, err)
	}
	for i, s := range e.services {
		if err := p.lay(n, i, s); err != nil {
			p.Close()
			return nil, fmt.Errorf("place %d: cable to %s: %w", n, s.Name, err)
		}
	}
	return p, nil
}

// lay lays the cable to a service.
func (p *Place) lay(n, i int, s Service) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = s.Name
	attrs.TxQLen = 1000
	name := fmt.Sprintf("%s-%d", s.Name, n)
	// The exchange's end is made there at once: the host never sees it.
	if err := p.handle.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: name, PeerNamespace: netlink.NsFd(int(p.e.ns))}); err != nil {
		return err
	}
	near, err := p.handle.LinkByName(s.Name)
	if err != nil {
		return err
	}
	far, err := p.e.handle.LinkByName(name)
	if err != nil {
		return err
	}
	subnet := netip.AddrFrom4([4]byte{10, 201, byte(n), byte(i * 4)})
	gateway, own := subnet.Next(), subnet.Next().Next()
	if err := up(p.e.handle, far, gateway); err != nil {
		return err
	}
	if err := up(p.handle, near, own); err != nil {
		return err
	}
	if err := p.handle.RouteAdd(&netlink.Route{LinkIndex: near.Attrs().Index, Dst: ipNet(s.Prefix), Gw: gateway.AsSlice(), Src: own.AsSlice()}); err != nil {
		return fmt.Errorf("route: %w", err)
	}
	p.cables[s.Name] = cable{near, far}
	return nil
}

func up(h *netlink.Handle, l netlink.Link, a netip.Addr) error {
	if err := h.AddrAdd(l, &netlink.Addr{IPNet: ipNet(netip.PrefixFrom(a, 30))}); err != nil {
		return fmt.Errorf("address %s: %w", a, err)
	}
	return h.LinkSetUp(l)
}

// Start starts a program in the place; it ends with this process.
func (p *Place) Start(cmd *exec.Cmd) error { return p.e.startIn(p.ns, cmd) }

// Set changes the weather on the cable to a service, in place of what it was.
// What this kernel cannot do is an ErrMissing that names it.
func (p *Place) Set(service string, w Weather) error {
	c, ok := p.cables[service]
	if !ok {
		return fmt.Errorf("there is no cable to %q", service)
	}
	if err := shape(p.handle, c.near, w); err != nil {
		return fmt.Errorf("cable to %s: %w", service, err)
	}
	if err := shape(p.e.handle, c.far, w); err != nil {
		return fmt.Errorf("cable to %s: %w", service, err)
	}
	return nil
}

func shape(h *netlink.Handle, l netlink.Link, w Weather) error {
	attrs := netlink.QdiscAttrs{LinkIndex: l.Attrs().Index, Handle: netlink.MakeHandle(0xbad, 0), Parent: netlink.HANDLE_ROOT}
	list, err := h.QdiscList(l)
	if err != nil {
		return err
	}
	for _, q := range list {
		if q.Attrs().Handle == attrs.Handle && q.Attrs().Parent == attrs.Parent {
			if err := h.QdiscDel(q); err != nil && !errors.Is(err, unix.ENOENT) {
				return err
			}
		}
	}
	var q netlink.Qdisc
	switch {
	case w.Cut:
		q = &netlink.GenericQdisc{QdiscAttrs: attrs, QdiscType: "blackhole"}
	case w.Loss > 0 || w.Delay > 0:
		q = netlink.NewNetem(attrs, netlink.NetemQdiscAttrs{Latency: uint32(w.Delay) * 1000, Loss: float32(w.Loss), Limit: 10000})
	case w.Rate > 0:
		burst := uint32(max(w.Rate/50, 4<<10))
		q = &netlink.Tbf{QdiscAttrs: attrs, Rate: w.Rate, Limit: burst * 16, Buffer: netlink.Xmittime(w.Rate, burst)}
	default:
		return nil
	}
	err = h.QdiscAdd(q)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EOPNOTSUPP) {
		return fmt.Errorf("queueing discipline %s: %w", q.Type(), ErrMissing)
	}
	return err
}

// Close takes the place away, once nothing runs in it any more.
func (p *Place) Close() {
	if p.handle != nil {
		p.handle.Close()
	}
	if p.ns.IsOpen() {
		p.ns.Close()
	}
}
