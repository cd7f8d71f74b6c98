package line

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"runtime"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// ErrMissing tells that there are no TUN devices to make a line of.
var ErrMissing = errors.New("there is no /dev/net/tun that may be used here")

// device makes a TUN device in a namespace. It lasts as long as the file is
// open, or until the namespace it is in ends.
func device(in netns.NsHandle) (f *os.File, name string, err error) {
	// Of a length that no other link of ours has, and unique at both ends.
	name = fmt.Sprintf("bh-l%08x", rand.Uint32())
	err = Within(in, func() error {
		// Without flags, the kernel gives us whole packets with their checksums.
		req, err := unix.NewIfreq(name)
		if err != nil {
			return err
		}
		req.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI | unix.IFF_TUN_EXCL)
		fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
		switch err {
		case nil:
		case unix.ENOENT, unix.ENODEV, unix.ENXIO, unix.EPERM, unix.EACCES:
			return fmt.Errorf("%w (%w)", ErrMissing, err)
		default:
			return fmt.Errorf("open /dev/net/tun: %w", err)
		}
		if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, req); err != nil {
			unix.Close(fd)
			return fmt.Errorf("make TUN device %s: %w", name, err)
		}
		f = os.NewFile(uintptr(fd), name)
		return nil
	})
	return f, name, err
}

// Within calls do on a thread that is in the namespace, which do must not leave;
// netns.None() is that of this process.
func Within(ns netns.NsHandle, do func() error) error {
	if !ns.IsOpen() {
		return do()
	}
	result := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		here, err := netns.Get()
		if err != nil {
			runtime.UnlockOSThread()
			result <- err
			return
		}
		defer here.Close()
		if err = netns.Set(ns); err == nil {
			err = do()
		}
		if netns.Set(here) == nil {
			runtime.UnlockOSThread() // else the thread ends with this goroutine
		}
		result <- err
	}()
	return <-result
}

// move moves a device from one namespace to another.
func move(name string, from, to netns.NsHandle) error {
	if !to.IsOpen() {
		return errors.New("has no namespace of its own")
	}
	h, err := netlink.NewHandleAt(from, unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer h.Close()
	l, err := h.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find %s: %w", name, err)
	}
	if err := h.LinkSetNsFd(l, int(to)); err != nil {
		return fmt.Errorf("move %s: %w", name, err)
	}
	return nil
}

// connect lets what e sends to its peer go through a device.
func connect(name string, e End, mtu int) error {
	h, err := netlink.NewHandleAt(e.Namespace, unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer h.Close()
	l, err := h.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find %s: %w", name, err)
	}
	if err := h.LinkSetMTU(l, mtu); err != nil {
		return fmt.Errorf("mtu of %s: %w", name, err)
	}
	if err := h.LinkSetUp(l); err != nil {
		return fmt.Errorf("set up %s: %w", name, err)
	}
	// To create, without more, puts a route before the others of the same metric:
	// that is what the ECMP variant asks for.
	if err := h.RouteAddEcmp(&netlink.Route{
		LinkIndex: l.Attrs().Index, Scope: netlink.SCOPE_LINK, Dst: network(e.Peer), Src: e.Own.AsSlice(),
	}); err != nil {
		return fmt.Errorf("route %s through %s: %w", e.Peer, name, err)
	}
	return nil
}

func network(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
