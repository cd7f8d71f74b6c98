package sandbox_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/bakehouse-farm/bakehouse"
	"github.com/bakehouse-farm/bakehouse/localcloud/sandbox"
)

// An instance boots from the host's root and lets its users in, who may become
// root and are nobody's else.
func TestBootHostLayer(t *testing.T) {
	h := newHost(t)
	l := newSpec(t, h, "i-boot")
	l.spec.Metadata = map[string]string{"instance-id": "i-boot"}
	boot(t, h, l)
	for _, user := range []string{"ubuntu", "ec2-user", "admin", "debian", "root"} {
		if got := l.sh(t, user, "id -un; echo $HOME"); got != user+"\n"+map[bool]string{true: "/root", false: "/home/" + user}[user == "root"] {
			t.Errorf("as %s: %q", user, got)
		}
	}
	for line, want := range map[string]string{
		"hostname":                    "test-i-boot",
		"cat /etc/hostname":           "test-i-boot",
		"sudo -n id -u":               "0",
		"X=1 sudo -E sh -c 'echo $X'": "1",
		"sudo X=2 sh -c 'echo $X'":    "2",
		"sudo -H -u debian sh -c 'echo $(id -un) $HOME'":  "debian /home/debian",
		"sudo -i -- echo 'a b'":                           "a b",
		"echo pass | sudo -S whoami":                      "root",
		"cat /run/bakehouse/metadata.json | tr -d ' \\n'": `{"instance-id":"i-boot"}`,
		"getent hosts $(hostname) | cut -d' ' -f1":        "127.0.1.1",
		"sudo sh -c 'ls -A /srv /media | grep -v :; ls -A /home/ubuntu/.ssh /work 2>/dev/null; ls -A /tmp'": "",
		"ps -o args= -p 1": "localcloud-init",
	} {
		if got := l.sh(t, "ubuntu", line); got != want {
			t.Errorf("%s: %q, want %q", line, got, want)
		}
	}
	if _, err := l.tryDial("nobody-here"); err == nil {
		t.Error("an unknown user can log in")
	}
	stranger := newSpec(t, h, "i-other")
	stranger.spec.Addr = l.spec.Addr
	if _, err := stranger.tryDial("ubuntu"); err == nil {
		t.Error("a stranger's key can log in")
	}
	if err := h.Start(t.Context(), l.spec); err != nil {
		t.Errorf("start while running: %v", err)
	}
	if st, err := h.Status("i-boot"); err != nil || st.State != sandbox.Running || st.Boots != 1 {
		t.Errorf("status %+v, %v", st, err)
	}
}

// User data runs once, at the first boot.
func TestUserData(t *testing.T) {
	h := newHost(t)
	l := newSpec(t, h, "i-data")
	l.spec.UserData = []byte("#!/bin/sh\nid -u\necho run >> /root/runs\n")
	boot(t, h, l)
	eventually(t, "user data has run", func() bool {
		out, _ := l.trySh(t, "root", "cat /var/lib/cloud/instance/boot-finished")
		return strings.Contains(out, "T")
	})
	if got := l.sh(t, "root", "cat /var/log/cloud-init-output.log"); got != "0" {
		t.Errorf("output %q", got)
	}
	restart(t, h, l)
	if got := l.sh(t, "root", "cat /root/runs"); got != "run" {
		t.Errorf("runs: %q", got)
	}
}

func restart(t testing.TB, h *sandbox.Host, l login) {
	t.Helper()
	if err := h.Stop(t.Context(), l.spec.ID); err != nil {
		t.Fatal(err)
	}
	if st, err := h.Status(l.spec.ID); err != nil || st.State != sandbox.Stopped || st.Reason != sandbox.ByRequest {
		t.Errorf("after stop: %+v, %v", st, err)
	}
	if err := h.Start(t.Context(), l.spec); err != nil {
		t.Fatal(err)
	}
}

// Files survive a stop; processes do not outlive it.
func TestStopStart(t *testing.T) {
	h := newHost(t)
	l := newSpec(t, h, "i-stop")
	boot(t, h, l)
	l.sh(t, "ubuntu", "echo kept > ~/file; nohup sleep 4242 >/dev/null 2>&1 & echo $!")
	if got := l.sh(t, "ubuntu", "pgrep -x sleep | wc -l"); got != "1" {
		t.Errorf("a background process has not survived its session: %s", got)
	}
	restart(t, h, l)
	if got := l.sh(t, "ubuntu", "cat ~/file; pgrep -x sleep | wc -l"); got != "kept\n0" {
		t.Errorf("after stop and start: %q", got)
	}
	if out, _ := exec.Command("pgrep", "-f", "^sleep 4242").Output(); len(out) > 0 {
		t.Errorf("processes of the instance are left: %s", out)
	}
	for range 2 {
		if err := h.Stop(t.Context(), l.spec.ID); err != nil {
			t.Errorf("stop: %v", err)
		}
	}
}

