//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/iam"
)

// sessionManager puts a stand-in for the AWS CLI and its plugin into the PATH:
// a session leads to the SSH server of the instance from within, as that of
// the SSM agent does, and needs no packet from outside. It returns the file
// that gets a line for each session.
func (s *stack) sessionManager() string {
	s.t.Helper()
	dir := s.t.TempDir()
	sessions := filepath.Join(dir, "sessions")
	for name, text := range map[string]string{
		"session-manager-plugin": "#!/bin/sh\nexit 64\n",
		"aws": fmt.Sprintf(`#!/bin/bash
case "$*" in
"ssm start-session --target i-"*" --region us-east-1 --document-name AWS-StartSSHSession --parameters portNumber=22") ;;
*) echo "aws: error: $*" >&2; exit 252 ;;
esac
echo "$4" >>%[1]q
exec %[2]q shell -state %[3]q "$4" bash -c 'exec 3<>/dev/tcp/127.0.0.1/22 4<&0 && { cat <&4 >&3 & cat <&3; kill $!; }'
`, sessions, bin(s.t, "localcloud"), filepath.Join(s.state, "cloud")),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o700); err != nil {
			s.t.Fatal(err)
		}
	}
	s.t.(*testing.T).Setenv("PATH", dir+string(os.PathListSeparator)+os.Getenv("PATH"))
	return sessions
}

// A machine that no packet reaches is baked through Session Manager, is found
// again after a reboot, and lets people in the same way.
func TestSessionManager(t *testing.T) {
	s := newStack(t)
	sessions := s.sessionManager()
	if r := s.start(t.TempDir(), "local", "start"); r.Wait() != nil {
		t.Fatal(r.out)
	}
	profiles := iam.New(iam.Options{
		Region: "us-east-1", BaseEndpoint: aws.String(s.endpoint()), Credentials: credentials.NewStaticCredentialsProvider("test", "test", ""),
	})
	if _, err := profiles.CreateInstanceProfile(t.Context(), &iam.CreateInstanceProfileInput{InstanceProfileName: aws.String("inside")}); err != nil {
		t.Fatal(err)
	}
	dir := write(t, map[string]string{"inside.pkr.hcl": source("inside", `
  ssh_interface        = "session_manager"
  iam_instance_profile = "inside"
`) + `
build {
  sources = ["source.amazon-ebs.inside"]
  provisioner "breakpoint" { note = "cut it off" }
  provisioner "shell" { inline = ["echo host is ${build.Host}", "echo first >> ~/journal"] }
  provisioner "shell" {
    inline            = ["echo second >> ~/journal", "sudo reboot", "sleep 60"]
    expect_disconnect = true
  }
  provisioner "shell" { inline = ["echo journal: $(cat ~/journal)"] }
}`})
	id := s.detached(dir, "inside.pkr.hcl")
	eventually(t, "build waits", func() bool {
		out, code := s.ask(dir, "resolve", id)
		return code == 0 && strings.Contains(out, "breakpoint")
	})
	machine := strings.TrimSpace(s.localcloud("machine", "cut", "-region=us-east-1"))
	if out, code := s.ask(dir, "exec", id, "--", "whoami"); code != 0 || !strings.Contains(out, "ubuntu") {
		t.Errorf("exec: exit %d\n%s", code, out)
	}
	if out, code := s.ask(dir, "resume", id); code != 0 {
		t.Errorf("resume: exit %d\n%s", code, out)
	}
	out, code := s.ask(dir, "attach", id)
	if code != 0 || !strings.Contains(out, "host is "+machine) || !strings.Contains(out, "journal: first second") || !strings.Contains(out, "AMIs were created") {
		t.Errorf("attach: exit %d\n%s", code, out)
	}
	data, err := os.ReadFile(sessions)
	if err != nil || !regexp.MustCompile(`^(`+regexp.QuoteMeta(machine)+`\n){3,}$`).Match(data) {
		t.Errorf("sessions with %s: %q, %v", machine, data, err)
	}
	s.clean()
}
