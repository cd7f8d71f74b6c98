package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/bakehouse-farm/bakehouse/builders"
	"github.com/bakehouse-farm/bakehouse/builders/amazon"
	"github.com/bakehouse-farm/bakehouse/cmd/submit/farm"
)

// A way leads from this computer to a machine.
type way struct {
	via   string
	proxy string
}

// direct dials the machine's address; the other way is named by the builder
// that knows it.
const direct = "direct"

var ways = []string{direct, builders.ViaSessionManager}

func (w *way) flags(f *flag.FlagSet) {
	f.StringVar(&w.via, "via", "", "`how` the machine is reached: direct dials its address; session-manager goes through AWS Session Manager, with the aws of this computer and your own credentials (default: as the build itself does)")
	f.StringVar(&w.proxy, "proxy-command", "", "`command` that leads to the machine by its standard input and output, as ssh's ProxyCommand: %h and %p stand for host and port (a bastion: 'ssh -W %h:%p bastion')")
}

// check refuses what cannot be, before anything is asked of the farm.
func (w *way) check(local bool) error {
	switch {
	case w.via != "" && !slices.Contains(ways, w.via):
		return fmt.Errorf("-via=%s: choose one of %s", w.via, strings.Join(ways, ", "))
	case w.via != "" && w.proxy != "":
		return errors.New("-via and -proxy-command name two ways: leave out one")
	case w.via == builders.ViaSessionManager && local:
		return errors.New("-via=session-manager: the machines of the farm on this computer are reached directly")
	case w.via == builders.ViaSessionManager:
		return equipped()
	}
	return nil
}

// equipped tells whether this computer has what sessions need.
func equipped() error {
	if _, err := amazon.SessionProgram(); err != nil {
		return fmt.Errorf("%w: install it, or use submit exec, which goes through the agent", err)
	}
	return nil
}

// to is the way to a door: what was asked for, or else how the build goes.
func (w *way) to(d farm.Door) string {
	switch {
	case w.via != "":
		return w.via
	case w.proxy != "" || d.Via == "":
		return direct
	}
	return d.Via
}

// line are the arguments with which ssh enters the door, with the key that lies
// in dir. They stand before those of the visitor's command. Whatever the way,
// ssh trusts the host key that the build has pinned and no other.
//
// Session Manager is entered as AWS documents it; the tests have a
// stand-in for its programs (communicatortest.Sessions): this has not been run
// against AWS.
func (w *way) line(d farm.Door, dir string) ([]string, error) {
	proxy, patience := w.proxy, 60
	switch w.to(d) {
	case direct:
		if proxy == "" {
			patience = 15
		}
	case builders.ViaSessionManager:
		if d.Machine == "" || d.Region == "" {
			return nil, fmt.Errorf("-via=%s: the build has started no machine that Session Manager could know", builders.ViaSessionManager)
		}
		if err := equipped(); err != nil {
			return nil, err
		}
		args, err := amazon.SessionArguments(d.Machine, d.Region, d.Port)
		if err != nil {
			return nil, err
		}
		proxy = "aws " + strings.Join(args, " ")
		d.Host = d.Machine
	default:
		return nil, fmt.Errorf("the build reaches its machine via %s, which this submit does not know: choose another way with -via or -proxy-command, or use submit exec", d.Via)
	}
	hosts := filepath.Join(dir, "known_hosts")
	if err := os.WriteFile(hosts, []byte(knownHost(d)), 0o600); err != nil {
		return nil, err
	}
	line := []string{
		"-i", filepath.Join(dir, "key"), "-o", "IdentitiesOnly=yes", "-o", "IdentityAgent=none",
		"-o", "UserKnownHostsFile=" + hosts, "-o", "GlobalKnownHostsFile=/dev/null", "-o", "StrictHostKeyChecking=yes",
		"-o", "ConnectTimeout=" + strconv.Itoa(patience), "-o", "LogLevel=ERROR", "-F", "none",
	}
	if proxy != "" {
		line = append(line, "-o", "ProxyCommand="+proxy)
	}
	return append(line, "-p", strconv.Itoa(d.Port), "-l", d.User, "--", d.Host), nil
}

// advise names the other ways, when ssh has failed and the machine does not
// answer on this one.
func (w *way) advise(ctx context.Context, c *console, d farm.Door, local bool) {
	if ctx.Err() != nil {
		return
	}
	if w.to(d) == builders.ViaSessionManager {
		fmt.Fprintf(c.err, "The way was Session Manager, to %s in %s: your AWS credentials need ssm:StartSession for it and for the document AWS-StartSSHSession, and the SSM agent must run there. \"submit exec\" goes through the agent.\n", d.Machine, d.Region)
		return
	}
	if w.proxy != "" {
		fmt.Fprintln(c.err, "The way was -proxy-command. \"submit exec\" goes through the agent.")
		return
	}
	address := net.JoinHostPort(d.Host, strconv.Itoa(d.Port))
	dialer := net.Dialer{Timeout: 5 * time.Second}
	conn, err := dialer.DialContext(ctx, "tcp", address)
	if err == nil {
		conn.Close()
		return // ssh has said what else is wrong
	}
	text := "The machine cannot be reached from here at " + address + ". Other ways: "
	if d.Machine != "" && d.Region != "" && !local {
		text += "-via=session-manager (AWS Session Manager, with your own credentials), "
	}
	fmt.Fprintln(c.err, text+"-proxy-command='ssh -W %h:%p BASTION', or \"submit exec\", which goes through the agent.")
}

// knownHost is the line that makes ssh trust the machine and no other.
func knownHost(d farm.Door) string {
	host := d.Host
	if d.Port != 22 {
		host = "[" + d.Host + "]:" + strconv.Itoa(d.Port)
	} else if ip := net.ParseIP(d.Host); ip != nil {
		host = ip.String()
	}
	return host + " " + d.HostKey + "\n"
}
