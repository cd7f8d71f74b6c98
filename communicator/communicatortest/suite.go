// Package communicatortest holds what every communicator promises, as tests,
// and what it takes to test with real machines: an OpenSSH server of the test's
// own, and a wire to it that can be cut.
package communicatortest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/bakehouse-farm/bakehouse"
	"github.com/bakehouse-farm/bakehouse/communicator"
	"github.com/bakehouse-farm/bakehouse/internal/proc"
)

// An Output keeps what a Sink gets, by its offset, as the agent's log does.
type Output struct {
	mu   sync.Mutex
	data []byte
}

// Sink stores output; bytes that are stored already are not stored again.
func (o *Output) Sink(p []byte, end int64) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	begin := end - int64(len(p))
	have := int64(len(o.data))
	switch {
	case begin > have:
		return fmt.Errorf("output skips from %d to %d", have, begin)
	case end > have:
		o.data = append(o.data, p[have-begin:]...)
	}
	return nil
}

// Offset returns how much is stored.
func (o *Output) Offset() int64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	return int64(len(o.data))
}

// Bytes returns what is stored.
func (o *Output) Bytes() []byte {
	o.mu.Lock()
	defer o.mu.Unlock()
	return bytes.Clone(o.data)
}

// Run checks what communicator.Communicator promises. open connects to a
// machine that shares its file system with the test: always the same machine
// within one test, and the same build.
func Run(t *testing.T, open func(t *testing.T) communicator.Communicator) {
	t.Run("Command", func(t *testing.T) { testCommands(t, open) })
	t.Run("Once", func(t *testing.T) { testOnce(t, open) })
	t.Run("LetGoAndStop", func(t *testing.T) { testLetGoAndStop(t, open) })
	t.Run("Daemon", func(t *testing.T) { testDaemon(t, open) })
	t.Run("MuchOutput", func(t *testing.T) { testMuchOutput(t, open) })
	t.Run("Exec", func(t *testing.T) { testExec(t, open) })
	t.Run("Files", func(t *testing.T) { testFiles(t, open) })
	t.Run("Folders", func(t *testing.T) { testFolders(t, open) })
	t.Run("Clean", func(t *testing.T) { testClean(t, open) })
}

func unique(prefix string) string { return fmt.Sprintf("%s-%x", prefix, rand.Uint64()) }

func testCommands(t *testing.T, open func(t *testing.T) communicator.Communicator) {
	c := open(t)
	for _, tt := range []struct {
		name string
		cmd  communicator.Command
		out  string
		want communicator.Result
	}{
		{"true", communicator.Command{Line: "true"}, "", communicator.Result{}},
		{"exit 3", communicator.Command{Line: "echo a; echo b >&2; exit 3"}, "a\nb\n", communicator.Result{Exit: 3}},
		{"signal", communicator.Command{Line: "kill -KILL $$"}, "", communicator.Result{Exit: 137}},
		{"terminated", communicator.Command{Line: "kill -TERM $$"}, "", communicator.Result{Exit: 143}},
		{"not found", communicator.Command{Line: "exec /nonexistent 2>/dev/null"}, "", communicator.Result{Exit: 127}},
		{"no newline", communicator.Command{Line: "printf x"}, "x", communicator.Result{}},
		{"any bytes", communicator.Command{Line: `printf '\000\377\376\001bakehouse-runner-1\n'`}, "\x00\xff\xfe\x01bakehouse-runner-1\n", communicator.Result{}},
		{"environment", communicator.Command{Line: `echo "$A|$B"`, Env: map[string]string{"A": "it's \"$HOME\"\nline", "B": ""}}, "it's \"$HOME\"\nline|\n", communicator.Result{}},
		{"no input", communicator.Command{Line: "cat; echo end"}, "end\n", communicator.Result{}},
		{"pipes end quietly", communicator.Command{Line: "yes | head -n 1"}, "y\n", communicator.Result{}},
		{"timeout", communicator.Command{Line: "sleep 600; echo b", Timeout: 300 * time.Millisecond}, "", communicator.Result{Exit: 143, TimedOut: true}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cmd := tt.cmd
			cmd.ID = unique("c")
			if st, err := c.Probe(t.Context(), cmd.ID); st != communicator.None || err != nil {
				t.Errorf("before: Probe() = %q, %v", st, err)
			}
			var out Output
			got, err := c.Run(t.Context(), cmd, 0, out.Sink)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff(tt.out, string(out.Bytes())); diff != "" {
				t.Error(diff)
			}
			if st, err := c.Probe(t.Context(), cmd.ID); st != communicator.Done || err != nil {
				t.Errorf("after: Probe() = %q, %v", st, err)
			}
		})
	}
}

