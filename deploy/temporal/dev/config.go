package main

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"time"

	"go.temporal.io/server/common/cluster"
	temporalconfig "go.temporal.io/server/common/config"
	"go.temporal.io/server/common/dynamicconfig"
	"go.temporal.io/server/common/membership/static"
	sqliteplugin "go.temporal.io/server/common/persistence/sql/sqlplugin/sqlite"
	"go.temporal.io/server/common/primitives"
)

// A config is what the flags say.
type config struct {
	state    string // folder
	listen   string
	ui       string
	noUI     bool
	logLevel string
}

const (
	clusterName = "active"
	loopback    = "127.0.0.1"
)

// dynamicConfig is what we want otherwise than the server's defaults.
func dynamicConfig() dynamicconfig.StaticClient {
	return dynamicconfig.StaticClient{
		// Off by default, fairness keys are ignored in silence.
		dynamicconfig.MatchingEnableFairness.Key(): true,
		// Priority and fairness only hold within one partition.
		dynamicconfig.MatchingNumTaskqueueReadPartitions.Key():  1,
		dynamicconfig.MatchingNumTaskqueueWritePartitions.Key(): 1,
		dynamicconfig.MaxIDLengthLimit.Key():                    255,
		// Cancellation reaches an agent at once, not with its next heartbeat.
		dynamicconfig.EnableCancelActivityWorkerCommand.Key(): true,
		dynamicconfig.WorkerCommandsEnabled.Key():             true,
		// A task is not handed to an agent that is about to stop.
		dynamicconfig.EnableCancelWorkerPollsOnShutdown.Key(): true,
	}
}

// sqlConfig is the database at path.
func sqlConfig(path string) *temporalconfig.SQL {
	return &temporalconfig.SQL{
		PluginName:   sqliteplugin.PluginName,
		DatabaseName: path,
		ConnectAttributes: map[string]string{
			"mode":         "rwc",
			"journal_mode": "wal",
			// FULL: what was acknowledged survives a power cut, too.
			"synchronous":  "2",
			"busy_timeout": "10000",
		},
	}
}

// ports are those that only the process itself uses.
type ports struct{ history, matching, worker int }

// temporalConfig is the server's configuration.
func temporalConfig(frontend netip.AddrPort, p ports, database string) *temporalconfig.Config {
	service := func(ip string, port int) temporalconfig.Service {
		return temporalconfig.Service{RPC: temporalconfig.RPC{GRPCPort: port, BindOnIP: ip}}
	}
	c := &temporalconfig.Config{}
	c.Global.Membership = temporalconfig.Membership{MaxJoinDuration: 30 * time.Second, BroadcastAddress: loopback}
	c.Persistence = temporalconfig.Persistence{
		DefaultStore:     sqliteplugin.PluginName,
		VisibilityStore:  sqliteplugin.PluginName,
		NumHistoryShards: 1, // for ever: it cannot be changed for an existing database
		DataStores: map[string]temporalconfig.DataStore{
			sqliteplugin.PluginName: {SQL: sqlConfig(database)},
		},
	}
	c.ClusterMetadata = &cluster.Config{
		FailoverVersionIncrement: 10,
		MasterClusterName:        clusterName,
		CurrentClusterName:       clusterName,
		ClusterInformation: map[string]cluster.ClusterInformation{
			clusterName: {Enabled: true, InitialFailoverVersion: 1, RPCAddress: reachable(frontend)},
		},
	}
	c.DCRedirectionPolicy = temporalconfig.DCRedirectionPolicy{Policy: "noop"}
	c.Services = map[string]temporalconfig.Service{
		string(primitives.FrontendService): service(frontend.Addr().String(), int(frontend.Port())),
		string(primitives.HistoryService):  service(loopback, p.history),
		string(primitives.MatchingService): service(loopback, p.matching),
		string(primitives.WorkerService):   service(loopback, p.worker),
	}
	c.Archival = temporalconfig.Archival{
		History:    temporalconfig.HistoryArchival{State: "disabled"},
		Visibility: temporalconfig.VisibilityArchival{State: "disabled"},
	}
	c.NamespaceDefaults = temporalconfig.NamespaceDefaults{
		Archival: temporalconfig.ArchivalNamespaceDefaults{
			History:    temporalconfig.HistoryArchivalNamespaceDefaults{State: "disabled"},
			Visibility: temporalconfig.VisibilityArchivalNamespaceDefaults{State: "disabled"},
		},
	}
	c.PublicClient = temporalconfig.PublicClient{HostPort: reachable(frontend)}
	return c
}

// staticHosts tells the services where the others are, which saves the gossip
// by which a cluster finds itself.
func staticHosts(frontend netip.AddrPort, p ports) map[primitives.ServiceName]static.Hosts {
	host := func(port int) static.Hosts {
		return static.SingleLocalHost(net.JoinHostPort(loopback, strconv.Itoa(port)))
	}
	return map[primitives.ServiceName]static.Hosts{
		primitives.FrontendService: static.SingleLocalHost(reachable(frontend)),
		primitives.HistoryService:  host(p.history),
		primitives.MatchingService: host(p.matching),
		primitives.WorkerService:   host(p.worker),
	}
}

// reachable returns where a server that listens on a can be reached from here.
func reachable(a netip.AddrPort) string {
	switch {
	case !a.Addr().IsUnspecified():
		return a.String()
	case a.Addr().Is4():
		return netip.AddrPortFrom(netip.MustParseAddr(loopback), a.Port()).String()
	default:
		return netip.AddrPortFrom(netip.IPv6Loopback(), a.Port()).String()
	}
}

// resolve turns the address of a flag into one that is free, now. The server
// opens its ports by itself, much later and with long errors.
func resolve(flag, address string) (netip.AddrPort, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("-%s %s: not of the form ADDRESS:PORT", flag, address)
	}
	switch host {
	case "":
		host = "0.0.0.0"
	case "localhost":
		host = loopback
	}
	if _, err := netip.ParseAddr(host); err != nil {
		return netip.AddrPort{}, fmt.Errorf("-%s %s: %q is not an IP address", flag, address, host)
	}
	l, err := net.Listen("tcp", net.JoinHostPort(host, port))
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("-%s %s: %w", flag, address, cause(err))
	}
	defer l.Close()
	a, ok := l.Addr().(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}, fmt.Errorf("-%s %s: not a TCP address", flag, address)
	}
	ap := a.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port()), nil
}

// freePorts finds ports for the inside. They are held until all are found, so
// that none is given twice.
func freePorts() (p ports, err error) {
	for _, port := range []*int{&p.history, &p.matching, &p.worker} {
		l, err := net.Listen("tcp", net.JoinHostPort(loopback, "0"))
		if err != nil {
			return p, fmt.Errorf("find a free port: %w", err)
		}
		defer l.Close()
		*port = l.Addr().(*net.TCPAddr).Port
	}
	return p, nil
}
