package sandbox_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/bakehouse-farm/bakehouse"
	"github.com/bakehouse-farm/bakehouse/localcloud/sandbox"
)

// counts starts a process that counts as long as it runs, and returns what
// reads the count.
func counts(t *testing.T, dir string, l login) func() string {
	t.Helper()
	l.sh(t, "root", "nohup sh -c 'n=0; while sleep 0.02; do n=$((n+1)); echo $n >/srv/count; done' >/dev/null 2>&1 &")
	return func() string {
		// As the host sees it: a frozen instance answers nobody.
		b, err := os.ReadFile(filepath.Join(dir, "instances", l.spec.ID, "upper", "srv", "count"))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		return string(b)
	}
}

func goesOn(t *testing.T, what string, count func() string) {
	t.Helper()
	before := count()
	eventually(t, what+": counts", func() bool { return count() != before })
}

func standsStill(t *testing.T, what string, count func() string) {
	t.Helper()
	before := count()
	time.Sleep(300 * time.Millisecond)
	if now := count(); now != before {
		t.Errorf("%s: counts from %s to %s", what, before, now)
	}
}

// answers tells whether the SSH server says who it is within a while.
func answers(l login, within time.Duration) bool {
	c, err := net.DialTimeout("tcp", net.JoinHostPort(l.spec.Addr.String(), "22"), within)
	if err != nil {
		return false
	}
	defer c.Close()
	_ = c.SetReadDeadline(time.Now().Add(within))
	n, err := c.Read(make([]byte, 4))
	return err == nil && n > 0
}

// A frozen instance hangs as a whole, and goes on where it was. Stopping it
// works all the same.
func TestPause(t *testing.T) {
	dir := t.TempDir()
	h := openHost(t, dir)
	l := newSpec(t, h, "i-pause")
	boot(t, h, l)
	count := counts(t, dir, l)
	goesOn(t, "before", count)
	for range 2 {
		if err := h.Pause("i-pause"); err != nil {
			t.Fatal(err)
		}
	}
	standsStill(t, "frozen", count)
	if answers(l, 300*time.Millisecond) {
		t.Error("a frozen instance answers")
	}
	if err := h.Resume("i-pause"); err != nil {
		t.Fatal(err)
	}
	goesOn(t, "thawed", count)
	eventually(t, "answers", func() bool { return answers(l, time.Second) })

	// The login alone.
	if err := h.PauseLogin("i-pause"); err != nil {
		t.Fatal(err)
	}
	goesOn(t, "login paused", count)
	if answers(l, 300*time.Millisecond) {
		t.Error("a paused login answers")
	}
	if err := h.ResumeLogin("i-pause"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "answers again", func() bool { return answers(l, time.Second) })

	if err := h.Pause("i-pause"); err != nil {
		t.Fatal(err)
	}
	if err := h.Stop(t.Context(), "i-pause"); err != nil {
		t.Errorf("stop of a frozen instance: %v", err)
	}
	if err := h.Pause("i-pause"); bakehouse.KindOf(err) != bakehouse.Conflict {
		t.Errorf("pause of a stopped instance: %v", err)
	}
}

// A shell that has just made a process waits for it in the kernel (vfork), where
// no signal stops it, while its child stands still already.
func TestPauseOfBusyShells(t *testing.T) {
	dir := t.TempDir()
	h := openHost(t, dir)
	l := newSpec(t, h, "i-busy")
	boot(t, h, l)
	count := counts(t, dir, l)
	l.sh(t, "root", "for i in 1 2 3; do nohup sh -c 'while :; do /bin/true; done' >/dev/null 2>&1 & done")
	for range 150 {
		if err := h.Pause("i-busy"); err != nil {
			t.Fatal(err)
		}
		if err := h.Resume("i-busy"); err != nil {
			t.Fatal(err)
		}
	}
	goesOn(t, "thawed", count)
}

// A killed instance hears nothing of it, keeps its files, and boots again. No
// event tells of it: it was asked for.
func TestKillInstance(t *testing.T) {
	h := newHost(t)
	l := newSpec(t, h, "i-kill")
	boot(t, h, l)
	l.sh(t, "root", "echo kept >/srv/file; nohup sh -c 'trap \"echo told >>/srv/file\" TERM HUP INT; while :; do sleep 0.05; done' >/dev/null 2>&1 &")
	if err := h.Kill(t.Context(), "i-kill"); err != nil {
		t.Fatal(err)
	}
	if st, err := h.Status("i-kill"); err != nil || st.State != sandbox.Stopped {
		t.Errorf("status %+v, %v", st, err)
	}
	if err := h.Kill(t.Context(), "i-kill"); err != nil {
		t.Errorf("killed twice: %v", err)
	}
	if err := h.Start(t.Context(), l.spec); err != nil {
		t.Fatal(err)
	}
	if got := l.sh(t, "root", "cat /srv/file"); got != "kept" {
		t.Errorf("file: %q", got)
	}
	select {
	case e := <-h.Events():
		t.Errorf("event %+v", e)
	default:
	}
}

