package main

import (
	"bufio"
	"bytes"
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/bakehouse-farm/bakehouse/localcloud/localcloudtest"
)

// asCommand makes this test's executable be the command itself.
const asCommand = "LOCALCLOUD_TEST_AS_COMMAND"

func TestMain(m *testing.M) {
	if os.Getenv(asCommand) != "" {
		main()
		return
	}
	localcloudtest.Main(m)
}

func command(ctx context.Context, t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(ctx, self, args...)
	cmd.Env = append(os.Environ(), asCommand+"=1")
	return cmd
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("instances of localcloud need root")
	}
}

// ok runs a client command that must succeed, and returns its output.
func ok(t *testing.T, args ...string) string {
	t.Helper()
	out, err := command(t.Context(), t, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("localcloud %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// A process is a localcloud that serves.
type process struct {
	*exec.Cmd
	url string
	log *bytes.Buffer
}

// serving starts a localcloud on the state folder and waits until it is ready.
func serving(t *testing.T, dir string, args ...string) *process {
	t.Helper()
	cmd := command(context.Background(), t, append([]string{"serve", "-listen", "127.0.0.1:0", "-state", dir}, args...)...)
	p := &process{Cmd: cmd, log: &bytes.Buffer{}}
	cmd.Stderr = p.log
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	url, found := strings.CutPrefix(strings.TrimSpace(line), "localcloud is listening on ")
	if err != nil || !found {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		t.Fatalf("not ready: %q, %v\n%s", line, err, p.log)
	}
	p.url = url
	return p
}

func (p *process) end(t *testing.T, s os.Signal) {
	t.Helper()
	if err := p.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
	err := p.Wait()
	if s != os.Kill && err != nil {
		t.Errorf("ended with %v\n%s", err, p.log)
	}
}

// Killed at any moment, localcloud leaves its instances running, and the next
// one takes them up again.
func TestKill(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	p := serving(t, dir)
	defer func() {
		ok(t, "reset", "-state", dir)
		p.end(t, syscall.SIGTERM)
	}()
	client := func() *ec2.Client { return ec2.NewFromConfig(localcloudtest.Config(p.url, "us-east-1")) }
	images, err := client().DescribeImages(t.Context(), &ec2.DescribeImagesInput{
		Owners: []string{"136693071363"}, Filters: []types.Filter{{Name: aws.String("name"), Values: []string{"debian-12-*"}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	run, err := client().RunInstances(t.Context(), &ec2.RunInstancesInput{ImageId: images.Images[0].ImageId, MinCount: aws.Int32(1), MaxCount: aws.Int32(1)})
	if err != nil {
		t.Fatal(err)
	}
	id := *run.Instances[0].InstanceId
	state := func() string {
		out, err := client().DescribeInstances(t.Context(), &ec2.DescribeInstancesInput{InstanceIds: []string{id}})
		if err != nil {
			t.Fatal(err)
		}
		return string(out.Reservations[0].Instances[0].State.Name)
	}
	until := func(want string) {
		t.Helper()
		for end := time.Now().Add(time.Minute); state() != want; time.Sleep(20 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("%s is %s, not %s", id, state(), want)
			}
		}
	}
	p.end(t, os.Kill) // it may be in the middle of the boot
	p = serving(t, dir)
	until("running")
	ok(t, "shell", "-state", dir, id, "echo alive > /root/mark; cp /proc/sys/kernel/random/boot_id /root/boot")
	p.end(t, os.Kill)
	p = serving(t, dir)
	until("running")
	if got := ok(t, "shell", "-state", dir, id, "cat /root/mark; cmp /root/boot /proc/sys/kernel/random/boot_id && echo same boot"); got != "alive\nsame boot\n" {
		t.Errorf("after the kill: %q", got)
	}

	// The same while it makes an image.
	img, err := client().CreateImage(t.Context(), &ec2.CreateImageInput{InstanceId: &id, Name: aws.String("web")})
	if err != nil {
		t.Fatal(err)
	}
	p.end(t, os.Kill)
	p = serving(t, dir)
	for end := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		out, err := client().DescribeImages(t.Context(), &ec2.DescribeImagesInput{ImageIds: []string{*img.ImageId}})
		if err != nil {
			t.Fatal(err)
		}
		if out.Images[0].State == types.ImageStateAvailable {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("image is %s", out.Images[0].State)
		}
	}
	until("running")
	if !strings.Contains(ok(t, "images", "-state", dir), *img.ImageId) || !strings.Contains(ok(t, "instances", "-state", dir), id) {
		t.Error("images or instances are not listed")
	}
}

// A root file system goes in and comes out as it was, owners and modes included.
func TestImportExport(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	p := serving(t, dir)
	defer func() {
		ok(t, "reset", "-state", dir)
		p.end(t, syscall.SIGTERM)
	}()
	work := t.TempDir()
	root, in, out := filepath.Join(work, "root"), filepath.Join(work, "in.tar.gz"), filepath.Join(work, "out.tar")
	for _, line := range []string{
		"mkdir -p " + root + "/etc " + root + "/bin",
		"echo web > " + root + "/etc/hostname",
		"install -o 1234 -m 4711 /bin/true " + root + "/bin/tool",
		"ln -s tool " + root + "/bin/link",
		"tar -C " + root + " -czf " + in + " .",
	} {
		if b, err := exec.CommandContext(t.Context(), "/bin/sh", "-c", line).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", line, err, b)
		}
	}
	ok(t, "import", "-state", dir, "my-base", in, "-owner", "099720109477")
	c := ec2.NewFromConfig(localcloudtest.Config(p.url, "eu-west-1"))
	found, err := c.DescribeImages(t.Context(), &ec2.DescribeImagesInput{
		Owners: []string{"099720109477"}, Filters: []types.Filter{{Name: aws.String("name"), Values: []string{"my-*"}}},
	})
	if err != nil || len(found.Images) != 1 {
		t.Fatalf("found %+v, %v", found, err)
	}
	ok(t, "export", "-state", dir, *found.Images[0].ImageId, out)
	list, err := exec.CommandContext(t.Context(), "tar", "--numeric-owner", "-tvf", out).Output()
	for _, want := range []string{"-rws--x--x 1234/", "bin/link -> tool", "etc/hostname"} {
		if err != nil || !strings.Contains(string(list), want) {
			t.Errorf("exported tarball lacks %q: %v\n%s", want, err, list)
		}
	}
	ok(t, "rm", "-state", dir, "my-base")
}

// What cannot be done is said, with the way out, and the exit status is 1.
func TestTrouble(t *testing.T) {
	needRoot(t)
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	used := t.TempDir()
	p := serving(t, used)
	defer p.end(t, syscall.SIGTERM)
	for _, tt := range []struct {
		name string
		args []string
		want []string
	}{
		{"nothing", nil, []string{"Usage:"}},
		{"no such command", []string{"bake"}, []string{"no command bake", "Usage:"}},
		{"no such flag", []string{"serve", "-colour"}, []string{"-colour", "Usage"}},
		{"too few arguments", []string{"import", "x"}, []string{"2 arguments expected, got 1"}},
		{"port in use", []string{"serve", "-state", t.TempDir(), "-listen", busy.Addr().String()}, []string{"address already in use", "-listen"}},
		{"state folder in use", []string{"serve", "-listen", "127.0.0.1:0", "-state", used}, []string{"in use", "pid " + strconv.Itoa(p.Process.Pid), "-state"}},
		{"state folder is a file", []string{"serve", "-listen", "127.0.0.1:0", "-state", file}, []string{file}},
		{"delays out of range", []string{"serve", "-listen", "127.0.0.1:0", "-state", t.TempDir(), "-delays", "7"}, []string{"between 0 and 1"}},
		{"nobody there", []string{"images", "-state", t.TempDir()}, []string{"localcloud serve"}},
		{"no such image", []string{"export", "-state", used, "ami-0123456789abcdef0", file + ".tar"}, []string{"no such image"}},
		{"no such instance", []string{"shell", "-state", used, "i-0123456789abcdef0"}, []string{"no instance"}},
		{"no such tarball", []string{"import", "-state", used, "x", "/nonexistent.tar"}, []string{"no such file"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			cmd := command(ctx, t, tt.args...)
			out, err := cmd.CombinedOutput()
			if err == nil || cmd.ProcessState.ExitCode() != 1 {
				t.Errorf("ended with %v, want status 1", err)
			}
			for _, w := range tt.want {
				if !strings.Contains(string(out), w) {
					t.Errorf("output lacks %q:\n%s", w, out)
				}
			}
		})
	}
	if _, err := os.Stat(file + ".tar.part"); err == nil {
		t.Error("a failed export left a file")
	}
}

// Without root there are no instances, and that is said.
func TestNotRoot(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	// The executable must be where nobody may reach it.
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	exe := filepath.Join(dir, "localcloud")
	if err := os.WriteFile(exe, b, 0o755); err != nil {
		t.Fatal(err)
	}
	for d := dir; d != "/" && d != os.TempDir(); d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, exe, "serve", "-listen", "127.0.0.1:0", "-state", filepath.Join(dir, "state"))
	cmd.Env = []string{asCommand + "=1"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "root") {
		t.Errorf("%v: %s", err, out)
	}
}
