package ssh

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/bakehouse-farm/bakehouse"
	"github.com/bakehouse-farm/bakehouse/communicator"
	"github.com/bakehouse-farm/bakehouse/communicator/runner"
)

const (
	// stopLimit bounds how long a cancelled build waits for its command to stop:
	// the runner's ten seconds of grace, its five to kill, and the way there.
	stopLimit = time.Minute
	// rebootLimit is how long a command that may reboot the machine waits for it
	// to come back, to see what became of the command. After `shutdown` it never
	// does; what comes next waits as long as the settings say anyway.
	rebootLimit = time.Minute
)

// Probe implements communicator.Communicator.
func (c *Conn) Probe(ctx context.Context, id string) (communicator.State, error) {
	if !runner.ValidName(id) {
		return "", bakehouse.Errorf(bakehouse.Invalid, "%q cannot name a command", id)
	}
	status, err := c.ask(ctx, "probe", id)
	return communicator.State(status.State), err
}

// Clean implements communicator.Communicator.
func (c *Conn) Clean(ctx context.Context) error {
	_, err := c.ask(ctx, "clean", "")
	c.mu.Lock()
	c.place = nil
	c.mu.Unlock()
	return err
}

// Expire implements communicator.Expirer.
func (c *Conn) Expire(ctx context.Context, limit time.Duration) error {
	_, err := c.ask(ctx, "expire", "", "-limit", limit.String())
	return err
}

// ask calls the runner for a status; doing so twice does no harm.
func (c *Conn) ask(ctx context.Context, verb, id string, more ...string) (status runner.Status, err error) {
	err = c.again(ctx, func(l *link) error {
		f := &following{conn: c, link: l}
		for again := true; ; again = false {
			p, err := c.placed(ctx, l)
			if err != nil {
				return err
			}
			if status, err = f.follow(ctx, c.call(p, verb, id, more...), nil); err == nil || !again || !c.forget(err) {
				return err
			}
		}
	})
	return status, err
}

// Run implements communicator.Communicator. While the machine does not answer
// it waits for it, for ssh_timeout at most; after that the error is of kind
// Lost.
func (c *Conn) Run(ctx context.Context, cmd communicator.Command, from int64, out communicator.Sink) (communicator.Result, error) {
	if !runner.ValidName(cmd.ID) {
		return communicator.Result{}, bakehouse.Errorf(bakehouse.Invalid, "%q cannot name a command", cmd.ID)
	}
	spec, err := json.Marshal(runner.Spec{Line: cmd.Line, Env: cmd.Env, Timeout: cmd.Timeout, Pty: c.target.Settings.SSHPty})
	if err != nil {
		return communicator.Result{}, err
	}
	f := &following{conn: c, offset: from, sink: out}
	status, err := f.run(ctx, cmd, append(spec, '\n'))
	if ctx.Err() != nil && err != nil {
		if bakehouse.Stopping(ctx) {
			c.stop(ctx, cmd.ID)
		}
		return communicator.Result{}, context.Cause(ctx)
	}
	if err != nil {
		return communicator.Result{}, err
	}
	switch status.State {
	case runner.Done:
		return communicator.Result{Exit: status.Result.Exit, TimedOut: status.Result.TimedOut}, nil
	case runner.Rebooted, runner.Lost:
		if cmd.ExpectDisconnect {
			return communicator.Result{Disconnected: true}, nil
		}
		if status.State == runner.Rebooted {
			return communicator.Result{}, bakehouse.Errorf(bakehouse.Lost, "the machine was rebooted while command %s ran; its exit status is not known", cmd.ID)
		}
		why := ""
		if status.Trouble != "" {
			why = ": " + said([]byte(status.Trouble))
		}
		return communicator.Result{}, bakehouse.Errorf(bakehouse.Lost, "what supervised command %s on the machine was killed; its exit status is not known%s", cmd.ID, why)
	}
	return communicator.Result{}, fmt.Errorf("command %s: unexpected answer %q of the runner", cmd.ID, status.State)
}

// stop stops the command of a build that is being cancelled, as well as it can.
func (c *Conn) stop(ctx context.Context, id string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopLimit)
	defer cancel()
	if _, err := c.ask(ctx, "stop", id); err != nil {
		bakehouse.LogOf(ctx).Error(fmt.Sprintf("could not stop what runs on the machine: %s", err))
	}
}

