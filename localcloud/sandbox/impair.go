package sandbox

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"slices"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/bakehouse-farm/bakehouse"
	"github.com/bakehouse-farm/bakehouse/localcloud/sandbox/line"
)

// An Impairment is what a bad network does to the packets between an instance
// and this host, each way. The zero value is a good network.
type Impairment struct {
	// Cut drops all packets, silently, also those to and from the world. Nothing
	// else counts then.
	Cut bool
	// Delay holds each packet back, by up to Jitter more or less.
	Delay, Jitter time.Duration
	// Loss is the percentage of packets that are lost.
	Loss float64
	// Rate limits the bytes per second; zero does not.
	Rate uint64
}

// A badLine is what the packets of one boot of an instance take.
type badLine struct {
	*line.Line
	init int
}

// Impair makes the network of a running instance as bad as i says, in place of
// what was asked for before; the zero Impairment mends it. A restart mends it,
// too: it lays a new cable. A cut outlives the Host; the rest ends with it, for
// it is this process that carries the packets. Where it cannot, for want of
// /dev/net/tun, that is an error of kind Invalid that names it, and nothing is
// changed.
func (h *Host) Impair(id string, i Impairment) error {
	defer h.locked(id)()
	_, init, err := h.running("impair network of", id)
	if err != nil {
		return err
	}
	w := line.Weather{Loss: i.Loss, Delay: i.Delay, Jitter: i.Jitter, Rate: i.Rate}
	if err := w.Check(); err != nil {
		return bakehouse.Errorf(bakehouse.Invalid, "impair network of instance %s: %w", id, err)
	}
	if err := h.impair(id, init, i.Cut, w); err != nil {
		if errors.Is(err, line.ErrMissing) {
			return bakehouse.Errorf(bakehouse.Invalid, "impair network of instance %s: %w", id, err)
		}
		return fmt.Errorf("impair network of instance %s: %w", id, err)
	}
	return nil
}

func (h *Host) impair(id string, init int, cut bool, w line.Weather) error {
	near, err := netlink.LinkByName(linkName(h.dir, id))
	if err != nil {
		return fmt.Errorf("find %s: %w", linkName(h.dir, id), err)
	}
	bad := !cut && w != line.Weather{}
	if bad {
		if err := h.bend(id, init, near.Attrs().MTU, w); err != nil {
			return err
		}
	}
	if err := cutCable(near, init, cut); err != nil {
		return err
	}
	if !bad {
		h.straighten(id)
	}
	return nil
}

// bend lets the packets of an instance take a line with that weather.
func (h *Host) bend(id string, init, mtu int, w line.Weather) error {
	h.mu.Lock()
	old, ok := h.lines[id]
	h.mu.Unlock()
	if ok && old.init == init {
		select {
		case <-old.Done():
		default:
			old.Set(w)
			return nil
		}
	}
	h.straighten(id)
	spec, err := h.instance(id).spec()
	if err != nil {
		return err
	}
	inside, err := netns.GetFromPid(init)
	if err != nil {
		return fmt.Errorf("network namespace: %w", err)
	}
	defer inside.Close()
	l, err := line.Lay(
		line.End{Namespace: netns.None(), Own: hostAddr, Peer: netip.PrefixFrom(spec.Addr, 32)},
		line.End{Namespace: inside, Own: spec.Addr, Peer: netip.PrefixFrom(hostAddr, 32)},
		mtu, w)
	if err != nil {
		return err
	}
	if err := endWith(l, init); err != nil {
		l.Close()
		return err
	}
	h.mu.Lock()
	h.lines[id] = badLine{l, init}
	h.mu.Unlock()
	return nil
}

// endWith ends a line when a process ends. The namespace alone would not tell:
// it lasts until the last connection that was cut off is given up in it, and
// that long the next boot would be reached over a line that leads nowhere.
func endWith(l *line.Line, pid int) error {
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	if err != nil {
		return fmt.Errorf("follow process %d: %w", pid, err)
	}
	process := os.NewFile(uintptr(fd), fmt.Sprintf("process %d", pid))
	ends, err := process.SyscallConn()
	if err != nil {
		process.Close()
		return fmt.Errorf("follow process %d: %w", pid, err)
	}
	go func() {
		_ = ends.Read(func(fd uintptr) bool {
			n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
			return err == nil && n > 0
		})
		l.Close()
	}()
	go func() {
		<-l.Done()
		process.Close() // which ends the reading, too
	}()
	return nil
}

// straighten ends the bad line of an instance; none is no error.
func (h *Host) straighten(id string) {
	h.mu.Lock()
	l, ok := h.lines[id]
	delete(h.lines, id)
	h.mu.Unlock()
	if ok {
		l.Close()
	}
}

// straightenAll ends all bad lines.
func (h *Host) straightenAll() {
	h.mu.Lock()
	ids := slices.Collect(maps.Keys(h.lines))
	h.mu.Unlock()
	for _, id := range ids {
		h.straighten(id)
	}
}

// cutCable cuts the cable of the instance of init, and its way into the world,
// or mends both.
func cutCable(near netlink.Link, init int, cut bool) error {
	if err := block(&netlink.Handle{}, near, cut); err != nil {
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
		if err := block(inside, l, cut); err != nil {
			return err
		}
	}
	return nil
}

// block lets a link drop all that is sent through it, or ends that.
func block(h *netlink.Handle, l netlink.Link, cut bool) error {
	if err := unblock(h, l); err != nil || !cut {
		return err
	}
	q := &netlink.GenericQdisc{
		QdiscAttrs: netlink.QdiscAttrs{LinkIndex: l.Attrs().Index, Handle: netlink.MakeHandle(0xbad, 0), Parent: netlink.HANDLE_ROOT},
		QdiscType:  "blackhole",
	}
	if err := h.QdiscReplace(q); err != nil {
		return fmt.Errorf("queue %s on %s: %w", q.Type(), l.Attrs().Name, err)
	}
	return nil
}

// unblock removes what block has put there.
func unblock(h *netlink.Handle, l netlink.Link) error {
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
