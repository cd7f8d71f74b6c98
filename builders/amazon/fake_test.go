package amazon

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/smithy-go"

	"github.com/bakehouse-farm/bakehouse"
	"github.com/bakehouse-farm/bakehouse/builders/builderstest"
)

// A fakeCloud is EC2 in memory: as much of it as the builder can see. Things
// take a few looks to become what they will be.
type fakeCloud struct {
	mu      sync.Mutex
	n       int
	things  []*thing
	tokens  map[string]string // client token with region and action → id
	calls   []string
	lose    map[string]int   // action → how many answers get lost
	fail    map[string]error // action → what it answers instead
	regions map[string]*connection
	blind   bool // new things are not found by tag yet
}

// A thing is any resource; fields are what filters and descriptions see.
type thing struct {
	region, kind, id string
	tags             map[string]string
	fields           map[string]string
	looks            int // until the state changes
	unseen           int // so many lists do not show it
	parts            []string
	in               any // the request that made it
}

var errLost = errors.New("connection reset by peer")

func newFake() *fakeCloud {
	f := &fakeCloud{tokens: map[string]string{}, lose: map[string]int{}, fail: map[string]error{}, regions: map[string]*connection{}}
	for _, r := range []string{"us-east-1", "us-west-2", "eu-west-1"} {
		f.regions[r] = fastConnection(r, &fakeEC2{f, r})
	}
	f.add("us-east-1", "image", map[string]string{
		"name": "debian-12", "state": "available", "owner": "amazon", "creation-date": "2024-01-02T00:00:00.000Z",
		"root": "ebs", "virtualization-type": "hvm",
	}, nil, nil).id = "ami-0000base"
	f.add("us-east-1", "vpc", map[string]string{"is-default": "true", "state": "available"}, nil, nil)
	return f
}

// fastConnection polls without mercy.
func fastConnection(region string, api ec2API) *connection {
	c := newConnection(region, api)
	c.images.first, c.images.gap = 1e6, 1e5
	c.instances.first, c.instances.gap = 1e6, 1e5
	return c
}

// agent returns a builder that knows nothing yet.
func (f *fakeCloud) agent() *EBS {
	return NewEBS(Config{
		Getenv: func(string) string { return "" },
		connect: func(region string) *connection {
			if region == "" {
				region = "us-east-1"
			}
			return fastConnection(region, &fakeEC2{f, region})
		},
	})
}

func (f *fakeCloud) add(region, kind string, fields, tags map[string]string, in any) *thing {
	f.n++
	prefix := map[string]string{"image": "ami", "instance": "i", "snapshot": "snap", "volume": "vol", "group": "sg", "key": "key"}[kind]
	t := &thing{region: region, kind: kind, id: fmt.Sprintf("%s-%08x", prefix, f.n), fields: fields, tags: maps.Clone(tags), in: in}
	if t.tags == nil {
		t.tags = map[string]string{}
	}
	f.things = append(f.things, t)
	return t
}

// addImage makes an image of one snapshot.
func (f *fakeCloud) addImage(region, name string, specs []types.TagSpecification, in any) *thing {
	img := f.add(region, "image", map[string]string{"name": name, "state": "pending", "owner": "self", "root": "ebs"},
		specTags(specs, types.ResourceTypeImage), in)
	img.looks = 2
	snap := f.add(region, "snapshot", map[string]string{"owner": "self"}, specTags(specs, types.ResourceTypeSnapshot), nil)
	img.parts = []string{snap.id}
	return img
}

func (f *fakeCloud) remove(region, kind, key string) bool {
	n := len(f.things)
	f.things = slices.DeleteFunc(f.things, func(t *thing) bool {
		return t.region == region && t.kind == kind && (t.id == key || t.fields["name"] == key)
	})
	return len(f.things) < n
}

func (f *fakeCloud) find(region, kind string, filters []types.Filter) []*thing {
	var out []*thing
	for _, t := range f.things {
		if t.region == region && t.kind == kind && t.matches(filters, f.blind) {
			if len(filters) > 0 && t.unseen > 0 {
				t.unseen--
				continue
			}
			out = append(out, t)
		}
	}
	return out
}

func (f *fakeCloud) get(region, kind, id string) *thing {
	for _, t := range f.things {
		if t.region == region && t.kind == kind && (t.id == id || t.fields["name"] == id) {
			return t
		}
	}
	return nil
}