// A following is one call of Run, over as many links as it takes.
type following struct {
	conn   *Conn
	link   *link
	offset int64 // how far the sink has got
	sink   communicator.Sink
	lost   time.Time // since when the command is known to be lost on a machine that has not been rebooted
}

// A machine that goes down ends what runs on it some time before it takes no
// more connections. What would be started on it then would be lost, too.
const (
	downLimit = 2 * time.Minute // for a machine that says that it goes down
	downGrace = 3 * time.Second // for one that does not say anything
)

// goingDown tells whether the machine of a lost command may yet go down.
func (f *following) goingDown(status runner.Status) bool {
	if status.State != runner.Lost {
		return false
	}
	if f.lost.IsZero() {
		f.lost = time.Now()
	}
	limit := downGrace
	if status.GoingDown {
		limit = downLimit
	}
	return time.Since(f.lost) < limit
}

// errSink wraps what the sink said.
type errSink struct{ error }

// run follows the command to its end.
func (f *following) run(ctx context.Context, cmd communicator.Command, spec []byte) (runner.Status, error) {
	c, started, deployed := f.conn, false, false
	broken, reached := 0, f.offset
	for {
		l, err := c.back(ctx, cmd.ExpectDisconnect && started)
		if err != nil {
			if cmd.ExpectDisconnect && started && ctx.Err() == nil {
				return runner.Status{State: runner.Rebooted}, nil
			}
			return runner.Status{}, err
		}
		f.link = l
		status, err := f.once(ctx, cmd.ID, spec, &started)
		var sunk errSink
		switch {
		case err == nil && cmd.ExpectDisconnect && f.goingDown(status):
			if err := sleep(ctx, 250*time.Millisecond); err != nil {
				return status, err
			}
			continue
		case err == nil:
			return status, f.whole(status)
		case ctx.Err() != nil:
			return status, context.Cause(ctx)
		case errors.As(err, &sunk):
			return status, sunk.error
		case c.lost(ctx, l, err):
			// Below.
		case c.forget(err):
			if deployed {
				return status, bakehouse.Errorf(bakehouse.Failed, "the runner cannot be run on the machine: %w", err)
			}
			deployed = true // somebody removed it; bring it again, once
			continue
		case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
			// Somebody killed the follower on the machine, not the connection.
			if f.offset > reached {
				broken, reached = 0, f.offset
			}
			if broken++; broken > 5 {
				return status, err
			}
			if err := sleep(ctx, time.Duration(broken)*100*time.Millisecond); err != nil {
				return status, err
			}
			continue
		default:
			return status, err
		}
		c.log.Info("ssh connection lost, following again", "command", cmd.ID, "offset", f.offset, "error", err)
		l.close()
	}
}

// whole checks that all came that the command is said to have printed.
func (f *following) whole(status runner.Status) error {
	if status.State == runner.Done && status.Result.LogBytes != f.offset {
		return bakehouse.Errorf(bakehouse.Failed, "the machine says that the command printed %d bytes, but it sent %d: its log was changed", status.Result.LogBytes, f.offset)
	}
	return nil
}

// plausible refuses a status that no runner gives: what runs on a machine may
// have taken the runner's place.
func plausible(s runner.Status) error {
	switch s.State {
	case runner.None, runner.Started, runner.Running, runner.Lost, runner.Rebooted:
		return nil
	case runner.Done:
	default:
		return nonsense("state %q", s.State)
	}
	switch r := s.Result; {
	case r == nil:
		return nonsense("a command that has ended, without its result")
	case r.Exit < 0 || r.Exit > 255 || r.LogBytes < 0:
		return nonsense("exit status %d after %d bytes of output", r.Exit, r.LogBytes)
	}
	return nil
}

// nonsense is the failure of a machine whose runner answers what none does.
func nonsense(format string, args ...any) error {
	return bakehouse.Errorf(bakehouse.Failed, "runner on the machine answers nonsense: %s", said(fmt.Appendf(nil, format, args...)))
}

// back returns a link to a machine that may be away for a while.
func (c *Conn) back(ctx context.Context, reboot bool) (*link, error) {
	p := absence(c.target.Settings)
	if reboot {
		p.timeout = min(p.timeout, rebootLimit)
	}
	l, err := c.connectedWithin(ctx, p)
	if bakehouse.KindOf(err) == bakehouse.Timeout {
		return nil, bakehouse.Errorf(bakehouse.Lost, "machine cannot be reached: %w", err)
	}
	return l, err
}

