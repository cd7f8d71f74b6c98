package localcloud_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/bakehouse-farm/bakehouse"
	"github.com/bakehouse-farm/bakehouse/localcloud"
	"github.com/bakehouse-farm/bakehouse/localcloud/localcloudtest"
	"github.com/bakehouse-farm/bakehouse/localcloud/record"
	"github.com/bakehouse-farm/bakehouse/localcloud/sandbox"
)

// A machine that the cloud takes away says why in EC2's words. A spot
// interruption lets the system inside end; a failing host does not.
func TestMachinesAreTaken(t *testing.T) {
	for _, tt := range []struct {
		fault  localcloud.MachineFault
		to     types.InstanceStateName
		code   string
		killed bool
	}{
		{localcloud.MachineFault{Act: localcloud.Terminate}, "terminated", "Server.SpotInstanceTermination", false},
		{localcloud.MachineFault{Act: localcloud.FailHost}, "terminated", "Server.InternalError", true},
		{localcloud.MachineFault{Act: localcloud.FailHost, To: "stopped"}, "stopped", "Server.InternalError", true},
	} {
		t.Run(string(tt.fault.Act)+tt.fault.To, func(t *testing.T) {
			cloud, c, fake := laboratory(t)
			ami := ubuntu(t, c)
			i := launch(t, c, ami, func(in *ec2.RunInstancesInput) {
				in.DisableApiTermination = aws.Bool(true) // which protects from the API only
				in.TagSpecifications = []types.TagSpecification{{ResourceType: "instance", Tags: []types.Tag{{Key: aws.String(localcloud.TagBuild), Value: aws.String("b1")}}}}
			})
			other := launch(t, c, ami)
			killed := func() int { return fake.Killed(i) }
			tt.fault.Tags = map[string]string{localcloud.TagBuild: "b1"}
			ids, err := cloud.Break(t.Context(), tt.fault)
			if err != nil || !slices.Equal(ids, []string{i}) {
				t.Fatalf("%v, %v", ids, err)
			}
			await(t, c, i, tt.to)
			got := instance(t, c, i)
			if *got.StateReason.Code != tt.code || !strings.HasPrefix(*got.StateReason.Message, tt.code+": ") || !strings.HasPrefix(*got.StateTransitionReason, tt.code) {
				t.Errorf("because of %s: %s (%s)", *got.StateReason.Code, *got.StateReason.Message, *got.StateTransitionReason)
			}
			if instance(t, c, other).State.Name != "running" {
				t.Error("another one was hit")
			}
			list := entries(t, cloud, record.Filter{By: record.Operator, Build: "b1"})
			if len(list) != 1 || list[0].Action != "machine "+string(tt.fault.Act) || len(list[0].Changes) != 1 {
				t.Errorf("on record: %+v", list)
			}
			if tt.to == "terminated" {
				return
			}
			if killed() != 1 {
				t.Errorf("killed %d times", killed())
			}
			// It starts again, and then stops in order.
			must[*ec2.StartInstancesOutput](t)(c.StartInstances(t.Context(), &ec2.StartInstancesInput{InstanceIds: []string{i}}))
			await(t, c, i, "running")
			stop(t, c, i)
			if killed() != 1 {
				t.Errorf("an orderly stop killed it")
			}
		})
	}
}

// A hard reboot kills and boots; the next one by the API does not kill.
func TestHardReboot(t *testing.T) {
	cloud, c, fake := laboratory(t)
	i := launch(t, c, ubuntu(t, c))
	fake.Write(i, "/file", "kept")
	boots := func(n int) func() bool {
		return func() bool { s, _ := fake.Status(i); return s.Boots == n && s.State == sandbox.Running }
	}
	if _, err := cloud.Break(t.Context(), localcloud.MachineFault{Act: localcloud.HardReboot, Instances: []string{i}}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "booted again", boots(2))
	must[*ec2.RebootInstancesOutput](t)(c.RebootInstances(t.Context(), &ec2.RebootInstancesInput{InstanceIds: []string{i}}))
	eventually(t, "booted by the API", boots(3))
	if fake.Killed(i) != 1 || fake.Read(i, "/file") != "kept" || instance(t, c, i).State.Name != "running" {
		t.Errorf("killed %d times, file %q", fake.Killed(i), fake.Read(i, "/file"))
	}
}

