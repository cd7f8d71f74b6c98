//go:build e2e

package e2e

import (
	"encoding/json"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/bakehouse-farm/bakehouse/timeline"
)

// A build that nobody watches can be found, looked at, followed and cancelled
// by its ID, from anywhere; the timeline is drawn while it runs.
func TestDetachedBuildIsFoundAndCancelled(t *testing.T) {
	s := newStack(t)
	dir := write(t, counted(600))
	ask := func(args ...string) (string, int) {
		t.Helper()
		cmd := exec.Command(bin(t, "submit"), args...)
		cmd.Dir, cmd.Env = dir, append(environ(), "BAKEHOUSE_STATE="+s.state)
		out, err := cmd.CombinedOutput()
		if err != nil && cmd.ProcessState == nil {
			t.Fatal(err)
		}
		return string(out), cmd.ProcessState.ExitCode()
	}
	out, code := ask("build", "-local", "-detach", "kill.pkr.hcl")
	id := regexp.MustCompile(`\bkill-[a-z2-7]{10}\b`).FindString(out)
	if code != 0 || id == "" {
		t.Fatalf("detach: exit %d, no ID in:\n%s", code, out)
	}
	follow := s.start(dir, "logs", "-local", "-follow", id)
	eventually(t, "log is followed", func() bool { return strings.Contains(follow.out.String(), "line 4 of the script") })
	_ = follow.Process.Kill()
	_ = follow.Wait()

	for _, look := range []struct {
		args []string
		want []string
	}{
		{[]string{"list", "-local"}, []string{id, "running"}},
		{[]string{"show", "-local", id}, []string{"amazon-ebs.kill", "provision-1-shell"}},
		{[]string{"timeline", "-local", id}, []string{"launch", "provision-1-shell"}},
		{[]string{"logs", "-local", id}, []string{"==> amazon-ebs.kill: line 1 of the script"}},
	} {
		out, code := ask(look.args...)
		if code != 0 {
			t.Errorf("%v: exit %d\n%s", look.args, code, out)
		}
		for _, want := range look.want {
			if !strings.Contains(out, want) {
				t.Errorf("%v lacks %q:\n%s", look.args, want, out)
			}
		}
	}
	out, code = ask("timeline", "-local", "-json", id)
	var tl timeline.Timeline
	if err := json.Unmarshal([]byte(out), &tl); code != 0 || err != nil || tl.Root.Outcome != timeline.Running {
		t.Errorf("timeline of a running build: exit %d, %v\n%s", code, err, out)
	}
	if out, code := ask("cancel", "-local", id); code != 0 {
		t.Errorf("cancel: exit %d\n%s", code, out)
	}
	if out, code := ask("attach", "-local", id); code != 1 || !strings.Contains(out, "cancel") {
		t.Errorf("attach to a cancelled build: exit %d\n%s", code, out)
	}
	s.clean()
	if n := len(s.images("us-east-1")); n != 0 {
		t.Errorf("%d AMIs of a cancelled build", n)
	}
}

// Secrets are masked on the agent: neither the log nor what submit prints nor
// the plan of the build shows them, also when a script prints them in pieces.
func TestSecretsAreMasked(t *testing.T) {
	s := newStack(t)
	dir := write(t, map[string]string{"secret.pkr.hcl": source("secret", "") + `
variable "token" {
  type      = string
  sensitive = true
}
locals { derived = "prefix-${var.token}-suffix" }
build {
  sources = ["source.amazon-ebs.secret"]
  provisioner "shell" {
    environment_vars = ["TOKEN=${var.token}"]
    inline = [
      "echo token is $TOKEN",
      "printf 'hunter2'; sleep 1; printf 'hunter2\n'",
      "echo ${local.derived}",
      "test $${#TOKEN} = 14",
    ]
  }
}`})
	out := s.must(dir, "-var", "token=hunter2hunter2", "secret.pkr.hcl")
	if strings.Contains(out, "hunter2") {
		t.Errorf("output shows the secret:\n%s", out)
	}
	if !strings.Contains(out, "token is <sensitive>") {
		t.Errorf("output does not show where it was:\n%s", out)
	}
	if hit, _ := exec.Command("grep", "-rl", "hunter2hunter2", s.state).CombinedOutput(); len(hit) > 0 {
		t.Errorf("secret lies in the open in:\n%s", hit)
	}
}