// once follows the command over one link. After the first answer the command
// is known to have been started, and is never asked to start again: should the
// machine forget about it, that is an error and no second run.
func (f *following) once(ctx context.Context, id string, spec []byte, started *bool) (runner.Status, error) {
	p, err := f.conn.placed(ctx, f.link)
	if err != nil {
		return runner.Status{}, err
	}
	from := fmt.Sprintf("-from=%d", f.offset)
	if *started {
		return f.follow(ctx, f.conn.call(p, "tail", id, from), nil)
	}
	return f.followFrom(ctx, f.conn.call(p, "start", id, "-follow", from), spec, func(runner.Status) { *started = true })
}

// follow calls the runner and reads its answer to the end: the last status.
func (f *following) follow(ctx context.Context, line string, in []byte) (runner.Status, error) {
	return f.followFrom(ctx, line, in, nil)
}

// followFrom is follow for an answer that begins with a status, for first.
func (f *following) followFrom(ctx context.Context, line string, in []byte, first func(runner.Status)) (last runner.Status, err error) {
	s, err := f.link.session(ctx)
	if err != nil {
		return last, err
	}
	defer func() { go s.Close() }()
	stdin, err := s.StdinPipe() // open until the end: the runner leaves when it closes
	if err != nil {
		return last, err
	}
	stdout, err := s.StdoutPipe()
	if err != nil {
		return last, err
	}
	complaint := buffer{limit: maxComplaint}
	s.Stderr = &complaint
	asked := make(chan error, 1)
	go func() { asked <- s.Start(line) }() // may never be answered
	select {
	case err := <-asked:
		if err != nil {
			return last, fmt.Errorf("call the runner: %w", err)
		}
	case <-ctx.Done():
		return last, context.Cause(ctx)
	case <-f.link.dead:
		return last, errors.New("connection is gone")
	}
	quit := make(chan struct{})
	defer close(quit)
	if len(in) > 0 {
		go stdin.Write(in)
	}
	frames := make(chan frame)
	go read(stdout, frames, quit)
	for {
		var got frame
		select {
		case got = <-frames:
		case <-ctx.Done():
			return last, context.Cause(ctx)
		case <-f.link.dead:
			return last, errors.New("connection is gone")
		}
		if errors.Is(got.err, runner.ErrTooLong) {
			return last, nonsense("%v", got.err)
		}
		if got.err != nil {
			return last, fmt.Errorf("follow the runner: %w%s", got.err, also(complaint.bytes()))
		}
		switch got.kind {
		case runner.OutputFrame:
			f.offset += int64(len(got.data))
			if f.sink != nil {
				if err := f.sink(got.data, f.offset); err != nil {
					return last, errSink{err}
				}
			}
		case runner.StatusFrame:
			last = runner.Status{}
			if err := json.Unmarshal(got.data, &last); err != nil {
				return last, nonsense("%v", err)
			}
			if err := plausible(last); err != nil {
				return last, err
			}
			if first == nil {
				return last, nil
			}
			first(last)
			first = nil
		case runner.ProblemFrame:
			return last, bakehouse.Errorf(bakehouse.Failed, "runner on the machine: %s", said(got.data))
		case runner.AliveFrame:
		default:
			return last, nonsense("a frame of kind %q", got.kind)
		}
	}
}

// also is what the shell complained about when there is no answer.
func also(complaint []byte) string {
	if len(complaint) == 0 {
		return ""
	}
	return fmt.Sprintf(" (%q)", complaint[:min(len(complaint), 500)])
}

// A frame is one that was read, or why there is none.
type frame struct {
	kind runner.FrameKind
	data []byte
	err  error
}

// read sends the frames of r until it ends, or nobody wants them.
func read(r io.Reader, to chan<- frame, quit <-chan struct{}) {
	in := runner.NewReader(bufio.NewReaderSize(r, 64<<10))
	for {
		kind, data, err := in.Read()
		// The reader uses its buffer again; whoever receives may keep it longer.
		got := frame{kind: kind, err: err, data: append([]byte(nil), data...)}
		select {
		case to <- got:
		case <-quit:
			return
		}
		if err != nil {
			return
		}
	}
}
