//go:build e2e

package e2e

import (
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// refused runs a program that must end with exit status 1, say all that is
// wanted, and leave no process behind that has to do with dir.
func refused(t *testing.T, dir string, cmd *exec.Cmd, want ...string) string {
	t.Helper()
	out, err := cmd.CombinedOutput()
	var ended *exec.ExitError
	if err != nil && !errors.As(err, &ended) {
		t.Fatal(err)
	}
	name := filepath.Base(cmd.Path)
	if code := cmd.ProcessState.ExitCode(); code != 1 {
		t.Errorf("%s: exit %d, want 1", name, code)
	}
	for _, w := range want {
		if !strings.Contains(string(out), w) {
			t.Errorf("%s does not say %q:\n%s", name, w, out)
		}
	}
	for _, never := range []string{"goroutine ", "panic"} {
		if strings.Contains(string(out), never) {
			t.Errorf("%s does not end in order:\n%s", name, out)
		}
	}
	if left := processes(dir); len(left) > 0 {
		t.Errorf("processes left behind: %v", left)
	}
	return string(out)
}

// program is one of ours, to be run in dir.
func program(t *testing.T, dir, name string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(bin(t, name), args...)
	cmd.Dir, cmd.Env = dir, environ()
	return cmd
}

// mounted mounts a small disk, until the test ends.
func mounted(t *testing.T, flags uintptr, options string) string {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("mounting needs root")
	}
	// Not t.TempDir: test names make paths too long for sockets.
	dir, err := os.MkdirTemp("", "bakehouse-disk-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Remove(dir) })
	if err := syscall.Mount("tmpfs", dir, "tmpfs", flags, options); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Errorf("something still uses %s: %v", dir, err)
			_ = syscall.Unmount(dir, syscall.MNT_DETACH)
		}
	})
	return dir
}

// nullTemplate is a template that needs nothing but a farm.
var nullTemplate = map[string]string{"null.pkr.hcl": `
source "null" "n" { communicator = "none" }
build { sources = ["source.null.n"] }
`}

// A state folder in which nothing can be kept is refused by each program that
// has one, before it does anything.
func TestUnusableStateFolder(t *testing.T) {
	templates := write(t, nullTemplate)
	tests := []struct {
		name  string
		make  func(t *testing.T) string
		cause string
		room  string // what submit says instead, since it looks further ahead
	}{
		{name: "full disk", make: func(t *testing.T) string { return filepath.Join(mounted(t, 0, "size=8m"), "state") }, cause: "", room: "MiB are free"},
		{name: "file in its place", make: func(t *testing.T) string {
			name := filepath.Join(t.TempDir(), "state")
			if err := os.WriteFile(name, []byte("precious"), 0o600); err != nil {
				t.Fatal(err)
			}
			return name
		}, cause: "not a directory"},
		{name: "read-only", make: func(t *testing.T) string { return filepath.Join(mounted(t, syscall.MS_RDONLY, ""), "state") }, cause: "read-only file system"},
		{name: "read-only and there", make: func(t *testing.T) string { return mounted(t, syscall.MS_RDONLY, "") }, cause: "read-only file system"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if os.Getuid() != 0 {
				t.Skip("localcloud needs root")
			}
			state := tt.make(t)
			refused(t, state, program(t, templates, "submit", "build", "-local", "-state", state, "null.pkr.hcl"),
				"state folder "+state, tt.cause, tt.room, "-state", "BAKEHOUSE_STATE")
			server, cloud := tt.cause, tt.cause
			if tt.room != "" {
				server, cloud = "the disk is full", "no space left on device: make room"
			}
			refused(t, state, program(t, templates, "server", "-state", state, "-listen", "127.0.0.1:0", "-no-ui"), state, server)
			refused(t, state, program(t, templates, "localcloud", "serve", "-state", state, "-listen", "127.0.0.1:0"), state, cloud, "another state folder with -state")
			if left := mounts(state); len(left) > 0 {
				t.Errorf("mounts left behind: %v", left)
			}
			if _, err := os.Stat(filepath.Join(state, "state.json")); err == nil {
				t.Error("something was started")
			}
			if data, err := os.ReadFile(state); err == nil && string(data) != "precious" {
				t.Errorf("what was there is now %q", data)
			}
		})
	}
}