// However many ask for a command, at once and later, it runs once, and all of
// them see the same.
func testOnce(t *testing.T, open func(t *testing.T) communicator.Communicator) {
	counter := filepath.Join(t.TempDir(), "counter")
	cmd := communicator.Command{
		ID:   unique("once"),
		Line: "echo run >> " + counter + "; for i in 1 2 3 4 5 6 7 8 9 10; do echo line $i; sleep 0.05; done; exit 7",
	}
	const followers = 4
	outs := make([]Output, followers)
	var wg sync.WaitGroup
	for i := range followers {
		c := open(t)
		wg.Go(func() {
			got, err := c.Run(t.Context(), cmd, 0, outs[i].Sink)
			if err != nil || got.Exit != 7 {
				t.Errorf("follower %d: %+v, %v", i, got, err)
			}
		})
	}
	wg.Wait()
	var late Output
	if got, err := open(t).Run(t.Context(), cmd, 7, func(p []byte, end int64) error {
		return late.Sink(p, end-7)
	}); err != nil || got.Exit != 7 {
		t.Errorf("late follower: %+v, %v", got, err)
	}
	want := outs[0].Bytes()
	if !strings.HasSuffix(string(want), "line 10\n") {
		t.Errorf("output = %q", want)
	}
	for i := range outs {
		if diff := cmp.Diff(want, outs[i].Bytes()); diff != "" {
			t.Errorf("follower %d: %s", i, diff)
		}
	}
	if diff := cmp.Diff(string(want[7:]), string(late.Bytes())); diff != "" {
		t.Errorf("late follower: %s", diff)
	}
	if data, _ := os.ReadFile(counter); string(data) != "run\n" {
		t.Errorf("the command ran %d times", strings.Count(string(data), "run"))
	}
}

// Only a user's cancellation stops a command; every other end of the context
// lets it run.
func testLetGoAndStop(t *testing.T, open func(t *testing.T) communicator.Communicator) {
	drained := errors.New("agent drains")
	for _, cause := range []error{drained, bakehouse.ErrStop} {
		t.Run(cause.Error(), func(t *testing.T) {
			c := open(t)
			dir := t.TempDir()
			// A grandchild that left its session, and a child that ignores TERM.
			line := "cd " + dir + "; setsid sh -c 'echo $$ > far; exec sleep 600' & " +
				"sh -c 'trap \"\" TERM; while ! test -e go; do sleep 0.05; done' & echo $! > near; " +
				"echo begun; wait $!; echo over"
			cmd := communicator.Command{ID: unique("stop"), Line: line}
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			var out Output
			_, err := c.Run(ctx, cmd, 0, func(p []byte, end int64) error {
				if bytes.Contains(p, []byte("begun")) {
					Eventually(t, "the grandchild runs", func() bool { return pidIn(dir, "far") != "" })
					cancel(cause)
				}
				return out.Sink(p, end)
			})
			if !errors.Is(err, cause) {
				t.Fatalf("Run() = %v, want the cause", err)
			}
			if cause == drained {
				if st, err := c.Probe(t.Context(), cmd.ID); st != communicator.Running || err != nil {
					t.Errorf("Probe() = %q, %v", st, err)
				}
				if err := os.WriteFile(filepath.Join(dir, "go"), nil, 0o600); err != nil {
					t.Fatal(err)
				}
				got, err := open(t).Run(t.Context(), cmd, out.Offset(), out.Sink)
				if err != nil || got.Exit != 0 || string(out.Bytes()) != "begun\nover\n" {
					t.Errorf("the next follower: %+v, %v, %q", got, err, out.Bytes())
				}
				endPid(t, pidIn(dir, "far"))
				return
			}
			for _, who := range []string{"near", "far"} {
				if pid := pidIn(dir, who); running(pid) {
					t.Errorf("process %s (%s) still runs after the cancellation", pid, who)
					endPid(t, pid)
				}
			}
			got, err := c.Run(t.Context(), cmd, 0, out.Sink)
			if err != nil || got.Exit != 143 {
				t.Errorf("what became of it: %+v, %v", got, err)
			}
		})
	}
}