// What an instance wrote is what the next one from its layer sees: also what
// it deleted and replaced.
func TestFreeze(t *testing.T) {
	h := newHost(t)
	l := newSpec(t, h, "i-first")
	boot(t, h, l)
	l.sh(t, "ubuntu", `set -e
sudo rm /etc/debian_version /etc/skel/.bashrc
sudo rm -r /etc/cron.d && sudo mkdir /etc/cron.d && echo mine | sudo tee /etc/cron.d/mine
sudo mv /etc/update-motd.d /etc/moved.d
echo old | sudo tee /opt/version
sudo chown debian:sudo /opt/version; sudo chmod 4750 /opt/version; sudo ln /opt/version /opt/link`)
	if err := h.Freeze(t.Context(), "i-first", "layer-1"); bakehouse.KindOf(err) != bakehouse.Conflict {
		t.Errorf("freeze while running: %v", err)
	}
	if err := h.Stop(t.Context(), "i-first"); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := h.Freeze(t.Context(), "i-first", "layer-1"); err != nil {
			t.Fatal(err)
		}
	}
	if err := h.Freeze(t.Context(), "i-first", h.HostLayer()); err == nil {
		t.Error("froze over the host layer")
	}

	// The first goes on above what it froze; the change is its own.
	if err := h.Start(t.Context(), l.spec); err != nil {
		t.Fatal(err)
	}
	l.sh(t, "ubuntu", "grep -q old /opt/version || sudo grep -q old /opt/version; echo new | sudo tee /opt/version")

	second := newSpec(t, h, "i-second", "layer-1", h.HostLayer())
	boot(t, h, second)
	got := second.sh(t, "root", `ls -A /etc/cron.d; ls /etc/moved.d | wc -l; ls /etc/update-motd.d 2>&1 | wc -l
cat /opt/version /opt/link; stat -c '%U:%G %a' /opt/version; test -e /etc/debian_version || echo gone; cat /etc/hostname; grep -c 'test-' /etc/hosts`)
	n := strings.TrimSpace(mustRun(t, "sh", "-c", "ls /etc/update-motd.d | wc -l"))
	want := "mine\n" + n + "\n1\nold\nold\ndebian:sudo 4750\ngone\ntest-i-second\n1"
	if got != want {
		t.Errorf("got %q\nwant %q", got, want)
	}

	if layers, err := h.Layers(); err != nil || len(layers) != 1 || layers[0] != "layer-1" {
		t.Errorf("layers %v, %v", layers, err)
	}
	if size, err := h.Size("layer-1"); err != nil || size < 4096 || size > 1<<20 {
		t.Errorf("size %d, %v", size, err)
	}
	if err := h.RemoveLayer("layer-1"); bakehouse.KindOf(err) != bakehouse.Conflict {
		t.Errorf("remove a layer in use: %v", err)
	}
	for _, id := range []string{"i-first", "i-second"} {
		if err := h.Remove(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		if err := h.RemoveLayer("layer-1"); err != nil {
			t.Errorf("remove layer: %v", err)
		}
	}
}

func mustRun(t testing.TB, argv ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), argv[0], argv[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %v\n%s", argv, err, out)
	}
	return string(out)
}

// However it is said, a reboot boots the instance again, as another boot.
func TestReboot(t *testing.T) {
	h := newHost(t)
	l := newSpec(t, h, "i-reboot")
	boot(t, h, l)
	const bootID = "cat /proc/sys/kernel/random/boot_id"
	l.sh(t, "ubuntu", "echo kept > ~/file")
	lines := []string{"sudo reboot", "sudo shutdown -r now", "sudo systemctl reboot", "sudo init 6"}
	if _, err := os.Stat("/sbin/reboot"); err == nil { // a container has none
		lines = append(lines, "sudo /sbin/reboot")
	}
	for n, line := range lines {
		before := l.sh(t, "ubuntu", bootID)
		_, _ = l.trySh(t, "ubuntu", line) // the connection may end before the answer
		eventually(t, line, func() bool {
			c, err := l.tryDial("ubuntu")
			if err != nil {
				return false
			}
			defer c.Close()
			s, err := c.NewSession()
			if err != nil {
				return false
			}
			out, err := s.Output(bootID)
			return err == nil && strings.TrimSpace(string(out)) != before
		})
		if st, err := h.Status("i-reboot"); err != nil || st.State != sandbox.Running || st.Boots != n+2 {
			t.Errorf("after %s: %+v, %v", line, st, err)
		}
	}
	if got := l.sh(t, "ubuntu", "cat ~/file"); got != "kept" {
		t.Errorf("file: %q", got)
	}
	if out, err := l.trySh(t, "ubuntu", "/usr/local/sbin/reboot"); err == nil {
		t.Errorf("an ordinary user can reboot: %s", out)
	}
}

