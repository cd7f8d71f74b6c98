package sandbox

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// linkPrefix begins the names of the host's ends of the instances' cables.
const linkPrefix = "bh-"

// linkAlias marks a link as ours, beyond what fits into its name.
func linkAlias(dir, id string) string { return "localcloud " + dir + " " + id }

// shortName is what stands for an instance where names are short.
func shortName(dir, id string) string {
	sum := sha256.Sum256([]byte(dir + "\x00" + id))
	return hex.EncodeToString(sum[:6])
}

func linkName(dir, id string) string { return linkPrefix + shortName(dir, id) }

// connect lays a cable between the host and the network namespace of pid. Each
// end knows the other by a route to its address alone: no bridge, nothing
// forwarded.
func connect(dir, id string, pid int, addr netip.Addr) error {
	name := linkName(dir, id)
	if err := disconnect(dir, id); err != nil {
		return err
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	attrs.TxQLen = 1000
	cable := &netlink.Veth{LinkAttrs: attrs, PeerName: "eth0", PeerNamespace: netlink.NsPid(pid)}
	if err := netlink.LinkAdd(cable); err != nil {
		return fmt.Errorf("make %s: %w", name, err)
	}
	near, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find %s: %w", name, err)
	}
	if err := netlink.LinkSetAlias(near, linkAlias(dir, id)); err != nil {
		return fmt.Errorf("mark %s: %w", name, err)
	}
	h := &netlink.Handle{}
	if err := pointToPoint(h, near, hostAddr, addr); err != nil {
		return fmt.Errorf("set up %s: %w", name, err)
	}

	inside, err := networkOf(pid)
	if err != nil {
		return err
	}
	defer inside.Close()
	lo, err := inside.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("find lo: %w", err)
	}
	if err := inside.LinkSetUp(lo); err != nil {
		return fmt.Errorf("set up lo: %w", err)
	}
	far, err := inside.LinkByName("eth0")
	if err != nil {
		return fmt.Errorf("find eth0: %w", err)
	}
	if err := pointToPoint(inside, far, addr, hostAddr); err != nil {
		return fmt.Errorf("set up eth0: %w", err)
	}
	return nil
}

// networkOf opens the network namespace that a process is in.
func networkOf(pid int) (*netlink.Handle, error) {
	ns, err := netns.GetFromPid(pid)
	if err != nil {
		return nil, fmt.Errorf("network namespace: %w", err)
	}
	defer ns.Close()
	h, err := netlink.NewHandleAt(ns, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("network namespace: %w", err)
	}
	return h, nil
}

func pointToPoint(h *netlink.Handle, l netlink.Link, own, peer netip.Addr) error {
	a := &netlink.Addr{IPNet: hostNet(own), Peer: hostNet(peer)}
	if err := h.AddrAdd(l, a); err != nil {
		return fmt.Errorf("address %s: %w", own, err)
	}
	return h.LinkSetUp(l)
}

func hostNet(a netip.Addr) *net.IPNet {
	return &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(32, 32)}
}

// disconnect removes the cable of an instance; none is no error.
func disconnect(dir, id string) error {
	l, err := netlink.LinkByName(linkName(dir, id))
	var missing netlink.LinkNotFoundError
	if errors.As(err, &missing) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("find %s: %w", linkName(dir, id), err)
	}
	if err := netlink.LinkDel(l); err != nil && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("remove %s: %w", linkName(dir, id), err)
	}
	return nil
}

// cables returns the ids of the instances below dir that have a cable.
func cables(dir string) ([]string, error) {
	links, err := netlink.LinkList()
	if err != nil {
		return nil, fmt.Errorf("list network links: %w", err)
	}
	var ids []string
	for _, l := range links {
		if id, ok := strings.CutPrefix(l.Attrs().Alias, linkAlias(dir, "")); ok && strings.HasPrefix(l.Attrs().Name, linkPrefix) {
			ids = append(ids, id)
		}
	}
	return ids, nil
}

// fence keeps what is sent to the address of an instance that does not run on
// this host: without it, the default route would carry it into the world. Any
// real route to these addresses goes before it.
func fence() error {
	err := netlink.RouteAdd(fenceRoute())
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("route %s to nowhere: %w", fabric, err)
	}
	return nil
}

// unfence removes the fence if no instance of any Host runs.
func unfence() error {
	links, err := netlink.LinkList()
	if err != nil {
		return fmt.Errorf("list network links: %w", err)
	}
	for _, l := range links {
		if strings.HasPrefix(l.Attrs().Name, linkPrefix) {
			return nil
		}
	}
	if err := netlink.RouteDel(fenceRoute()); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("remove route %s to nowhere: %w", fabric, err)
	}
	return nil
}

func fenceRoute() *netlink.Route {
	return &netlink.Route{
		Dst:      &net.IPNet{IP: fabric.Addr().AsSlice(), Mask: net.CIDRMask(fabric.Bits(), 32)},
		Type:     unix.RTN_UNREACHABLE,
		Priority: 4278198272, // the least of all
	}
}