// count returns how many things of a kind carry the build's tag.
func (f *fakeCloud) count(kind string, b bakehouse.BuildID) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 0
	for _, t := range f.things {
		if t.kind == kind && t.tags[bakehouse.TagBuild] == string(b) && t.fields["state"] != "terminated" {
			n++
		}
	}
	return n
}

func (f *fakeCloud) left(_ context.Context, b bakehouse.BuildID) ([]builderstest.Thing, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []builderstest.Thing
	for _, t := range f.things {
		if t.tags[bakehouse.TagBuild] == string(b) && t.fields["state"] != "terminated" {
			out = append(out, builderstest.Thing{Region: t.region, Kind: t.kind, ID: t.id})
		}
	}
	return out, nil
}

func (t *thing) matches(filters []types.Filter, hide bool) bool {
	for _, f := range filters {
		name, v := aws.ToString(f.Name), ""
		switch key, isTag := strings.CutPrefix(name, "tag:"); {
		case isTag:
			v = t.tags[key]
			if hide {
				v = ""
			}
		case strings.HasSuffix(name, "-id") && name != "vpc-id":
			v = t.id
		case name == "group-name" || name == "key-name":
			v = t.fields["name"]
		case name == "instance-state-name":
			v = t.fields["state"]
		default:
			v = t.fields[name]
		}
		if !slices.Contains(f.Values, v) {
			return false
		}
	}
	return true
}

// look lets time pass for a thing.
func (t *thing) look() {
	if t.looks--; t.looks > 0 {
		return
	}
	next := map[string]string{"pending": "running", "stopping": "stopped", "shutting-down": "terminated"}
	if t.kind == "image" {
		next = map[string]string{"pending": "available"}
	}
	if s := next[t.fields["state"]]; s != "" {
		t.fields["state"] = s
	}
}

func specTags(specs []types.TagSpecification, kind types.ResourceType) map[string]string {
	out := map[string]string{}
	for _, s := range specs {
		if s.ResourceType == kind {
			for _, t := range s.Tags {
				out[aws.ToString(t.Key)] = aws.ToString(t.Value)
			}
		}
	}
	return out
}

func apiError(code, format string, args ...any) error {
	return &smithy.GenericAPIError{Code: code, Message: fmt.Sprintf(format, args...)}
}

// fakeEC2 is one region of a fakeCloud. Calls that are not faked panic.
type fakeEC2 struct {
	*fakeCloud
	region string
}

// do makes one call: it takes effect, and then its answer may get lost.
func do[T any](f *fakeEC2, action string, effect func() (*T, error)) (*T, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls = append(f.calls, action)
	if err := f.fail[action]; err != nil {
		return nil, err
	}
	out, err := effect()
	if err == nil && f.lose[action] > 0 {
		f.lose[action]--
		return nil, errLost
	}
	return out, err
}

// once honours a client token.
func (f *fakeEC2) once(action string, token *string, make func() *thing) *thing {
	key := f.region + action + aws.ToString(token)
	if id, ok := f.tokens[key]; ok && token != nil {
		for _, t := range f.things {
			if t.id == id {
				return t
			}
		}
	}
	t := make()
	f.tokens[key] = t.id
	return t
}

type opts = func(*ec2.Options)

func (f *fakeEC2) ImportKeyPair(_ context.Context, in *ec2.ImportKeyPairInput, _ ...opts) (*ec2.ImportKeyPairOutput, error) {
	return do(f, "ImportKeyPair", func() (*ec2.ImportKeyPairOutput, error) {
		if f.get(f.region, "key", *in.KeyName) != nil {
			return nil, apiError("InvalidKeyPair.Duplicate", "The keypair already exists")
		}
		f.add(f.region, "key", map[string]string{"name": *in.KeyName}, specTags(in.TagSpecifications, types.ResourceTypeKeyPair), in)
		return &ec2.ImportKeyPairOutput{}, nil
	})
}

func (f *fakeEC2) DescribeKeyPairs(_ context.Context, in *ec2.DescribeKeyPairsInput, _ ...opts) (*ec2.DescribeKeyPairsOutput, error) {
	return do(f, "DescribeKeyPairs", func() (*ec2.DescribeKeyPairsOutput, error) {
		out := &ec2.DescribeKeyPairsOutput{}
		for _, t := range f.find(f.region, "key", in.Filters) {
			if len(in.KeyNames) == 0 || slices.Contains(in.KeyNames, t.fields["name"]) {
				out.KeyPairs = append(out.KeyPairs, types.KeyPairInfo{KeyName: aws.String(t.fields["name"]), Tags: tagList(t.tags)})
			}
		}
		return out, nil
	})
}