// While the disk is full, nothing moves, and submit says why. When there is
// room again the build goes on where it was.
func TestDiskFillsUpDuringBuild(t *testing.T) {
	disk := mounted(t, 0, "size=600m")
	s := newStackIn(t, disk)
	dir := write(t, counted(6))
	r := s.start(dir, "build", "-local", "kill.pkr.hcl")
	eventually(t, "script is running", func() bool {
		return strings.Contains(r.out.String(), "line 3 of the script") || r.ProcessState != nil
	})
	fill, err := os.Create(filepath.Join(disk, "fill"))
	if err != nil {
		t.Fatal(err)
	}
	chunk := make([]byte, 64<<10)
	for err == nil {
		_, err = fill.Write(chunk)
	}
	fill.Close()
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	eventually(t, "submit says that the disk is full", func() bool {
		return strings.Contains(r.out.String(), "The disk of state folder "+s.state+" is full")
	})
	if err := os.Remove(fill.Name()); err != nil {
		t.Fatal(err)
	}
	if err := r.Wait(); err != nil {
		t.Errorf("%v\n%s", err, r.out)
	}
	out := r.out.String()
	for _, line := range []string{"There is room again", "line 1 of the script\n", "the script ends\n", "runs counted: 1\n"} {
		if n := strings.Count(out, line); n != 1 {
			t.Errorf("%q is in the output %d times:\n%s", line, n, out)
		}
	}
	s.clean()
}

// A port that was asked for and is taken is an error that names it; -local
// takes another by itself.
func TestPortsInUse(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	address := taken.Addr().String()
	dir := write(t, nullTemplate)
	for name, args := range map[string][]string{
		"server":     {"-no-ui", "-listen", address},
		"server ui":  {"-listen", "127.0.0.1:0", "-ui", address},
		"localcloud": {"serve", "-listen", address},
	} {
		t.Run(name, func(t *testing.T) {
			state := filepath.Join(t.TempDir(), "state")
			command, _, _ := strings.Cut(name, " ")
			flag := "-listen"
			if name == "server ui" {
				flag = "-ui"
			}
			refused(t, state, program(t, dir, command, append(args, "-state", state)...), address, "address already in use", flag)
		})
	}
	t.Run("local", func(t *testing.T) {
		s := newStack(t)
		// The ports that -local prefers; somebody else may have them already, which
		// is as good.
		for _, port := range []string{"7233", "8233", "4566"} {
			if l, err := net.Listen("tcp", "127.0.0.1:"+port); err == nil {
				defer l.Close()
			}
		}
		s.must(dir, "null.pkr.hcl")
		for _, name := range []string{"server", "localcloud"} {
			if _, address := s.entry(name); strings.HasSuffix(address, ":7233") || strings.HasSuffix(address, ":4566") {
				t.Errorf("%s is at %s, which is taken", name, address)
			}
		}
	})
}

// Without root, -local says what is missing, and what is not built yet.
func TestNoRoot(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("becoming somebody else needs root")
	}
	programs := t.TempDir()
	if err := os.Chmod(filepath.Dir(programs), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"submit", "localcloud"} {
		copyFile(t, bin(t, name), filepath.Join(programs, name))
	}
	dir := write(t, nullTemplate)
	state := filepath.Join(dir, "state")
	nobody := func(name string, args ...string) *exec.Cmd {
		cmd := program(t, dir, name, args...)
		cmd.Path = filepath.Join(programs, name)
		cmd.Env = append(cmd.Env, "HOME=/nonexistent")
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		return cmd
	}
	for _, args := range [][]string{{"build", "-local", "-state", state, "null.pkr.hcl"}, {"local", "start", "-state", state}} {
		refused(t, state, nobody("submit", args...), "-local needs root", "Docker containers are not supported yet", "sudo", "submit to a farm")
	}
	refused(t, state, nobody("localcloud", "serve", "-state", state, "-listen", "127.0.0.1:0"), "root", "sudo")
	if _, err := os.Stat(state); err == nil {
		t.Error("a state folder was made")
	}
	// What root has started can be neither seen nor stopped.
	if err := os.Mkdir(state, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, what := range []string{"status", "stop"} {
		refused(t, state, nobody("submit", "local", what, "-state", state), "permission denied", "sudo")
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	in, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	_, err = io.Copy(out, in)
	if cerr := out.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		t.Fatal(err)
	}
}

// A template that is not there is said before anything is started.
func TestNoTemplate(t *testing.T) {
	dir := write(t, nullTemplate)
	if err := os.Mkdir(filepath.Join(dir, "empty"), 0o755); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name string
		args []string
		want []string
	}{
		{"folder without templates", []string{"empty"}, []string{"Could not find any config file in empty", ".pkr.hcl or .pkr.json"}},
		{"no such folder", []string{"nowhere"}, []string{"Cannot read the template", "nowhere: no such file or directory"}},
		{"no such file", []string{"nowhere.pkr.hcl"}, []string{"nowhere.pkr.hcl: no such file or directory"}},
		{"missing var-file", []string{"-var-file", "nowhere.pkrvars.hcl", "null.pkr.hcl"}, []string{"nowhere.pkrvars.hcl: no such file or directory"}},
		{"unknown variable", []string{"-var", "nobody=x", "null.pkr.hcl"}, []string{"nobody"}},
		{"nothing is left", []string{"-only", "null.other", "null.pkr.hcl"}, []string{"null.other"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			state := filepath.Join(t.TempDir(), "state")
			refused(t, state, program(t, dir, "submit", append([]string{"build", "-local", "-state", state}, tt.args...)...), tt.want...)
			if _, err := os.Stat(state); err == nil {
				t.Error("a state folder was made")
			}
		})
	}
}

