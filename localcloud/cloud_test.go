package localcloud_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/smithy-go"

	"github.com/bakehouse-farm/bakehouse/localcloud"
	"github.com/bakehouse-farm/bakehouse/localcloud/localcloudtest"
)

func TestMain(m *testing.M) { localcloudtest.Main(m) }

const region = "us-east-1"

// start starts a cloud on a fake host.
func start(t *testing.T) (*ec2.Client, *localcloudtest.Fake) {
	t.Helper()
	fake := localcloudtest.NewFake()
	c := localcloudtest.StartWith(t, localcloud.Config{Host: fake})
	return ec2.NewFromConfig(c.Config(region)), fake
}

// in returns the client's twin for another region.
func in(c *ec2.Client, region string) *ec2.Client {
	o := c.Options()
	o.Region = region
	return ec2.New(o)
}

// must fails the test at an error.
func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// refused fails the test unless err is the API's error of that code.
func refused(t *testing.T, err error, code string) string {
	t.Helper()
	var e smithy.APIError
	if !errors.As(err, &e) {
		t.Fatalf("got %v, want error %s", err, code)
	}
	if e.ErrorCode() != code {
		t.Fatalf("got %s (%s), want %s", e.ErrorCode(), e.ErrorMessage(), code)
	}
	return e.ErrorMessage()
}

// eventually polls until done is true.
func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if done() {
			return
		}
	}
	t.Fatalf("%s: not within a minute", what)
}

func ubuntu(t *testing.T, c *ec2.Client) string {
	t.Helper()
	out := must[*ec2.DescribeImagesOutput](t)(c.DescribeImages(t.Context(), &ec2.DescribeImagesInput{
		Owners: []string{"099720109477"},
		Filters: []types.Filter{
			{Name: aws.String("name"), Values: []string{"ubuntu/images/*ubuntu-jammy-22.04-*-server-*"}},
			{Name: aws.String("root-device-type"), Values: []string{"ebs"}},
			{Name: aws.String("virtualization-type"), Values: []string{"hvm"}},
		},
	}))
	if len(out.Images) != 1 {
		t.Fatalf("got %d images, want 1", len(out.Images))
	}
	return *out.Images[0].ImageId
}

func launch(t *testing.T, c *ec2.Client, image string, change ...func(*ec2.RunInstancesInput)) string {
	t.Helper()
	in := &ec2.RunInstancesInput{ImageId: aws.String(image), MinCount: aws.Int32(1), MaxCount: aws.Int32(1), InstanceType: "t3.micro"}
	for _, f := range change {
		f(in)
	}
	out := must[*ec2.RunInstancesOutput](t)(c.RunInstances(t.Context(), in))
	id := *out.Instances[0].InstanceId
	await(t, c, id, types.InstanceStateNameRunning)
	return id
}

func instance(t *testing.T, c *ec2.Client, id string) types.Instance {
	t.Helper()
	out := must[*ec2.DescribeInstancesOutput](t)(c.DescribeInstances(t.Context(), &ec2.DescribeInstancesInput{InstanceIds: []string{id}}))
	return out.Reservations[0].Instances[0]
}

func await(t *testing.T, c *ec2.Client, id string, want types.InstanceStateName) {
	t.Helper()
	eventually(t, id+" "+string(want), func() bool { return instance(t, c, id).State.Name == want })
}

func image(t *testing.T, c *ec2.Client, id string) types.Image {
	t.Helper()
	out := must[*ec2.DescribeImagesOutput](t)(c.DescribeImages(t.Context(), &ec2.DescribeImagesInput{ImageIds: []string{id}}))
	return out.Images[0]
}

func awaitImage(t *testing.T, c *ec2.Client, id string) types.Image {
	t.Helper()
	eventually(t, id+" available", func() bool {
		i := image(t, c, id)
		if i.State == types.ImageStateFailed {
			t.Fatalf("%s failed: %s", id, *i.StateReason.Message)
		}
		return i.State == types.ImageStateAvailable
	})
	return image(t, c, id)
}

