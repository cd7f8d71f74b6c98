package ssh

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	xssh "golang.org/x/crypto/ssh"

	"github.com/bakehouse-farm/bakehouse"
	"github.com/bakehouse-farm/bakehouse/communicator"
)

const (
	// DefaultTimeout is how long a machine may take to let us in, when the
	// template sets neither ssh_timeout nor ssh_handshake_attempts.
	DefaultTimeout = 5 * time.Minute
	// firstRetry is the first pause between tries; each is twice as long, up to
	// Packer's own pause. A machine that is just up is found within a blink.
	firstRetry = 50 * time.Millisecond
	lastRetry  = 5 * time.Second
	// refusedRetry is the first pause after a refused login. OpenSSH 9.8 keeps
	// those who try fast waiting.
	refusedRetry = time.Second
	// packerPace is how often Packer tries to log in: 5 s and 2 s more after a
	// handshake that failed. ssh_handshake_attempts counts such tries.
	packerPace = 7 * time.Second
	// defaultAttempts is ssh_handshake_attempts when ssh_timeout is not set.
	defaultAttempts = 10
)

// limits bound a series of tries; zero means no limit.
type limits struct {
	timeout  time.Duration
	attempts int
}

// patience returns what the settings say, with Packer's defaults: each of the
// two limits has one only when the other is not set.
func patience(s communicator.Settings) limits {
	l := limits{timeout: time.Duration(s.SSHTimeout), attempts: s.SSHHandshakeAttempts}
	if s.SSHWaitTimeout != 0 {
		l.timeout = time.Duration(s.SSHWaitTimeout)
	}
	switch {
	case l.timeout == 0 && l.attempts == 0:
		l = limits{timeout: DefaultTimeout, attempts: defaultAttempts}
	case l.timeout < 0: // -1 in old templates: no limit
		l.timeout = 0
	}
	return l
}

// absence is how long a machine that we know may be away before we give it up.
func absence(s communicator.Settings) limits {
	if l := patience(s); l.timeout > 0 {
		return limits{timeout: l.timeout}
	}
	return limits{timeout: DefaultTimeout}
}

// connect tries to log in until it succeeds or p, or the patience of ctx, ends.
func connect(ctx context.Context, t communicator.Target, pinned string, files bakehouse.Files, p limits, log *slog.Logger) (*link, error) {
	d, err := newDialer(t, pinned, files)
	if err != nil {
		return nil, err
	}
	if p.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, p.timeout, errOutOfTime)
		defer cancel()
	}
	pause, afterRefusal := firstRetry, refusedRetry
	refusals, counted := 0, time.Time{}
	var last error
	for {
		l, err := d.try(ctx, log)
		if err == nil {
			return l, nil
		}
		var wrong *wrongHostKey
		switch {
		case errors.Is(context.Cause(ctx), errOutOfTime):
			if last == nil {
				last = err
			}
			return nil, bakehouse.Errorf(bakehouse.Timeout, "Timeout waiting for SSH. No login on %s within %s: %w", d.address, p.timeout, last)
		case ctx.Err() != nil:
			return nil, context.Cause(ctx)
		case errors.As(err, &wrong):
			return nil, bakehouse.Errorf(bakehouse.Lost, "ssh to %s: %w", d.address, err)
		case bakehouse.KindOf(err).Final():
			return nil, err
		}
		last = err
		log.Debug("ssh connection failed", "error", err)
		wait := pause
		if refused(err) {
			if time.Since(counted) >= packerPace {
				refusals, counted = refusals+1, time.Now()
			}
			if p.attempts > 0 && refusals >= p.attempts {
				return nil, bakehouse.Errorf(bakehouse.Denied,
					"ssh login of %q on %s was refused %d times; check ssh_username and its key or password: %w",
					d.config.User, d.address, refusals, err)
			}
			wait, afterRefusal = afterRefusal, min(2*afterRefusal, lastRetry)
		}
		pause = min(2*pause, lastRetry)
		_ = sleep(ctx, wait) // the next try sees that ctx has ended
	}
}

var errOutOfTime = errors.New("ssh timeout")

// refused tells whether the machine has answered, and said no to our
// credentials.
func refused(err error) bool {
	var auth *xssh.ServerAuthError
	return errors.As(err, &auth) || strings.Contains(err.Error(), "unable to authenticate")
}

// A wrongHostKey tells that another machine answers than the one we know.
type wrongHostKey struct{ got, want string }

func (e *wrongHostKey) Error() string {
	return fmt.Sprintf("host key is %s, not %s: this is not the machine that the build began with", e.got, e.want)
}
