// Package communicator says how to talk to a machine. Each way is a package
// below this one.
package communicator

import (
	"context"
	"io"
	"io/fs"
	"net"
	"time"
)

// A Communicator talks to one machine.
//
// Files are written whole or not at all: an upload that is cut off leaves the
// old file. Paths are those of the machine.
type Communicator interface {
	// Upload writes r to the file dst. A mode of 0 means 0644.
	Upload(ctx context.Context, dst string, r io.Reader, mode fs.FileMode) error
	// UploadDir writes the content of the local folder src below dst. As with
	// rsync, a trailing slash of src means its content, none means the folder
	// itself.
	UploadDir(ctx context.Context, dst, src string) error
	// Download reads the file src into w.
	Download(ctx context.Context, src string, w io.Writer) error
	// DownloadDir reads the folder src into the local folder dst, with the same
	// rule for a trailing slash.
	DownloadDir(ctx context.Context, src, dst string) error
	// Exec runs a short command that may be run again, and returns what it wrote
	// to standard output and standard error together.
	Exec(ctx context.Context, line string) (Result, []byte, error)
	// Probe tells what is known of a command that Run was asked for.
	Probe(ctx context.Context, id string) (State, error)
	// Run starts the command, unless it has been started before, and follows its
	// output from byte offset from until it ends. It runs detached from the
	// connection: losing that, or this process, does not disturb it, and Run
	// called again with the same ID, from anywhere, follows the same command.
	//
	// When ctx ends, Run returns its cause and leaves the command running, but
	// where the cause is bakehouse.ErrStop: then the command is stopped first.
	// A command that was lost (reboot, killed supervisor) is an error of kind
	// bakehouse.Lost, unless c.ExpectDisconnect.
	Run(ctx context.Context, c Command, from int64, out Sink) (Result, error)
	// Clean removes whatever the communicator keeps on the machine for its own
	// use, and stops commands of the build that still run there.
	Clean(ctx context.Context) error
	// Close ends the connection.
	Close() error
}

// An Expirer is a Communicator whose machine can switch itself off.
type Expirer interface {
	// Expire makes the machine switch itself off when nobody has talked to it for
	// the limit, until Clean or a reboot. Another limit takes the place of the
	// one before.
	Expire(ctx context.Context, limit time.Duration) error
}

// A Command is what a provisioner runs on the machine, once.
type Command struct {
	// ID names the command for ever on this machine: build, step, try.
	// Letters, digits, dots and dashes.
	ID string
	// Line is given to the login shell of the user, as SSH exec does.
	Line string
	// Env is added to the environment of Line (TRACEPARENT and the like).
	Env map[string]string
	// ExpectDisconnect tells that the machine may reboot under the command.
	ExpectDisconnect bool
	// Timeout ends the command; zero means none.
	Timeout time.Duration
}

// A Sink takes output. end is the offset behind p's last byte, counted from the
// command's first byte of output. An error makes Run let go.
type Sink func(p []byte, end int64) error

// A Result tells how a command ended.
type Result struct {
	// Exit is the exit status; 128+n when signal n ended it.
	Exit int
	// Disconnected tells that the machine went away under a command with
	// ExpectDisconnect: the exit status is not known.
	Disconnected bool
	// TimedOut tells that Timeout ended it.
	TimedOut bool
}

// A State is what is known of a command.
type State string

// The states of a command.
const (
	None     State = ""         // never started on this machine
	Running  State = "running"  // started and not yet ended
	Done     State = "done"     // ended, and the result is known
	Lost     State = "lost"     // its supervisor died: the result will never be known
	Rebooted State = "rebooted" // the machine was booted since it started
)

// A Target says where a machine is and how to log in. It holds secrets: it
// travels only in encrypted payloads and is never logged.
type Target struct {
	Settings Settings `json:"settings"`
	Host     string   `json:"host"`
	// PrivateKey is the key in PEM that was made for the build; empty when the
	// settings bring their own.
	PrivateKey string `json:"private_key,omitempty"`
	// HostKey is the machine's host key in authorized_keys format, learned at
	// first contact; empty before it. Another key is refused.
	HostKey string `json:"host_key,omitempty"`
	// Build is the prefix of everything that is kept on the machine.
	Build string `json:"build"`
	// Route leads to the machine where that is not a matter of dialling Host,
	// which then only names it, and is nil elsewhere. It does not travel: whoever
	// wants to connect asks the builder for it.
	Route Route `json:"-"`
}

// A Route opens a connection to the port that the machine is talked to by. ctx
// bounds the opening, not the connection. Errors are final where their kind is;
// any other is tried again.
type Route func(ctx context.Context) (net.Conn, error)