func stop(t *testing.T, c *ec2.Client, id string) {
	t.Helper()
	must[*ec2.StopInstancesOutput](t)(c.StopInstances(t.Context(), &ec2.StopInstancesInput{InstanceIds: []string{id}}))
	await(t, c, id, types.InstanceStateNameStopped)
}

func bake(t *testing.T, c *ec2.Client, instance, name string) types.Image {
	t.Helper()
	out := must[*ec2.CreateImageOutput](t)(c.CreateImage(t.Context(), &ec2.CreateImageInput{InstanceId: aws.String(instance), Name: aws.String(name)}))
	return awaitImage(t, c, *out.ImageId)
}

// An image holds what its instance had written, in every region it is copied to.
func TestImage(t *testing.T) {
	c, fake := start(t)
	west := in(c, "us-west-2")
	i := launch(t, c, ubuntu(t, c))
	fake.Write(i, "/baked", "yes")
	stop(t, c, i)
	img := bake(t, c, i, "web 1")
	if got := *img.BlockDeviceMappings[0].Ebs.SnapshotId; !strings.HasPrefix(got, "snap-0") {
		t.Errorf("snapshot %s", got)
	}
	copied := must[*ec2.CopyImageOutput](t)(west.CopyImage(t.Context(), &ec2.CopyImageInput{
		SourceRegion: aws.String(region), SourceImageId: img.ImageId, Name: img.Name,
	}))
	awaitImage(t, west, *copied.ImageId)

	// What is written after the capture is not in the image.
	must[*ec2.StartInstancesOutput](t)(c.StartInstances(t.Context(), &ec2.StartInstancesInput{InstanceIds: []string{i}}))
	await(t, c, i, types.InstanceStateNameRunning)
	fake.Write(i, "/later", "yes")
	for _, at := range []struct {
		client *ec2.Client
		image  string
	}{{c, *img.ImageId}, {west, *copied.ImageId}} {
		n := launch(t, at.client, at.image)
		if got := fake.Read(n, "/baked"); got != "yes" {
			t.Errorf("/baked of %s is %q", n, got)
		}
		if got := fake.Read(n, "/later"); got != "" {
			t.Errorf("/later of %s is %q", n, got)
		}
	}
	if got := fake.Read(i, "/baked"); got != "yes" {
		t.Errorf("/baked of the captured instance is %q", got)
	}
}

// Capturing a running instance restarts it.
func TestImageOfRunning(t *testing.T) {
	c, fake := start(t)
	i := launch(t, c, ubuntu(t, c))
	fake.Write(i, "/baked", "yes")
	img := bake(t, c, i, "live")
	eventually(t, "restarted", func() bool { s, _ := fake.Status(i); return s.State == "running" && s.Boots == 2 })
	if got := instance(t, c, i).State.Name; got != types.InstanceStateNameRunning {
		t.Errorf("state is %s", got)
	}
	if n := launch(t, c, *img.ImageId); fake.Read(n, "/baked") != "yes" {
		t.Error("file is not in the image")
	}
}

// With NoReboot, it goes on as it was; the image holds what it had written then.
func TestImageLive(t *testing.T) {
	c, fake := start(t)
	i := launch(t, c, ubuntu(t, c))
	fake.Write(i, "/baked", "yes")
	first := awaitImage(t, c, *must[*ec2.CreateImageOutput](t)(c.CreateImage(t.Context(), &ec2.CreateImageInput{
		InstanceId: aws.String(i), Name: aws.String("one"), NoReboot: aws.Bool(true),
	})).ImageId)
	fake.Write(i, "/later", "yes")
	snap := must[*ec2.CreateSnapshotOutput](t)(c.CreateSnapshot(t.Context(), &ec2.CreateSnapshotInput{VolumeId: instance(t, c, i).BlockDeviceMappings[0].Ebs.VolumeId}))
	eventually(t, "snapshot", func() bool {
		return must[*ec2.DescribeSnapshotsOutput](t)(c.DescribeSnapshots(t.Context(), &ec2.DescribeSnapshotsInput{SnapshotIds: []string{*snap.SnapshotId}})).Snapshots[0].State == "completed"
	})
	if s, _ := fake.Status(i); s.Boots != 1 || s.State != "running" || instance(t, c, i).State.Name != "running" {
		t.Errorf("it is %s after %d boots", s.State, s.Boots)
	}
	stop(t, c, i)
	second := bake(t, c, i, "two")
	for _, at := range []struct {
		image types.Image
		later string
	}{{first, ""}, {second, "yes"}} {
		n := launch(t, c, *at.image.ImageId)
		if fake.Read(n, "/baked") != "yes" || fake.Read(n, "/later") != at.later {
			t.Errorf("%s has %q and %q", *at.image.Name, fake.Read(n, "/baked"), fake.Read(n, "/later"))
		}
	}
}

