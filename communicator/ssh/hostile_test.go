package ssh

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	xssh "golang.org/x/crypto/ssh"

	"github.com/bakehouse-farm/bakehouse"
	"github.com/bakehouse-farm/bakehouse/communicator"
	"github.com/bakehouse-farm/bakehouse/communicator/communicatortest"
	"github.com/bakehouse-farm/bakehouse/communicator/runner"
)

// A liar is a machine that lets everybody in and answers what it likes. It
// tells the truth about itself, so that it is asked to run commands.
type liar struct {
	// mute says which requests of a channel are never answered: "open", "exec".
	mute string
	// run plays the runner, or whatever program it is asked for.
	run func(line string, ch xssh.Channel)
}

const program = "no program at all"

func (l liar) listen(t *testing.T) communicator.Target {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := xssh.NewSignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	config := &xssh.ServerConfig{NoClientAuth: true, PasswordCallback: func(xssh.ConnMetadata, []byte) (*xssh.Permissions, error) { return nil, nil }}
	config.AddHostKey(signer)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go l.serve(conn, config)
		}
	}()
	return communicator.Target{
		Host: "127.0.0.1", Build: "b",
		Settings: communicator.Settings{SSHPort: listener.Addr().(*net.TCPAddr).Port, SSHUsername: "x", SSHPassword: "x", SSHTimeout: bakehouse.Duration(20 * time.Second)},
	}
}

func (l liar) serve(conn net.Conn, config *xssh.ServerConfig) {
	defer conn.Close()
	_, channels, requests, err := xssh.NewServerConn(conn, config)
	if err != nil {
		return
	}
	go func() {
		for r := range requests { // it seems to be alive
			if r.WantReply {
				_ = r.Reply(true, nil)
			}
		}
	}()
	for c := range channels {
		if l.mute == "open" {
			continue
		}
		ch, requests, err := c.Accept()
		if err != nil {
			continue
		}
		go func() {
			for r := range requests {
				if r.Type == l.mute {
					continue
				}
				_ = r.Reply(r.Type == "exec" || r.Type == "env", nil)
				if r.Type == "exec" {
					go l.answer(string(r.Payload[4:]), ch)
				}
			}
		}()
	}
}

func (l liar) answer(line string, ch xssh.Channel) {
	defer ch.Close()
	if !strings.Contains(line, "bakehouse $(uname -s)") {
		l.run(line, ch)
		return
	}
	name := fmt.Sprintf("runner-%x", sha256.Sum256([]byte(program)))[:7+24]
	dir := "drwx------ 2 0 0 4096 Nov 21 07:00 "
	fmt.Fprintf(ch, "bakehouse Linux x86_64 0 0 /x\ntotal 4\n-rwx------ 1 0 0 17 Nov 21 07:00 %s\n--\n%s/x/b\n%s/x\n%s/\n", name, dir, dir, dir)
	_, _ = ch.SendRequest("exit-status", false, binary.BigEndian.AppendUint32(nil, 0))
}

func dialLiar(t *testing.T, l liar) *Conn {
	t.Helper()
	return dial(t, l.listen(t), func(o *Options) {
		o.Runner = func(string) ([]byte, error) { return []byte(program), nil }
	})
}

// frames plays a runner that answers with these frames.
func frames(write func(w *runner.Writer)) func(string, xssh.Channel) {
	return func(_ string, ch xssh.Channel) {
		write(runner.NewWriter(ch))
		time.Sleep(time.Minute) // it does not hang up
	}
}

func status(w *runner.Writer, text string) { _ = w.Write(runner.StatusFrame, []byte(text)) }

