//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"
)

// ask runs submit with the farm of the stack, and returns what it said and its
// exit status.
func (s *stack) ask(dir string, args ...string) (string, int) {
	s.t.Helper()
	args = append([]string{args[0], "-local"}, args[1:]...)
	cmd := exec.Command(bin(s.t, "submit"), args...)
	cmd.Dir, cmd.Env = dir, append(environ(), "BAKEHOUSE_STATE="+s.state)
	out, err := cmd.CombinedOutput()
	if err != nil && cmd.ProcessState == nil {
		s.t.Fatal(err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

// localcloud runs a command of localcloud on the stack's.
func (s *stack) localcloud(args ...string) string {
	s.t.Helper()
	cmd := exec.Command(bin(s.t, "localcloud"), args...)
	cmd.Env = append(environ(), "BAKEHOUSE_LOCALCLOUD_DIR="+filepath.Join(s.state, "cloud"))
	out, err := cmd.CombinedOutput()
	if err != nil {
		s.t.Fatalf("localcloud %v: %v\n%s", args, err, out)
	}
	return string(out)
}

// detached starts a build, and returns the ID of its submission.
func (s *stack) detached(dir string, args ...string) string {
	s.t.Helper()
	out, code := s.ask(dir, append([]string{"build", "-detach"}, args...)...)
	id := regexp.MustCompile(`Started submission (\S+)`).FindStringSubmatch(out)
	if code != 0 || id == nil {
		s.t.Fatalf("submit build -detach: exit %d\n%s", code, out)
	}
	return id[1]
}

// A script fails; somebody looks at the machine, mends it, and the build goes
// on where it was, without a second launch.
func TestPersonMendsMachine(t *testing.T) {
	s := newStack(t)
	dir := write(t, map[string]string{"mend.pkr.hcl": source("mend", "") + `
build {
  sources = ["source.amazon-ebs.mend"]
  provisioner "shell" { inline = ["echo first >> ~/journal"] }
  provisioner "shell" {
    inline = [
      "test -e ~/mended || { echo it is broken; exit 3; }",
      "echo second >> ~/journal",
      "echo it works",
    ]
  }
  provisioner "breakpoint" { note = "have a look" }
  provisioner "shell" { inline = ["echo journal: $(cat ~/journal)"] }
}`})
	id := s.detached(dir, "-on-error=ask", "mend.pkr.hcl")
	waits := func(why string) {
		t.Helper()
		eventually(t, "build waits: "+why, func() bool {
			out, code := s.ask(dir, "resolve", id)
			return code == 0 && strings.Contains(out, why)
		})
	}
	waits("provision-2-shell (failed)")
	if out, _ := s.ask(dir, "list"); !strings.Contains(out, "Builds that wait") {
		t.Errorf("list does not show the waiting build:\n%s", out)
	}
	if out, code := s.ask(dir, "exec", id, "--", "sh", "-c", "echo 'on the machine'; exit 5"); code != 5 || !strings.Contains(out, "on the machine") {
		t.Errorf("exec: exit %d\n%s", code, out)
	}
	if out, code := s.ask(dir, "exec", id, "cat ~/.bakehouse/*/expire.limit"); code != 0 || strings.TrimSpace(out) != "5h0m0s" {
		t.Errorf("the machine would not switch itself off: exit %d\n%s", code, out)
	}
	if out, code := s.ask(dir, "ssh", id, "--", "touch ~/mended && whoami"); code != 0 || !strings.Contains(out, "ubuntu") {
		t.Errorf("ssh: exit %d\n%s", code, out)
	}
	if out, code := s.ask(dir, "exec", id, "grep -c bakehouse-visitor ~/.ssh/authorized_keys"); code != 1 || strings.TrimSpace(out) != "0" {
		t.Errorf("the visitor's key is still there: exit %d\n%s", code, out)
	}
	if out, code := s.ask(dir, "resolve", id, "resume"); code != 1 || !strings.Contains(out, "retry, cleanup, abort, retry-from, skip") {
		t.Errorf("resume of a failed step: exit %d\n%s", code, out)
	}
	if out, code := s.ask(dir, "resolve", id, "retry"); code != 0 {
		t.Fatalf("retry: exit %d\n%s", code, out)
	}
	waits("breakpoint")
	if out, code := s.ask(dir, "resume", id); code != 0 {
		t.Errorf("resume: exit %d\n%s", code, out)
	}
	out, code := s.ask(dir, "attach", id)
	if code != 0 || strings.Count(out, "it is broken") != 1 || strings.Count(out, "it works") != 1 || !strings.Contains(out, "journal: first second") || !strings.Contains(out, "AMIs were created") {
		t.Errorf("attach: exit %d\n%s", code, out)
	}
	s.clean()
}

// An image fails when all scripts have run: the machine is kept, and a retry
// makes the image of it without running anything again.
func TestFailedImageIsRetried(t *testing.T) {
	s := newStack(t)
	dir := write(t, map[string]string{"keep.pkr.hcl": source("keep", `ami_regions = ["us-west-2"]`) + `
build {
  sources = ["source.amazon-ebs.keep"]
  provisioner "shell" { inline = ["echo baked"] }
  post-processor "manifest" {}
}`})
	s.must(dir, "keep.pkr.hcl") // starts what is needed
	s.localcloud("faults", "add", "fail", "-action", "CopyImage", "-count", "1")
	out, err := s.build(dir, "-keep=10m", "-id=again", "keep.pkr.hcl")
	again := regexp.MustCompile(`submit retry -local (\S+)`).FindStringSubmatch(out)
	if err == nil || again == nil {
		t.Fatalf("build with a copy that fails: %v\n%s", err, out)
	}
	if out, _ := s.ask(dir, "list"); !strings.Contains(out, again[1]+".kept") {
		t.Errorf("list does not show what is kept:\n%s", out)
	}
	out, code := s.ask(dir, "retry", again[1])
	if code != 0 || strings.Contains(out, "baked") || !strings.Contains(out, "us-west-2: ami-") {
		t.Errorf("retry: exit %d\n%s", code, out)
	}
	if out, code := s.ask(dir, "show", again[1]); code != 0 || !strings.Contains(out, "retried   with success") || !strings.Contains(out, "us-west-2: ami-") {
		t.Errorf("show: exit %d\n%s", code, out)
	}
	if out, code := s.ask(dir, "cancel", again[1]); code != 0 || !strings.Contains(out, "ended already") {
		t.Errorf("cancel of what is over: exit %d\n%s", code, out)
	}
	if amis := manifest(t, filepath.Join(dir, "packer-manifest.json")); len(amis) != 2 {
		t.Errorf("manifest: %v, want two regions", amis)
	}
	s.clean()
	if n := len(s.images("us-east-1")) + len(s.images("us-west-2")); n != 4 {
		t.Errorf("%d AMIs, want 4", n)
	}
}

// The machine is taken away in the middle: another one goes on from the last
// checkpoint, and the image is as if nothing had happened.
func TestLostMachineIsReplaced(t *testing.T) {
	s := newStack(t)
	dir := write(t, map[string]string{"spot.pkr.hcl": source("spot", "") + `
build {
  sources = ["source.amazon-ebs.spot"]
  provisioner "shell" { inline = ["echo one >> ~/journal", "echo first is done"] }
  provisioner "shell" {
    inline = [
      "echo two >> ~/journal",
      "for i in $(seq 1 20); do echo line $i; sleep 0.5; done",
    ]
  }
  provisioner "shell" { inline = ["echo journal: $(cat ~/journal)"] }
}`})
	r := s.start(dir, "build", "-local", "-on-machine-loss=restart", "-checkpoint", "spot.pkr.hcl")
	eventually(t, "script runs", func() bool { return strings.Contains(r.out.String(), "line 3") })
	s.localcloud("machine", "terminate", "-tag", "bakehouse:source=amazon-ebs.spot")
	if err := r.Wait(); err != nil {
		t.Fatalf("%v\n%s", err, r.out)
	}
	out := r.out.String()
	for _, want := range []string{"is gone", "Launching another machine, to go on from the checkpoint after provisioner 1", "journal: one two"} {
		if !strings.Contains(out, want) {
			t.Errorf("output lacks %q:\n%s", want, out)
		}
	}
	if strings.Count(out, "first is done") != 1 {
		t.Errorf("the first script ran again:\n%s", out)
	}
	s.clean()
	if n := len(s.images("us-east-1")); n != 1 {
		t.Errorf("%d AMIs, want one: checkpoints go", n)
	}
}

// A terminated workflow cannot clean up: a sweep does.
func TestSweep(t *testing.T) {
	s := newStack(t)
	dir := write(t, counted(600))
	id := s.detached(dir, "kill.pkr.hcl")
	eventually(t, "script runs", func() bool {
		out, _ := s.ask(dir, "logs", id)
		return strings.Contains(out, "line 2 of the script")
	})
	if out, code := s.ask(dir, "sweep"); code != 0 || !strings.Contains(out, "in use") {
		t.Errorf("sweep while the build lives: exit %d\n%s", code, out)
	}
	_, address := s.entry("server")
	c, err := client.Dial(client.Options{HostPort: address})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var builds []struct {
		Build string `json:"build"`
	}
	out, _ := s.ask(dir, "sweep", "-dry-run", "-json")
	if err := json.Unmarshal([]byte(out), &builds); err != nil || len(builds) < 3 {
		t.Fatalf("%v\n%s", err, out)
	}
	if err := c.TerminateWorkflow(context.Background(), builds[0].Build, "", "test"); err != nil {
		t.Fatal(err)
	}
	var ended *serviceerror.NotFound // it may have learnt of the end of its build first
	if err := c.TerminateWorkflow(context.Background(), id, "", "test"); err != nil && !errors.As(err, &ended) {
		t.Fatal(err)
	}
	if out, code := s.ask(dir, "sweep", "-dry-run"); code != 0 || !strings.Contains(out, "lost: to be removed") {
		t.Errorf("dry run: exit %d\n%s", code, out)
	}
	if n := len(s.leftovers()); n == 0 {
		t.Error("the dry run removed something, or the build had left nothing")
	}
	if out, code := s.ask(dir, "sweep"); code != 0 || !strings.Contains(out, "removed") {
		t.Errorf("sweep: exit %d\n%s", code, out)
	}
	s.clean()
	if out, code := s.ask(dir, "sweep", "-every=1h"); code != 0 {
		t.Errorf("schedule: exit %d\n%s", code, out)
	}
	if out, code := s.ask(dir, "sweep", "-every=0"); code != 0 {
		t.Errorf("end of schedule: exit %d\n%s", code, out)
	}
}