func TestNoSuchMachine(t *testing.T) {
	cloud, c, _ := laboratory(t)
	i := launch(t, c, ubuntu(t, c))
	for _, tt := range []struct {
		name  string
		fault localcloud.MachineFault
		kind  bakehouse.Kind
		want  string
	}{
		{"no act", localcloud.MachineFault{Act: "tickle", Instances: []string{i}}, bakehouse.Invalid, "freeze"},
		{"all of them", localcloud.MachineFault{Act: localcloud.Terminate}, bakehouse.Invalid, "which one"},
		{"unknown", localcloud.MachineFault{Act: localcloud.Terminate, Instances: []string{i, "i-0123456789abcdef0"}}, bakehouse.NotFound, "i-0123456789abcdef0"},
		{"no tag", localcloud.MachineFault{Act: localcloud.Terminate, Tags: map[string]string{"a": "b"}}, bakehouse.NotFound, "no instance"},
		{"other region", localcloud.MachineFault{Act: localcloud.Terminate, Region: "eu-west-1"}, bakehouse.NotFound, "no instance"},
		{"other state", localcloud.MachineFault{Act: localcloud.FailHost, Instances: []string{i}, To: "pending"}, bakehouse.Invalid, "stopped"},
		{"state of another act", localcloud.MachineFault{Act: localcloud.Terminate, Instances: []string{i}, To: "stopped"}, bakehouse.Invalid, "fail"},
		{"impaired by nothing", localcloud.MachineFault{Act: localcloud.Impair, Instances: []string{i}}, bakehouse.Invalid, "delay"},
		{"host cannot", localcloud.MachineFault{Act: localcloud.Freeze, Instances: []string{i}}, bakehouse.Invalid, "cannot"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			done, err := cloud.Break(t.Context(), tt.fault)
			if bakehouse.KindOf(err) != tt.kind || !strings.Contains(err.Error(), tt.want) || len(done) > 0 {
				t.Errorf("%v, %v; want %s with %q", done, err, tt.kind, tt.want)
			}
		})
	}
	if got := instance(t, c, i).State.Name; got != "running" {
		t.Errorf("it is %s", got)
	}
}

// On real machines: what is done to them is felt over SSH.
func TestBrokenMachines(t *testing.T) {
	cloud := localcloudtest.Start(t)
	c := ec2.NewFromConfig(cloud.Config(region))
	key := must[*ec2.CreateKeyPairOutput](t)(c.CreateKeyPair(t.Context(), &ec2.CreateKeyPairInput{KeyName: aws.String("k"), KeyType: "ed25519"}))
	i := launch(t, c, ubuntu(t, c), func(in *ec2.RunInstancesInput) { in.KeyName = key.KeyName })
	addr := *instance(t, c, i).PublicIpAddress
	do := func(f localcloud.MachineFault) {
		t.Helper()
		f.Instances = []string{i}
		if _, err := cloud.Break(t.Context(), f); err != nil {
			t.Fatal(err)
		}
	}
	shell := login(t, addr, "ubuntu", *key.KeyMaterial)
	defer shell.Close()
	boot := say(t, shell, "sudo touch /srv/mark; cat /proc/sys/kernel/random/boot_id")
	for _, pair := range [][2]localcloud.Act{{localcloud.Freeze, localcloud.Thaw}, {localcloud.Cut, localcloud.Mend}, {localcloud.PauseSSHD, localcloud.ResumeSSHD}} {
		do(localcloud.MachineFault{Act: pair[0]})
		said := make(chan string, 1)
		go func() {
			s, err := shell.NewSession()
			if err != nil {
				said <- err.Error()
				return
			}
			defer s.Close()
			out, err := s.Output("echo here")
			if err != nil {
				out = []byte(err.Error())
			}
			said <- string(out)
		}()
		select {
		case got := <-said:
			t.Errorf("%s: it answers %q", pair[0], got)
		case <-time.After(200 * time.Millisecond):
		}
		do(localcloud.MachineFault{Act: pair[1]})
		select {
		case got := <-said:
			if got != "here\n" {
				t.Errorf("%s: %q", pair[1], got)
			}
		case <-time.After(time.Minute):
			t.Errorf("%s: no answer", pair[1])
		}
	}
	// All that makes a network bad, at once.
	const delay = 300 * time.Millisecond
	trip := func() time.Duration {
		begin := time.Now()
		if got := say(t, shell, "echo here"); got != "here" {
			t.Errorf("heard %q", got)
		}
		return time.Since(begin)
	}
	do(localcloud.MachineFault{Act: localcloud.Impair, Network: sandbox.Impairment{Delay: delay, Jitter: time.Millisecond, Loss: 1, Rate: 1 << 20}})
	if d := trip(); d < 2*delay-2*time.Millisecond {
		t.Errorf("there and back in %s", d)
	}
	do(localcloud.MachineFault{Act: localcloud.Mend})
	eventually(t, "fast again", func() bool { return trip() < 2*delay-2*time.Millisecond })
	shell.Close()
	do(localcloud.MachineFault{Act: localcloud.HardReboot})
	eventually(t, "another boot", func() bool {
		shell = login(t, addr, "ubuntu", *key.KeyMaterial)
		defer shell.Close()
		s, err := shell.NewSession()
		if err != nil {
			return false
		}
		out, err := s.Output("ls /srv/mark && cat /proc/sys/kernel/random/boot_id")
		return err == nil && strings.HasPrefix(string(out), "/srv/mark\n") && !strings.Contains(string(out), boot)
	})
	// From inside, too, a reboot is a reboot.
	shell = login(t, addr, "ubuntu", *key.KeyMaterial)
	defer shell.Close()
	second := say(t, shell, "cat /proc/sys/kernel/random/boot_id")
	if s, err := shell.NewSession(); err != nil {
		t.Fatal(err)
	} else {
		_ = s.Run("sudo reboot") // which cuts the answer off
	}
	eventually(t, "a third boot", func() bool {
		shell := login(t, addr, "ubuntu", *key.KeyMaterial)
		defer shell.Close()
		s, err := shell.NewSession()
		if err != nil {
			return false
		}
		out, err := s.Output("cat /proc/sys/kernel/random/boot_id")
		return err == nil && strings.TrimSpace(string(out)) != second
	})
	if got := instance(t, c, i).State.Name; got != "running" {
		t.Errorf("it is %s", got)
	}
	do(localcloud.MachineFault{Act: localcloud.FailHost})
	await(t, c, i, "terminated")
}

