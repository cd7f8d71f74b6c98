package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/smithy-go"
	"github.com/google/go-cmp/cmp"

	"github.com/bakehouse-farm/bakehouse/localcloud"
	"github.com/bakehouse-farm/bakehouse/localcloud/localcloudtest"
	"github.com/bakehouse-farm/bakehouse/localcloud/record"
)

// status runs a client command and returns what it exits with and says.
func status(t *testing.T, args ...string) (int, string) {
	t.Helper()
	out, err := command(t.Context(), t, args...).CombinedOutput()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0, string(out)
	case errors.As(err, &exit):
		return exit.ExitCode(), string(out)
	}
	t.Fatal(err)
	return 0, ""
}

// A laboratory on the command line: rules and the record outlive a kill, and a
// machine's disk fills up without filling this one's.
func TestFaults(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	p := serving(t, dir, "-disk", "64M")
	defer func() {
		ok(t, "reset", "-state", dir)
		p.end(t, syscall.SIGTERM)
	}()
	client := func() *ec2.Client { return ec2.NewFromConfig(localcloudtest.Config(p.url, "us-east-1")) }
	if got := ok(t, "faults", "add", "throttle", "-state", dir, "-id", "busy", "-action", "CreateKeyPair,Run*", "-count", "2", "-for", "1h"); got != "busy\n" {
		t.Errorf("added %q", got)
	}
	run := func() error {
		_, err := client().CreateKeyPair(t.Context(), &ec2.CreateKeyPairInput{KeyName: aws.String("k")})
		var api smithy.APIError
		if errors.As(err, &api) && api.ErrorCode() == "RequestLimitExceeded" {
			return err
		}
		if err != nil {
			t.Fatal(err)
		}
		return nil
	}
	if run() == nil {
		t.Error("not throttled")
	}
	p.end(t, os.Kill)
	p = serving(t, dir, "-disk", "64M")
	if run() == nil {
		t.Error("not throttled after the kill")
	}
	if err := run(); err != nil {
		t.Errorf("throttled a third time: %v", err)
	}
	if got := ok(t, "faults", "list", "-state", dir); !strings.Contains(got, "busy") || !strings.Contains(got, "2 of 2") || !strings.Contains(got, "until=") {
		t.Errorf("listed:\n%s", got)
	}
	if got := ok(t, "record", "-state", dir, "-fault", "busy"); strings.Count(got, "RequestLimitExceeded") != 2 {
		t.Errorf("record:\n%s", got)
	}
	ok(t, "faults", "remove", "all", "-state", dir)
	if code, out := status(t, "faults", "remove", "busy", "-state", dir); code != 1 || !strings.Contains(out, "no such rule") {
		t.Errorf("removed twice: %d %s", code, out)
	}

	images, err := client().DescribeImages(t.Context(), &ec2.DescribeImagesInput{Owners: []string{"136693071363"}, Filters: []types.Filter{{Name: aws.String("name"), Values: []string{"debian-12-*"}}}})
	if err != nil {
		t.Fatal(err)
	}
	launched, err := client().RunInstances(t.Context(), &ec2.RunInstancesInput{
		ImageId: images.Images[0].ImageId, MinCount: aws.Int32(1), MaxCount: aws.Int32(1),
		TagSpecifications: []types.TagSpecification{{ResourceType: "instance", Tags: []types.Tag{{Key: aws.String(localcloud.TagBuild), Value: aws.String("b1")}}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	id := *launched.Instances[0].InstanceId
	state := func() string {
		var found []localcloud.Resource
		for line := range strings.Lines(ok(t, "census", "-state", dir, "-tag", localcloud.TagBuild+"=b1", "-json")) {
			var r localcloud.Resource
			if err := json.Unmarshal([]byte(line), &r); err != nil {
				t.Fatal(err)
			}
			found = append(found, r)
		}
		if len(found) != 1 || found[0].ID != id {
			t.Fatalf("census: %+v", found)
		}
		return found[0].State
	}
	until := func(want string) {
		t.Helper()
		for end := time.Now().Add(time.Minute); state() != want; time.Sleep(20 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("%s is %s, not %s", id, state(), want)
			}
		}
	}
	until("running")
	write := func() (int, string) {
		return status(t, "shell", "-state", dir, id, "head -c 100000 /dev/zero > /root/file")
	}
	if got := ok(t, "machine", "fill", "-state", dir, "-tag", localcloud.TagBuild+"=b1"); got != id+"\n" {
		t.Errorf("filled %q", got)
	}
	if code, out := write(); code == 0 || !strings.Contains(out, "No space left") {
		t.Errorf("wrote to a full disk: %s", out)
	}
	p.end(t, os.Kill) // whoever runs the machines: the disk is full still
	p = serving(t, dir, "-disk", "64M")
	if code, out := write(); code == 0 {
		t.Errorf("wrote to a full disk after the kill: %s", out)
	}
	ok(t, "machine", "free", "-state", dir, id)
	if code, out := write(); code != 0 {
		t.Errorf("a freed disk: %s", out)
	}
	boot := ok(t, "shell", "-state", dir, id, "cat /proc/sys/kernel/random/boot_id")
	ok(t, "machine", "reboot", "-state", dir, id)
	for end := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		if code, out := status(t, "shell", "-state", dir, id, "test -s /root/file && cat /proc/sys/kernel/random/boot_id"); code == 0 && out != boot {
			break
		}
		if time.Now().After(end) {
			t.Fatal("it does not boot again")
		}
	}
	if code, out := status(t, "machine", "reboot", "-state", dir); code != 1 || !strings.Contains(out, "which one") {
		t.Errorf("rebooted all: %d %s", code, out)
	}
	if code, _ := status(t, "census", "-state", dir, "-tag", localcloud.TagBuild+"=b1", "-alive", "-none"); code != 3 {
		t.Errorf("census of what is there: %d", code)
	}
	ok(t, "machine", "terminate", "-state", dir, id)
	until("terminated")
	ok(t, "census", "-state", dir, "-tag", localcloud.TagBuild+"=b1", "-alive", "-none")
	if got := ok(t, "census", "-state", dir, "-history"); !strings.Contains(got, "Server.SpotInstanceTermination") {
		t.Errorf("history:\n%s", got)
	}
	var acts []string
	for line := range strings.Lines(ok(t, "record", "-state", dir, "-by", "operator", "-json")) {
		var e record.Entry
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatal(err)
		}
		acts = append(acts, e.Action)
	}
	if got := strings.Join(acts, ", "); got != "machine fill, machine free, machine reboot, machine terminate" {
		t.Errorf("acts: %s", got)
	}
}

// A wrong command line of a group is explained.
func TestFaultsUsage(t *testing.T) {
	for _, tt := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"faults"}, 1, "throttle"},
		{[]string{"faults", "-h"}, 0, "throttle"},
		{[]string{"faults", "rain"}, 1, "no command rain"},
		{[]string{"faults", "add"}, 1, "1 arguments expected"},
		{[]string{"faults", "add", "throttle", "-probability", "0"}, 1, "hits nothing"},
		{[]string{"machine"}, 1, "freeze"},
		{[]string{"machine", "tickle"}, 1, "no command tickle"},
		{[]string{"machine", "freeze", "-tag", "novalue"}, 1, "KEY=VALUE"},
		{[]string{"machine", "help"}, 0, "freeze"},
		{[]string{"record", "-h"}, 0, "-fault"},
		{[]string{"census", "x"}, 1, "0 arguments expected"},
		{[]string{"serve", "-disk", "12parsecs"}, 1, "512M"},
	} {
		if code, out := status(t, tt.args...); code != tt.code || !strings.Contains(out, tt.want) {
			t.Errorf("%v: %d\n%s", tt.args, code, out)
		}
	}
}