func (f *fakeEC2) DeleteKeyPair(_ context.Context, in *ec2.DeleteKeyPairInput, _ ...opts) (*ec2.DeleteKeyPairOutput, error) {
	return do(f, "DeleteKeyPair", func() (*ec2.DeleteKeyPairOutput, error) {
		f.remove(f.region, "key", *in.KeyName)
		return &ec2.DeleteKeyPairOutput{}, nil
	})
}

func (f *fakeEC2) CreateSecurityGroup(_ context.Context, in *ec2.CreateSecurityGroupInput, _ ...opts) (*ec2.CreateSecurityGroupOutput, error) {
	return do(f, "CreateSecurityGroup", func() (*ec2.CreateSecurityGroupOutput, error) {
		if f.get(f.region, "group", *in.GroupName) != nil {
			return nil, apiError("InvalidGroup.Duplicate", "The security group '%s' already exists", *in.GroupName)
		}
		g := f.add(f.region, "group", map[string]string{"name": *in.GroupName, "vpc-id": aws.ToString(in.VpcId)},
			specTags(in.TagSpecifications, types.ResourceTypeSecurityGroup), in)
		return &ec2.CreateSecurityGroupOutput{GroupId: aws.String(g.id)}, nil
	})
}

func (f *fakeEC2) AuthorizeSecurityGroupIngress(_ context.Context, in *ec2.AuthorizeSecurityGroupIngressInput, _ ...opts) (*ec2.AuthorizeSecurityGroupIngressOutput, error) {
	return do(f, "AuthorizeSecurityGroupIngress", func() (*ec2.AuthorizeSecurityGroupIngressOutput, error) {
		g := f.get(f.region, "group", *in.GroupId)
		if g == nil {
			return nil, apiError("InvalidGroup.NotFound", "no %s", *in.GroupId)
		}
		if len(g.parts) > 0 {
			return nil, apiError("InvalidPermission.Duplicate", "the specified rule already exists")
		}
		g.parts = append(g.parts, fmt.Sprint(*in.IpPermissions[0].FromPort))
		return &ec2.AuthorizeSecurityGroupIngressOutput{}, nil
	})
}

func (f *fakeEC2) DescribeSecurityGroups(_ context.Context, in *ec2.DescribeSecurityGroupsInput, _ ...opts) (*ec2.DescribeSecurityGroupsOutput, error) {
	return do(f, "DescribeSecurityGroups", func() (*ec2.DescribeSecurityGroupsOutput, error) {
		out := &ec2.DescribeSecurityGroupsOutput{}
		for _, t := range f.find(f.region, "group", in.Filters) {
			if len(in.GroupIds) == 0 || slices.Contains(in.GroupIds, t.id) {
				out.SecurityGroups = append(out.SecurityGroups, types.SecurityGroup{GroupId: aws.String(t.id), Tags: tagList(t.tags)})
			}
		}
		return out, nil
	})
}

func (f *fakeEC2) DeleteSecurityGroup(_ context.Context, in *ec2.DeleteSecurityGroupInput, _ ...opts) (*ec2.DeleteSecurityGroupOutput, error) {
	return do(f, "DeleteSecurityGroup", func() (*ec2.DeleteSecurityGroupOutput, error) {
		for _, t := range f.find(f.region, "instance", nil) {
			if t.fields["state"] != "terminated" && slices.Contains(t.in.(*ec2.RunInstancesInput).SecurityGroupIds, *in.GroupId) {
				return nil, apiError("DependencyViolation", "resource %s has a dependent object", *in.GroupId)
			}
		}
		if !f.remove(f.region, "group", *in.GroupId) {
			return nil, apiError("InvalidGroup.NotFound", "no %s", *in.GroupId)
		}
		return &ec2.DeleteSecurityGroupOutput{}, nil
	})
}