type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safeBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *safeBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// A chat is a session in an instance that says again what it is told.
type chat struct {
	in   io.Writer
	out  safeBuffer
	said string
}

func (l login) chat(t *testing.T) *chat {
	t.Helper()
	s, err := l.dial(t, "root").NewSession()
	if err != nil {
		t.Fatal(err)
	}
	c := &chat{}
	if c.in, err = s.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	s.Stdout = &c.out
	if err := s.Start("cat"); err != nil {
		t.Fatal(err)
	}
	return c
}

func (c *chat) say(t *testing.T, word string) {
	t.Helper()
	c.said += word
	if _, err := c.in.Write([]byte(word)); err != nil {
		t.Fatal(err)
	}
}

func (c *chat) heard() bool { return c.out.String() == c.said }

// trip tells how long a word takes there and back.
func (c *chat) trip(t *testing.T) time.Duration {
	t.Helper()
	begin := time.Now()
	c.say(t, "word ")
	eventually(t, "echo", c.heard)
	return time.Since(begin)
}

// device returns what a packet to the instance takes.
func (l login) device(t *testing.T) string {
	t.Helper()
	r, err := netlink.RouteGet(l.spec.Addr.AsSlice())
	if err != nil || len(r) == 0 {
		t.Fatalf("route to %s: %v, %v", l.spec.Addr, r, err)
	}
	d, err := netlink.LinkByIndex(r[0].LinkIndex)
	if err != nil {
		t.Fatal(err)
	}
	return d.Attrs().Name
}

// A cut network loses packets without a word; connections that were there go on
// when it is mended.
func TestCut(t *testing.T) {
	h := newHost(t)
	l := newSpec(t, h, "i-cut")
	boot(t, h, l)
	c := l.chat(t)
	c.trip(t)
	// Whatever it was before.
	for _, before := range []sandbox.Impairment{{}, {Delay: 50 * time.Millisecond}} {
		if err := h.Impair("i-cut", before); err != nil {
			t.Fatal(err)
		}
		c.trip(t)
		if err := h.Impair("i-cut", sandbox.Impairment{Cut: true}); err != nil {
			t.Fatal(err)
		}
		c.say(t, "lost ")
		if answers(l, 300*time.Millisecond) {
			t.Error("answers over a cut network")
		}
		if c.heard() {
			t.Error("heard all over a cut network")
		}
		if err := h.Impair("i-cut", before); err != nil {
			t.Fatal(err)
		}
		eventually(t, "echo after the cut", c.heard)
	}
}

// A bad network is as bad as was asked for; a connection lives through it all.
func TestImpair(t *testing.T) {
	const delay = 300 * time.Millisecond
	dir := t.TempDir()
	h := openHost(t, dir)
	l := newSpec(t, h, "i-bad")
	boot(t, h, l)
	cable := l.device(t)
	c := l.chat(t)
	impair := func(i sandbox.Impairment) {
		t.Helper()
		if err := h.Impair("i-bad", i); err != nil {
			t.Fatal(err)
		}
	}
	slow := func() {
		t.Helper()
		if d := c.trip(t); d < 2*delay {
			t.Errorf("there and back in %s", d)
		}
	}
	quick := func() {
		t.Helper()
		eventually(t, "fast again", func() bool { return c.trip(t) < 2*delay })
		if d := l.device(t); d != cable {
			t.Errorf("packets take %s, not %s", d, cable)
		}
	}
	quick()
	impair(sandbox.Impairment{Delay: delay})
	slow()
	impair(sandbox.Impairment{})
	quick()

	impair(sandbox.Impairment{Delay: 2 * delay, Jitter: delay})
	slow()
	impair(sandbox.Impairment{Loss: 100})
	c.say(t, "lost ")
	if answers(l, 300*time.Millisecond) || c.heard() {
		t.Error("a network that loses all has brought something")
	}
	impair(sandbox.Impairment{})
	eventually(t, "what was lost comes again", c.heard)
	quick()

	// All at once: a megabyte at a megabyte a second, and nothing of it is wrong.
	impair(sandbox.Impairment{Rate: 1 << 20, Loss: 1, Delay: 5 * time.Millisecond, Jitter: 2 * time.Millisecond})
	begin := time.Now()
	if got := l.sh(t, "root", "head -c 1000000 /dev/zero | tr '\\0' x"); got != strings.Repeat("x", 1000000) {
		t.Errorf("%d bytes came, or others", len(got))
	}
	if d := time.Since(begin); d < 900*time.Millisecond {
		t.Errorf("a megabyte took %s", d)
	}
	for _, wrong := range []sandbox.Impairment{{Loss: 101}, {Loss: -1}, {Delay: -1}, {Jitter: -1}} {
		if err := h.Impair("i-bad", wrong); bakehouse.KindOf(err) != bakehouse.Invalid {
			t.Errorf("%+v: %v", wrong, err)
		}
	}

	// A boot mends it, from inside or outside.
	impair(sandbox.Impairment{Delay: delay})
	_, _ = l.trySh(t, "root", "reboot")
	eventually(t, "another boot", func() bool {
		st, err := h.Status("i-bad")
		return err == nil && st.Boots == 2 && st.State == sandbox.Running && answers(l, time.Second)
	})
	eventually(t, "the line has ended with the boot", func() bool { return l.device(t) == cable })
	c = l.chat(t)
	quick()
	impair(sandbox.Impairment{Delay: delay})
	slow()
	if err := h.Stop(t.Context(), "i-bad"); err != nil {
		t.Fatal(err)
	}
	if err := h.Start(t.Context(), l.spec); err != nil {
		t.Fatal(err)
	}
	c = l.chat(t)
	quick()

	// So does the end of the Host.
	impair(sandbox.Impairment{Delay: delay})
	slow()
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	quick()
}

