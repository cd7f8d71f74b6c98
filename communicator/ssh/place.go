package ssh

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"

	"github.com/bakehouse-farm/bakehouse"
	"github.com/bakehouse-farm/bakehouse/communicator/runner"
)

// A place is where the runner lies on the machine, and what it keeps there.
type place struct {
	base   string // absolute
	runner string // the program
}

// survey asks what the machine is and prepares a folder for the build, in one
// go. The folder is root's in /var/lib, else in the home of the user; never in
// /tmp, which a reboot may empty. All of it is for sh, whatever the login shell
// is, so it holds no single quote.
const survey = `b=/var/lib/bakehouse; ` +
	`{ test "$(id -u)" = 0 && umask 022 && mkdir -p $b 2>/dev/null && test -w $b; } || b=$HOME/.bakehouse; ` +
	`umask 077; mkdir -p "$b/%[1]s" || exit 1; chmod go-w "$b"; ` +
	`echo "bakehouse $(uname -s) $(uname -m) $b"; ls "$b/%[1]s"`

// architectures are the names of `uname -m`, and Go's for them.
var architectures = map[string]string{
	"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64",
	"i386": "386", "i586": "386", "i686": "386", "armv6l": "arm", "armv7l": "arm", "armv8l": "arm",
	"ppc64le": "ppc64le", "s390x": "s390x", "riscv64": "riscv64",
}

// placed returns where the runner is, and puts it there if need be.
func (c *Conn) placed(ctx context.Context, l *link) (place, error) {
	c.mu.Lock()
	p := c.place
	c.mu.Unlock()
	if p != nil {
		return *p, nil
	}
	if !runner.ValidName(c.target.Build) {
		return place{}, bakehouse.Errorf(bakehouse.Invalid, "%q cannot name a build on a machine", c.target.Build)
	}
	if c.opts.Runner == nil {
		return place{}, bakehouse.Errorf(bakehouse.Invalid, "this connection brings no runner for commands")
	}
	r, out, err := l.exec(ctx, "/bin/sh -c '"+fmt.Sprintf(survey, c.target.Build)+"'", false, nil)
	if err != nil {
		return place{}, fmt.Errorf("look at the machine: %w", err)
	}
	_, answer, found := bytes.Cut(out, []byte("bakehouse Linux "))
	if r.Exit != 0 || !found {
		return place{}, bakehouse.Errorf(bakehouse.Failed,
			"machine is none that commands can be run on: need Linux, a POSIX shell and a writable /var/lib or home: exit status %d: %s", r.Exit, bytes.TrimSpace(out))
	}
	first, rest, _ := strings.Cut(string(answer), "\n")
	machine, base, _ := strings.Cut(strings.TrimSpace(first), " ")
	arch, known := architectures[machine]
	if !known {
		return place{}, bakehouse.Errorf(bakehouse.Failed, "machine is a %s, which Bakehouse has no runner for", machine)
	}
	program, err := c.opts.Runner(arch)
	if err != nil {
		return place{}, bakehouse.Errorf(bakehouse.Invalid, "runner for %s: %w", arch, err)
	}
	// By its content, so that agents of two versions do not take turns.
	name := fmt.Sprintf("runner-%x", sha256.Sum256(program))[:7+24]
	p = &place{base: base, runner: base + "/" + c.target.Build + "/" + name}
	if !contains(strings.Fields(rest), name) {
		if err := l.upload(ctx, p.runner, bytes.NewReader(program), 0o700); err != nil {
			return place{}, fmt.Errorf("upload the runner: %w", err)
		}
	}
	c.mu.Lock()
	c.place = p
	c.mu.Unlock()
	return *p, nil
}

func contains(list []string, s string) bool {
	for _, e := range list {
		if e == s {
			return true
		}
	}
	return false
}

// call returns the line that calls the runner.
func (c *Conn) call(p place, verb, id string, more ...string) string {
	words := append([]string{p.runner, verb, "-base", p.base, "-build", c.target.Build}, more...)
	if id != "" {
		words = append(words, "-id", id)
	}
	if c.opts.bootFile != "" {
		words = append(words, "-boot-id", c.opts.bootFile)
	}
	for i, w := range words {
		words[i] = quote(w)
	}
	return strings.Join(words, " ")
}

// quote makes one word of s for any shell.
func quote(s string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("/._-", r)
	}
	if s != "" && strings.IndexFunc(s, func(r rune) bool { return !plain(r) }) < 0 {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'"'"'`) + "'"
}

// forget makes the next call look for the runner again, when the machine seems
// not to have it.
func (c *Conn) forget(err error) bool {
	var none *runner.ErrNoAnswer
	if !errors.As(err, &none) {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.place = nil
	return true
}
