package site

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/bakehouse-farm/bakehouse/laboratory/wire"
	"github.com/bakehouse-farm/bakehouse/localcloud/control"
)

// Cables of an agent.
const (
	ToServer   = "server"
	ToCloud    = "cloud"
	ToMachines = "machines"
)

// Cables lists them.
func Cables() []string { return []string{ToServer, ToCloud, ToMachines} }

// Config says what a site is.
type Config struct {
	// Bin is the folder with our programs. Required.
	Bin string
	// Agent is the path of the agent; empty: Bin/agent.
	Agent string
	// Next is the path of an agent of another version; empty: there is none.
	Next string
	// Dir is a folder for all that the site keeps. Its name must be short, as
	// there are sockets in it. Required; the site does not remove it.
	Dir string
	// Agents is how many there are; 0 means 2.
	Agents int
	// Disk is the size of each machine's disk; empty means 64M.
	Disk string
	// Delays is localcloud's -delays.
	Delays float64
}

// Pool is the name of the agents' pool.
const Pool = "laboratory"

// agentDisk is the size of each agent's disk.
const agentDisk = 48 << 20

// A Site is the programs of a farm.
type Site struct {
	Config
	Server, Cloud *Program
	Agents        []*Agent

	exchange *wire.Exchange
	server   string // addresses on the host
	endpoint string
	mounts   []string
}

// An Agent is a program in a place of its own, with a disk of its own.
type Agent struct {
	*Program
	Place *wire.Place
	// Disk is the folder that its state is in.
	Disk string
}

// New starts a site. Close ends it, also after a failure here.
func New(ctx context.Context, c Config) (*Site, error) {
	if os.Getuid() != 0 {
		return nil, errors.New("the laboratory needs root, for network namespaces and the machines of localcloud")
	}
	if c.Agents == 0 {
		c.Agents = 2
	}
	if c.Disk == "" {
		c.Disk = "64M"
	}
	if c.Agent == "" {
		c.Agent = filepath.Join(c.Bin, "agent")
	}
	s := &Site{Config: c}
	var err error
	if s.server, err = freeAddress(); err != nil {
		return s, err
	}
	if s.endpoint, err = freeAddress(); err != nil {
		return s, err
	}
	s.exchange, err = wire.NewExchange([]wire.Service{
		{Name: ToServer, Prefix: serverAddr, Port: 7233, To: s.server},
		{Name: ToCloud, Prefix: cloudAddr, Port: 4566, To: s.endpoint},
		{Name: ToMachines, Prefix: machines, Port: 22},
	})
	if err != nil {
		return s, err
	}
	if out, err := s.Command(ctx, "submit", "key", filepath.Join(c.Dir, "key")).CombinedOutput(); err != nil {
		return s, fmt.Errorf("submit key: %w: %s", err, out)
	}
	s.Server = s.program("server", filepath.Join(c.Bin, "server"), "temporal is listening",
		"-state", filepath.Join(c.Dir, "temporal"), "-listen", s.server, "-no-ui")
	s.Cloud = s.program("localcloud", filepath.Join(c.Bin, "localcloud"), "localcloud is listening",
		"serve", "-listen", s.endpoint, "-state", s.cloudDir(), "-stop-instances", "-disk", c.Disk, "-delays", fmt.Sprint(c.Delays))
	for _, p := range []*Program{s.Server, s.Cloud} {
		if err := p.Start(ctx); err != nil {
			return s, err
		}
	}
	for n := range c.Agents {
		if err := s.addAgent(ctx, n+1); err != nil {
			return s, err
		}
	}
	return s, nil
}

// What agents see; see wire.
var (
	serverAddr = netip.MustParsePrefix("10.200.0.1/32")
	cloudAddr  = netip.MustParsePrefix("10.200.0.2/32")
	machines   = netip.MustParsePrefix("198.18.0.0/15") // localcloud's
)

func freeAddress() (string, error) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

func (s *Site) program(name, path, ready string, args ...string) *Program {
	return &Program{
		Name: name, Path: path, Args: args, ready: ready,
		env: s.env(s.server, s.endpoint), in: s.exchange, log: filepath.Join(s.Dir, name+".log"),
	}
}

// env is what a program is told by its environment.
func (s *Site) env(server, endpoint string) []string {
	var out []string
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "AWS_") && !strings.HasPrefix(v, "PKR_VAR_") && !strings.HasPrefix(v, "BAKEHOUSE_") &&
			!strings.HasPrefix(v, "TEMPORAL_") && !strings.HasPrefix(v, "OTEL_") && !strings.HasPrefix(v, "TRACEPARENT=") {
			out = append(out, v)
		}
	}
	return append(out,
		"TEMPORAL_ADDRESS="+server, "AWS_ENDPOINT_URL=http://"+endpoint,
		"AWS_ACCESS_KEY_ID=laboratory", "AWS_SECRET_ACCESS_KEY=laboratory", "AWS_EC2_METADATA_DISABLED=true",
		"BAKEHOUSE_STORE=file://"+s.StoreDir(), "BAKEHOUSE_KEY="+filepath.Join(s.Dir, "key"),
		"BAKEHOUSE_POOL="+Pool)
}