// A disk of limited size fills up: by what is written, or by a fault. It can be
// frozen like any other.
func TestDisk(t *testing.T) {
	dir := t.TempDir()
	h, err := sandbox.New(t.Context(), sandbox.Config{Dir: dir, Init: initPath, Disk: 32 << 20})
	if os.Geteuid() != 0 {
		t.Skip("instances need root")
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	l := newSpec(t, h, "i-disk")
	boot(t, h, l)
	if out, err := l.trySh(t, "root", "head -c 40000000 /dev/zero >/srv/big"); err == nil || !strings.Contains(out, "No space left") {
		t.Errorf("wrote more than there is: %s", out)
	}
	l.sh(t, "root", "rm /srv/big /etc/debian_version; echo kept >/srv/file; ln /srv/file /srv/link; chown 1234 /srv/file; mkdir /srv/d; chmod 1777 /srv/d; rm -r /etc/skel; mkdir /etc/skel; mkfifo /srv/p; ln -s x /srv/s")
	for range 2 {
		if err := h.Fill("i-disk"); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := l.trySh(t, "root", "head -c 10000 /dev/zero >/srv/more"); err == nil || !strings.Contains(out, "No space left") {
		t.Errorf("wrote to a full disk: %s", out)
	}
	// It boots with a full disk, and has it still.
	if err := h.Kill(t.Context(), "i-disk"); err != nil {
		t.Fatal(err)
	}
	if err := h.Start(t.Context(), l.spec); err != nil {
		t.Fatal(err)
	}
	if out, err := l.trySh(t, "root", "head -c 10000 /dev/zero >/srv/more"); err == nil {
		t.Errorf("wrote to a full disk after a restart: %s", out)
	}
	if err := h.Free("i-disk"); err != nil {
		t.Fatal(err)
	}
	l.sh(t, "root", "head -c 10000 /dev/zero >/srv/more")

	if err := h.Stop(t.Context(), "i-disk"); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := h.Freeze(t.Context(), "i-disk", "layer-disk"); err != nil {
			t.Fatal(err)
		}
	}
	if err := h.Start(t.Context(), l.spec); err != nil {
		t.Fatal(err)
	}
	l.sh(t, "root", "echo later >/srv/later")
	if err := h.Freeze(t.Context(), "i-other", "layer-disk"); err == nil {
		t.Error("froze what is not there")
	}
	second := newSpec(t, h, "i-disk2", "layer-disk", h.HostLayer())
	boot(t, h, second)
	const look = "cat /srv/link; stat -c '%u %h' /srv/file; stat -c %a /srv/d; stat -c %F /srv/p; readlink /srv/s; ls -A /etc/skel; test -e /etc/debian_version || echo gone; test -e /srv/later && echo later; wc -c </srv/more"
	if got, want := second.sh(t, "root", look), "kept\n1234 2\n1777\nfifo\nx\ngone\n10000"; got != want {
		t.Errorf("in the second: %q, want %q", got, want)
	}
	if got, want := l.sh(t, "root", look), "kept\n1234 2\n1777\nfifo\nx\ngone\nlater\n10000"; got != want {
		t.Errorf("in the first: %q, want %q", got, want)
	}
	for _, id := range []string{"i-disk", "i-disk2"} {
		if err := h.Remove(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	if b, err := os.ReadFile("/proc/self/mountinfo"); err != nil || strings.Contains(string(b), dir) {
		t.Errorf("mounted still: %v", err)
	}
	// One without a disk of its own is not filled: this machine's would be.
	other := openHost(t, t.TempDir())
	shared := newSpec(t, other, "i-shared")
	boot(t, other, shared)
	if err := other.Fill("i-shared"); bakehouse.KindOf(err) != bakehouse.Invalid || !strings.Contains(err.Error(), "-disk") {
		t.Errorf("filled the disk of this machine: %v", err)
	}
}

// A snapshot of a running instance holds what it had written at one moment; the
// instance goes on, also when the one who took it was cut off.
func TestSnapshot(t *testing.T) {
	for _, disk := range []int64{0, 64 << 20} {
		t.Run(fmt.Sprint(disk), func(t *testing.T) {
			h := newHost(t)
			l := newSpec(t, h, "i-live"+fmt.Sprint(disk))
			l.spec.Disk = disk
			boot(t, h, l)
			id := l.spec.ID
			// Two files that are never further apart than one step.
			l.sh(t, "root", "rm -r /etc/skel; nohup sh -c 'n=0; while :; do n=$((n+1)); echo $n >/srv/one; echo $n >/srv/two; done' >/dev/null 2>&1 &")
			l.sh(t, "root", "until test -s /srv/two; do sleep 0.01; done")
			for range 2 {
				if err := h.Snapshot(t.Context(), id, "layer-live"); err != nil {
					t.Fatal(err)
				}
			}
			was := l.sh(t, "root", "cat /srv/two; pgrep -c -f srv/one")
			eventually(t, "goes on", func() bool { return l.sh(t, "root", "cat /srv/two; pgrep -c -f srv/one") != was })
			cut, cancel := context.WithCancel(t.Context())
			cancel()
			if err := h.Snapshot(cut, id, "layer-cut"); !errors.Is(err, context.Canceled) {
				t.Errorf("cut off: %v", err)
			}
			was = l.sh(t, "root", "cat /srv/two")
			eventually(t, "goes on after a cut", func() bool { return l.sh(t, "root", "cat /srv/two") != was })
			// One that stands still for another reason stays so.
			if err := h.Pause(id); err != nil {
				t.Fatal(err)
			}
			if err := h.Snapshot(t.Context(), id, "layer-paused"); err != nil {
				t.Fatal(err)
			}
			if answers(l, 200*time.Millisecond) {
				t.Error("a snapshot has woken it")
			}
			if err := h.Resume(id); err != nil {
				t.Fatal(err)
			}
			other := newSpec(t, h, "i-from"+fmt.Sprint(disk), "layer-live", h.HostLayer())
			boot(t, h, other)
			var one, two int
			got := other.sh(t, "root", "test -e /etc/skel || echo gone; wc -l </srv/one; cat /srv/one /srv/two")
			if lines := strings.Fields(got); len(lines) == 4 { // else it was just being written
				one, _ = strconv.Atoi(lines[2])
				two, _ = strconv.Atoi(lines[3])
			}
			if !strings.HasPrefix(got, "gone\n") || one-two < 0 || one-two > 1 {
				t.Errorf("in the snapshot: %q", got)
			}
			if err := h.Stop(t.Context(), id); err != nil {
				t.Fatal(err)
			}
			if err := h.Snapshot(t.Context(), id, "layer-late"); bakehouse.KindOf(err) != bakehouse.Conflict {
				t.Errorf("snapshot of a stopped instance: %v", err)
			}
			for _, i := range []string{id, other.spec.ID} {
				if err := h.Remove(t.Context(), i); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// Killed in the middle of a snapshot, the next Host lets the instance go on.
func TestSnapshotKilled(t *testing.T) {
	dir := t.TempDir()
	first, err := sandbox.New(t.Context(), sandbox.Config{Dir: dir, Init: initPath})
	if os.Geteuid() != 0 {
		t.Skip("instances need root")
	}
	if err != nil {
		t.Fatal(err)
	}
	l := newSpec(t, first, "i-still")
	boot(t, first, l) // removed by the first, although it is closed by then: the folder is all it needs
	count := counts(t, dir, l)
	goesOn(t, "before", count)
	// As a kill leaves it.
	if err := first.Pause("i-still"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "instances", "i-still", "still"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	openHost(t, dir)
	goesOn(t, "after", count)
}
