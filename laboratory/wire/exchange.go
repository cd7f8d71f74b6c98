// Package wire lays the network of a fault laboratory: each agent in a network
// namespace of its own, with one cable for each thing that it talks to, so that
// each can be cut by itself. Nothing on the host's network changes.
//
// The far ends of all cables lie in one more namespace, the exchange. It owns
// the addresses of what agents talk to, and carries on, connection by
// connection, to where that listens on the host. So the host forwards no
// packets, and addresses of machines mean the same in each namespace.
package wire

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os/exec"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/bakehouse-farm/bakehouse/localcloud/sandbox/line"
)

// A Service is what agents can reach: an address, or a network of them.
type Service struct {
	// Name names the cables to it: at most eight letters.
	Name string
	// Prefix is what belongs to it. More than one address means that each is
	// reached at the same address on the host.
	Prefix netip.Prefix
	Port   int
	// To is where it listens on the host; empty when Prefix is a network.
	To string
}

// An Exchange connects agents with services.
type Exchange struct {
	services  []Service
	ns        netns.NsHandle
	handle    *netlink.Handle
	listeners []net.Listener
	starter   chan func()
	done      chan struct{}

	mu     sync.Mutex
	places int
	conns  map[net.Conn]bool
}

// NewExchange makes an exchange for the services. Close takes it away.
func NewExchange(services []Service) (*Exchange, error) {
	e := &Exchange{services: services, starter: make(chan func()), done: make(chan struct{}), conns: map[net.Conn]bool{}}
	go e.start()
	var err error
	if e.ns, err = namespace(); err != nil {
		return nil, err
	}
	if e.handle, err = netlink.NewHandleAt(e.ns, unix.NETLINK_ROUTE); err != nil {
		e.Close()
		return nil, fmt.Errorf("exchange: %w", err)
	}
	for _, s := range services {
		if err := e.offer(s); err != nil {
			e.Close()
			return nil, fmt.Errorf("exchange: offer %s: %w", s.Name, err)
		}
	}
	return e, nil
}

// namespace makes a network namespace that ends with the last that uses it.
func namespace() (ns netns.NsHandle, err error) {
	ns = netns.None()
	runtime.LockOSThread()
	here, err := netns.Get()
	if err != nil {
		runtime.UnlockOSThread()
		return ns, fmt.Errorf("network namespace: %w", err)
	}
	defer here.Close()
	ns, err = netns.New()
	if back := netns.Set(here); back != nil {
		// The thread is lost for all else: it ends with this goroutine.
		return ns, fmt.Errorf("leave network namespace: %w", back)
	}
	runtime.UnlockOSThread()
	if err != nil {
		return ns, fmt.Errorf("make network namespace: %w", err)
	}
	h, err := netlink.NewHandleAt(ns, unix.NETLINK_ROUTE)
	if err != nil {
		return ns, fmt.Errorf("network namespace: %w", err)
	}
	defer h.Close()
	lo, err := h.LinkByName("lo")
	if err == nil {
		err = h.LinkSetUp(lo)
	}
	if err != nil {
		return ns, fmt.Errorf("set up lo: %w", err)
	}
	return ns, nil
}

// offer lets the exchange answer for a service.
func (e *Exchange) offer(s Service) error {
	lo, err := e.handle.LinkByName("lo")
	if err != nil {
		return err
	}
	// A route of type local makes every address of the network one's own.
	if err := e.handle.RouteAdd(&netlink.Route{
		LinkIndex: lo.Attrs().Index, Dst: ipNet(s.Prefix), Type: unix.RTN_LOCAL, Table: unix.RT_TABLE_LOCAL, Scope: unix.RT_SCOPE_HOST,
	}); err != nil {
		return fmt.Errorf("route: %w", err)
	}
	at := net.JoinHostPort("0.0.0.0", strconv.Itoa(s.Port))
	if s.Prefix.IsSingleIP() {
		at = net.JoinHostPort(s.Prefix.Addr().String(), strconv.Itoa(s.Port))
	}
	var l net.Listener
	if err := line.Within(e.ns, func() (err error) {
		l, err = net.Listen("tcp4", at)
		return err
	}); err != nil {
		return err
	}
	e.listeners = append(e.listeners, l)
	go e.accept(l, s)
	return nil
}

func (e *Exchange) accept(l net.Listener, s Service) {
	for {
		c, err := l.Accept()
		if err != nil {
			return // closed
		}
		go e.carry(c, s)
	}
}

// carry connects a connection with the service. Either end's fate becomes the
// other's: a farewell is passed on as one, anything else as a reset.
func (e *Exchange) carry(near net.Conn, s Service) {
	to := s.To
	if to == "" {
		host, _, err := net.SplitHostPort(near.LocalAddr().String())
		if err != nil {
			reset(near)
			return
		}
		to = net.JoinHostPort(host, strconv.Itoa(s.Port))
	}
	far, err := net.DialTimeout("tcp4", to, 10*time.Second)
	if err != nil {
		reset(near)
		return
	}
	e.track(near, far)
	defer e.forget(near, far)
	both := make(chan error, 2)
	pass := func(to, from net.Conn) {
		_, err := io.Copy(to, from)
		if err == nil {
			err = to.(*net.TCPConn).CloseWrite()
		}
		both <- err
	}
	go pass(far, near)
	go pass(near, far)
	if first := <-both; first != nil {
		reset(near)
		reset(far)
		<-both
		return
	}
	if second := <-both; second != nil {
		reset(near)
		reset(far)
		return
	}
	near.Close()
	far.Close()
}

func reset(c net.Conn) {
	_ = c.(*net.TCPConn).SetLinger(0) // or it is closed
	c.Close()
}

func (e *Exchange) track(conns ...net.Conn) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, c := range conns {
		e.conns[c] = true
	}
}

func (e *Exchange) forget(conns ...net.Conn) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, c := range conns {
		delete(e.conns, c)
	}
}

// start starts programs, all from one thread: the kernel ends a program with
// the thread that started it, and this one lives as long as the exchange.
func (e *Exchange) start() {
	runtime.LockOSThread()
	for {
		select {
		case do := <-e.starter:
			do()
		case <-e.done:
			return
		}
	}
}

// Start starts a program on the host's network; it ends with this process.
func (e *Exchange) Start(cmd *exec.Cmd) error { return e.startIn(netns.None(), cmd) }

func (e *Exchange) startIn(ns netns.NsHandle, cmd *exec.Cmd) error {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	result := make(chan error, 1)
	do := func() {
		if !ns.IsOpen() {
			result <- cmd.Start()
			return
		}
		here, err := netns.Get()
		if err != nil {
			result <- err
			return
		}
		defer here.Close()
		if err := netns.Set(ns); err != nil {
			result <- err
			return
		}
		err = cmd.Start()
		result <- errors.Join(err, netns.Set(here))
	}
	select {
	case e.starter <- do:
		return <-result
	case <-e.done:
		return errors.New("exchange is closed")
	}
}

// Close takes the exchange away, with the connections through it. Programs that
// were started through it and still run are killed by the kernel.
func (e *Exchange) Close() {
	for _, l := range e.listeners {
		l.Close()
	}
	e.mu.Lock()
	for c := range e.conns {
		c.Close()
	}
	e.mu.Unlock()
	if e.handle != nil {
		e.handle.Close()
	}
	if e.ns.IsOpen() {
		e.ns.Close()
	}
	close(e.done)
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