// Wherever localcloud is killed, its record and its state tell the same story.
func TestRecordAgreesWithState(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	for round := range 6 {
		p := serving(t, dir)
		c := ec2.NewFromConfig(localcloudtest.Config(p.url, "us-east-1"))
		killed := make(chan struct{})
		go func() {
			time.Sleep(time.Duration(30+round*17) * time.Millisecond)
			_ = p.Process.Kill()
			_ = p.Wait()
			close(killed)
		}()
		for n := 0; ; n++ {
			out, err := c.CreateSecurityGroup(t.Context(), &ec2.CreateSecurityGroupInput{GroupName: aws.String(fmt.Sprintf("g-%d-%d", round, n)), Description: aws.String("d")})
			if err == nil && n%3 == 0 {
				_, err = c.DeleteSecurityGroup(t.Context(), &ec2.DeleteSecurityGroupInput{GroupId: out.GroupId})
			}
			if err != nil {
				break // killed
			}
		}
		<-killed
	}
	p := serving(t, dir)
	defer p.end(t, syscall.SIGTERM)
	told, is := map[string]bool{}, map[string]bool{}
	made := 0
	for line := range strings.Lines(ok(t, "record", "-state", dir, "-action", "*SecurityGroup", "-effects", "-json")) {
		var e record.Entry
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatal(err)
		}
		for _, change := range e.Changes {
			if change.Op == "deleted" {
				delete(told, change.ID)
				continue
			}
			made++
			told[change.ID] = true
		}
	}
	for line := range strings.Lines(ok(t, "census", "-state", dir, "-json")) {
		var r localcloud.Resource
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatal(err)
		}
		is[r.ID] = true
	}
	if diff := cmp.Diff(is, told); diff != "" {
		t.Errorf("the state (-) and the record (+) of %d groups: %s", made, diff)
	}
	if made < 6 {
		t.Errorf("only %d groups were made", made)
	}
}