// Layers go when the last that needs them goes, and not before.
func TestLayersAreCollected(t *testing.T) {
	c, fake := start(t)
	west := in(c, "us-west-2")
	layers := func() int { l, _ := fake.Layers(); return len(l) }
	i := launch(t, c, ubuntu(t, c))
	stop(t, c, i)
	img := bake(t, c, i, "one")
	must[*ec2.TerminateInstancesOutput](t)(c.TerminateInstances(t.Context(), &ec2.TerminateInstancesInput{InstanceIds: []string{i}}))
	await(t, c, i, types.InstanceStateNameTerminated)
	copied := must[*ec2.CopyImageOutput](t)(west.CopyImage(t.Context(), &ec2.CopyImageInput{
		SourceRegion: aws.String(region), SourceImageId: img.ImageId, Name: aws.String("one"),
	}))
	west1 := awaitImage(t, west, *copied.ImageId)
	drop := func(c *ec2.Client, img types.Image) {
		t.Helper()
		snap := img.BlockDeviceMappings[0].Ebs.SnapshotId
		_, err := c.DeleteSnapshot(t.Context(), &ec2.DeleteSnapshotInput{SnapshotId: snap})
		refused(t, err, "InvalidSnapshot.InUse")
		must[*ec2.DeregisterImageOutput](t)(c.DeregisterImage(t.Context(), &ec2.DeregisterImageInput{ImageId: img.ImageId}))
		must[*ec2.DeleteSnapshotOutput](t)(c.DeleteSnapshot(t.Context(), &ec2.DeleteSnapshotInput{SnapshotId: snap}))
	}
	drop(c, img)
	if n := launch(t, west, *west1.ImageId); fake.Spec(n).Layers[0] == "host" || layers() != 1 {
		t.Errorf("layers of the copy: %v of %d", fake.Spec(n).Layers, layers())
	} else {
		drop(west, west1)
		must[*ec2.TerminateInstancesOutput](t)(west.TerminateInstances(t.Context(), &ec2.TerminateInstancesInput{InstanceIds: []string{n}}))
	}
	eventually(t, "no layers", func() bool { return layers() == 0 })
}