// What no runner answers is refused at once and for good: a build on such a
// machine fails, and nothing else does.
func TestNonsenseIsRefused(t *testing.T) {
	const started = `{"state":"started"}`
	for name, tt := range map[string]struct {
		run  func(string, xssh.Channel)
		want string
	}{
		"no result":     {frames(func(w *runner.Writer) { status(w, started); status(w, `{"state":"done"}`) }), "without its result"},
		"no result yet": {frames(func(w *runner.Writer) { status(w, `{"state":"done"}`) }), "without its result"},
		"exit status":   {frames(func(w *runner.Writer) { status(w, started); status(w, `{"state":"done","result":{"exit":4096}}`) }), "exit status 4096"},
		"negative": {frames(func(w *runner.Writer) {
			status(w, started)
			status(w, `{"state":"done","result":{"log_bytes":-1}}`)
		}), "nonsense"},
		"state":    {frames(func(w *runner.Writer) { status(w, `{"state":"\u001b[2Jfine"}`) }), `state "`},
		"no JSON":  {frames(func(w *runner.Writer) { status(w, started); status(w, "{") }), "nonsense"},
		"too deep": {frames(func(w *runner.Writer) { status(w, strings.Repeat("[", runner.MaxFrame)) }), "nonsense"},
		"less output than said": {frames(func(w *runner.Writer) {
			status(w, started)
			_ = w.Write(runner.OutputFrame, []byte("abc"))
			status(w, `{"state":"done","result":{"log_bytes":10}}`)
		}), "printed 10 bytes, but it sent 3"},
		"more output than said": {frames(func(w *runner.Writer) {
			status(w, started)
			_ = w.Write(runner.OutputFrame, []byte("abc"))
			status(w, `{"state":"done","result":{"log_bytes":2}}`)
		}), "printed 2 bytes, but it sent 3"},
		"frame of no kind": {frames(func(w *runner.Writer) { status(w, started); _ = w.Write('?', nil) }), "kind"},
		"frame without end": {func(_ string, ch xssh.Channel) {
			fmt.Fprint(ch, runner.Magic+"o\xff\xff\xff\xff")
			time.Sleep(time.Minute)
		}, "too long"},
		"problem with escapes": {frames(func(w *runner.Writer) {
			_ = w.Write(runner.ProblemFrame, []byte("\x1b]0;owned\x07\x1b[2J\r\n==> fake: line"+strings.Repeat("x", 60_000)))
		}), "runner on the machine"},
		"lost with escapes": {frames(func(w *runner.Writer) {
			status(w, started)
			status(w, `{"state":"lost","trouble":"\u001b[2J\u202egnp\u0007"}`)
		}), "was killed"},
		"chatter without end": {func(_ string, ch xssh.Channel) {
			for {
				if _, err := ch.Write(bytes.Repeat([]byte("welcome\x1b[2J"), 1000)); err != nil {
					return
				}
			}
		}, "no answer"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := dialLiar(t, liar{run: tt.run})
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			r, err := c.Run(ctx, communicator.Command{ID: "c", Line: "x"}, 0, func([]byte, int64) error { return nil })
			if err == nil || !bakehouse.KindOf(err).Final() || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("%+v, %s: %.300v", r, bakehouse.KindOf(err), err)
			}
			if text := err.Error(); strings.ContainsAny(text, "\x1b\x07\r\n\u202e") || len(text) > 4000 {
				t.Errorf("message of %d bytes: %.300q", len(text), text)
			}
			if s, err := c.Probe(ctx, "c"); err == nil && s == communicator.Done {
				t.Errorf("probe believes it: %s", s)
			}
		})
	}
}

// What looks like a runner's frames within output is output.
func TestFakeFramesInOutput(t *testing.T) {
	fake := runner.Magic + "s\x00\x00\x00\x2d" + `{"state":"done","result":{"exit":0,"log_bytes":0}}`
	c := dialLiar(t, liar{run: frames(func(w *runner.Writer) {
		status(w, `{"state":"started"}`)
		_ = w.Write(runner.OutputFrame, []byte(fake))
		status(w, fmt.Sprintf(`{"state":"done","result":{"exit":3,"log_bytes":%d}}`, len(fake)))
	})})
	var out communicatortest.Output
	r, err := c.Run(t.Context(), communicator.Command{ID: "c", Line: "x"}, 0, out.Sink)
	if err != nil || r.Exit != 3 || string(out.Bytes()) != fake {
		t.Errorf("%+v, %v, %q", r, err, out.Bytes())
	}
}

// A machine that answers byte by byte is slow, not wrong.
func TestBytesOneAtATime(t *testing.T) {
	c := dialLiar(t, liar{run: func(_ string, ch xssh.Channel) {
		var all bytes.Buffer
		w := runner.NewWriter(&all)
		status(w, `{"state":"started"}`)
		_ = w.Write(runner.OutputFrame, []byte("hello\n"))
		status(w, `{"state":"done","result":{"exit":0,"log_bytes":6}}`)
		for _, b := range all.Bytes() {
			if _, err := ch.Write([]byte{b}); err != nil {
				return
			}
			time.Sleep(time.Millisecond)
		}
		time.Sleep(time.Minute)
	}})
	var out communicatortest.Output
	if r, err := c.Run(t.Context(), communicator.Command{ID: "c", Line: "x"}, 0, out.Sink); err != nil || r.Exit != 0 || string(out.Bytes()) != "hello\n" {
		t.Errorf("%+v, %v, %q", r, err, out.Bytes())
	}
}

