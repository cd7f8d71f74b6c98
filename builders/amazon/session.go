package amazon

import (
	"context"
	"net"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/bakehouse-farm/bakehouse"
	"github.com/bakehouse-farm/bakehouse/builders"
	"github.com/bakehouse-farm/bakehouse/communicator"
	"github.com/bakehouse-farm/bakehouse/communicator/pipe"
)

// sessionPlugin is the program that the AWS CLI needs for sessions.
const sessionPlugin = "session-manager-plugin"

// SessionProgram finds the AWS CLI on this computer. The error, of kind
// Invalid, says what is missing for sessions with instances.
func SessionProgram() (string, error) {
	program, err := exec.LookPath("aws")
	missing := "the AWS CLI (aws)"
	if err == nil {
		if _, err = exec.LookPath(sessionPlugin); err == nil {
			return program, nil
		}
		missing = "the Session Manager plugin of the AWS CLI (" + sessionPlugin + ")"
	}
	return "", bakehouse.Errorf(bakehouse.Invalid, "session manager needs %s, which is not installed here, or not in the PATH", missing)
}

// plainID is what the names of instances and regions look like. They become
// words of a command line that a shell may read.
var plainID = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9-]*$`)

// SessionArguments are those of the AWS CLI for a session that carries what it
// reads and prints to a port of the instance and back, as the AWS Systems
// Manager user guide has it under "SSH connections through Session Manager".
// The document AWS-StartSSHSession forwards to whatever listens on the port.
// No word of them means anything to a shell.
func SessionArguments(instance, region string, port int) ([]string, error) {
	if !plainID.MatchString(instance) || !plainID.MatchString(region) {
		return nil, bakehouse.Errorf(bakehouse.Invalid, "session manager needs an instance and its region, not %q in %q", instance, region)
	}
	return []string{
		"ssm", "start-session", "--target", instance, "--region", region,
		"--document-name", "AWS-StartSSHSession", "--parameters", "portNumber=" + strconv.Itoa(port),
	}, nil
}

// agentsProgram is SessionProgram for a build.
func agentsProgram() (string, error) {
	program, err := SessionProgram()
	if err != nil {
		return "", bakehouse.Errorf(bakehouse.Invalid, "ssh_interface session_manager: on the agent: %w (all agents of the pool need it)", err)
	}
	return program, nil
}

// session tells whether the instance is reached through session manager. As
// with Packer, ssh_host names another way.
func (s *Settings) session() bool {
	return s.SSHInterface == "session_manager" && s.SSHHost == "" && (s.Communicator == "" || s.Communicator == "ssh")
}

// pauseBeforeSession is pause_before_ssm.
func pauseBeforeSession(ctx context.Context, s *Settings) error {
	d := time.Duration(s.PauseBeforeSSM)
	if !s.session() || d <= 0 {
		return nil
	}
	say(ctx, "Pausing %s before establishing the SSM connection...", d)
	return pause(ctx, d)
}

// Route implements builders.Router: through the AWS CLI of this computer, which
// acts with the credentials of the build. Each connection is a session of its
// own, so that a machine that reboots is found again.
//
// The tests have a stand-in for the AWS CLI, which is strict about what it is
// told and leads to a real sshd; this has not been run against AWS.
func (e *EBS) Route(b bakehouse.Build, m builders.Machine) communicator.Route {
	return func(ctx context.Context) (net.Conn, error) {
		program, err := agentsProgram()
		if err != nil {
			return nil, err
		}
		s, c, err := e.open(ctx, b, "")
		if err != nil {
			return nil, err
		}
		args, err := SessionArguments(m.ID, c.region, s.SSHPort)
		if err != nil {
			return nil, err
		}
		env, err := c.environment(ctx, os.Environ())
		if err != nil {
			return nil, err
		}
		return pipe.Command{Path: program, Args: args, Env: env, Verdict: sessionVerdict}.Dial()
	}
}

// environment is base with the credentials of the connection in the place of
// those that base may name. They are fetched anew for each session: those of a
// role end after an hour.
func (c *connection) environment(ctx context.Context, base []string) ([]string, error) {
	if c.credentials == nil {
		return base, nil
	}
	keys, err := c.credentials.Retrieve(ctx)
	if err != nil {
		return nil, failed(ctx, err, "credentials for session manager")
	}
	env := slices.DeleteFunc(slices.Clone(base), func(v string) bool {
		name, _, _ := strings.Cut(v, "=")
		return slices.Contains([]string{
			"AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_SECURITY_TOKEN",
		}, name)
	})
	env = append(env, "AWS_ACCESS_KEY_ID="+keys.AccessKeyID, "AWS_SECRET_ACCESS_KEY="+keys.SecretAccessKey)
	if keys.SessionToken != "" {
		env = append(env, "AWS_SESSION_TOKEN="+keys.SessionToken)
	}
	return env, nil
}

// sessionVerdict reads from what the AWS CLI has said whether another try could
// end differently.
func sessionVerdict(said string, failed error) error {
	switch {
	case strings.Contains(said, "(AccessDenied"):
		return bakehouse.Errorf(bakehouse.Denied,
			"%w (the agent needs ssm:StartSession for the instance and the document AWS-StartSSHSession)", failed)
	case strings.Contains(said, "(InvalidDocument"), strings.Contains(said, "(ParamValidation"):
		return bakehouse.Errorf(bakehouse.Invalid, "%w", failed)
	case strings.Contains(said, "(TargetNotConnected"):
		// It is, as long as the instance boots.
		return bakehouse.Errorf(bakehouse.Trouble,
			"%w (the SSM agent must run on the instance, and iam_instance_profile must hold AmazonSSMManagedInstanceCore)", failed)
	}
	return failed
}
