//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/google/go-cmp/cmp"
)

// The example is baked into three regions, says so in Packer's words, and
// leaves nothing but its AMIs and their snapshots; what was provisioned is in
// the image, and a template that starts from it sees it.
//
// covers: exit build 0
func TestExampleIsBaked(t *testing.T) {
	s := newStack(t)
	dir := t.TempDir()
	if out, err := exec.Command("cp", "-a", "../examples/web/.", dir).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	out := s.must(dir, "-var", "version=2.3.4", ".")
	for _, want := range []string{
		"==> amazon-ebs.web: Creating temporary keypair:",
		"==> amazon-ebs.web: installed the site, version 2.3.4",
		"==> amazon-ebs.web: Stopping the source instance...",
		"==> Builds finished. The artifacts of successful builds are:",
		"--> amazon-ebs.web: AMIs were created:",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("output lacks %q", want)
		}
	}
	amis := manifest(t, filepath.Join(dir, "packer-manifest.json"))
	var got []string
	for _, a := range amis {
		got = append(got, a.Region)
		if !strings.Contains(out, a.Region+": "+a.ID) {
			t.Errorf("output does not name %s", a.ID)
		}
		images, err := s.ec2(a.Region).DescribeImages(context.Background(), &ec2.DescribeImagesInput{ImageIds: []string{a.ID}})
		if err != nil {
			t.Fatal(err)
		}
		tags := map[string]string{}
		for _, tag := range images.Images[0].Tags {
			tags[*tag.Key] = *tag.Value
		}
		if tags["Name"] != "web" || tags["Version"] != "2.3.4" || !strings.HasPrefix(tags["Source"], "ami-") {
			t.Errorf("%s has tags %v", a.ID, tags)
		}
	}
	if diff := cmp.Diff([]string{"eu-west-1", "us-east-1", "us-west-2"}, got); diff != "" {
		t.Errorf("regions (-want +got):\n%s", diff)
	}
	s.clean()

	// The second layer: a template whose source is the AMI just made.
	var home string
	for _, a := range amis {
		if a.Region == "us-west-2" {
			home = a.ID
		}
	}
	second := write(t, map[string]string{"second.pkr.hcl": fmt.Sprintf(`
source "amazon-ebs" "second" {
  region        = "us-west-2"
  source_ami    = %q
  ami_name      = "second-{{timestamp}}"
  instance_type = "t3.micro"
  ssh_username  = "ubuntu"
}
build {
  sources = ["source.amazon-ebs.second"]
  provisioner "shell" { inline = ["cat /srv/site/index.html", "sudo rm /etc/site-version"] }
  post-processor "manifest" {}
}`, home)})
	out = s.must(second, "second.pkr.hcl")
	if !strings.Contains(out, "amazon-ebs.second: <p>This page was baked in, version 2.3.4.</p>") {
		t.Errorf("second template does not see what the first put into its AMI:\n%s", out)
	}
	third := manifest(t, filepath.Join(second, "packer-manifest.json"))
	look := exec.Command(bin(t, "localcloud"), "run", "-endpoint", s.endpoint(), "-region", "us-west-2", third[0].ID, "--",
		"test -e /srv/site/index.html && test ! -e /etc/site-version && echo as baked")
	data, err := look.CombinedOutput()
	if err != nil || !strings.Contains(string(data), "as baked") {
		t.Errorf("look inside %s: %v\n%s", third[0].ID, err, data)
	}
	s.clean()
}

// counted is a template whose first provisioner takes its time and counts its
// runs on the machine, and whose second shows the count.
func counted(seconds int) map[string]string {
	return map[string]string{"kill.pkr.hcl": source("kill", `ami_regions = ["us-west-2"]`) + fmt.Sprintf(`
build {
  sources = ["source.amazon-ebs.kill"]
  provisioner "shell" {
    inline = [
      "echo run >> ~/counter",
      "for i in $(seq 1 %d); do echo \"line $i of the script\"; sleep 0.5; done",
      "echo the script ends",
    ]
  }
  provisioner "shell" { inline = ["echo runs counted: $(wc -l < ~/counter)"] }
  post-processor "manifest" {}
}`, seconds*2)}
}

// Whatever dies while a script runs, the script runs once, its output is there
// once, and the same command goes on with the same build.
func TestKilledInTheMiddleOfAProvisioner(t *testing.T) {
	tests := []struct {
		name  string
		kill  []string
		again bool // submit was killed, too, and is run again
	}{
		{"agent and server and submit", []string{"agent", "server"}, true},
		{"localcloud", []string{"localcloud"}, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newStack(t)
			dir := write(t, counted(15))
			r := s.start(dir, "build", "-local", "kill.pkr.hcl")
			eventually(t, "script is running", func() bool {
				return strings.Contains(r.out.String(), "line 5 of the script") || r.ProcessState != nil
			})
			for _, name := range tt.kill {
				s.kill(name)
			}
			_ = r.Process.Kill()
			_ = r.Wait()
			out := s.must(dir, "kill.pkr.hcl")
			if !strings.Contains(out, "Joining submission") {
				t.Errorf("the same command did not join the build:\n%s", out)
			}
			if n := strings.Count(out, "runs counted: 1\n"); n != 1 {
				t.Errorf("the script did not run once:\n%s", out)
			}
			for _, line := range []string{"line 1 of the script\n", "line 5 of the script\n", "line 30 of the script\n", "the script ends\n"} {
				if n := strings.Count(out, line); n != 1 {
					t.Errorf("%q is in the log %d times", line, n)
				}
			}
			if amis := manifest(t, filepath.Join(dir, "packer-manifest.json")); len(amis) != 2 {
				t.Errorf("AMIs: %v", amis)
			}
			s.clean()
			if n := len(s.images("us-east-1")); n != 1 {
				t.Errorf("%d AMIs in us-east-1", n)
			}
		})
	}
}