func (f *fakeEC2) RunInstances(_ context.Context, in *ec2.RunInstancesInput, _ ...opts) (*ec2.RunInstancesOutput, error) {
	return do(f, "RunInstances", func() (*ec2.RunInstancesOutput, error) {
		i := f.once("RunInstances", in.ClientToken, func() *thing {
			i := f.add(f.region, "instance", map[string]string{"state": "pending"}, specTags(in.TagSpecifications, types.ResourceTypeInstance), in)
			i.looks = 2
			v := f.add(f.region, "volume", map[string]string{"state": "in-use"}, specTags(in.TagSpecifications, types.ResourceTypeVolume), nil)
			i.parts = []string{v.id}
			return i
		})
		return &ec2.RunInstancesOutput{Instances: []types.Instance{{InstanceId: aws.String(i.id)}}}, nil
	})
}

func (f *fakeEC2) DescribeInstances(_ context.Context, in *ec2.DescribeInstancesInput, _ ...opts) (*ec2.DescribeInstancesOutput, error) {
	return do(f, "DescribeInstances", func() (*ec2.DescribeInstancesOutput, error) {
		var r types.Reservation
		for _, t := range f.find(f.region, "instance", in.Filters) {
			t.look()
			r.Instances = append(r.Instances, types.Instance{
				InstanceId: aws.String(t.id), State: &types.InstanceState{Name: types.InstanceStateName(t.fields["state"])},
				PublicIpAddress: aws.String("192.0.2.7"), PrivateIpAddress: aws.String("10.0.0.7"), Tags: tagList(t.tags),
				StateReason: &types.StateReason{Message: aws.String(t.fields["reason"])},
			})
		}
		return &ec2.DescribeInstancesOutput{Reservations: []types.Reservation{r}}, nil
	})
}

func (f *fakeEC2) StopInstances(_ context.Context, in *ec2.StopInstancesInput, _ ...opts) (*ec2.StopInstancesOutput, error) {
	return do(f, "StopInstances", func() (*ec2.StopInstancesOutput, error) {
		t := f.get(f.region, "instance", in.InstanceIds[0])
		if t == nil {
			return nil, apiError("InvalidInstanceID.NotFound", "no %s", in.InstanceIds[0])
		}
		if t.fields["state"] == "running" || t.fields["state"] == "pending" {
			t.fields["state"], t.looks = "stopping", 2
		}
		return &ec2.StopInstancesOutput{}, nil
	})
}

func (f *fakeEC2) ModifyInstanceAttribute(context.Context, *ec2.ModifyInstanceAttributeInput, ...opts) (*ec2.ModifyInstanceAttributeOutput, error) {
	return do(f, "ModifyInstanceAttribute", func() (*ec2.ModifyInstanceAttributeOutput, error) {
		return &ec2.ModifyInstanceAttributeOutput{}, nil
	})
}

func (f *fakeEC2) TerminateInstances(_ context.Context, in *ec2.TerminateInstancesInput, _ ...opts) (*ec2.TerminateInstancesOutput, error) {
	return do(f, "TerminateInstances", func() (*ec2.TerminateInstancesOutput, error) {
		for _, id := range in.InstanceIds {
			if t := f.get(f.region, "instance", id); t != nil && t.fields["state"] != "terminated" {
				t.fields["state"], t.looks = "shutting-down", 2
				for _, v := range t.parts {
					if vol := f.get(f.region, "volume", v); vol != nil && vol.tags["stays"] == "" {
						f.remove(f.region, "volume", v)
					} else if vol != nil {
						vol.fields["state"] = "available"
					}
				}
			}
		}
		return &ec2.TerminateInstancesOutput{}, nil
	})
}

func (f *fakeEC2) CreateImage(_ context.Context, in *ec2.CreateImageInput, _ ...opts) (*ec2.CreateImageOutput, error) {
	return do(f, "CreateImage", func() (*ec2.CreateImageOutput, error) {
		if t := f.get(f.region, "image", *in.Name); t != nil {
			return nil, apiError("InvalidAMIName.Duplicate", "AMI name %s is already in use by AMI %s", *in.Name, t.id)
		}
		return &ec2.CreateImageOutput{ImageId: aws.String(f.addImage(f.region, *in.Name, in.TagSpecifications, in).id)}, nil
	})
}

func (f *fakeEC2) CopyImage(_ context.Context, in *ec2.CopyImageInput, _ ...opts) (*ec2.CopyImageOutput, error) {
	return do(f, "CopyImage", func() (*ec2.CopyImageOutput, error) {
		if f.get(*in.SourceRegion, "image", *in.SourceImageId) == nil {
			return nil, apiError("InvalidAMIID.NotFound", "no %s", *in.SourceImageId)
		}
		img := f.once("CopyImage", in.ClientToken, func() *thing { return f.addImage(f.region, *in.Name, in.TagSpecifications, in) })
		return &ec2.CopyImageOutput{ImageId: aws.String(img.id)}, nil
	})
}

