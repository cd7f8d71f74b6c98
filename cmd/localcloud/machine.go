package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/bakehouse-farm/bakehouse/localcloud"
	"github.com/bakehouse-farm/bakehouse/localcloud/control"
)

const machineUsage = `Usage: localcloud machine ACT [FLAGS] [INSTANCE...]

Breaks machines, or mends them: those named, or all that have the tags and are
in the region. Prints the ids. Acts:

  terminate    as a spot interruption does (Server.SpotInstanceTermination)
  fail         as a failing host does (Server.InternalError): killed and terminated,
               or stopped with -to stopped
  reboot       kill all processes and boot again; the files stay
  freeze       stop all processes where they are
  thaw         let them go on
  fill         leave no room on the disk (needs "localcloud serve -disk SIZE")
  free         give the room back
  cut          lose all packets, each way
  impair       delay, lose or slow down packets between this host and the machine,
               each way: -delay, -jitter, -loss and -rate, together or alone; needs
               /dev/net/tun and ends with "localcloud serve"
  mend         end cut and impair
  pause-sshd   stop the SSH server alone: what was started goes on
  resume-sshd  let it go on

A restart of the machine ends freeze, cut, impair and pause-sshd, but not fill.
The exit status is 0, or 1 for whatever failed; that no machine is meant is a
failure.
`

// pairs is a flag of KEY=VALUE that may be given several times.
type pairs map[string]string

func (p pairs) String() string {
	var list []string
	for k, v := range p {
		list = append(list, k+"="+v)
	}
	return strings.Join(list, ",")
}

func (p pairs) Set(s string) error {
	k, v, ok := strings.Cut(s, "=")
	if !ok || k == "" {
		return fmt.Errorf("%q is not KEY=VALUE", s)
	}
	p[k] = v
	return nil
}

func machine(ctx context.Context, args []string, in io.Reader, out, errw io.Writer) error {
	acts := map[string]verb{}
	for _, a := range localcloud.Acts() {
		acts[string(a)] = func(ctx context.Context, args []string, _ io.Reader, out, errw io.Writer) error {
			return breakMachine(ctx, a, args, out, errw)
		}
	}
	return choose(ctx, "machine", machineUsage, acts, args, in, out, errw)
}

func breakMachine(ctx context.Context, act localcloud.Act, args []string, out, errw io.Writer) error {
	f, dir := flags("machine "+string(act), "[INSTANCE...]", errw)
	m := localcloud.MachineFault{Act: act, Tags: pairs{}}
	f.Var(pairs(m.Tags), "tag", "`KEY=VALUE` that the machines have, such as bakehouse:build=ID; may be repeated")
	f.StringVar(&m.Region, "region", "", "region that the machines are in")
	switch act {
	case localcloud.FailHost:
		f.StringVar(&m.To, "to", "terminated", "state that it leads to: stopped or terminated")
	case localcloud.Impair:
		f.DurationVar(&m.Network.Delay, "delay", 0, "hold each packet back, each way")
		f.DurationVar(&m.Network.Jitter, "jitter", 0, "by up to so much more or less; packets keep their order")
		f.Float64Var(&m.Network.Loss, "loss", 0, "lose this percentage of packets")
		f.Uint64Var(&m.Network.Rate, "rate", 0, "let so many bytes a second pass; what finds no room to wait is lost")
	}
	plain, err := parse(f, args, -1)
	if err != nil {
		return err
	}
	m.Instances = plain
	ids, err := control.Client{Dir: *dir}.Break(ctx, m)
	for _, id := range ids {
		fmt.Fprintln(out, id)
	}
	return err
}
