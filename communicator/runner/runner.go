// Package runner holds the words that an agent and the runner on a machine
// exchange. The runner (cmd/runner) runs one command detached from the
// connection that asked for it; an agent starts it, follows it and stops it.
//
// It imports only the standard library, because the runner must stay small.
package runner

import (
	"regexp"
	"time"
)

// A State is what the runner knows of a command. The values are those of
// communicator.State, and Started.
type State string

// The states of a command.
const (
	None     State = ""         // never started on this machine
	Started  State = "started"  // this very call started it
	Running  State = "running"  // started and not yet ended
	Done     State = "done"     // ended, and the result is known
	Lost     State = "lost"     // its supervisor died: the result will never be known
	Rebooted State = "rebooted" // the machine was booted since it started
)

// A Spec says what to run. It travels on standard input and is kept on no disk,
// as the environment may hold secrets.
type Spec struct {
	// Line is given to the login shell of the user, as SSH exec does.
	Line string `json:"line"`
	// Env is added to the environment of the login.
	Env map[string]string `json:"env,omitempty"`
	// Timeout ends the command; zero means none.
	Timeout time.Duration `json:"timeout,omitempty"`
	// Grace is how long a command that is stopped may take to end after SIGTERM
	// before it gets SIGKILL; zero means ten seconds.
	Grace time.Duration `json:"grace,omitempty"`
	// Pty gives the command a terminal.
	Pty bool `json:"pty,omitempty"`
}

// A Status is the runner's answer.
type Status struct {
	State State `json:"state"`
	// Result is set when State is Done.
	Result *Result `json:"result,omitempty"`
	// Trouble says what the supervisor last said, when State is Lost.
	Trouble string `json:"trouble,omitempty"`
	// GoingDown tells, when State is Lost, that the supervisor was told to end as
	// by a machine that goes down, which has not come back since.
	GoingDown bool `json:"going_down,omitempty"`
}

// A Result tells how a command ended.
type Result struct {
	// Exit is the exit status; 128+n when signal n ended it.
	Exit int `json:"exit"`
	// LogBytes is the length of the output. What daemons write to it after the
	// command has ended does not count.
	LogBytes int64 `json:"log_bytes"`
	// TimedOut tells that the time-out ended it.
	TimedOut bool `json:"timed_out,omitempty"`
	// Stopped tells that it was asked to stop.
	Stopped bool      `json:"stopped,omitempty"`
	Started time.Time `json:"started"`
	Ended   time.Time `json:"ended"`
}

var name = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9.-]{0,199}$`)

// ValidName tells whether s can name a build or a command: letters, digits,
// dots and dashes, beginning with a letter or digit, 200 bytes at most.
func ValidName(s string) bool { return name.MatchString(s) }