func (f *fakeEC2) DescribeImages(_ context.Context, in *ec2.DescribeImagesInput, _ ...opts) (*ec2.DescribeImagesOutput, error) {
	return do(f, "DescribeImages", func() (*ec2.DescribeImagesOutput, error) {
		out := &ec2.DescribeImagesOutput{}
		for _, t := range f.find(f.region, "image", in.Filters) {
			if len(in.ImageIds) > 0 && !slices.Contains(in.ImageIds, t.id) || len(in.Owners) > 0 && !slices.Contains(in.Owners, t.fields["owner"]) {
				continue
			}
			t.look()
			out.Images = append(out.Images, t.image())
		}
		return out, nil
	})
}

func (t *thing) image() types.Image {
	img := types.Image{
		ImageId: aws.String(t.id), Name: aws.String(t.fields["name"]), State: types.ImageState(t.fields["state"]),
		OwnerId: aws.String(t.fields["owner"]), CreationDate: aws.String(t.fields["creation-date"]),
		RootDeviceType: types.DeviceType(t.fields["root"]), VirtualizationType: types.VirtualizationType(t.fields["virtualization-type"]),
		DeregistrationProtection: aws.String(t.fields["protection"]), Tags: tagList(t.tags),
		StateReason: &types.StateReason{Message: aws.String(t.fields["reason"])},
	}
	for _, p := range t.parts {
		img.BlockDeviceMappings = append(img.BlockDeviceMappings, types.BlockDeviceMapping{Ebs: &types.EbsBlockDevice{SnapshotId: aws.String(p)}})
	}
	return img
}

func (f *fakeEC2) DeregisterImage(_ context.Context, in *ec2.DeregisterImageInput, _ ...opts) (*ec2.DeregisterImageOutput, error) {
	return do(f, "DeregisterImage", func() (*ec2.DeregisterImageOutput, error) {
		t := f.get(f.region, "image", *in.ImageId)
		if t == nil {
			return nil, apiError("InvalidAMIID.Unavailable", "The image ID '%s' is no longer available", *in.ImageId)
		}
		if strings.HasPrefix(t.fields["protection"], "enabled") {
			return nil, apiError("OperationNotPermitted", "%s is protected", t.id)
		}
		f.remove(f.region, "image", t.id)
		return &ec2.DeregisterImageOutput{}, nil
	})
}

func (f *fakeEC2) DescribeSnapshots(_ context.Context, in *ec2.DescribeSnapshotsInput, _ ...opts) (*ec2.DescribeSnapshotsOutput, error) {
	return do(f, "DescribeSnapshots", func() (*ec2.DescribeSnapshotsOutput, error) {
		out := &ec2.DescribeSnapshotsOutput{}
		for _, t := range f.find(f.region, "snapshot", in.Filters) {
			out.Snapshots = append(out.Snapshots, types.Snapshot{SnapshotId: aws.String(t.id), Tags: tagList(t.tags)})
		}
		return out, nil
	})
}

func (f *fakeEC2) DeleteSnapshot(_ context.Context, in *ec2.DeleteSnapshotInput, _ ...opts) (*ec2.DeleteSnapshotOutput, error) {
	return do(f, "DeleteSnapshot", func() (*ec2.DeleteSnapshotOutput, error) {
		for _, t := range f.find(f.region, "image", nil) {
			if slices.Contains(t.parts, *in.SnapshotId) {
				return nil, apiError("InvalidSnapshot.InUse", "The snapshot %s is currently in use by %s", *in.SnapshotId, t.id)
			}
		}
		if !f.remove(f.region, "snapshot", *in.SnapshotId) {
			return nil, apiError("InvalidSnapshot.NotFound", "no %s", *in.SnapshotId)
		}
		return &ec2.DeleteSnapshotOutput{}, nil
	})
}

func (f *fakeEC2) DescribeVolumes(_ context.Context, in *ec2.DescribeVolumesInput, _ ...opts) (*ec2.DescribeVolumesOutput, error) {
	return do(f, "DescribeVolumes", func() (*ec2.DescribeVolumesOutput, error) {
		out := &ec2.DescribeVolumesOutput{}
		for _, t := range f.find(f.region, "volume", in.Filters) {
			out.Volumes = append(out.Volumes, types.Volume{VolumeId: aws.String(t.id), State: types.VolumeState(t.fields["state"])})
		}
		return out, nil
	})
}