// A running machine is captured while it works: the image has what it had
// written, and it has noticed nothing.
func TestLiveImageOfMachine(t *testing.T) {
	cloud := localcloudtest.Start(t)
	c := ec2.NewFromConfig(cloud.Config(region))
	key := must[*ec2.CreateKeyPairOutput](t)(c.CreateKeyPair(t.Context(), &ec2.CreateKeyPairInput{KeyName: aws.String("k"), KeyType: "ed25519"}))
	withKey := func(in *ec2.RunInstancesInput) { in.KeyName = key.KeyName }
	i := launch(t, c, ubuntu(t, c), withKey)
	shell := login(t, *instance(t, c, i).PublicIpAddress, "ubuntu", *key.KeyMaterial)
	defer shell.Close()
	boot := say(t, shell, "echo early | sudo tee /srv/mark >/dev/null; sudo rm -rf /etc/skel; cat /proc/sys/kernel/random/boot_id")
	img := awaitImage(t, c, *must[*ec2.CreateImageOutput](t)(c.CreateImage(t.Context(), &ec2.CreateImageInput{
		InstanceId: &i, Name: aws.String("live"), NoReboot: aws.Bool(true),
	})).ImageId)
	if got := say(t, shell, "echo late | sudo tee /srv/mark >/dev/null; cat /proc/sys/kernel/random/boot_id"); got != boot {
		t.Errorf("boot %s is now %s", boot, got)
	}
	n := launch(t, c, *img.ImageId, withKey)
	there := login(t, *instance(t, c, n).PublicIpAddress, "ubuntu", *key.KeyMaterial)
	defer there.Close()
	if got := say(t, there, "cat /srv/mark; test -e /etc/skel || echo gone"); got != "early\ngone" {
		t.Errorf("in the image: %q", got)
	}
	// Once it is stopped and captured again, both layers are right.
	stop(t, c, i)
	second := bake(t, c, i, "second")
	m := launch(t, c, *second.ImageId, withKey)
	later := login(t, *instance(t, c, m).PublicIpAddress, "ubuntu", *key.KeyMaterial)
	defer later.Close()
	if got := say(t, later, "cat /srv/mark"); got != "late" {
		t.Errorf("in the second image: %q", got)
	}
}
