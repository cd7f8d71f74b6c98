//go:build linux

// Runner is the small program that Bakehouse puts on a machine. It runs one
// command of a provisioner detached from the connection that asked for it, so
// that the command outlives that connection and can be followed again from
// anywhere. It is no daemon: there is one supervisor per running command.
//
//	runner start -base DIR -build ID -id ID [-follow] [-from N]  < spec
//	runner probe -base DIR -build ID -id ID
//	runner tail  -base DIR -build ID -id ID [-from N]
//	runner stop  -base DIR -build ID -id ID
//	runner expire -base DIR -build ID -limit DURATION
//	runner clean -base DIR -build ID
//
// The answers on standard output are frames (package communicator/runner). For
// each command there is a folder DIR/BUILD/ID:
//
//	lock         held from before the start until the supervisor ends
//	state.json   on disk before the command starts: which boot, which process
//	child.json   the session of the command, should its supervisor be killed
//	log          what the command prints
//	down.json    the supervisor was ended by a machine that goes down
//	result.json  on disk before anybody is told that the command has ended
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"syscall"
	"time"

	"github.com/bakehouse-farm/bakehouse/communicator/runner"
)

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: runner start|probe|tail|stop|expire|clean -base DIR -build ID -id ID")
		os.Exit(2)
	}
	switch {
	case os.Args[1] == "supervise":
		os.Exit(supervised(os.Args[2:]))
	case os.Args[1] == "expirer" && len(os.Args) == 4:
		os.Exit(expirer(os.Args[2], os.Args[3]))
	}
	answer := runner.NewWriter(os.Stdout)
	if err := run(os.Args[1], os.Args[2:], answer); err != nil {
		fmt.Fprintln(os.Stderr, "runner:", err)
		text := err.Error()
		if answer.Write(runner.ProblemFrame, []byte(text[:min(len(text), runner.MaxFrame)])) != nil {
			os.Exit(3)
		}
		os.Exit(1)
	}
}

// An order is one call of the program.
type order struct {
	base, build, id string
	from            int64
	follow          bool
	boot            bootID
	limit           time.Duration
	off             string
}

func parse(verb string, args []string) (order, error) {
	var o order
	flags := flag.NewFlagSet("runner "+verb, flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.StringVar(&o.base, "base", "", "folder that holds everything")
	flags.StringVar(&o.build, "build", "", "name of the build")
	flags.StringVar(&o.id, "id", "", "name of the command")
	flags.Int64Var(&o.from, "from", 0, "follow from this byte on")
	flags.BoolVar(&o.follow, "follow", false, "follow after the start")
	flags.DurationVar(&o.limit, "limit", 0, "switch the machine off when nobody has called for so long")
	flags.StringVar(&o.off, "off", switchOff, "how to switch the machine off; for tests")
	// Tests play a reboot by changing this file.
	bootFile := flags.String("boot-id", "/proc/sys/kernel/random/boot_id", "file that differs after each boot")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	switch {
	case flags.NArg() > 0:
		return o, fmt.Errorf("unexpected argument %q", flags.Arg(0))
	case o.base == "" || o.base[0] != '/':
		return o, errors.New("-base must be an absolute path")
	case !runner.ValidName(o.build):
		return o, fmt.Errorf("%q cannot name a build", o.build)
	case verb == "expire" && o.limit <= 0:
		return o, errors.New("-limit must be positive")
	case verb != "clean" && verb != "expire" && !runner.ValidName(o.id):
		return o, fmt.Errorf("%q cannot name a command", o.id)
	case o.from < 0:
		return o, errors.New("-from must not be negative")
	}
	var err error
	o.boot, err = readBootID(*bootFile)
	return o, err
}

func run(verb string, args []string, answer *runner.Writer) error {
	o, err := parse(verb, args)
	if err != nil {
		return err
	}
	if verb != "clean" && verb != "expire" {
		touch(o)
	}
	switch verb {
	case "expire":
		if err := expire(o); err != nil {
			return err
		}
		return answer.WriteStatus(runner.Status{})
	case "start":
		in := bufio.NewReader(os.Stdin)
		line, err := in.ReadBytes('\n') // JSON holds no newline
		if err != nil {
			return fmt.Errorf("read the spec: %w", err)
		}
		var spec runner.Spec
		if err := json.Unmarshal(line, &spec); err != nil {
			return fmt.Errorf("read the spec: %w", err)
		}
		status, err := start(o, spec)
		if err != nil {
			return err
		}
		if err := answer.WriteStatus(status); err != nil || !o.follow {
			return err
		}
		endWith(in)
		return tail(o, answer)
	case "probe":
		f, err := openFolder(o)
		if errors.Is(err, os.ErrNotExist) {
			return answer.WriteStatus(runner.Status{})
		}
		if err != nil {
			return err
		}
		status, err := f.status()
		if err != nil {
			return err
		}
		return answer.WriteStatus(status)
	case "tail":
		endWith(os.Stdin)
		return tail(o, answer)
	case "stop":
		return stop(o, answer)
	case "clean":
		if err := clean(o); err != nil {
			return err
		}
		return answer.WriteStatus(runner.Status{})
	}
	return fmt.Errorf("unknown command %q", verb)
}

// endWith ends this process when nobody is at the other end any more: sshd
// closes standard input when the connection is gone.
func endWith(in io.Reader) {
	go func() {
		_, _ = io.Copy(io.Discard, in)
		os.Exit(0)
	}()
}

// supervised runs the supervisor; see supervise.go.
func supervised(args []string) int {
	syscall.CloseOnExec(lockFD)
	syscall.CloseOnExec(readyFD)
	syscall.CloseOnExec(specFD)
	ready := os.NewFile(readyFD, "ready")
	err := supervise(args, ready)
	if err != nil {
		fmt.Fprintln(os.Stderr, "runner:", err)
		// The starter waits for this word; once it has read "ok" it is gone.
		fmt.Fprintln(ready, err)
		return 1
	}
	return 0
}
