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
// /tmp, which a reboot may empty, and where others may be first. It tells who
// may change what lies on the way there; exposed decides. All of it is for sh,
// whatever the login shell is, so it holds no single quote.
const survey = `b=/var/lib/bakehouse; ` +
	`{ test "$(id -u)" = 0 && umask 022 && mkdir -p $b 2>/dev/null && test -w $b; } || b=$HOME/.bakehouse; ` +
	`umask 077; mkdir -p "$b/%[1]s" || exit 1; chmod go-w "$b" "$b/%[1]s"; b=$(cd "$b" && pwd -P) || exit 1; LC_ALL=C; export LC_ALL; ` +
	`echo "bakehouse $(uname -s) $(uname -m) $(id -u) $(id -g) $b"; ls -ln "$b/%[1]s"; echo --; ` +
	`d=$b/%[1]s; while :; do ls -ldn "$d" || exit 1; test "$d" = / && break; d=$(dirname "$d"); done`

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
	found, machine, err := parseSurvey(r.Exit, out)
	if err != nil {
		return place{}, err
	}
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
	p = &place{base: found.base, runner: found.base + "/" + c.target.Build + "/" + name}
	if !untouched(found.inside, name, found.uid) {
		if err := l.upload(ctx, p.runner, bytes.NewReader(program), 0o700); err != nil {
			return place{}, fmt.Errorf("upload the runner: %w", err)
		}
	}
	c.mu.Lock()
	c.place = p
	c.mu.Unlock()
	return *p, nil
}

// surveyed is what the survey found.
type surveyed struct {
	base   string // the folder that we may use
	uid    string // the user that we are there
	inside string // what lies in the folder of the build
}

// parseSurvey reads the answer to the survey, and refuses a machine that is no
// place for us.
func parseSurvey(exit int, out []byte) (found surveyed, machine string, err error) {
	_, answer, ok := bytes.Cut(out, []byte("bakehouse Linux "))
	if exit != 0 || !ok {
		return surveyed{}, "", bakehouse.Errorf(bakehouse.Failed,
			"machine is none that commands can be run on: need Linux, a POSIX shell and a writable /var/lib or home: exit status %d: %s", exit, said(out))
	}
	first, rest, _ := strings.Cut(string(answer), "\n")
	words := strings.SplitN(strings.TrimSpace(first), " ", 4)
	if len(words) < 4 || !strings.HasPrefix(words[3], "/") {
		return surveyed{}, "", bakehouse.Errorf(bakehouse.Failed, "machine does not say what it is, but %s", said(out))
	}
	s := surveyed{uid: words[1], base: words[3]}
	var above string
	s.inside, above, _ = strings.Cut(rest, "--\n")
	if why := exposed(above, words[1], words[2]); why != "" {
		return surveyed{}, "", bakehouse.Errorf(bakehouse.Failed, "%s on the machine is no place to run commands from: %s", said([]byte(s.base)), said([]byte(why)))
	}
	return s, words[0], nil
}

// An entry is a line of `ls -ln`.
type entry struct{ mode, uid, gid, name string }

func parseEntry(line string) (e entry, ok bool) {
	f := strings.Fields(line)
	if len(f) < 9 || len(f[0]) < 10 {
		return e, false
	}
	return entry{mode: f[0], uid: f[2], gid: f[3], name: f[len(f)-1]}, true
}

// untouched tells whether the file name is among those listed, is ours, and
// could not be written by anybody else.
func untouched(listing, name, uid string) bool {
	for line := range strings.Lines(listing) {
		if e, ok := parseEntry(line); ok && e.name == name {
			return e.mode[0] == '-' && e.uid == uid && e.mode[5] != 'w' && e.mode[8] != 'w'
		}
	}
	return false
}

// exposed tells who, but root and us, could replace what is in the first of the
// listed folders, which leads up to the root folder; empty when nobody can. The
// first two are our own: the build's and the base.
func exposed(listing, uid, gid string) (why string) {
	var all []entry
	for line := range strings.Lines(listing) {
		if e, ok := parseEntry(line); ok {
			all = append(all, e)
		}
	}
	if len(all) < 3 || all[len(all)-1].name != "/" {
		return "who may write there cannot be told"
	}
	// In a container with a user namespace, root's folders may be nobody's.
	const nobody = "65534"
	for i, e := range all {
		own, foreign := i < 2, e.uid != "0" && e.uid != uid
		if foreign && e.uid == nobody && all[len(all)-1].uid == nobody {
			foreign = false
		}
		sticky := e.mode[9] == 't' || e.mode[9] == 'T'
		switch {
		case e.mode[0] != 'd':
			return e.name + " is not a folder"
		case foreign || own && e.uid != uid:
			return e.name + " belongs to another user (" + e.uid + ")"
		case own && (e.mode[5] == 'w' || e.mode[8] == 'w'):
			return e.name + " can be written by others"
		case sticky:
		case e.mode[8] == 'w':
			return e.name + " can be written by everybody"
		case e.mode[5] == 'w' && e.gid != "0" && e.gid != gid:
			return e.name + " can be written by another group (" + e.gid + ")"
		}
	}
	return ""
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
