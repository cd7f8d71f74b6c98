package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"golang.org/x/term"

	"github.com/bakehouse-farm/bakehouse/localcloud"
	"github.com/bakehouse-farm/bakehouse/localcloud/control"
)

func images(ctx context.Context, args []string, _ io.Reader, out, errw io.Writer) error {
	f, dir := flags("images", "", errw)
	if _, err := parse(f, args, 0); err != nil {
		return err
	}
	list, err := control.Client{Dir: *dir}.Images(ctx)
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "REGION\tIMAGE\tSTATE\tOWNER\tCREATED\tNAME")
	for _, i := range list {
		name := i.Name
		if what := i.Tags[localcloud.TagStandIn]; what != "" {
			name += " (really: " + what + ")"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", i.Region, i.ID, i.State, i.Owner, i.Created.Format(time.DateTime), name)
	}
	return w.Flush()
}

func instances(ctx context.Context, args []string, _ io.Reader, out, errw io.Writer) error {
	f, dir := flags("instances", "", errw)
	if _, err := parse(f, args, 0); err != nil {
		return err
	}
	list, err := control.Client{Dir: *dir}.Instances(ctx)
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "REGION\tINSTANCE\tSTATE\tADDRESS\tIMAGE\tLAUNCHED\tNAME")
	for _, i := range list {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", i.Region, i.ID, i.State, i.Addr, i.Image, i.Launched.Format(time.DateTime), i.Tags["Name"])
	}
	return w.Flush()
}

func importImage(ctx context.Context, args []string, in io.Reader, out, errw io.Writer) error {
	f, dir := flags("import", "NAME ROOTFS.tar[.gz|.xz|.zst]", errw)
	owner := f.String("owner", "", "`account` that the image is to belong to, such as 099720109477 for Ubuntu's (default: the cloud's own)")
	plain, err := parse(f, args, 2)
	if err != nil {
		return err
	}
	if plain[1] != "-" {
		file, err := os.Open(plain[1])
		if err != nil {
			return fmt.Errorf("import: %w", err)
		}
		defer file.Close()
		in = file
	}
	if err := (control.Client{Dir: *dir}).Import(ctx, plain[0], *owner, in); err != nil {
		return err
	}
	fmt.Fprintf(out, "Imported as %s: an AMI of that name is in every region now.\n", plain[0])
	return nil
}

func remove(ctx context.Context, args []string, _ io.Reader, _, errw io.Writer) error {
	f, dir := flags("rm", "NAME", errw)
	plain, err := parse(f, args, 1)
	if err != nil {
		return err
	}
	return control.Client{Dir: *dir}.Remove(ctx, plain[0])
}

func export(ctx context.Context, args []string, _ io.Reader, out, errw io.Writer) (err error) {
	f, dir := flags("export", "AMI FILE.tar", errw)
	plain, err := parse(f, args, 2)
	if err != nil {
		return err
	}
	c := control.Client{Dir: *dir}
	if plain[1] == "-" {
		return c.Export(ctx, plain[0], out)
	}
	// Written aside and renamed: a file of that name is whole, or not there.
	part := plain[1] + ".part"
	file, err := os.OpenFile(part, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("export: %w", err)
	}
	err = errors.Join(c.Export(ctx, plain[0], file), file.Close())
	if err != nil {
		return errors.Join(err, os.Remove(part))
	}
	return os.Rename(part, plain[1])
}

func terminate(ctx context.Context, args []string, _ io.Reader, _, errw io.Writer) error {
	f, dir := flags("terminate", "", errw)
	if _, err := parse(f, args, 0); err != nil {
		return err
	}
	return control.Client{Dir: *dir}.Terminate(ctx)
}

func reset(ctx context.Context, args []string, _ io.Reader, _, errw io.Writer) error {
	f, dir := flags("reset", "", errw)
	if _, err := parse(f, args, 0); err != nil {
		return err
	}
	return control.Client{Dir: *dir}.Reset(ctx)
}

// shell runs a login shell, or a command, in an instance, and returns its exit
// status.
func shell(ctx context.Context, args []string, in io.Reader, out, errw io.Writer) int {
	f, dir := flags("shell", "INSTANCE [COMMAND...]", errw)
	if err := f.Parse(args); err != nil {
		return 1
	}
	if f.NArg() == 0 {
		f.Usage()
		return 1
	}
	argv := slices.Clone(f.Args()[1:])
	t := control.Terminal{In: in, Out: out, Err: errw}
	restore := func() {}
	if file, ok := in.(*os.File); ok && term.IsTerminal(int(file.Fd())) && len(argv) == 0 {
		fd := int(file.Fd())
		if old, err := term.MakeRaw(fd); err == nil {
			restore = func() { _ = term.Restore(fd, old) } // the terminal is gone
			var stop func()
			t.Size, t.Resize, stop = follow(fd)
			defer stop()
		}
	}
	switch len(argv) {
	case 0:
		argv = []string{"/bin/sh", "-l"}
	case 1: // as with ssh: a line for the shell
		if strings.ContainsAny(argv[0], " ;|&<>$`\"'*?\n") {
			argv = []string{"/bin/sh", "-c", argv[0]}
		}
	}
	status, err := control.Client{Dir: *dir}.Shell(ctx, f.Arg(0), argv, t)
	restore()
	if err != nil {
		fmt.Fprintf(errw, "localcloud: %v\n", err)
		return 1
	}
	return status
}

// follow returns the size of a terminal and a channel of its new sizes.
func follow(fd int) (string, <-chan string, func()) {
	size := func() string {
		cols, rows, err := term.GetSize(fd)
		if err != nil {
			return "24 80"
		}
		return fmt.Sprint(rows, " ", cols)
	}
	changed := make(chan os.Signal, 1)
	signal.Notify(changed, syscall.SIGWINCH)
	sizes := make(chan string)
	done := make(chan struct{})
	go func() {
		for {
			select {
			case <-done:
				return
			case <-changed:
				select {
				case sizes <- size():
				case <-done:
					return
				}
			}
		}
	}()
	return size(), sizes, func() { signal.Stop(changed); close(done) }
}