// A farm that cannot be reached or is not named right is an error at once, for
// submit and for agents.
func TestNoFarm(t *testing.T) {
	dir := write(t, nullTemplate)
	at := func(name string) string { return filepath.Join(dir, name) }
	if out, err := program(t, dir, "submit", "key", at("key")).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if err := os.WriteFile(at("file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	closed := freePort(t)
	folder := "file://" + at("store")
	tests := []struct {
		name string
		cmd  *exec.Cmd
		want []string
	}{
		{"submit, nobody there", program(t, dir, "submit", "build", "-address", closed, "-key", at("key"), "null.pkr.hcl"), []string{"no Temporal server answers at " + closed, "-address or TEMPORAL_ADDRESS", "-local", "connection refused"}},
		{"submit, no address", program(t, dir, "submit", "build", "-address", "rubbish", "-key", at("key"), "null.pkr.hcl"), []string{"no Temporal server answers at rubbish", "not of the form host:port"}},
		{"submit, no key", program(t, dir, "submit", "build", "-address", closed, "-key", at("nokey"), "null.pkr.hcl"), []string{"no key file " + at("nokey"), "BAKEHOUSE_KEY", "submit key"}},
		{"submit, no key in the file", program(t, dir, "submit", "build", "-address", closed, "-key", at("file"), "null.pkr.hcl"), []string{"key file " + at("file")}},
		{"agent, no address", program(t, dir, "agent", "-address", "rubbish", "-key", at("key"), "-store", folder, "-state", at("a")), []string{`address "rubbish"`, "-address or TEMPORAL_ADDRESS", "not of the form host:port"}},
		{"agent, no key", program(t, dir, "agent", "-address", closed, "-key", at("nokey"), "-store", folder, "-state", at("a")), []string{"no key file " + at("nokey"), "submit key"}},
		{"agent, no store", program(t, dir, "agent", "-address", closed, "-key", at("key"), "-state", at("a")), []string{"no blob store", "-store or BAKEHOUSE_STORE"}},
		{"agent, store in a file", program(t, dir, "agent", "-address", closed, "-key", at("key"), "-store", "file://"+at("file"), "-state", at("a")), []string{"blob store file://" + at("file")}},
		{"agent, state folder is a file", program(t, dir, "agent", "-address", closed, "-key", at("key"), "-store", folder, "-state", at("file")), []string{"state folder", "not a directory", "-state or BAKEHOUSE_AGENT_STATE"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) { refused(t, dir, tt.cmd, tt.want...) })
	}
}

// Submit and agents that share no key, or no store, are told so.
func TestFarmThatDoesNotShare(t *testing.T) {
	f := newFarm(t)
	for _, key := range []string{"key", "other-key"} {
		if out, err := program(t, f.dir, "submit", "key", filepath.Join(f.dir, key)).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	f.agent("shared", "agent")
	dir := write(t, nullTemplate)
	elsewhere := filepath.Join(f.dir, "elsewhere")
	if err := os.Mkdir(elsewhere, 0o700); err != nil {
		t.Fatal(err)
	}
	nowhere := filepath.Join(f.dir, "nowhere")
	tests := []struct {
		name string
		args []string
		want []string
	}{
		{"another key", []string{"-key", filepath.Join(f.dir, "other-key")}, []string{"another key", "-key or BAKEHOUSE_KEY"}},
		{"store that is not there", []string{"-store", "file://" + nowhere}, []string{"blob store file://" + nowhere, "no such folder", "-store or BAKEHOUSE_STORE"}},
		{"store of another farm", []string{"-store", "file://" + elsewhere}, []string{"is not in the store: do submit and agent use the same one?"}},
		{"store that is no URL", []string{"-store", elsewhere}, []string{"not a URL", "file:///"}},
		{"store of no known kind", []string{"-store", "gs://bucket"}, []string{`scheme "gs" is not known`}},
		{"pool without agents", []string{"-pool", "west"}, []string{`no agent works for pool "west"`, "shared"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := f.submit(dir, append([]string{"build", "-pool", "shared", "null.pkr.hcl"}, tt.args...)...)
			_ = r.Wait()
			if code := r.ProcessState.ExitCode(); code != 1 {
				t.Errorf("exit %d, want 1", code)
			}
			for _, want := range tt.want {
				if !strings.Contains(r.out.String(), want) {
					t.Errorf("output lacks %q:\n%s", want, r.out)
				}
			}
		})
	}
	if _, err := os.Stat(nowhere); err == nil {
		t.Error("submit made a store that no agent reads")
	}
	// The farm is none the worse.
	if r := f.submit(dir, "build", "-pool", "shared", "null.pkr.hcl"); r.Wait() != nil {
		t.Errorf("%s", r.out)
	}
}
