package wire

import (
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/bakehouse-farm/bakehouse/localcloud/sandbox/line"
)

// A Place is a network namespace with a cable to each service.
type Place struct {
	e      *Exchange
	ns     netns.NsHandle
	handle *netlink.Handle
	cables map[string]*cable
}

// A cable has an end in the place and one in the exchange.
type cable struct {
	near, far netlink.Link
	// own and gateway are the addresses of the ends, prefix what is reached.
	own, gateway netip.Addr
	prefix       netip.Prefix

	mu   sync.Mutex
	line *line.Line // what the packets take instead in bad weather; nil: nothing
}

// A Weather is what a cable does to packets, each way. The zero value is fair.
type Weather struct {
	// Cut drops all packets, silently. Nothing else counts then.
	Cut bool
	// Rate limits the bytes per second; zero does not.
	Rate uint64
	// Loss is the percentage of packets that are lost, each by itself.
	Loss float64
	// Delay holds each packet back, by up to Jitter more or less.
	Delay, Jitter time.Duration
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
	p := &Place{e: e, ns: ns, cables: map[string]*cable{}}
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
	p.cables[s.Name] = &cable{near: near, far: far, own: own, gateway: gateway, prefix: s.Prefix}
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
// Bad weather other than a cut takes TUN devices; without them, that is a
// line.ErrMissing, and nothing is changed.
func (p *Place) Set(service string, w Weather) error {
	c, ok := p.cables[service]
	if !ok {
		return fmt.Errorf("there is no cable to %q", service)
	}
	if err := p.set(c, w); err != nil {
		return fmt.Errorf("cable to %s: %w", service, err)
	}
	return nil
}

func (p *Place) set(c *cable, w Weather) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	over := line.Weather{Loss: w.Loss, Delay: w.Delay, Jitter: w.Jitter, Rate: w.Rate}
	if err := over.Check(); err != nil {
		return err
	}
	bad := !w.Cut && over != line.Weather{}
	switch {
	case bad && c.line != nil:
		c.line.Set(over)
	case bad:
		l, err := line.Lay(
			line.End{Namespace: p.e.ns, Own: c.gateway, Peer: netip.PrefixFrom(c.own, 32)},
			line.End{Namespace: p.ns, Own: c.own, Peer: c.prefix},
			c.near.Attrs().MTU, over)
		if err != nil {
			return err
		}
		c.line = l
	}
	if err := block(p.handle, c.near, w.Cut); err != nil {
		return err
	}
	if err := block(p.e.handle, c.far, w.Cut); err != nil {
		return err
	}
	if !bad {
		c.straighten()
	}
	return nil
}

// straighten ends the line beside a cable.
func (c *cable) straighten() {
	if c.line != nil {
		c.line.Close()
		c.line = nil
	}
}

// block lets a link drop all that is sent through it, or ends that.
func block(h *netlink.Handle, l netlink.Link, cut bool) error {
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
	if !cut {
		return nil
	}
	return h.QdiscAdd(&netlink.GenericQdisc{QdiscAttrs: attrs, QdiscType: "blackhole"})
}

// Close takes the place away, once nothing runs in it any more.
func (p *Place) Close() {
	for _, c := range p.cables {
		c.mu.Lock()
		c.straighten()
		c.mu.Unlock()
	}
	if p.handle != nil {
		p.handle.Close()
	}
	if p.ns.IsOpen() {
		p.ns.Close()
	}
}
