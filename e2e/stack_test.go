//go:build e2e

// Package e2e runs the programs as users run them: real processes, real
// instances, real faults.
package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

var regions = []string{"us-east-1", "us-west-2", "eu-west-1"}

// bin returns the path of one of our programs.
func bin(t testing.TB, name string) string {
	t.Helper()
	dir := os.Getenv("BAKEHOUSE_BIN")
	if dir == "" {
		dir, _ = filepath.Abs("../bin")
	}
	path := filepath.Join(dir, name)
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("%s is not built: run `make build` (%v)", name, err)
	}
	return path
}

// A stack is one state folder with the processes of `submit build -local`.
type stack struct {
	t     testing.TB
	state string
}

// newStack returns a stack that ends, and leaves nothing, when the test ends.
func newStack(t testing.TB) *stack {
	t.Helper()
	return newStackIn(t, "")
}

// newStackIn is newStack with its state folder below another folder than the
// one for temporary files.
func newStackIn(t testing.TB, dir string) *stack {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("instances of localcloud need root")
	}
	// Not t.TempDir: test names make paths too long for sockets.
	state, err := os.MkdirTemp(dir, "bakehouse-e2e-")
	if err != nil {
		t.Fatal(err)
	}
	s := &stack{t: t, state: state}
	t.Cleanup(func() {
		if t.Failed() {
			s.dump()
		}
		out, err := exec.Command(bin(t, "submit"), "local", "stop", "-all", "-state", state).CombinedOutput()
		if err != nil {
			t.Errorf("stop local stack: %v\n%s", err, out)
		}
		if left := mounts(state); len(left) > 0 {
			t.Errorf("mounts left behind: %v", left)
		}
		if left := processes(state); len(left) > 0 {
			t.Errorf("processes left behind: %v", left)
		}
		if err := os.RemoveAll(state); err != nil {
			t.Errorf("remove state folder: %v", err)
		}
	})
	return s
}

// dump shows the last lines of every process's log.
func (s *stack) dump() {
	logs, _ := filepath.Glob(filepath.Join(s.state, "log", "*"))
	for _, name := range logs {
		data, _ := os.ReadFile(name)
		if len(data) > 4000 {
			data = data[len(data)-4000:]
		}
		s.t.Logf("---- %s\n%s", filepath.Base(name), data)
	}
}

// mounts lists what is mounted below dir.
func mounts(dir string) []string {
	data, _ := os.ReadFile("/proc/self/mounts")
	var out []string
	for _, line := range strings.Split(string(data), "\n") {
		if f := strings.Fields(line); len(f) > 1 && strings.HasPrefix(f[1], dir+"/") {
			out = append(out, f[1])
		}
	}
	return out
}

// processes lists the processes whose command line names dir.
func processes(dir string) []string {
	entries, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	var out []string
	for _, e := range entries {
		data, _ := os.ReadFile(e)
		if bytes.Contains(data, []byte(dir)) {
			out = append(out, filepath.Base(filepath.Dir(e))+": "+strings.ReplaceAll(string(data), "\x00", " "))
		}
	}
	return out
}

// A run is one run of submit.
type run struct {
	*exec.Cmd
	out *syncBuffer
}

// start starts submit in dir.
func (s *stack) start(dir string, args ...string) *run {
	s.t.Helper()
	r := &run{Cmd: exec.Command(bin(s.t, "submit"), args...), out: &syncBuffer{}}
	r.Dir, r.Stdout, r.Stderr = dir, r.out, r.out
	r.Env = append(environ(), "BAKEHOUSE_STATE="+s.state)
	if err := r.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		if r.ProcessState == nil {
			_ = r.Process.Kill()
			_ = r.Wait()
		}
	})
	return r
}

// environ is ours without what would change what the programs do.
func environ() []string {
	var out []string
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "AWS_") && !strings.HasPrefix(v, "PKR_VAR_") && !strings.HasPrefix(v, "BAKEHOUSE_") && !strings.HasPrefix(v, "TEMPORAL_") {
			out = append(out, v)
		}
	}
	return out
}

// build runs submit build -local to its end.
func (s *stack) build(dir string, args ...string) (string, error) {
	s.t.Helper()
	r := s.start(dir, append([]string{"build", "-local"}, args...)...)
	err := r.Wait()
	return r.out.String(), err
}

// must is build when it has to succeed.
func (s *stack) must(dir string, args ...string) string {
	s.t.Helper()
	out, err := s.build(dir, args...)
	if err != nil {
		s.t.Fatalf("submit build %v: %v\n%s", args, err, out)
	}
	return out
}

// entry returns what the stack's record says of one of its processes.
func (s *stack) entry(name string) (pid int, address string) {
	s.t.Helper()
	data, err := os.ReadFile(filepath.Join(s.state, "state.json"))
	if err != nil {
		s.t.Fatal(err)
	}
	var record map[string]struct {
		Pid     int    `json:"pid"`
		Address string `json:"address"`
	}
	if err := json.Unmarshal(data, &record); err != nil || record[name].Pid == 0 {
		s.t.Fatalf("no process %s in state.json: %v\n%s", name, err, data)
	}
	return record[name].Pid, record[name].Address
}

// process returns the pid of one process of the stack.
func (s *stack) process(name string) int {
	s.t.Helper()
	pid, _ := s.entry(name)
	return pid
}

// endpoint returns the URL of the stack's localcloud.
func (s *stack) endpoint() string {
	s.t.Helper()
	_, address := s.entry("localcloud")
	return "http://" + address
}

// kill ends one process of the stack without a word.
func (s *stack) kill(name string) {
	s.t.Helper()
	if err := syscall.Kill(s.process(name), syscall.SIGKILL); err != nil {
		s.t.Fatalf("kill %s: %v", name, err)
	}
}

