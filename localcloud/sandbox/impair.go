package sandbox

import (
	"errors"
	"fmt"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/bakehouse-farm/bakehouse"
)

// An Impairment is what a bad network does to the packets of an instance, each
// way. The zero value is a good network.
type Impairment struct {
	// Cut drops all packets, silently. Nothing else counts then.
	Cut bool
	// Delay holds each packet back, by more or less Jitter.
	Delay, Jitter time.Duration
	// Loss is the percentage of packets that are lost.
	Loss float64
	// Rate limits the bytes per second; zero does not. It cannot be combined
	// with the others.
	Rate uint64
}

// Impair makes the network of a running instance as bad as i says, in place of
// what was asked for before; the zero Impairment mends it. A restart mends it,
// too: it lays a new cable. What this kernel cannot do is an error of kind
// Invalid that names it, and then nothing is changed.
func (h *Host) Impair(id string, i Impairment) error {
	_, init, err := h.running("impair network of", id)
	if err != nil {
		return err
	}
	if i.Rate > 0 && (i.Delay > 0 || i.Loss > 0) {
		return bakehouse.Errorf(bakehouse.Invalid, "impair network of instance %s: a rate cannot be combined with delay or loss", id)
	}
	if i.Loss < 0 || i.Loss > 100 || i.Delay < 0 || i.Jitter < 0 {
		return bakehouse.Errorf(bakehouse.Invalid, "impair network of instance %s: loss is between 0 and 100 %%, delay and jitter are not negative", id)
	}
	if err := h.impair(id, init, i); err != nil {
		return fmt.Errorf("impair network of instance %s: %w", id, err)
	}
	return nil
}

func (h *Host) impair(id string, init int, i Impairment) error {
	near, err := netlink.LinkByName(linkName(h.dir, id))
	if err != nil {
		return fmt.Errorf("find %s: %w", linkName(h.dir, id), err)
	}
	if err := shape(&netlink.Handle{}, near, i); err != nil {
		return err
	}
	inside, err := networkOf(init)
	if err != nil {
		return err
	}
	defer inside.Close()
	links, err := inside.LinkList()
	if err != nil {
		return fmt.Errorf("list links inside: %w", err)
	}
	for _, l := range links {
		if l.Attrs().Name == "lo" {
			continue
		}
		if err := shape(inside, l, i); err != nil {
			return err
		}
	}
	return nil
}

// shape puts a queue in front of a link that does to packets what i says.
func shape(h *netlink.Handle, l netlink.Link, i Impairment) error {
	attrs := netlink.QdiscAttrs{LinkIndex: l.Attrs().Index, Handle: netlink.MakeHandle(0xbad, 0), Parent: netlink.HANDLE_ROOT}
	var q netlink.Qdisc
	switch {
	case i.Cut:
		q = &netlink.GenericQdisc{QdiscAttrs: attrs, QdiscType: "blackhole"}
	case i.Delay > 0 || i.Loss > 0:
		q = netlink.NewNetem(attrs, netlink.NetemQdiscAttrs{
			Latency: uint32(i.Delay.Microseconds()), Jitter: uint32(i.Jitter.Microseconds()), Loss: float32(i.Loss), Limit: 10000,
		})
	case i.Rate > 0:
		burst := uint32(max(i.Rate/100, 32<<10)) // tun0 has packets of 16 KiB
		q = &netlink.Tbf{QdiscAttrs: attrs, Rate: i.Rate, Limit: burst * 8, Buffer: netlink.Xmittime(i.Rate, burst)}
	}
	if err := unshape(h, l); err != nil {
		return err
	}
	if q == nil {
		return nil
	}
	err := h.QdiscReplace(q)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EOPNOTSUPP) {
		return bakehouse.Errorf(bakehouse.Invalid, "this kernel has no queueing discipline %s (CONFIG_NET_SCH_*): what needs it cannot be done here", q.Type())
	}
	if err != nil {
		return fmt.Errorf("queue %s on %s: %w", q.Type(), l.Attrs().Name, err)
	}
	return nil
}

// unshape removes what shape has put there.
func unshape(h *netlink.Handle, l netlink.Link) error {
	list, err := h.QdiscList(l)
	if err != nil {
		return fmt.Errorf("list queues of %s: %w", l.Attrs().Name, err)
	}
	for _, q := range list {
		if q.Attrs().Handle != netlink.MakeHandle(0xbad, 0) || q.Attrs().Parent != netlink.HANDLE_ROOT {
			continue
		}
		if err := h.QdiscDel(q); err != nil && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("remove queue from %s: %w", l.Attrs().Name, err)
		}
	}
	return nil
}
