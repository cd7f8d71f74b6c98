package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/bakehouse-farm/bakehouse/localcloud"
	"github.com/bakehouse-farm/bakehouse/localcloud/control"
	"github.com/bakehouse-farm/bakehouse/localcloud/sandbox"
	"github.com/bakehouse-farm/bakehouse/localcloud/state"
)

func serve(ctx context.Context, args []string, _ io.Reader, out, errw io.Writer) (err error) {
	f, dir := flags("serve", "", errw)
	listen := f.String("listen", "127.0.0.1:4566", "`address` to answer at")
	delays := f.Float64("delays", 0, "how long things take, between 0 (as fast as they are) and 1 (as on AWS)")
	account := f.String("account", "", "account that everything belongs to (default 123456789012)")
	stop := f.Bool("stop-instances", false, "stop all instances at the end; without it they run on")
	var disk size
	f.Var(&disk, "disk", "give each new instance a disk of this `size`, such as 512M, kept in memory; it can fill up (default: they share this machine's)")
	verbose := f.Bool("v", false, "log every request that was refused")
	if _, err := parse(f, args, 0); err != nil {
		return err
	}
	level := slog.LevelWarn
	if *verbose {
		level = slog.LevelInfo
	}
	log := slog.New(slog.NewTextHandler(errw, &slog.HandlerOptions{Level: level}))
	if pid := state.Holder(*dir); pid != "" {
		return fmt.Errorf("state folder %s is in use by another localcloud (pid %s): use that one, stop it, or choose another folder with -state", *dir, pid)
	}
	l, err := net.Listen("tcp", *listen)
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("%w: another localcloud may be there, `ss -ltnp` tells; choose another address with -listen", err)
	}
	if err != nil {
		return fmt.Errorf("%w: choose another address with -listen", err)
	}
	defer l.Close()
	if a, ok := l.Addr().(*net.TCPAddr); ok && !a.IP.IsLoopback() {
		log.Warn("whoever reaches this address can use localcloud: signatures are not checked", "address", a)
	}
	host, err := sandbox.New(ctx, sandbox.Config{Dir: filepath.Join(*dir, "sandbox"), Disk: int64(disk), Log: log})
	if err != nil {
		return wayOut(err)
	}
	defer func() { err = errors.Join(err, host.Close()) }()
	cloud, err := localcloud.New(localcloud.Config{Dir: *dir, Host: host, Delays: *delays, Account: *account, Log: log})
	if err != nil {
		return wayOut(err)
	}
	defer func() { err = errors.Join(err, cloud.Close()) }()
	if n := len(cloud.Faults().List()); n > 0 {
		log.Warn("rules of faults are in force: localcloud faults list shows them", "rules", n)
	}
	admin, err := control.Listen(*dir)
	if err != nil {
		return wayOut(err)
	}
	errs := make(chan error, 2)
	var servers []*http.Server
	start := func(l net.Listener, h http.Handler) {
		s := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn)}
		servers = append(servers, s)
		go func() { errs <- s.Serve(l) }()
	}
	start(admin, control.Handler(cloud, log))
	start(l, cloud)
	fmt.Fprintf(out, "localcloud is listening on http://%s\n", l.Addr())
	select {
	case <-ctx.Done():
	case err = <-errs:
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	for _, s := range servers {
		if s.Shutdown(grace) != nil {
			_ = s.Close() // what is still under way had its time
		}
	}
	if *stop {
		long, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		defer cancel()
		err = errors.Join(err, cloud.Stop(long))
	}
	return err
}

// A size is a flag in bytes, with a unit if wanted: 512M, 2G.
type size int64

func (s *size) String() string { return strconv.FormatInt(int64(*s), 10) }

func (s *size) Set(text string) error {
	number, shift := text, 0
	for unit, n := range map[string]int{"K": 10, "M": 20, "G": 30} {
		if rest, ok := strings.CutSuffix(text, unit); ok {
			number, shift = rest, n
		}
	}
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || n <= 0 || n > 1<<62>>shift {
		return errors.New("not a size such as 512M or 2G")
	}
	*s = size(n << shift)
	return nil
}

// wayOut says what to do when it is the state folder.
func wayOut(err error) error {
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return fmt.Errorf("%w: make room, or choose another state folder with -state", err)
	case errors.Is(err, syscall.EROFS), errors.Is(err, syscall.ENOTDIR), errors.Is(err, syscall.EACCES):
		return fmt.Errorf("%w: choose another state folder with -state", err)
	}
	return err
}