// ec2 returns a client of the stack's localcloud.
func (s *stack) ec2(region string) *ec2.Client {
	s.t.Helper()
	return ec2.NewFromConfig(aws.Config{
		Region: region, BaseEndpoint: aws.String(s.endpoint()),
		Credentials: credentials.NewStaticCredentialsProvider("test", "test", ""),
	})
}

// AMI is one line of a manifest's artifact id.
type AMI struct{ Region, ID string }

// manifest reads the AMIs of the last build in a manifest.
func manifest(t testing.TB, path string) []AMI {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var m struct {
		Builds []struct {
			ArtifactID string `json:"artifact_id"`
			RunUUID    string `json:"packer_run_uuid"`
		} `json:"builds"`
		Last string `json:"last_run_uuid"`
	}
	if err := json.Unmarshal(data, &m); err != nil {
		t.Fatalf("%s: %v\n%s", path, err, data)
	}
	if len(m.Builds) == 0 || m.Builds[len(m.Builds)-1].RunUUID != m.Last {
		t.Fatalf("manifest does not end with the last run:\n%s", data)
	}
	var out []AMI
	for _, part := range strings.Split(m.Builds[len(m.Builds)-1].ArtifactID, ",") {
		region, id, ok := strings.Cut(part, ":")
		if !ok {
			t.Fatalf("artifact id %q", part)
		}
		out = append(out, AMI{region, id})
	}
	return out
}

// leftovers lists everything in localcloud that carries the tag of a build,
// but AMIs and snapshots.
func (s *stack) leftovers() []string {
	s.t.Helper()
	ctx := context.Background()
	var out []string
	for _, region := range regions {
		c := s.ec2(region)
		instances, err := c.DescribeInstances(ctx, &ec2.DescribeInstancesInput{})
		if err != nil {
			s.t.Fatal(err)
		}
		for _, r := range instances.Reservations {
			for _, i := range r.Instances {
				if i.State.Name != types.InstanceStateNameTerminated {
					out = append(out, fmt.Sprintf("%s: instance %s is %s", region, *i.InstanceId, i.State.Name))
				}
			}
		}
		keys, err := c.DescribeKeyPairs(ctx, &ec2.DescribeKeyPairsInput{})
		if err != nil {
			s.t.Fatal(err)
		}
		for _, k := range keys.KeyPairs {
			out = append(out, region+": key pair "+*k.KeyName)
		}
		groups, err := c.DescribeSecurityGroups(ctx, &ec2.DescribeSecurityGroupsInput{})
		if err != nil {
			s.t.Fatal(err)
		}
		for _, g := range groups.SecurityGroups {
			if *g.GroupName != "default" {
				out = append(out, region+": security group "+*g.GroupName)
			}
		}
		volumes, err := c.DescribeVolumes(ctx, &ec2.DescribeVolumesInput{})
		if err != nil {
			s.t.Fatal(err)
		}
		for _, v := range volumes.Volumes {
			out = append(out, region+": volume "+*v.VolumeId)
		}
		out = append(out, s.strays(c, region)...)
	}
	return out
}

// strays lists the snapshots of our account that no AMI uses.
func (s *stack) strays(c *ec2.Client, region string) []string {
	s.t.Helper()
	ctx := context.Background()
	used := map[string]bool{}
	for _, img := range s.images(region) {
		for _, m := range img.BlockDeviceMappings {
			if m.Ebs != nil && m.Ebs.SnapshotId != nil {
				used[*m.Ebs.SnapshotId] = true
			}
		}
	}
	snaps, err := c.DescribeSnapshots(ctx, &ec2.DescribeSnapshotsInput{OwnerIds: []string{"self"}})
	if err != nil {
		s.t.Fatal(err)
	}
	var out []string
	for _, snap := range snaps.Snapshots {
		if !used[*snap.SnapshotId] {
			out = append(out, region+": snapshot "+*snap.SnapshotId)
		}
	}
	return out
}

// images lists the AMIs of our account in a region.
func (s *stack) images(region string) []types.Image {
	s.t.Helper()
	out, err := s.ec2(region).DescribeImages(context.Background(), &ec2.DescribeImagesInput{Owners: []string{"self"}})
	if err != nil {
		s.t.Fatal(err)
	}
	return out.Images
}

// clean fails the test when a build left something behind.
func (s *stack) clean() {
	s.t.Helper()
	if left := s.leftovers(); len(left) > 0 {
		s.t.Errorf("left behind:\n%s", strings.Join(left, "\n"))
	}
}

// eventually waits for a fact. The deadline is generous: it is there so that a
// broken fact ends the test, not to measure.
func eventually(t testing.TB, what string, fact func() bool) {
	t.Helper()
	deadline := time.Now().Add(2 * time.Minute)
	for !fact() {
		if time.Now().After(deadline) {
			t.Fatalf("did not happen: %s", what)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// write puts files into a new folder.
func write(t testing.TB, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// source is the head of a small template, for one region unless more is said.
func source(name, more string) string {
	return `
source "amazon-ebs" "` + name + `" {
  region        = "us-east-1"
  ami_name      = "` + name + `-{{timestamp}}-{{uuid}}"
  instance_type = "t3.micro"
  ssh_username  = "ubuntu"
  source_ami_filter {
    owners      = ["099720109477"]
    most_recent = true
    filters     = { name = "ubuntu/images/hvm-ssd/ubuntu-jammy-22.04-amd64-server-*" }
  }
  ` + more + `
}
`
}

func atoi(t testing.TB, s string) int {
	t.Helper()
	n, err := strconv.Atoi(strings.TrimSpace(s))
	if err != nil {
		t.Fatal(err)
	}
	return n
}
