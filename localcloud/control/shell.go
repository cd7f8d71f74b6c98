package control

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os/exec"
	"strconv"
	"strings"
	"sync"

	"github.com/creack/pty"

	"github.com/bakehouse-farm/bakehouse/localcloud"
)

// After the answer 101, both sides send frames: a byte that says what follows,
// its length in four bytes, and that.
const (
	frameIn     = 'i' // input; empty at its end
	frameOut    = 'o'
	frameErr    = 'e'
	frameExit   = 'x' // the exit status, as a number
	frameResize = 'r' // "ROWS COLS"
	frameFail   = 'f' // it could not be run: why
)

const maxFrame = 1 << 20

type frames struct {
	mu sync.Mutex
	w  io.Writer
}

func (f *frames) send(kind byte, p []byte) error {
	b := append([]byte{kind, 0, 0, 0, 0}, p...)
	binary.BigEndian.PutUint32(b[1:], uint32(len(p)))
	f.mu.Lock()
	defer f.mu.Unlock()
	_, err := f.w.Write(b)
	return err
}

// stream returns a writer that sends frames of a kind.
func (f *frames) stream(kind byte) io.Writer {
	return writer(func(p []byte) error { return f.send(kind, p) })
}

type writer func([]byte) error

func (w writer) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0; {
		n := min(len(rest), 32<<10)
		if err := w(rest[:n]); err != nil {
			return 0, err
		}
		rest = rest[n:]
	}
	return len(p), nil
}

func receive(r io.Reader) (kind byte, p []byte, err error) {
	var head [5]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, nil, err
	}
	n := binary.BigEndian.Uint32(head[1:])
	if n > maxFrame {
		return 0, nil, fmt.Errorf("frame of %d bytes", n)
	}
	p = make([]byte, n)
	_, err = io.ReadFull(r, p)
	return head[0], p, err
}

// shell runs a command in an instance with its input and output on the
// connection. The command ends with the connection.
func shell(w http.ResponseWriter, r *http.Request, c *localcloud.Cloud, log *slog.Logger) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	q := r.URL.Query()
	cmd, err := c.Command(ctx, q.Get("instance"), q["arg"])
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	h, ok := w.(http.Hijacker)
	if !ok {
		http.Error(w, "connection cannot be taken over", http.StatusInternalServerError)
		return
	}
	conn, buf, err := h.Hijack()
	if err != nil {
		log.Warn("shell failed", "error", err)
		return
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: localcloud-shell\r\n\r\n"); err != nil {
		return
	}
	out := &frames{w: conn}
	var status int
	if q.Get("tty") != "" {
		status, err = onTerminal(cmd, q.Get("tty"), buf.Reader, out, cancel)
	} else {
		status, err = onPipes(cmd, buf.Reader, out, cancel)
	}
	if err != nil {
		log.Warn("shell failed", "instance", q.Get("instance"), "error", err)
		_ = out.send(frameFail, []byte(err.Error())) // or the client is gone
		return
	}
	_ = out.send(frameExit, []byte(strconv.Itoa(status))) // or the client is gone
}

func onTerminal(cmd *exec.Cmd, size string, in io.Reader, out *frames, gone func()) (int, error) {
	f, err := pty.StartWithSize(cmd, winsize(size))
	if err != nil {
		return 0, err
	}
	defer f.Close()
	go func() {
		defer gone()
		for {
			kind, p, err := receive(in)
			if err != nil {
				return
			}
			switch kind {
			case frameIn:
				_, _ = f.Write(p) // the command has ended: Wait says so
			case frameResize:
				_ = pty.Setsize(f, winsize(string(p))) // likewise
			}
		}
	}()
	// Reading ends with an error when the last process lets go of the terminal.
	_, _ = io.Copy(out.stream(frameOut), f)
	return exit(cmd.Wait())
}

func winsize(s string) *pty.Winsize {
	var rows, cols uint16
	if n, _ := fmt.Sscan(s, &rows, &cols); n != 2 {
		return &pty.Winsize{Rows: 24, Cols: 80}
	}
	return &pty.Winsize{Rows: rows, Cols: cols}
}

func onPipes(cmd *exec.Cmd, in io.Reader, out *frames, gone func()) (int, error) {
	cmd.Stdout, cmd.Stderr = out.stream(frameOut), out.stream(frameErr)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return 0, err
	}
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	go func() {
		for {
			kind, p, err := receive(in)
			if err != nil {
				gone()
				return
			}
			if kind == frameIn && len(p) == 0 {
				_ = stdin.Close()
			} else if kind == frameIn {
				_, _ = stdin.Write(p) // the command does not read: its affair
			}
		}
	}()
	return exit(cmd.Wait())
}

// exit tells the status of a command that has run.
func exit(err error) (int, error) {
	var e *exec.ExitError
	if errors.As(err, &e) {
		if e.ExitCode() < 0 {
			return 255, nil
		}
		return e.ExitCode(), nil
	}
	return 0, err
}

// A Terminal is what a shell's input and output are connected to.
type Terminal struct {
	In       io.Reader
	Out, Err io.Writer
	// Size is "ROWS COLS" of a terminal; empty when there is none.
	Size string
	// Resize tells of new sizes; may be nil.
	Resize <-chan string
}

// Shell runs a command in an instance and returns its exit status.
func (c Client) Shell(ctx context.Context, instance string, argv []string, t Terminal) (int, error) {
	conn, err := c.dial(ctx)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	r, err := begin(conn, instance, argv, t.Size)
	if err != nil {
		return 0, err
	}
	out := &frames{w: conn}
	go func() {
		_, _ = io.Copy(out.stream(frameIn), t.In) // its end is the end of the input
		_ = out.send(frameIn, nil)                // or the shell has ended
	}()
	done := make(chan struct{})
	defer close(done)
	go func() {
		for {
			select {
			case <-done:
				return
			case <-ctx.Done():
				_ = conn.Close() // which is what ends the command
				return
			case s := <-t.Resize:
				_ = out.send(frameResize, []byte(s)) // or the shell has ended
			}
		}
	}()
	for {
		kind, p, err := receive(r)
		if err != nil {
			return 0, fmt.Errorf("shell in %s broke off: %w", instance, err)
		}
		switch kind {
		case frameOut:
			_, err = t.Out.Write(p)
		case frameErr:
			_, err = t.Err.Write(p)
		case frameFail:
			return 0, fmt.Errorf("shell in %s: %s", instance, p)
		case frameExit:
			return strconv.Atoi(string(p))
		}
		if err != nil {
			return 0, err
		}
	}
}

func begin(conn net.Conn, instance string, argv []string, size string) (*bufio.Reader, error) {
	q := url.Values{"instance": {instance}, "arg": argv}
	if size != "" {
		q.Set("tty", size)
	}
	req, err := http.NewRequest(http.MethodPost, "http://localcloud/shell?"+q.Encode(), nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", "localcloud-shell")
	if err := req.Write(conn); err != nil {
		return nil, err
	}
	r := bufio.NewReader(conn)
	resp, err := http.ReadResponse(r, req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		defer resp.Body.Close()
		b, err := io.ReadAll(io.LimitReader(resp.Body, 1<<16))
		return nil, errors.Join(errors.New(strings.TrimSpace(string(b))), err)
	}
	return r, nil
}