func (f *fakeEC2) DeleteVolume(_ context.Context, in *ec2.DeleteVolumeInput, _ ...opts) (*ec2.DeleteVolumeOutput, error) {
	return do(f, "DeleteVolume", func() (*ec2.DeleteVolumeOutput, error) {
		if v := f.get(f.region, "volume", *in.VolumeId); v != nil && v.fields["state"] == "in-use" {
			return nil, apiError("VolumeInUse", "Volume %s is currently attached", v.id)
		}
		if !f.remove(f.region, "volume", *in.VolumeId) {
			return nil, apiError("InvalidVolume.NotFound", "no %s", *in.VolumeId)
		}
		return &ec2.DeleteVolumeOutput{}, nil
	})
}

func (f *fakeEC2) CreateTags(_ context.Context, in *ec2.CreateTagsInput, _ ...opts) (*ec2.CreateTagsOutput, error) {
	return do(f, "CreateTags", func() (*ec2.CreateTagsOutput, error) {
		for _, t := range f.things {
			if slices.Contains(in.Resources, t.id) {
				for _, tag := range in.Tags {
					t.tags[*tag.Key] = *tag.Value
				}
			}
		}
		return &ec2.CreateTagsOutput{}, nil
	})
}

func (f *fakeEC2) DeleteTags(_ context.Context, in *ec2.DeleteTagsInput, _ ...opts) (*ec2.DeleteTagsOutput, error) {
	return do(f, "DeleteTags", func() (*ec2.DeleteTagsOutput, error) {
		for _, t := range f.things {
			if slices.Contains(in.Resources, t.id) {
				for _, tag := range in.Tags {
					delete(t.tags, *tag.Key)
				}
			}
		}
		return &ec2.DeleteTagsOutput{}, nil
	})
}

func (f *fakeEC2) set(action, id, field, value string) error {
	_, err := do(f, action, func() (*struct{}, error) {
		t := f.get(f.region, "image", id)
		if t == nil {
			return nil, apiError("InvalidAMIID.NotFound", "no %s", id)
		}
		t.fields[field] = value
		return &struct{}{}, nil
	})
	return err
}

func (f *fakeEC2) EnableImageDeregistrationProtection(_ context.Context, in *ec2.EnableImageDeregistrationProtectionInput, _ ...opts) (*ec2.EnableImageDeregistrationProtectionOutput, error) {
	return &ec2.EnableImageDeregistrationProtectionOutput{}, f.set("EnableImageDeregistrationProtection", *in.ImageId, "protection", "enabled-without-cooldown")
}

func (f *fakeEC2) DisableImageDeregistrationProtection(_ context.Context, in *ec2.DisableImageDeregistrationProtectionInput, _ ...opts) (*ec2.DisableImageDeregistrationProtectionOutput, error) {
	return &ec2.DisableImageDeregistrationProtectionOutput{}, f.set("DisableImageDeregistrationProtection", *in.ImageId, "protection", "disabled")
}

func (f *fakeEC2) EnableImageDeprecation(_ context.Context, in *ec2.EnableImageDeprecationInput, _ ...opts) (*ec2.EnableImageDeprecationOutput, error) {
	return &ec2.EnableImageDeprecationOutput{}, f.set("EnableImageDeprecation", *in.ImageId, "deprecated", in.DeprecateAt.UTC().String())
}

func (f *fakeEC2) ModifyImageAttribute(_ context.Context, in *ec2.ModifyImageAttributeInput, _ ...opts) (*ec2.ModifyImageAttributeOutput, error) {
	if in.Description != nil {
		return &ec2.ModifyImageAttributeOutput{}, f.set("ModifyImageAttribute", *in.ImageId, "description", *in.Description.Value)
	}
	return &ec2.ModifyImageAttributeOutput{}, f.set("ModifyImageAttribute", *in.ImageId, "shared", "yes")
}

func (f *fakeEC2) ModifySnapshotAttribute(context.Context, *ec2.ModifySnapshotAttributeInput, ...opts) (*ec2.ModifySnapshotAttributeOutput, error) {
	return do(f, "ModifySnapshotAttribute", func() (*ec2.ModifySnapshotAttributeOutput, error) {
		return &ec2.ModifySnapshotAttributeOutput{}, nil
	})
}

