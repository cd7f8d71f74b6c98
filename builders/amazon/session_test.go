package amazon

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bakehouse-farm/bakehouse"
	"github.com/bakehouse-farm/bakehouse/builders"
	"github.com/bakehouse-farm/bakehouse/communicator/communicatortest"
	"github.com/bakehouse-farm/bakehouse/communicator/ssh"
)

// sessionBuild is a build of the fake cloud that goes through session manager.
func sessionBuild(t *testing.T, port int, more map[string]any) bakehouse.Build {
	t.Helper()
	s := settingsFor("web")
	maps.Copy(s, map[string]any{"ssh_interface": "session_manager", "iam_instance_profile": "ssm", "ssh_port": port, "skip_profile_validation": true})
	maps.Copy(s, more)
	raw, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	return bakehouse.Build{ID: "b-1", Name: "amazon-ebs.web", Settings: raw}
}

// A machine is reached by its ID, through the program that AWS documents, with
// no port open to the world; another connection is another session.
func TestSessionManager(t *testing.T) {
	target := communicatortest.SSHD(t)
	communicatortest.NewSessions(t, target, "none", "yet")
	f := newFake()
	e := f.agent()
	b := sessionBuild(t, target.Settings.SSHPort, nil)
	r, err := e.Resolve(t.Context(), b)
	if err != nil {
		t.Fatal(err)
	}
	m := launched(t, e, b, r)
	if m.Host != m.ID || m.Via != builders.ViaSessionManager {
		t.Fatalf("machine %+v", m)
	}
	if slices.ContainsFunc(f.calls, func(c string) bool { return strings.Contains(c, "AuthorizeSecurityGroupIngress") }) {
		t.Error("a port was opened to the world")
	}
	sessions := communicatortest.NewSessions(t, target, m.ID, "us-east-1")
	sessions.Fail(t, "An error occurred (TargetNotConnected) when calling the StartSession operation: it is not connected.")
	target.Host, target.Route = m.Host, e.Route(b, m)
	target.Settings.SSHTimeout = bakehouse.Duration(3 * time.Second)
	if _, err := ssh.Dial(t.Context(), target, ssh.Options{}); bakehouse.KindOf(err) != bakehouse.Timeout || !strings.Contains(err.Error(), "AmazonSSMManagedInstanceCore") {
		t.Errorf("of an instance that is not connected: %v", err)
	}
	sessions.Fail(t, "An error occurred (AccessDeniedException) when calling the StartSession operation: you are not authorized")
	if _, err := ssh.Dial(t.Context(), target, ssh.Options{}); bakehouse.KindOf(err) != bakehouse.Denied || !strings.Contains(err.Error(), "ssm:StartSession") {
		t.Errorf("without the right: %v", err)
	}
	sessions.Fail(t, "")
	target.Settings.SSHTimeout = 0
	for range 2 {
		c, err := ssh.Dial(t.Context(), target, ssh.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if result, out, err := c.Exec(t.Context(), "echo through"); err != nil || result.Exit != 0 || string(out) != "through\n" {
			t.Errorf("%v %q %v", result, out, err)
		}
		c.Close()
	}
	if n := len(sessions.Started(t)); n != 2 {
		t.Errorf("%d sessions, want 2", n)
	}
}

// Without its programs it is said what is missing, before anything is made.
func TestSessionManagerIsMissing(t *testing.T) {
	target := communicatortest.SSHD(t)
	sessions := communicatortest.NewSessions(t, target, "i", "r")
	f := newFake()
	resolve := func() error {
		_, err := f.agent().Resolve(t.Context(), sessionBuild(t, 22, nil))
		return err
	}
	if err := resolve(); err != nil {
		t.Fatal(err)
	}
	sessions.WithoutPlugin(t)
	t.Setenv("PATH", sessions.Path())
	if err := resolve(); bakehouse.KindOf(err) != bakehouse.Invalid || !strings.Contains(err.Error(), "(session-manager-plugin), which is not installed") {
		t.Errorf("without the plugin: %v", err)
	}
	t.Setenv("PATH", t.TempDir())
	if err := resolve(); bakehouse.KindOf(err) != bakehouse.Invalid || !strings.Contains(err.Error(), "the AWS CLI (aws), which is not installed") {
		t.Errorf("without the AWS CLI: %v", err)
	}
	_, err := f.agent().Resolve(t.Context(), sessionBuild(t, 22, map[string]any{"ssh_host": "10.0.0.1"}))
	if err != nil {
		t.Errorf("with ssh_host, which leads elsewhere: %v", err)
	}
}

// A session is asked for with the credentials of the build, not with those that
// the agent's environment happens to name.
func TestSessionCredentials(t *testing.T) {
	target := communicatortest.SSHD(t)
	sessions := communicatortest.NewSessions(t, target, "i-1", "eu-west-1")
	t.Setenv("AWS_ACCESS_KEY_ID", "agent")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "agents")
	t.Setenv("AWS_SESSION_TOKEN", "agents")
	t.Setenv("AWS_PROFILE", "")
	b := sessionBuild(t, target.Settings.SSHPort, map[string]any{"region": "eu-west-1", "access_key": "AKIA", "secret_key": "shh", "token": "tok"})
	for _, token := range []string{"tok", ""} {
		var s map[string]any
		if err := json.Unmarshal(b.Settings, &s); err != nil {
			t.Fatal(err)
		}
		s["token"] = token
		b.Settings, _ = json.Marshal(s)
		target.Host, target.Route = "i-1", NewEBS(Config{}).Route(b, builders.Machine{ID: "i-1"})
		c, err := ssh.Dial(t.Context(), target, ssh.Options{})
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
	}
	if got := strings.Join(sessions.Started(t), " "); got != "AKIA/shh/tok/ AKIA/shh//" {
		t.Errorf("credentials of the sessions: %s", got)
	}
}

// Nothing that a shell would take for more than a word becomes part of the
// command line.
func TestSessionArguments(t *testing.T) {
	for _, tt := range [][2]string{{"", "r"}, {"i-1", ""}, {"i-1;id", "r"}, {"i-1", "$(id)"}, {"-v", "r"}, {"i 1", "r"}, {"i-1\n", "r"}} {
		if args, err := SessionArguments(tt[0], tt[1], 22); err == nil {
			t.Errorf("%q: %q", tt, args)
		}
	}
}
