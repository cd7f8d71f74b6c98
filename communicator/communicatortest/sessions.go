package communicatortest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/bakehouse-farm/bakehouse/communicator"
)

// Sessions is a stand-in for the AWS CLI and its Session Manager plugin, in the
// PATH of the test. It knows one instance, which is the target, and takes the
// one command that AWS documents for SSH connections through Session Manager,
// word for word. There is no AWS in it: what it proves is that we say what the
// documentation says, and use what comes back.
type Sessions struct{ dir string }

// NewSessions puts the programs into the PATH until the end of the test.
func NewSessions(t testing.TB, target communicator.Target, instance, region string) *Sessions {
	t.Helper()
	s := &Sessions{t.TempDir()}
	port := target.Settings.SSHPort
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(s.dir, name), []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	// Each word is written in brackets, so that none hides a space.
	write("aws", fmt.Sprintf(`#!/bin/bash
cd %[1]q
got=$(printf '[%%s]' "$@")
want='[ssm][start-session][--target][%[2]s][--region][%[3]s][--document-name][AWS-StartSSHSession][--parameters][portNumber=%[4]d]'
if [ "$got" != "$want" ]; then
	echo "aws: error: got $got, want $want" >&2
	exit 252
fi
if [ -e failure ]; then
	cat failure >&2
	exit 254
fi
echo "$AWS_ACCESS_KEY_ID/$AWS_SECRET_ACCESS_KEY/$AWS_SESSION_TOKEN/$AWS_PROFILE" >>sessions
exec session-manager-plugin
`, s.dir, instance, region, port))
	write("session-manager-plugin", fmt.Sprintf(`#!/bin/bash
exec 3<>/dev/tcp/127.0.0.1/%d 4<&0 || exit 255
cat <&4 >&3 &
up=$!
cat <&3 &
down=$!
trap 'kill $up $down 2>/dev/null; exit 0' HUP INT TERM
wait -n
kill $up $down 2>/dev/null
exit 0
`, port))
	t.Setenv("PATH", s.dir+string(os.PathListSeparator)+os.Getenv("PATH"))
	return s
}

// Fail lets all sessions from now on fail with these last words; with none
// they succeed again.
func (s *Sessions) Fail(t testing.TB, words string) {
	t.Helper()
	name := filepath.Join(s.dir, "failure")
	err := os.Remove(name)
	if words != "" {
		err = os.WriteFile(name, []byte(words+"\n"), 0o600)
	}
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
}

// Started returns, for each session that was started, the credentials that it
// was started with: KEY/SECRET/TOKEN/PROFILE.
func (s *Sessions) Started(t testing.TB) []string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(s.dir, "sessions"))
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return strings.Fields(string(text))
}

// WithoutPlugin takes the plugin away.
func (s *Sessions) WithoutPlugin(t testing.TB) {
	t.Helper()
	if err := os.Remove(filepath.Join(s.dir, "session-manager-plugin")); err != nil {
		t.Fatal(err)
	}
}

// Path is the folder with the programs.
func (s *Sessions) Path() string { return s.dir }