// Ctrl-C cancels and waits for the clean-up.
func TestInterruptCleansUp(t *testing.T) {
	s := newStack(t)
	dir := write(t, counted(600))
	r := s.start(dir, "build", "-local", "kill.pkr.hcl")
	eventually(t, "script is running", func() bool { return strings.Contains(r.out.String(), "line 3 of the script") })
	if err := r.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	err := r.Wait()
	if err == nil || r.ProcessState.ExitCode() != 1 {
		t.Errorf("exit %d, want 1\n%s", r.ProcessState.ExitCode(), r.out)
	}
	if !strings.Contains(r.out.String(), "Cleanly cancelled builds after being interrupted.") {
		t.Errorf("output:\n%s", r.out)
	}
	s.clean()
	for _, region := range regions {
		if n := len(s.images(region)); n != 0 {
			t.Errorf("%d AMIs in %s", n, region)
		}
	}
}

// Two builds at once, ten at once, and the same template twice at once: the
// last two are one build.
func TestManyAtOnce(t *testing.T) {
	s := newStack(t)
	ten := "variable \"n\" {\n  default = 10\n}\nlocals { name = \"ten\" }\n"
	for i := range 10 {
		ten += source(fmt.Sprintf("s%d", i), "")
	}
	ten += "build {\n  sources = ["
	for i := range 10 {
		ten += fmt.Sprintf("\"source.amazon-ebs.s%d\", ", i)
	}
	ten += "]\n  provisioner \"shell\" { inline = [\"echo I am $PACKER_BUILD_NAME\"] }\n  post-processor \"manifest\" {}\n}\n"
	dir := write(t, map[string]string{"ten.pkr.hcl": ten})

	out := s.must(dir, "-only", "*.s0,*.s1", "ten.pkr.hcl")
	for _, name := range []string{"s0", "s1"} {
		if !strings.Contains(out, "amazon-ebs."+name+": I am "+name) {
			t.Errorf("two at once: %s is missing:\n%s", name, out)
		}
	}
	var wg sync.WaitGroup
	outs := make([]string, 2)
	errs := make([]error, 2)
	runs := []*run{s.start(dir, "build", "-local", "ten.pkr.hcl"), s.start(dir, "build", "-local", "ten.pkr.hcl")}
	for i, r := range runs {
		wg.Add(1)
		go func() {
			defer wg.Done()
			errs[i] = r.Wait()
			outs[i] = r.out.String()
		}()
	}
	wg.Wait()
	for i := range runs {
		if errs[i] != nil {
			t.Errorf("submitter %d: %v\n%s", i, errs[i], outs[i])
		}
		for n := range 10 {
			if want := fmt.Sprintf("amazon-ebs.s%d: I am s%d", n, n); !strings.Contains(outs[i], want) {
				t.Errorf("submitter %d does not see %q", i, want)
			}
		}
	}
	if n := len(s.images("us-east-1")); n != 12 {
		t.Errorf("%d AMIs, want 12: two builds, then ten by two submitters", n)
	}
	s.clean()
}

// What the user got wrong is said plainly; nothing is started or left.
func TestBadInput(t *testing.T) {
	s := newStack(t)
	shell := func(body string) string {
		return source("bad", "") + "build {\n  sources = [\"source.amazon-ebs.bad\"]\n  provisioner \"shell\" {\n    " + body + "\n  }\n}\n"
	}
	tests := []struct {
		name string
		hcl  string
		want []string
	}{
		{"missing script", shell(`script = "nowhere.sh"`), []string{"bad.pkr.hcl", "line", "nowhere.sh"}},
		{"unset variable", "variable \"version\" {}\n" + shell(`inline = ["true"]`), []string{"Unset variable \"version\""}},
		{"unknown attribute", shell(`inlin = ["true"]`), []string{"bad.pkr.hcl", "Did you mean \"inline\"?"}},
		{"no AMI matches", strings.Replace(shell(`inline = ["true"]`), "ubuntu/images/hvm-ssd/ubuntu-jammy-22.04-amd64-server-*", "nobody/has/this-*", 1), []string{"No AMI was found matching filters"}},
		{"failing script", shell(`inline = ["echo before", "exit 7"]`), []string{"bad: before", "Script exited with non-zero exit status: 7. Allowed exit codes are: [0]"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := write(t, map[string]string{"bad.pkr.hcl": tt.hcl})
			r := s.start(dir, "build", "-local", "bad.pkr.hcl")
			_ = r.Wait()
			if code := r.ProcessState.ExitCode(); code != 1 {
				t.Errorf("exit %d, want 1", code)
			}
			for _, want := range tt.want {
				if !strings.Contains(r.out.String(), want) {
					t.Errorf("output lacks %q:\n%s", want, r.out)
				}
			}
			if _, err := os.Stat(filepath.Join(s.state, "state.json")); err == nil {
				s.clean()
				if n := len(s.images("us-east-1")); n != 0 {
					t.Errorf("%d AMIs of failed builds", n)
				}
			}
		})
	}
}