// What the endpoint refuses, it refuses in EC2's words.
func TestRefusals(t *testing.T) {
	c, _ := start(t)
	ctx := t.Context()
	ami := ubuntu(t, c)
	i := launch(t, c, ami)
	stop(t, c, i)
	img := bake(t, c, i, "taken")
	group := must[*ec2.CreateSecurityGroupOutput](t)(c.CreateSecurityGroup(ctx, &ec2.CreateSecurityGroupInput{GroupName: aws.String("g"), Description: aws.String("d")}))
	ssh := []types.IpPermission{{IpProtocol: aws.String("tcp"), FromPort: aws.Int32(22), ToPort: aws.Int32(22), IpRanges: []types.IpRange{{CidrIp: aws.String("0.0.0.0/0")}}}}
	must[*ec2.AuthorizeSecurityGroupIngressOutput](t)(c.AuthorizeSecurityGroupIngress(ctx, &ec2.AuthorizeSecurityGroupIngressInput{GroupId: group.GroupId, IpPermissions: ssh}))
	must[*ec2.CreateKeyPairOutput](t)(c.CreateKeyPair(ctx, &ec2.CreateKeyPairInput{KeyName: aws.String("k")}))
	launch(t, c, ami, func(in *ec2.RunInstancesInput) { in.SecurityGroupIds = []string{*group.GroupId} })

	tests := []struct {
		name, code string
		call       func(context.Context) error
	}{
		{"image unknown", "InvalidAMIID.NotFound", func(ctx context.Context) error {
			_, err := c.DescribeImages(ctx, &ec2.DescribeImagesInput{ImageIds: []string{"ami-0123456789abcdef0"}})
			return err
		}},
		{"image malformed", "InvalidAMIID.Malformed", func(ctx context.Context) error {
			_, err := c.DescribeImages(ctx, &ec2.DescribeImagesInput{ImageIds: []string{"ami-xyz"}})
			return err
		}},
		{"launch of unknown image", "InvalidAMIID.NotFound", func(ctx context.Context) error {
			_, err := c.RunInstances(ctx, &ec2.RunInstancesInput{ImageId: aws.String("ami-0123456789abcdef0"), MinCount: aws.Int32(1), MaxCount: aws.Int32(1)})
			return err
		}},
		{"launch with unknown key", "InvalidKeyPair.NotFound", func(ctx context.Context) error {
			_, err := c.RunInstances(ctx, &ec2.RunInstancesInput{ImageId: aws.String(ami), KeyName: aws.String("none"), MinCount: aws.Int32(1), MaxCount: aws.Int32(1)})
			return err
		}},
		{"launch on another architecture", "InvalidParameterValue", func(ctx context.Context) error {
			_, err := c.RunInstances(ctx, &ec2.RunInstancesInput{ImageId: aws.String(ami), InstanceType: "t4g.micro", MinCount: aws.Int32(1), MaxCount: aws.Int32(1)})
			return err
		}},
		{"launch dry", "DryRunOperation", func(ctx context.Context) error {
			_, err := c.RunInstances(ctx, &ec2.RunInstancesInput{ImageId: aws.String(ami), DryRun: aws.Bool(true), MinCount: aws.Int32(1), MaxCount: aws.Int32(1)})
			return err
		}},
		{"launch with what is not there", "UnsupportedOperation", func(ctx context.Context) error {
			_, err := c.RunInstances(ctx, &ec2.RunInstancesInput{ImageId: aws.String(ami), MinCount: aws.Int32(1), MaxCount: aws.Int32(1), CpuOptions: &types.CpuOptionsRequest{CoreCount: aws.Int32(3)}})
			return err
		}},
		{"launch with unknown profile", "InvalidParameterValue", func(ctx context.Context) error {
			_, err := c.RunInstances(ctx, &ec2.RunInstancesInput{ImageId: aws.String(ami), MinCount: aws.Int32(1), MaxCount: aws.Int32(1), IamInstanceProfile: &types.IamInstanceProfileSpecification{Name: aws.String("p")}})
			return err
		}},
		{"instance unknown", "InvalidInstanceID.NotFound", func(ctx context.Context) error {
			_, err := c.DescribeInstances(ctx, &ec2.DescribeInstancesInput{InstanceIds: []string{"i-0123456789abcdef0"}})
			return err
		}},
		{"reboot of stopped", "IncorrectInstanceState", func(ctx context.Context) error {
			_, err := c.RebootInstances(ctx, &ec2.RebootInstancesInput{InstanceIds: []string{i}})
			return err
		}},
		{"image name taken", "InvalidAMIName.Duplicate", func(ctx context.Context) error {
			_, err := c.CreateImage(ctx, &ec2.CreateImageInput{InstanceId: aws.String(i), Name: aws.String("taken")})
			if err != nil && !strings.Contains(err.Error(), *img.ImageId) {
				t.Errorf("message lacks the id: %v", err)
			}
			return err
		}},
		{"image name malformed", "InvalidAMIName.Malformed", func(ctx context.Context) error {
			_, err := c.CreateImage(ctx, &ec2.CreateImageInput{InstanceId: aws.String(i), Name: aws.String("a:b")})
			return err
		}},
		{"key taken", "InvalidKeyPair.Duplicate", func(ctx context.Context) error {
			_, err := c.CreateKeyPair(ctx, &ec2.CreateKeyPairInput{KeyName: aws.String("k")})
			return err
		}},
		{"group taken", "InvalidGroup.Duplicate", func(ctx context.Context) error {
			_, err := c.CreateSecurityGroup(ctx, &ec2.CreateSecurityGroupInput{GroupName: aws.String("g"), Description: aws.String("d")})
			return err
		}},
		{"group in use", "DependencyViolation", func(ctx context.Context) error {
			_, err := c.DeleteSecurityGroup(ctx, &ec2.DeleteSecurityGroupInput{GroupId: group.GroupId})
			return err
		}},
		{"group unknown", "InvalidGroup.NotFound", func(ctx context.Context) error {
			_, err := c.DeleteSecurityGroup(ctx, &ec2.DeleteSecurityGroupInput{GroupId: aws.String("sg-0123456789abcdef0")})
			return err
		}},
		{"rule taken", "InvalidPermission.Duplicate", func(ctx context.Context) error {
			_, err := c.AuthorizeSecurityGroupIngress(ctx, &ec2.AuthorizeSecurityGroupIngressInput{GroupId: group.GroupId, IpPermissions: ssh})
			return err
		}},
		{"filter unknown", "InvalidParameterValue", func(ctx context.Context) error {
			_, err := c.DescribeVpcs(ctx, &ec2.DescribeVpcsInput{Filters: []types.Filter{{Name: aws.String("colour"), Values: []string{"red"}}}})
			return err
		}},
		{"action unknown", "UnsupportedOperation", func(ctx context.Context) error {
			_, err := c.CreateFleet(ctx, &ec2.CreateFleetInput{
				LaunchTemplateConfigs:       []types.FleetLaunchTemplateConfigRequest{{}},
				TargetCapacitySpecification: &types.TargetCapacitySpecificationRequest{TotalTargetCapacity: aws.Int32(1)},
			})
			if err != nil && !strings.Contains(err.Error(), "CreateFleet") {
				t.Errorf("message does not name the action: %v", err)
			}
			return err
		}},
		{"volume in use", "VolumeInUse", func(ctx context.Context) error {
			_, err := c.DeleteVolume(ctx, &ec2.DeleteVolumeInput{VolumeId: instance(t, c, i).BlockDeviceMappings[0].Ebs.VolumeId})
			return err
		}},
		{"region unknown", "AuthFailure", func(ctx context.Context) error {
			_, err := in(c, "mars-1").DescribeVpcs(ctx, &ec2.DescribeVpcsInput{})
			return err
		}},
		{"reserved tag", "InvalidParameterValue", func(ctx context.Context) error {
			_, err := c.CreateTags(ctx, &ec2.CreateTagsInput{Resources: []string{i}, Tags: []types.Tag{{Key: aws.String("aws:x"), Value: aws.String("")}}})
			return err
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) { refused(t, tt.call(ctx), tt.code) })
	}
	if n := len(must[*ec2.DescribeInstancesOutput](t)(c.DescribeInstances(ctx, &ec2.DescribeInstancesInput{})).Reservations); n != 2 {
		t.Errorf("refused launches left %d reservations, want the 2 that were made", n)
	}
}

// A request that is not signed, or comes from a web page, is refused.
func TestUnsigned(t *testing.T) {
	cloud := localcloudtest.StartWith(t, localcloud.Config{Host: localcloudtest.NewFake()})
	const scope = "AWS4-HMAC-SHA256 Credential=k/20260101/us-east-1/ec2/aws4_request, SignedHeaders=host, Signature=x"
	for _, tt := range []struct {
		name    string
		headers map[string]string
		want    int
	}{
		{"unsigned", nil, http.StatusUnauthorized},
		{"version 2", map[string]string{"Authorization": "AWS k:x"}, http.StatusUnauthorized},
		{"web page", map[string]string{"Authorization": scope, "Origin": "http://example.com"}, http.StatusUnauthorized},
		{"signed", map[string]string{"Authorization": scope}, http.StatusOK},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, cloud.URL, strings.NewReader("Action=DescribeRegions&Version=2016-11-15"))
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			for k, v := range tt.headers {
				r.Header.Set(k, v)
			}
			resp, err := http.DefaultClient.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			if resp.StatusCode != tt.want || resp.ContentLength <= 0 {
				t.Errorf("got %s with length %d, want %d and a length", resp.Status, resp.ContentLength, tt.want)
			}
		})
	}
}