func (s *Site) addAgent(ctx context.Context, n int) error {
	name := fmt.Sprintf("agent-%d", n)
	a := &Agent{Disk: filepath.Join(s.Dir, name)}
	if err := os.MkdirAll(a.Disk, 0o700); err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", a.Disk, "tmpfs", unix.MS_NODEV|unix.MS_NOSUID, fmt.Sprintf("mode=700,size=%d", agentDisk)); err != nil {
		return fmt.Errorf("disk of %s: %w", name, err)
	}
	s.mounts = append(s.mounts, a.Disk)
	var err error
	if a.Place, err = s.exchange.NewPlace(); err != nil {
		return err
	}
	a.Program = &Program{
		Name: name, Path: s.Agent, ready: "agent is polling pool",
		Args: []string{"-pool", Pool, "-state", filepath.Join(a.Disk, "state"), "-log-level", "warn"},
		env:  s.env(addrPort(serverAddr, 7233), addrPort(cloudAddr, 4566)), in: a.Place, log: filepath.Join(s.Dir, name+".log"),
	}
	s.Agents = append(s.Agents, a)
	return a.Start(ctx)
}

func addrPort(p netip.Prefix, port uint16) string {
	return netip.AddrPortFrom(p.Addr(), port).String()
}

// StoreDir is the folder of the blob store.
func (s *Site) StoreDir() string { return filepath.Join(s.Dir, "store") }

func (s *Site) cloudDir() string { return filepath.Join(s.Dir, "cloud") }

// Endpoint is the URL of localcloud on the host.
func (s *Site) Endpoint() string { return "http://" + s.endpoint }

// Control is localcloud's side door.
func (s *Site) Control() control.Client { return control.Client{Dir: s.cloudDir()} }

// Command returns a command of one of our programs, as a user of the farm runs
// it on this machine. It is killed when ctx ends.
func (s *Site) Command(ctx context.Context, program string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(s.Bin, program), args...)
	cmd.Env = append(s.env(s.server, s.endpoint), "BAKEHOUSE_LOCALCLOUD_DIR="+s.cloudDir())
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

// Start starts a command that ends with this process.
func (s *Site) Start(cmd *exec.Cmd) error { return s.exchange.Start(cmd) }

// Upper returns the folders that hold what a machine has written.
func (s *Site) Upper(instance string) []string {
	dir := filepath.Join(s.cloudDir(), "sandbox", "instances", instance)
	return []string{filepath.Join(dir, "disk", "upper"), filepath.Join(dir, "upper")}
}

// Layers is the folder in which the contents of images are.
func (s *Site) Layers() string { return filepath.Join(s.cloudDir(), "sandbox", "layers") }

// Close ends all programs and gives back what the site has of the host.
func (s *Site) Close() error {
	var errs []error
	end := func(p *Program) {
		if p == nil || !p.Runs() {
			return
		}
		_ = p.Signal(unix.SIGCONT) // it may be frozen
		if err := p.Stop(); err != nil {
			errs = append(errs, err, p.Kill())
		}
	}
	for _, a := range s.Agents {
		end(a.Program)
		a.Place.Close()
	}
	if s.Cloud != nil && !s.Cloud.Runs() && s.exchange != nil {
		// Its machines outlive it: another one must end them.
		if err := s.Cloud.Start(context.Background()); err != nil {
			errs = append(errs, err)
		}
	}
	if s.Cloud != nil && s.Cloud.Runs() {
		_ = s.Cloud.Signal(unix.SIGCONT)
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		// Who was told to end may have started it just now, and not waited for it.
		_ = s.Cloud.AwaitReady(ctx) // the reset says why it cannot be
		errs = append(errs, s.Control().Reset(ctx))
		cancel()
	}
	end(s.Cloud)
	end(s.Server)
	if s.exchange != nil {
		s.exchange.Close()
	}
	for _, m := range s.mounts {
		if err := unix.Unmount(m, unix.MNT_DETACH); err != nil {
			errs = append(errs, fmt.Errorf("unmount %s: %w", m, err))
		}
	}
	return errors.Join(errs...)
}

// Logs returns the ends of the programs' logs, for people.
func (s *Site) Logs() string {
	var b strings.Builder
	names, _ := filepath.Glob(filepath.Join(s.Dir, "*.log"))
	for _, name := range names {
		data, _ := os.ReadFile(name)
		fmt.Fprintf(&b, "---- %s\n%s\n", filepath.Base(name), tail(data, 4000))
	}
	return b.String()
}

// Record is the folder in which localcloud writes down what it is asked.
func (s *Site) Record() string { return filepath.Join(s.cloudDir(), "record") }

// NewPlace makes a place for another program, which then reaches the cloud at
// the URL returned, and nothing but the services of the site.
func (s *Site) NewPlace() (p *wire.Place, endpoint string, err error) {
	p, err = s.exchange.NewPlace()
	return p, "http://" + addrPort(cloudAddr, 4566), err
}
