package sandbox_test

import (
	"bytes"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

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

// A cut network loses packets without a word; connections that were there go on
// when it is mended.
func TestCut(t *testing.T) {
	h := newHost(t)
	l := newSpec(t, h, "i-cut")
	boot(t, h, l)
	client := l.dial(t, "root")
	s, err := client.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	in, err := s.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	var out safeBuffer
	s.Stdout = &out
	if err := s.Start("cat"); err != nil {
		t.Fatal(err)
	}
	say := func(word string) {
		t.Helper()
		if _, err := in.Write([]byte(word)); err != nil {
			t.Fatal(err)
		}
	}
	say("one ")
	eventually(t, "echo", func() bool { return out.String() == "one " })
	if err := h.Impair("i-cut", sandbox.Impairment{Cut: true}); err != nil {
		t.Fatal(err)
	}
	say("two ")
	if answers(l, 300*time.Millisecond) {
		t.Error("answers over a cut network")
	}
	if got := out.String(); got != "one " {
		t.Errorf("heard %q over a cut network", got)
	}
	if err := h.Impair("i-cut", sandbox.Impairment{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "echo after the cut", func() bool { return out.String() == "one two " })

	// Slow, where the kernel can: a megabyte at 2 MB/s.
	if err := h.Impair("i-cut", sandbox.Impairment{Rate: 2 << 20}); err != nil {
		if bakehouse.KindOf(err) != bakehouse.Invalid || !strings.Contains(err.Error(), "kernel") {
			t.Fatal(err)
		}
	} else {
		begin := time.Now()
		l.sh(t, "root", "head -c 1000000 /dev/zero | tr '\\0' x")
		if d := time.Since(begin); d < 300*time.Millisecond {
			t.Errorf("a megabyte took %s", d)
		}
	}
	if err := h.Impair("i-cut", sandbox.Impairment{Delay: 200 * time.Millisecond}); err != nil {
		if bakehouse.KindOf(err) != bakehouse.Invalid || !strings.Contains(err.Error(), "netem") {
			t.Fatal(err)
		}
		t.Logf("not tried here: %v", err)
	} else {
		begin := time.Now()
		if !answers(l, 10*time.Second) || time.Since(begin) < 400*time.Millisecond {
			t.Errorf("answered after %s", time.Since(begin))
		}
	}
	if err := h.Impair("i-cut", sandbox.Impairment{}); err != nil {
		t.Fatal(err)
	}
	if got := l.sh(t, "root", "echo well"); got != "well" {
		t.Error(got)
	}
}