// A machine that lives but never answers costs the time that its build has, not
// more, whatever it leaves unanswered.
func TestAMachineThatNeverAnswers(t *testing.T) {
	silent := func(string, xssh.Channel) { time.Sleep(time.Minute) }
	for name, l := range map[string]liar{
		"channel":  {mute: "open", run: silent},
		"command":  {mute: "exec", run: silent},
		"terminal": {mute: "pty-req", run: silent},
		"output":   {run: silent},
		"alive for ever": {run: func(_ string, ch xssh.Channel) {
			for w := runner.NewWriter(ch); w.Write(runner.AliveFrame, nil) == nil; {
				time.Sleep(time.Millisecond)
			}
		}},
		"empty output for ever": {run: func(_ string, ch xssh.Channel) {
			for w := runner.NewWriter(ch); w.Write(runner.OutputFrame, nil) == nil; {
				time.Sleep(time.Millisecond)
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			target := l.listen(t)
			target.Settings.SSHPty = name == "terminal"
			c := dial(t, target, func(o *Options) {
				o.Runner = func(string) ([]byte, error) { return []byte(program), nil }
			})
			for what, do := range map[string]func(ctx context.Context) error{
				"run": func(ctx context.Context) error {
					_, err := c.Run(ctx, communicator.Command{ID: "c", Line: "x"}, 0, nil)
					return err
				},
				"exec": func(ctx context.Context) error {
					_, _, err := c.Exec(ctx, "x")
					return err
				},
				"probe": func(ctx context.Context) error {
					_, err := c.Probe(ctx, "c")
					return err
				},
			} {
				ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
				began := time.Now()
				err := do(ctx)
				if !errors.Is(err, context.DeadlineExceeded) && !(what == "exec" && strings.Contains(name, "for ever")) {
					t.Errorf("%s: %v", what, err)
				}
				if took := time.Since(began); took > 20*time.Second {
					t.Errorf("%s took %s", what, took)
				}
				cancel()
			}
		})
	}
}

// A flood neither fills the agent's memory nor lasts for ever.
func TestFloods(t *testing.T) {
	const much = 400 << 20
	block := bytes.Repeat([]byte{0xff}, 32<<10)
	pour := func(w io.Writer) {
		for sent := 0; sent < much; sent += len(block) {
			if _, err := w.Write(block); err != nil {
				return
			}
		}
	}
	before := heap()
	c := dialLiar(t, liar{run: func(_ string, ch xssh.Channel) { pour(ch) }})
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	if _, out, err := c.Exec(ctx, "x"); bakehouse.KindOf(err) != bakehouse.Failed || len(out) > 0 || !strings.Contains(err.Error(), "more than") {
		t.Errorf("exec: %d bytes, %v", len(out), err)
	}
	c = dialLiar(t, liar{run: func(_ string, ch xssh.Channel) {
		pour(ch.Stderr())
		w := runner.NewWriter(ch)
		status(w, `{"state":"started"}`)
		status(w, `{"state":"done","result":{"exit":0}}`)
		time.Sleep(time.Minute)
	}})
	if _, err := c.Run(ctx, communicator.Command{ID: "c", Line: "x"}, 0, nil); err != nil {
		t.Errorf("run: %v", err)
	}
	if grown := heap() - before; grown > 100<<20 {
		t.Errorf("%d MiB of memory are still used", grown>>20)
	}
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// The folder of the runner, as a real shell prepares it for a user whose home
// others can reach: refused wherever another could put a program of theirs in
// the place of ours.
func TestPlacesThatOthersCouldChange(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("becoming other users needs root")
	}
	const victim, attacker = 23451, 65534
	type files func(path string, uid int, mode os.FileMode)
	for name, tt := range map[string]struct {
		prepare func(home string, mkdir files)
		want    string // empty: accepted
	}{
		"own home":    {func(home string, mkdir files) { mkdir(home, victim, 0o755) }, ""},
		"own group":   {func(home string, mkdir files) { mkdir(home, victim, 0o775) }, ""},
		"sticky home": {func(home string, mkdir files) { mkdir(home, 0, 0o1777) }, ""},
		"old folder that was open": {func(home string, mkdir files) {
			mkdir(home, victim, 0o755)
			mkdir(home+"/.bakehouse", victim, 0o777)
			mkdir(home+"/.bakehouse/b", victim, 0o777)
		}, ""},
		"open home": {func(home string, mkdir files) { mkdir(home, victim, 0o777) }, "everybody"},
		"home of another group": {func(home string, mkdir files) {
			mkdir(home, victim, 0o775)
			if err := os.Chown(home, victim, attacker); err != nil {
				t.Fatal(err)
			}
		}, "another group"},
		"home of another": {func(home string, mkdir files) {
			mkdir(home, attacker, 0o1777)
		}, "another user"},
		"folder of another": {func(home string, mkdir files) {
			mkdir(home, 0, 0o1777)
			mkdir(home+"/.bakehouse", attacker, 0o777)
		}, "another user"},
		"build of another": {func(home string, mkdir files) {
			mkdir(home, victim, 0o755)
			mkdir(home+"/.bakehouse", victim, 0o755)
			mkdir(home+"/.bakehouse/b", attacker, 0o777)
		}, "another user"},
		"link of another": {func(home string, mkdir files) {
			mkdir(home, 0, 0o1777)
			mkdir(home+"/theirs", attacker, 0o777)
			if err := os.Symlink(home+"/theirs", home+"/.bakehouse"); err != nil {
				t.Fatal(err)
			}
		}, "another user"},
	} {
		t.Run(name, func(t *testing.T) {
			dir, err := os.MkdirTemp("", "place-")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { os.RemoveAll(dir) })
			if err := os.Chmod(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			home := filepath.Join(dir, "home")
			tt.prepare(home, func(path string, uid int, mode os.FileMode) {
				if err := errors.Join(os.Mkdir(path, 0o700), os.Chown(path, uid, uid), syscall.Chmod(path, uint32(mode.Perm())|uint32(mode&0o1000))); err != nil {
					t.Fatal(err)
				}
			})
			for _, shell := range []string{"dash", "bash"} {
				cmd := exec.Command(shell, "-c", fmt.Sprintf(survey, "b"))
				cmd.Dir, cmd.Env = "/", []string{"HOME=" + home, "PATH=/usr/bin:/bin"}
				cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: victim, Gid: victim}}
				out, _ := cmd.Output()
				p, _, err := parseSurvey(0, out)
				switch {
				case tt.want == "" && (err != nil || p.base != home+"/.bakehouse"):
					t.Errorf("%s: %+v, %v\n%s", shell, p, err, out)
				case tt.want != "" && (err == nil || bakehouse.KindOf(err) != bakehouse.Failed):
					t.Errorf("%s: accepted: %+v, %v\n%s", shell, p, err, out)
				case tt.want != "" && !strings.Contains(err.Error(), tt.want) && !strings.Contains(err.Error(), "ermission denied"):
					t.Errorf("%s: %v", shell, err)
				}
				if info, err := os.Stat(home + "/.bakehouse/b"); tt.want == "" && (err != nil || info.Mode().Perm()&0o022 != 0) {
					t.Errorf("%s: left with mode %v, %v", shell, info.Mode(), err)
				}
			}
		})
	}
}

