package pipe_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/bakehouse-farm/bakehouse"
	"github.com/bakehouse-farm/bakehouse/communicator/communicatortest"
	"github.com/bakehouse-farm/bakehouse/communicator/pipe"
	"github.com/bakehouse-farm/bakehouse/internal/proc"
)

func shell(t *testing.T, line string, change ...func(*pipe.Command)) net.Conn {
	t.Helper()
	c := pipe.Command{Path: "/bin/sh", Args: []string{"-c", line}}
	for _, f := range change {
		f(&c)
	}
	conn, err := c.Dial()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// What goes in comes out, whole, also when it is more than a pipe holds.
func TestCarries(t *testing.T) {
	conn := shell(t, "exec cat")
	sent := bytes.Repeat([]byte("0123456789abcdef"), 64<<10)
	go func() { _, _ = conn.Write(sent) }()
	got := make([]byte, len(sent))
	if _, err := io.ReadFull(conn, got); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, sent) {
		t.Error("what came back is not what was sent")
	}
}

// The end of the program is the end of the connection, in its own words.
func TestEnds(t *testing.T) {
	denied := func(c *pipe.Command) {
		c.Verdict = func(said string, failed error) error {
			if said != "An error occurred (AccessDenied)\nnot you" {
				t.Errorf("said %q", said)
			}
			return bakehouse.Errorf(bakehouse.Denied, "%w", failed)
		}
	}
	for _, tt := range []struct {
		name, line string
		want       string // of the error; empty is io.EOF
		kind       bakehouse.Kind
		change     func(*pipe.Command)
	}{
		{"well", "echo noise >&2", "", bakehouse.Trouble, func(*pipe.Command) {}},
		{"badly", "echo why >&2; exit 3", "sh: exit status 3: why", bakehouse.Trouble, func(*pipe.Command) {}},
		{"silently", "exit 3", "sh: exit status 3", bakehouse.Trouble, func(*pipe.Command) {}},
		{"for good", "echo 'An error occurred (AccessDenied)' >&2; echo not you >&2; exit 254", "sh: exit status 254: An error occurred (AccessDenied) not you", bakehouse.Denied, denied},
		{"noisily", "head -c 100000 /dev/zero | tr '\\0' x >&2; echo END >&2; exit 1", "xxxEND", bakehouse.Trouble, func(*pipe.Command) {}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := io.Copy(io.Discard, shell(t, tt.line, tt.change))
			if tt.want == "" {
				if err != nil { // io.Copy takes io.EOF for the end
					t.Error(err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) || len(err.Error()) > 5000 || bakehouse.KindOf(err) != tt.kind {
				t.Errorf("%v (%s), want %q (%s)", err, bakehouse.KindOf(err), tt.want, tt.kind)
			}
		})
	}
	if _, err := (pipe.Command{Path: "/nonexistent/aws"}).Dial(); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("start of nothing: %v", err)
	}
}

// A deadline ends a Read, and only that.
func TestDeadline(t *testing.T) {
	conn := shell(t, "read line; echo $line")
	if err := conn.SetReadDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	var timeout net.Error
	if _, err := conn.Read(make([]byte, 9)); !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Errorf("Read past its deadline: %v", err)
	}
	if err := conn.SetDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, "still here\n"); err != nil {
		t.Fatal(err)
	}
	if out, err := io.ReadAll(conn); err != nil || string(out) != "still here\n" {
		t.Errorf("%q %v", out, err)
	}
}

// Close ends the program and what it has started, also one that will not go,
// and a Read that waits.
func TestClose(t *testing.T) {
	for name, line := range map[string]string{
		"at the end of its input": "echo $$ >%s; exec cat",
		"by force":                "trap '' INT TERM; echo $$ >%s; while :; do sleep 0.1; done",
		"with its child":          "trap '' INT; sh -c 'echo $$ >%s; exec sleep 600' & wait",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(t.TempDir(), "pid")
			conn := shell(t, strings.Replace(line, "%s", file, 1))
			pid := 0
			communicatortest.Eventually(t, "program runs", func() bool {
				text, _ := os.ReadFile(file)
				pid, _ = strconv.Atoi(strings.TrimSpace(string(text)))
				return pid != 0
			})
			ended := make(chan error, 1)
			go func() {
				_, err := conn.Read(make([]byte, 1))
				ended <- err
			}()
			if err := conn.Close(); err != nil {
				t.Error(err)
			}
			if err := <-ended; err == nil {
				t.Error("Read got something from a closed connection")
			}
			communicatortest.Eventually(t, "program ends", func() bool { return gone(pid) })
		})
	}
}

// gone tells whether a process has ended; nobody may have asked for its status.
func gone(pid int) bool {
	p, ok := proc.Read(pid)
	return !ok || p.Ended()
}
