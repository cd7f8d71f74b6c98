package main

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"time"

	uiserver "github.com/temporalio/ui-server/v2/server"
	uiconfig "github.com/temporalio/ui-server/v2/server/config"
	uioptions "github.com/temporalio/ui-server/v2/server/server_options"
	"go.temporal.io/server/common/authorization"
	temporalconfig "go.temporal.io/server/common/config"
	"go.temporal.io/server/common/log"
	"go.temporal.io/server/temporal"
)

// startLimit is how long a start may take on a slow and busy computer.
const startLimit = time.Minute

// A server runs.
type server struct {
	address string // that a client can connect to
	uiURL   string // empty without web UI
	failed  chan error

	state    *state
	temporal temporal.Server
	ui       *uiserver.Server
}

// start returns when a client can connect.
func start(ctx context.Context, c config) (_ *server, err error) {
	frontend, err := resolve("listen", c.listen)
	if err != nil {
		return nil, err
	}
	var ui netip.AddrPort
	if !c.noUI {
		if ui, err = resolve("ui", c.ui); err != nil {
			return nil, err
		}
	}
	inner, err := freePorts()
	if err != nil {
		return nil, err
	}
	logger, err := newLogger(c.logLevel)
	if err != nil {
		return nil, err
	}
	s := &server{address: reachable(frontend), failed: make(chan error, 1)}
	if s.state, err = openState(c.state); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			s.stop()
		}
	}()
	tc := temporalConfig(frontend, inner, s.state.database)
	if err := createNamespace(sqlConfig(s.state.database)); err != nil {
		return nil, fmt.Errorf("open database %s: %w", s.state.database, err)
	}
	claims, err := authorization.GetClaimMapperFromConfig(&tc.Global.Authorization, logger)
	if err != nil {
		return nil, err
	}
	s.temporal, err = temporal.NewServer(
		temporal.WithConfig(tc),
		temporal.ForServices(temporal.DefaultServices),
		temporal.WithStaticHosts(staticHosts(frontend, inner)),
		temporal.WithLogger(logger),
		// Whoever reaches the port may use it, hence 127.0.0.1 by default.
		temporal.WithAuthorizer(authorization.NewNoopAuthorizer()),
		temporal.WithClaimMapper(func(*temporalconfig.Config) authorization.ClaimMapper { return claims }),
		temporal.WithDynamicConfigClient(dynamicConfig()),
	)
	if err != nil {
		return nil, fmt.Errorf("set up temporal: %w", err)
	}
	if err := s.temporal.Start(); err != nil {
		return nil, fmt.Errorf("start temporal: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	if err := awaitReady(ctx, s.address); err != nil {
		return nil, err
	}
	if !c.noUI {
		s.startUI(ui)
	}
	return s, nil
}

// startUI serves the web UI.
func (s *server) startUI(at netip.AddrPort) {
	s.uiURL = "http://" + reachable(at)
	s.ui = uiserver.NewServer(uioptions.WithConfigProvider(&uiconfig.Config{
		Host:                at.Addr().String(),
		Port:                int(at.Port()),
		TemporalGRPCAddress: s.address,
		EnableUI:            true,
		DefaultNamespace:    namespace,
		HideLogs:            true,
		// No word to anybody outside of this computer.
		DisableNewsFetch: true,
		// We speak plain HTTP, where browsers do not send back secure cookies.
		CORS: uiconfig.CORS{CookieInsecure: true},
	}))
	go func() {
		if err := s.ui.Start(); err != nil {
			s.failed <- fmt.Errorf("web UI: %w", err)
		}
	}()
	// It opens its port in the background.
	deadline := time.Now().Add(5 * time.Second)
	for time.Now().Before(deadline) {
		c, err := net.Dial("tcp", reachable(at))
		if err == nil {
			c.Close()
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// stop ends whatever was started.
func (s *server) stop() {
	if s.ui != nil {
		s.ui.Stop()
	}
	if s.temporal != nil {
		// Its errors are about what is still being waited for.
		_ = s.temporal.Stop()
	}
	s.state.close()
}

// newLogger logs to standard error, as text that people read.
func newLogger(level string) (log.Logger, error) {
	switch level {
	case "debug", "info", "warn", "error":
	default:
		return nil, fmt.Errorf("-log-level %s: it is debug, info, warn or error", strconv.Quote(level))
	}
	return log.NewZapLogger(log.BuildZapLogger(log.Config{
		Format: "console", Level: level,
	})), nil
}