func (f *fakeEC2) DescribeRegions(context.Context, *ec2.DescribeRegionsInput, ...opts) (*ec2.DescribeRegionsOutput, error) {
	return do(f, "DescribeRegions", func() (*ec2.DescribeRegionsOutput, error) {
		out := &ec2.DescribeRegionsOutput{}
		for _, r := range slices.Sorted(maps.Keys(f.regions)) {
			out.Regions = append(out.Regions, types.Region{RegionName: aws.String(r)})
		}
		return out, nil
	})
}

func (f *fakeEC2) DescribeVpcs(_ context.Context, in *ec2.DescribeVpcsInput, _ ...opts) (*ec2.DescribeVpcsOutput, error) {
	return do(f, "DescribeVpcs", func() (*ec2.DescribeVpcsOutput, error) {
		out := &ec2.DescribeVpcsOutput{}
		for _, t := range f.find(f.region, "vpc", in.Filters) {
			if len(in.VpcIds) == 0 || slices.Contains(in.VpcIds, t.id) {
				out.Vpcs = append(out.Vpcs, types.Vpc{VpcId: aws.String(t.id), IsDefault: aws.Bool(t.fields["is-default"] == "true")})
			}
		}
		return out, nil
	})
}

func (f *fakeEC2) DescribeSubnets(_ context.Context, in *ec2.DescribeSubnetsInput, _ ...opts) (*ec2.DescribeSubnetsOutput, error) {
	return do(f, "DescribeSubnets", func() (*ec2.DescribeSubnetsOutput, error) {
		out := &ec2.DescribeSubnetsOutput{}
		for _, t := range f.find(f.region, "subnet", in.Filters) {
			if len(in.SubnetIds) == 0 || slices.Contains(in.SubnetIds, t.id) {
				free, _ := strconv.Atoi(t.fields["free"])
				out.Subnets = append(out.Subnets, types.Subnet{
					SubnetId: aws.String(t.id), VpcId: aws.String(t.fields["vpc-id"]),
					AvailabilityZone: aws.String(t.fields["zone"]), AvailableIpAddressCount: aws.Int32(int32(free)),
				})
			}
		}
		return out, nil
	})
}

func (f *fakeEC2) DescribeInstanceTypeOfferings(_ context.Context, in *ec2.DescribeInstanceTypeOfferingsInput, _ ...opts) (*ec2.DescribeInstanceTypeOfferingsOutput, error) {
	return do(f, "DescribeInstanceTypeOfferings", func() (*ec2.DescribeInstanceTypeOfferingsOutput, error) {
		out := &ec2.DescribeInstanceTypeOfferingsOutput{}
		for _, t := range f.find(f.region, "offering", in.Filters) {
			out.InstanceTypeOfferings = append(out.InstanceTypeOfferings, types.InstanceTypeOffering{Location: aws.String(t.fields["zone"])})
		}
		return out, nil
	})
}

func settingsFor(name string) map[string]any {
	return map[string]any{
		"region": "us-east-1", "ami_name": name, "source_ami": "ami-0000base", "instance_type": "t3.micro",
		"ssh_username": "admin", "ami_regions": []string{"us-west-2", "eu-west-1"},
		"tags": map[string]string{"from": "{{ .SourceAMIName }}"}, "ami_description": "from {{ .SourceAMI }}",
	}
}

// The builder keeps its promises on EC2 in memory, in each way to make an image.
func TestPromises(t *testing.T) {
	for name, more := range map[string]map[string]any{
		"plain":               {},
		"encrypted":           {"encrypt_boot": true},
		"not in build region": {"skip_save_build_region": true},
		"protected":           {"deregistration_protection": map[string]any{"with_cooldown": true}, "deprecate_at": "2050-01-01T00:00:00Z"},
		"shared":              {"ami_users": []string{"1"}, "snapshot_users": []string{"1"}, "ena_support": true, "sriov_support": true},
		"own key pair name":   {"temporary_key_pair_type": "ed25519", "ssh_interface": "private_ip"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake()
			builderstest.Run(t, builderstest.Subject{
				Agent: func(*testing.T) builderstest.Platform { return f.agent() },
				Settings: func(name string) map[string]any {
					s := settingsFor(name)
					maps.Copy(s, more)
					return s
				},
				Left: f.left,
			})
		})
	}
}