// An instance that is powered off from inside is stopped, and says so.
func TestPowerOff(t *testing.T) {
	h := newHost(t)
	for _, line := range []string{"sudo poweroff", "sudo shutdown -h now", "sudo halt -p"} {
		l := newSpec(t, h, "i-off")
		boot(t, h, l)
		_, _ = l.trySh(t, "ubuntu", line)
		select {
		case e := <-h.Events():
			if e.ID != "i-off" || e.Status.Reason != sandbox.FromInside || e.Status.State != sandbox.Stopped {
				t.Errorf("%s: event %+v", line, e)
			}
		case <-time.After(30 * time.Second):
			t.Fatalf("%s: no event", line)
		}
		if err := h.Remove(t.Context(), "i-off"); err != nil {
			t.Fatal(err)
		}
		if st, err := h.Status("i-off"); err != nil || st.State != sandbox.Gone {
			t.Errorf("after remove: %+v, %v", st, err)
		}
	}
}

// Specs that cannot be are refused, and leave nothing.
func TestRefused(t *testing.T) {
	h := newHost(t)
	good := newSpec(t, h, "i-good")
	boot(t, h, good)
	tests := map[string]struct {
		change func(*sandbox.Spec)
		want   bakehouse.Kind
	}{
		"no layer":      {func(s *sandbox.Spec) { s.Layers = nil }, bakehouse.Invalid},
		"unknown layer": {func(s *sandbox.Spec) { s.Layers = []string{"nope"} }, bakehouse.NotFound},
		"address":       {func(s *sandbox.Spec) { s.Addr = good.spec.Addr }, bakehouse.Conflict},
		"id":            {func(s *sandbox.Spec) { s.ID = "../x" }, bakehouse.Invalid},
		"key":           {func(s *sandbox.Spec) { s.Keys = []string{"ssh-rsa nonsense"} }, bakehouse.Invalid},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			l := newSpec(t, h, "i-bad")
			tt.change(&l.spec)
			if err := h.Start(t.Context(), l.spec); bakehouse.KindOf(err) != tt.want {
				t.Errorf("error %v, want kind %s", err, tt.want)
			}
			if err := h.Remove(context.Background(), "i-bad"); err != nil {
				t.Error(err)
			}
		})
	}
}

// Nothing of an instance is left on the host after it was removed.
func TestNothingLeft(t *testing.T) {
	dir := t.TempDir()
	h := openHost(t, dir)
	l := newSpec(t, h, "i-left")
	boot(t, h, l)
	if len(traces(t, dir)) == 0 {
		t.Fatal("a running instance leaves no trace: this test sees nothing")
	}
	if err := h.Remove(t.Context(), "i-left"); err != nil {
		t.Fatal(err)
	}
	if left := traces(t, dir); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "instances", "*")); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

// traces finds what belongs to the folder's instances: mounts, links, control
// groups, processes.
func traces(t testing.TB, dir string) []string {
	t.Helper()
	var found []string
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if strings.Contains(line, dir) {
			found = append(found, "mount "+line)
		}
	}
	links, err := netlink.LinkList()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range links {
		if strings.Contains(l.Attrs().Alias, dir) {
			found = append(found, "link "+l.Attrs().Name)
		}
	}
	groups, _ := filepath.Glob("/sys/fs/cgroup/*/bakehouse-" + sandbox.ShortName(dir, "i-left"))
	for _, g := range groups {
		found = append(found, "cgroup "+g)
	}
	all, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, p := range all {
		if b, err := os.ReadFile(p); err == nil && strings.Contains(string(b), dir) && strings.HasPrefix(string(b), "localcloud") {
			found = append(found, p)
		}
	}
	return found
}
