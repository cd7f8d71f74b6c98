// Server is a Temporal server for one computer: frontend, history, matching,
// worker and web UI in one process, on SQLite in a folder. What has been
// acknowledged survives kill -9.
//
// It is a module of its own because the Temporal server brings hundreds of
// dependencies that nobody who builds images should carry.
//
// Exit codes: 0 when it was told to stop (SIGINT, SIGTERM), 1 when it could not
// start or failed, 2 for wrong flags.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

// stopLimit is how long stopping may take. What is cut off then is only
// waiting: everything that matters is on disk.
const stopLimit = 1800 * time.Millisecond

func main() {
	c := config{}
	flag.StringVar(&c.state, "state", "", "folder of the database; made if absent (required)")
	flag.StringVar(&c.listen, "listen", "127.0.0.1:7233", "address for agents and submit; port 0 takes a free one")
	flag.StringVar(&c.ui, "ui", "127.0.0.1:8233", "address of the web UI; port 0 takes a free one")
	flag.BoolVar(&c.noUI, "no-ui", false, "no web UI")
	flag.StringVar(&c.logLevel, "log-level", "error", "what Temporal logs to standard error: debug, info, warn, error")
	flag.Parse()
	if flag.NArg() > 0 || c.state == "" {
		fmt.Fprintln(os.Stderr, "usage: server -state FOLDER [flags]")
		flag.PrintDefaults()
		os.Exit(2)
	}
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	if err := run(ctx, c); err != nil {
		fmt.Fprintln(os.Stderr, "server:", oneLine(err.Error()))
		os.Exit(1)
	}
}

// run serves until ctx ends.
func run(ctx context.Context, c config) error {
	s, err := start(ctx, c)
	if ctx.Err() != nil {
		return nil // told to stop while starting
	}
	if err != nil {
		return err
	}
	line := "temporal is listening on " + s.address
	if s.uiURL != "" {
		line += ", web UI on " + s.uiURL
	}
	fmt.Println(line)
	select {
	case <-ctx.Done():
	case err = <-s.failed:
	}
	stopped := make(chan struct{})
	go func() {
		s.stop()
		close(stopped)
	}()
	select {
	case <-stopped:
	case <-time.After(stopLimit):
	}
	return err
}

// oneLine keeps of a message what one needs to read. The server's own start
// errors quote the path through its wiring, the cause comes last.
func oneLine(msg string) string {
	lines := strings.FieldsFunc(msg, func(r rune) bool { return r == '\n' || r == '\r' || r == '\t' })
	return strings.Join(lines, " ")
}