func pidIn(dir, name string) string {
	data, _ := os.ReadFile(filepath.Join(dir, name))
	return strings.TrimSpace(string(data))
}

func running(pid string) bool {
	n, _ := strconv.Atoi(pid)
	p, ok := proc.Read(n)
	return ok && !p.Ended()
}

func endPid(t *testing.T, pid string) {
	t.Helper()
	var n int
	if _, err := fmt.Sscan(pid, &n); err != nil || n < 2 {
		t.Fatalf("no process %q", pid)
	}
	p, err := os.FindProcess(n)
	if err == nil {
		_ = p.Kill()
	}
}

// A daemon that a command starts outlives it, and neither keeps it from ending
// nor holds anything of the runner's.
func testDaemon(t *testing.T, open func(t *testing.T) communicator.Communicator) {
	c := open(t)
	dir := t.TempDir()
	cmd := communicator.Command{
		ID: unique("daemon"),
		// It keeps the output open, as careless daemons do.
		Line: "cd " + dir + "; setsid sh -c 'echo $$ > pid; while ! test -e go; do sleep 0.05; done; echo late; exec sleep 600' & " +
			"while ! test -s pid; do sleep 0.01; done; echo started",
	}
	var out Output
	got, err := c.Run(t.Context(), cmd, 0, out.Sink)
	if err != nil || got.Exit != 0 {
		t.Fatalf("%+v, %v", got, err)
	}
	pid := pidIn(dir, "pid")
	t.Cleanup(func() { endPid(t, pid) })
	if !running(pid) {
		t.Fatal("the daemon ended with the command")
	}
	links, err := filepath.Glob("/proc/" + pid + "/fd/*")
	if err != nil || len(links) == 0 {
		t.Fatalf("files of the daemon: %v, %v", links, err)
	}
	for _, link := range links {
		if name := filepath.Base(link); name == "1" || name == "2" {
			continue // its output, which it was given
		}
		if target, _ := os.Readlink(link); strings.HasSuffix(target, "/lock") || strings.HasPrefix(target, "pipe:") {
			t.Errorf("the daemon holds %s", target)
		}
	}
	// What it prints later is not the command's.
	if err := os.WriteFile(filepath.Join(dir, "go"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	Eventually(t, "the daemon has gone on", func() bool {
		name, _ := os.ReadFile("/proc/" + pid + "/comm")
		return string(name) == "sleep\n"
	})
	var again Output
	if _, err := open(t).Run(t.Context(), cmd, 0, again.Sink); err != nil || string(again.Bytes()) != "started\n" {
		t.Errorf("followed again: %q, %v", again.Bytes(), err)
	}
}

func testMuchOutput(t *testing.T, open func(t *testing.T) communicator.Communicator) {
	c := open(t)
	const size = 50 << 20
	var n int64
	got, err := c.Run(t.Context(), communicator.Command{
		ID: unique("much"), Line: fmt.Sprintf("head -c %d /dev/zero", size),
	}, 0, func(p []byte, end int64) error {
		n += int64(len(p))
		if n != end || bytes.Trim(p, "\x00") != nil {
			return fmt.Errorf("at %d: got %d bytes", end, n)
		}
		return nil
	})
	if err != nil || got.Exit != 0 || n != size {
		t.Errorf("%+v, %v, %d bytes of %d", got, err, n, size)
	}
}

func testExec(t *testing.T, open func(t *testing.T) communicator.Communicator) {
	c := open(t)
	r, out, err := c.Exec(t.Context(), "echo a; echo b >&2; exit 4")
	if err != nil || r.Exit != 4 || string(out) != "a\nb\n" && string(out) != "b\na\n" {
		t.Errorf("%+v, %q, %v", r, out, err)
	}
	if r, _, err := c.Exec(t.Context(), "kill -TERM $$"); err != nil || r.Exit != 143 {
		t.Errorf("by a signal: %+v, %v", r, err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	time.AfterFunc(50*time.Millisecond, func() { cancel(errors.New("enough")) })
	if _, _, err := c.Exec(ctx, "sleep 5"); err == nil || err.Error() != "enough" {
		t.Errorf("ended context: %v", err)
	}
}

func testFiles(t *testing.T, open func(t *testing.T) communicator.Communicator) {
	c := open(t)
	dir := t.TempDir()
	big := make([]byte, 3<<20)
	for i := range big {
		big[i] = byte(rand.IntN(256))
	}
	for name, content := range map[string][]byte{"empty": nil, "it's a \"name\" $x": []byte("hello"), "big": big} {
		dst := filepath.Join(dir, name)
		if err := c.Upload(t.Context(), dst, bytes.NewReader(content), 0o750); err != nil {
			t.Fatalf("upload %s: %v", name, err)
		}
		got, err := os.ReadFile(dst)
		if err != nil || !bytes.Equal(got, content) {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
		if info, err := os.Stat(dst); err != nil || info.Mode().Perm() != 0o750 {
			t.Errorf("%s: %v, %v", name, info, err)
		}
		var back bytes.Buffer
		if err := c.Download(t.Context(), dst, &back); err != nil || !bytes.Equal(back.Bytes(), content) {
			t.Errorf("download %s: %d bytes, %v", name, back.Len(), err)
		}
	}
	// Cut off in the middle, the old file stays.
	dst := filepath.Join(dir, "kept")
	if err := os.WriteFile(dst, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := c.Upload(t.Context(), dst, brokenReader{bytes.NewReader(big)}, 0); err == nil {
		t.Error("an upload whose source broke off succeeded")
	}
	if got, _ := os.ReadFile(dst); string(got) != "old" {
		t.Errorf("file holds %d bytes after an upload that was cut off", len(got))
	}
	// A link stays one.
	if err := os.Symlink(dst, filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	if err := c.Upload(t.Context(), filepath.Join(dir, "link"), strings.NewReader("new"), 0); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Lstat(filepath.Join(dir, "link")); err != nil || info.Mode()&os.ModeSymlink == 0 {
		t.Error("the link was replaced")
	}
	if got, _ := os.ReadFile(dst); string(got) != "new" {
		t.Errorf("behind the link: %q", got)
	}
	if info, err := os.Stat(dst); err != nil || info.Mode().Perm() != 0o644 {
		t.Errorf("mode 0 means 0644: %v, %v", info.Mode(), err)
	}
	// Somebody who was cut off in the middle of the same upload still holds the
	// file that it writes: a script can be run all the same, and stays as it is.
	script := filepath.Join(dir, "busy.sh")
	stale, err := os.Create(filepath.Join(dir, ".busy.sh.bakehouse-part"))
	if err != nil {
		t.Fatal(err)
	}
	defer stale.Close()
	if err := c.Upload(t.Context(), script, strings.NewReader("#!/bin/sh\necho it runs\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := stale.WriteString("#!/bin/sh\necho late!\n"); err != nil {
		t.Fatal(err)
	}
	if r, out, err := c.Exec(t.Context(), script); err != nil || r.Exit != 0 || string(out) != "it runs\n" {
		t.Errorf("script that somebody else was writing, too: exit %d, %q, %v", r.Exit, out, err)
	}
	for name, do := range map[string]func() error{
		"upload into nowhere":   func() error { return c.Upload(t.Context(), dir+"/no/where", strings.NewReader(""), 0) },
		"upload over a folder":  func() error { return c.Upload(t.Context(), dir, strings.NewReader(""), 0) },
		"download of nothing":   func() error { return c.Download(t.Context(), dir+"/nothing", &bytes.Buffer{}) },
		"download of a folder":  func() error { return c.Download(t.Context(), dir, &bytes.Buffer{}) },
		"folder that is not":    func() error { return c.DownloadDir(t.Context(), dir+"/nothing/", t.TempDir()) },
		"folder that is a file": func() error { return c.UploadDir(t.Context(), dir, dst+"/") },
	} {
		if err := do(); err == nil || !bakehouse.KindOf(err).Final() {
			t.Errorf("%s: %v; want a final failure", name, err)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(dir, ".*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// brokenReader fails where r ends.
type brokenReader struct{ r *bytes.Reader }

func (b brokenReader) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	if err != nil {
		return n, errors.New("source broke off")
	}
	return n, nil
}

func testFolders(t *testing.T, open func(t *testing.T) communicator.Communicator) {
	c := open(t)
	src := filepath.Join(t.TempDir(), "tree")
	for _, dir := range []string{"empty", "a/b"} {
		if err := os.MkdirAll(filepath.Join(src, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, content := range map[string]string{"top": "1", "a/b/deep": "2", "a/.hidden": "3", "a/it's": "4"} {
		if err := os.WriteFile(filepath.Join(src, name), []byte(content), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("top", filepath.Join(src, "link")); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"empty/": "", "a/": "", "a/b/": "", "top": "1", "a/b/deep": "2", "a/.hidden": "3", "a/it's": "4", "link": "1"}
	for _, tt := range []struct{ slash, below string }{{"/", ""}, {"", "tree"}} {
		dst := filepath.Join(t.TempDir(), "new")
		if err := c.UploadDir(t.Context(), dst, src+tt.slash); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, tree(t, filepath.Join(dst, tt.below))); diff != "" {
			t.Errorf("upload of tree%s: %s", tt.slash, diff)
		}
		dst = filepath.Join(t.TempDir(), "back")
		if err := c.DownloadDir(t.Context(), src+tt.slash, dst); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, tree(t, filepath.Join(dst, tt.below))); diff != "" {
			t.Errorf("download of tree%s: %s", tt.slash, diff)
		}
	}
}

func tree(t *testing.T, root string) map[string]string {
	t.Helper()
	got := map[string]string{}
	err := filepath.WalkDir(root, func(name string, d os.DirEntry, err error) error {
		if err != nil || name == root {
			return err
		}
		rel, _ := filepath.Rel(root, name)
		if d.IsDir() {
			got[rel+"/"] = ""
			return nil
		}
		data, err := os.ReadFile(name)
		got[rel] = string(data)
		return err
	})
	if err != nil {
		t.Error(err)
	}
	return got
}

func testClean(t *testing.T, open func(t *testing.T) communicator.Communicator) {
	c := open(t)
	dir := t.TempDir()
	cmd := communicator.Command{ID: unique("clean"), Line: "echo $$ > " + dir + "/pid; while :; do sleep 0.05; done"}
	ctx, cancel := context.WithCancelCause(t.Context())
	followed := make(chan error, 1)
	go func() {
		_, err := c.Run(ctx, cmd, 0, nil)
		followed <- err
	}()
	other := open(t)
	Eventually(t, "the command runs", func() bool {
		st, err := other.Probe(t.Context(), cmd.ID)
		return err == nil && st == communicator.Running
	})
	var pid int
	Eventually(t, "it says who it is", func() bool {
		b, err := os.ReadFile(dir + "/pid")
		if err != nil {
			return false
		}
		pid, err = strconv.Atoi(strings.TrimSpace(string(b)))
		return err == nil
	})
	// Who follows it is cut off, and nobody has stopped it.
	cancel(errors.New("agent is cut off"))
	<-followed
	if err := syscall.Kill(pid, 0); err != nil {
		t.Fatalf("the command does not run any more: %v", err)
	}
	if err := other.Clean(t.Context()); err != nil {
		t.Errorf("Clean() under a command that runs = %v", err)
	}
	if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("the command runs on: %v", err)
	}
	for range 2 {
		if err := c.Clean(t.Context()); err != nil {
			t.Errorf("Clean() = %v", err)
		}
	}
	if st, err := other.Probe(t.Context(), cmd.ID); st != communicator.None || err != nil {
		t.Errorf("after Clean: Probe() = %q, %v", st, err)
	}
}
