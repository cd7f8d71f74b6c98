// Command localcloud is an EC2 endpoint on one machine, whose instances really
// boot from the images that it really made.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/bakehouse-farm/bakehouse/localcloud/sandbox"
)

const usage = `Usage: localcloud COMMAND [FLAGS] [ARGUMENTS]

  serve                          answer EC2's API until told to stop (needs root)
  images                         list the images of all regions
  instances                      list the instances of all regions
  import NAME ROOTFS.tar[.gz|.xz|.zst]
                                 make an image of a root file system ("-" reads it
                                 from standard input)
  rm NAME                        remove an imported image
  export AMI FILE.tar            write an image's file system as a tarball ("-" for
                                 standard output)
  run AMI COMMAND...             launch an instance, run a command in it over SSH, and
                                 terminate it
  shell INSTANCE [COMMAND...]    a root shell, or a command, in a running instance
  terminate                      terminate all instances
  reset                          terminate all instances and remove all images,
                                 snapshots and keys; imported images stay
  faults add|list|remove         make the API misbehave: throttle, lose answers, …
  machine ACT [INSTANCE...]      break a machine: terminate, freeze, cut, fill, …
  record                         what was asked, and what was done
  census                         what exists, and what became of it
  version                        say what this is

"localcloud COMMAND -h" lists the flags of a command. All of them find the state
folder by -state, or $BAKEHOUSE_LOCALCLOUD_DIR, or /var/lib/bakehouse/localcloud.
`

func main() {
	// The sandbox starts this program again as the first process of instances.
	if sandbox.Main() {
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	status := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(status)
}

// errUsage is the error of a wrong command line, which has been explained.
var errUsage = errors.New("wrong usage")

// run is the command; it returns its exit status: 0, or 1 for whatever failed,
// or 3 when a search with -none has found something, or what a command in a
// shell exited with.
func run(ctx context.Context, args []string, in io.Reader, out, errw io.Writer) int {
	if len(args) == 0 {
		fmt.Fprint(errw, usage)
		return 1
	}
	name, args := args[0], args[1:]
	switch name {
	case "shell":
		return shell(ctx, args, in, out, errw)
	case "run":
		return boot(ctx, args, in, out, errw)
	}
	commands := map[string]verb{
		"serve": serve, "images": images, "instances": instances, "import": importImage, "rm": remove,
		"export": export, "terminate": terminate, "reset": reset, "version": version,
		"faults": faultsCommand, "machine": machine, "record": showRecord, "census": census,
	}
	f, ok := commands[name]
	switch {
	case name == "help" || name == "-h" || name == "-help" || name == "--help":
		fmt.Fprint(out, usage)
		return 0
	case name == "-version" || name == "--version":
		f = version
	case !ok:
		fmt.Fprintf(errw, "localcloud: there is no command %s\n\n%s", name, usage)
		return 1
	}
	err := f(ctx, args, in, out, errw)
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
		return 0
	case errors.Is(err, errUsage):
		return 1
	case errors.Is(err, errFound):
		return 3
	}
	fmt.Fprintf(errw, "localcloud: %v\n", err)
	return 1
}

func version(_ context.Context, _ []string, _ io.Reader, out, _ io.Writer) error {
	v := "(devel)"
	if i, ok := debug.ReadBuildInfo(); ok && i.Main.Version != "" {
		v = i.Main.Version
	}
	fmt.Fprintf(out, "localcloud %s\n", v)
	return nil
}

// flags makes the flags that every command has.
func flags(name, arguments string, errw io.Writer) (*flag.FlagSet, *string) {
	f := flag.NewFlagSet(name, flag.ContinueOnError)
	f.SetOutput(errw)
	f.Usage = func() {
		fmt.Fprintf(errw, "Usage: localcloud %s [FLAGS] %s\n", name, arguments)
		f.PrintDefaults()
	}
	dir := os.Getenv("BAKEHOUSE_LOCALCLOUD_DIR")
	if dir == "" {
		dir = "/var/lib/bakehouse/localcloud"
	}
	return f, f.String("state", dir, "state folder")
}

// parse reads flags wherever they stand between n arguments; any number when n
// is negative.
func parse(f *flag.FlagSet, args []string, n int) ([]string, error) {
	var plain []string
	for {
		if err := f.Parse(args); err != nil {
			if errors.Is(err, flag.ErrHelp) {
				return nil, err
			}
			return nil, errUsage
		}
		if f.NArg() == 0 {
			break
		}
		plain, args = append(plain, f.Arg(0)), f.Args()[1:]
	}
	if n >= 0 && len(plain) != n {
		fmt.Fprintf(f.Output(), "localcloud %s: %d arguments expected, got %d: %s\n", f.Name(), n, len(plain), strings.Join(plain, " "))
		f.Usage()
		return nil, errUsage
	}
	return plain, nil
}