// A program in the place of the runner is only run when it is ours.
func TestAnotherProgramInTheRunnersPlace(t *testing.T) {
	for listing, want := range map[string]bool{
		"-rwx------ 1 1000 1000 9 Nov 21 07:00 runner-1":      true,
		"-rwx------. 1 1000 1000 9 Nov 21 07:00 runner-1":     true,
		"-rwxr-xr-x 1 1000 1000 9 Nov 21 07:00 runner-1":      true,
		"-rwxrwxr-x 1 1000 1000 9 Nov 21 07:00 runner-1":      false,
		"-rwxr-xrwx 1 1000 1000 9 Nov 21 07:00 runner-1":      false,
		"-rwx------ 1 65534 1000 9 Nov 21 07:00 runner-1":     false,
		"lrwxrwxrwx 1 1000 1000 9 Nov 21 07:00 runner-1 -> x": false,
		"drwx------ 1 1000 1000 9 Nov 21 07:00 runner-1":      false,
		"-rwx------ 1 1000 1000 9 Nov 21 07:00 runner-2":      false,
		"runner-1": false,
		"":         false,
	} {
		if got := untouched("total 4\n"+listing+"\n", "runner-1", "1000"); got != want {
			t.Errorf("%q: %v", listing, got)
		}
	}
}

// A machine whose files have no end does not fill the agent's disk.
func TestDownloadsAreBounded(t *testing.T) {
	var out bytes.Buffer
	q := &quota{to: &out, left: 10}
	if n, err := q.Write([]byte("12345678")); n != 8 || err != nil {
		t.Error(n, err)
	}
	if n, err := q.Write([]byte("abc")); n != 0 || bakehouse.KindOf(err) != bakehouse.Failed {
		t.Error(n, err)
	}
	// A real machine, by both ways, with a file that has no end.
	for name, more := range map[string][]string{"sftp": nil, "cat": {"Subsystem sftp /nonexistent"}} {
		t.Run(name, func(t *testing.T) {
			l, err := dial(t, communicatortest.SSHD(t, more...)).connected(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			r, err := l.remote()
			if err != nil {
				t.Fatal(err)
			}
			err = l.guarded(t.Context(), func(remote) error {
				return r.get(t.Context(), "/dev/zero", &quota{to: io.Discard, left: 1 << 20})
			})
			if bakehouse.KindOf(err) != bakehouse.Failed || !strings.Contains(err.Error(), "more than") {
				t.Errorf("%v", err)
			}
		})
	}
}
