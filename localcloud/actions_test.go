package localcloud_test

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/crypto/ssh"

	"github.com/bakehouse-farm/bakehouse/localcloud"
	"github.com/bakehouse-farm/bakehouse/localcloud/localcloudtest"
	"github.com/bakehouse-farm/bakehouse/localcloud/sandbox"
)

func filters(kv ...string) (list []types.Filter) {
	for i := 0; i < len(kv); i += 2 {
		list = append(list, types.Filter{Name: aws.String(kv[i]), Values: strings.Split(kv[i+1], ",")})
	}
	return list
}

func spec(kind types.ResourceType, kv ...string) types.TagSpecification {
	return types.TagSpecification{ResourceType: kind, Tags: tags(kv...)}
}

func tags(kv ...string) (list []types.Tag) {
	for i := 0; i < len(kv); i += 2 {
		list = append(list, types.Tag{Key: aws.String(kv[i]), Value: aws.String(kv[i+1])})
	}
	return list
}

func tagMap(list []types.Tag) map[string]string {
	m := map[string]string{}
	for _, t := range list {
		m[*t.Key] = *t.Value
	}
	return m
}

// A region has what a new account finds in it, and always the same.
func TestRegions(t *testing.T) {
	c, _ := start(t)
	ctx := t.Context()
	regions := must[*ec2.DescribeRegionsOutput](t)(c.DescribeRegions(ctx, &ec2.DescribeRegionsInput{}))
	if len(regions.Regions) < 8 {
		t.Fatalf("%d regions", len(regions.Regions))
	}
	for _, r := range []string{region, "eu-central-1", "ap-southeast-1"} {
		c := in(c, r)
		vpcs := must[*ec2.DescribeVpcsOutput](t)(c.DescribeVpcs(ctx, &ec2.DescribeVpcsInput{Filters: filters("is-default", "true")})).Vpcs
		if len(vpcs) != 1 {
			t.Fatalf("%s: %d default VPCs", r, len(vpcs))
		}
		zones := must[*ec2.DescribeAvailabilityZonesOutput](t)(c.DescribeAvailabilityZones(ctx, &ec2.DescribeAvailabilityZonesInput{})).AvailabilityZones
		subnets := must[*ec2.DescribeSubnetsOutput](t)(c.DescribeSubnets(ctx, &ec2.DescribeSubnetsInput{
			Filters: filters("vpc-id", *vpcs[0].VpcId, "state", "available", "default-for-az", "true"),
		})).Subnets
		if len(subnets) != len(zones) || len(zones) < 2 {
			t.Errorf("%s: %d default subnets in %d zones", r, len(subnets), len(zones))
		}
		groups := must[*ec2.DescribeSecurityGroupsOutput](t)(c.DescribeSecurityGroups(ctx, &ec2.DescribeSecurityGroupsInput{
			Filters: filters("group-name", "default", "vpc-id", *vpcs[0].VpcId),
		})).SecurityGroups
		if len(groups) != 1 {
			t.Errorf("%s: %d default groups", r, len(groups))
		}
		offers := must[*ec2.DescribeInstanceTypeOfferingsOutput](t)(c.DescribeInstanceTypeOfferings(ctx, &ec2.DescribeInstanceTypeOfferingsInput{
			LocationType: types.LocationTypeAvailabilityZone, Filters: filters("location", *zones[0].ZoneName, "instance-type", "t3.micro,t4g.micro"),
		})).InstanceTypeOfferings
		if len(offers) != 1 {
			t.Errorf("%s: %d of t3.micro and t4g.micro offered, want the one that runs here", r, len(offers))
		}
	}
}

// Networks can be made and deleted, but not while something depends on them.
func TestNetworks(t *testing.T) {
	c, _ := start(t)
	ctx := t.Context()
	vpc := must[*ec2.CreateVpcOutput](t)(c.CreateVpc(ctx, &ec2.CreateVpcInput{CidrBlock: aws.String("10.1.0.0/16"), TagSpecifications: []types.TagSpecification{spec("vpc", "Name", "v")}})).Vpc
	subnet := must[*ec2.CreateSubnetOutput](t)(c.CreateSubnet(ctx, &ec2.CreateSubnetInput{VpcId: vpc.VpcId, CidrBlock: aws.String("10.1.2.0/24"), AvailabilityZone: aws.String("us-east-1b")})).Subnet
	_, err := c.CreateSubnet(ctx, &ec2.CreateSubnetInput{VpcId: vpc.VpcId, CidrBlock: aws.String("10.1.2.128/25")})
	refused(t, err, "InvalidSubnet.Conflict")
	_, err = c.DeleteVpc(ctx, &ec2.DeleteVpcInput{VpcId: vpc.VpcId})
	refused(t, err, "DependencyViolation")
	i := launch(t, c, ubuntu(t, c), func(in *ec2.RunInstancesInput) {
		in.NetworkInterfaces = []types.InstanceNetworkInterfaceSpecification{{DeviceIndex: aws.Int32(0), SubnetId: subnet.SubnetId, AssociatePublicIpAddress: aws.Bool(false)}}
	})
	got := instance(t, c, i)
	if *got.VpcId != *vpc.VpcId || *got.Placement.AvailabilityZone != "us-east-1b" || got.PublicIpAddress != nil || aws.ToString(got.PrivateIpAddress) == "" {
		t.Errorf("placed in %s, %s with addresses %v, %v", *got.VpcId, *got.Placement.AvailabilityZone, got.PublicIpAddress, got.PrivateIpAddress)
	}
	_, err = c.DeleteSubnet(ctx, &ec2.DeleteSubnetInput{SubnetId: subnet.SubnetId})
	refused(t, err, "DependencyViolation")
	must[*ec2.TerminateInstancesOutput](t)(c.TerminateInstances(ctx, &ec2.TerminateInstancesInput{InstanceIds: []string{i}}))
	await(t, c, i, types.InstanceStateNameTerminated)
	must[*ec2.DeleteSubnetOutput](t)(c.DeleteSubnet(ctx, &ec2.DeleteSubnetInput{SubnetId: subnet.SubnetId}))
	must[*ec2.DeleteVpcOutput](t)(c.DeleteVpc(ctx, &ec2.DeleteVpcInput{VpcId: vpc.VpcId}))
}

// Keys that are made can be used as EC2's; imported ones are what was imported.
func TestKeyPairs(t *testing.T) {
	c, fake := start(t)
	ctx := t.Context()
	made := map[string]string{}
	for _, kind := range []types.KeyType{types.KeyTypeRsa, types.KeyTypeEd25519} {
		out := must[*ec2.CreateKeyPairOutput](t)(c.CreateKeyPair(ctx, &ec2.CreateKeyPairInput{KeyName: aws.String("k-" + string(kind)), KeyType: kind}))
		s, err := ssh.ParsePrivateKey([]byte(*out.KeyMaterial))
		if err != nil {
			t.Fatalf("%s: %v", kind, err)
		}
		made[*out.KeyName] = string(bytes.TrimSpace(ssh.MarshalAuthorizedKey(s.PublicKey())))
		if kind == types.KeyTypeRsa {
			b, _ := pem.Decode([]byte(*out.KeyMaterial))
			if _, err := x509.ParsePKCS1PrivateKey(b.Bytes); err != nil {
				t.Errorf("not PKCS#1: %v", err)
			}
		}
	}
	must[*ec2.ImportKeyPairOutput](t)(c.ImportKeyPair(ctx, &ec2.ImportKeyPairInput{KeyName: aws.String("imported"), PublicKeyMaterial: []byte(made["k-rsa"] + " somebody"), TagSpecifications: []types.TagSpecification{spec("key-pair", "a", "b")}}))
	_, err := c.ImportKeyPair(ctx, &ec2.ImportKeyPairInput{KeyName: aws.String("bad"), PublicKeyMaterial: []byte("nonsense")})
	refused(t, err, "InvalidKey.Format")
	out := must[*ec2.DescribeKeyPairsOutput](t)(c.DescribeKeyPairs(ctx, &ec2.DescribeKeyPairsInput{Filters: filters("tag:a", "b"), IncludePublicKey: aws.Bool(true)})).KeyPairs
	if len(out) != 1 || *out[0].KeyName != "imported" || *out[0].PublicKey != made["k-rsa"]+" imported" || strings.Count(*out[0].KeyFingerprint, ":") != 15 {
		t.Errorf("imported key is shown as %+v", out)
	}
	i := launch(t, c, ubuntu(t, c), func(in *ec2.RunInstancesInput) { in.KeyName = aws.String("imported") })
	if diff := cmp.Diff([]string{made["k-rsa"] + " imported"}, fake.Spec(i).Keys); diff != "" {
		t.Error(diff)
	}
	for _, k := range []string{"imported", "imported", "never was"} {
		must[*ec2.DeleteKeyPairOutput](t)(c.DeleteKeyPair(ctx, &ec2.DeleteKeyPairInput{KeyName: aws.String(k)}))
	}
	_, err = c.DescribeKeyPairs(ctx, &ec2.DescribeKeyPairsInput{KeyNames: []string{"imported"}})
	refused(t, err, "InvalidKeyPair.NotFound")
}

func TestSecurityGroups(t *testing.T) {
	c, _ := start(t)
	ctx := t.Context()
	g := *must[*ec2.CreateSecurityGroupOutput](t)(c.CreateSecurityGroup(ctx, &ec2.CreateSecurityGroupInput{
		GroupName: aws.String("web"), Description: aws.String("d"), TagSpecifications: []types.TagSpecification{spec("security-group", "a", "b")},
	})).GroupId
	rule := func(cidr string) []types.IpPermission {
		return []types.IpPermission{{IpProtocol: aws.String("tcp"), FromPort: aws.Int32(22), ToPort: aws.Int32(22), IpRanges: []types.IpRange{{CidrIp: aws.String(cidr)}}}}
	}
	for _, cidr := range []string{"10.0.0.0/8", "192.0.2.1/32"} {
		must[*ec2.AuthorizeSecurityGroupIngressOutput](t)(c.AuthorizeSecurityGroupIngress(ctx, &ec2.AuthorizeSecurityGroupIngressInput{GroupId: &g, IpPermissions: rule(cidr)}))
	}
	shown := must[*ec2.DescribeSecurityGroupsOutput](t)(c.DescribeSecurityGroups(ctx, &ec2.DescribeSecurityGroupsInput{Filters: filters("tag-key", "a")})).SecurityGroups
	if len(shown) != 1 || len(shown[0].IpPermissions) != 1 || len(shown[0].IpPermissions[0].IpRanges) != 2 {
		t.Fatalf("shown as %+v", shown)
	}
	must[*ec2.RevokeSecurityGroupIngressOutput](t)(c.RevokeSecurityGroupIngress(ctx, &ec2.RevokeSecurityGroupIngressInput{GroupId: &g, IpPermissions: rule("10.0.0.0/8")}))
	_, err := c.RevokeSecurityGroupIngress(ctx, &ec2.RevokeSecurityGroupIngressInput{GroupId: &g, IpPermissions: rule("10.0.0.0/8")})
	refused(t, err, "InvalidPermission.NotFound")
	must[*ec2.DeleteSecurityGroupOutput](t)(c.DeleteSecurityGroup(ctx, &ec2.DeleteSecurityGroupInput{GroupId: &g}))
}

// A ClientToken that was used before names what it made, if all else is the same.
func TestTokens(t *testing.T) {
	c, _ := start(t)
	ctx := t.Context()
	ami := ubuntu(t, c)
	run := func(token, kind string) (*ec2.RunInstancesOutput, error) {
		return c.RunInstances(ctx, &ec2.RunInstancesInput{
			ImageId: aws.String(ami), MinCount: aws.Int32(2), MaxCount: aws.Int32(2), ClientToken: aws.String(token), InstanceType: types.InstanceType(kind),
		})
	}
	first := must[*ec2.RunInstancesOutput](t)(run("t", "t3.micro"))
	again := must[*ec2.RunInstancesOutput](t)(run("t", "t3.micro"))
	ids := func(o *ec2.RunInstancesOutput) (list []string) {
		for _, i := range o.Instances {
			list = append(list, *i.InstanceId)
		}
		return list
	}
	if diff := cmp.Diff(ids(first), ids(again)); diff != "" || len(first.Instances) != 2 {
		t.Errorf("asked again: %s", diff)
	}
	_, err := run("t", "t3.nano")
	refused(t, err, "IdempotentParameterMismatch")
	await(t, c, ids(first)[0], "running")
	stop(t, c, ids(first)[0])
	img := bake(t, c, ids(first)[0], "web")
	west := in(c, "us-west-2")
	clone := func(c *ec2.Client, token, name string) (*ec2.CopyImageOutput, error) {
		return c.CopyImage(ctx, &ec2.CopyImageInput{SourceRegion: aws.String(region), SourceImageId: img.ImageId, Name: aws.String(name), ClientToken: aws.String(token)})
	}
	a := must[*ec2.CopyImageOutput](t)(clone(west, "t", "web"))
	b := must[*ec2.CopyImageOutput](t)(clone(west, "t", "web"))
	other := must[*ec2.CopyImageOutput](t)(clone(in(c, "eu-west-1"), "t", "web"))
	if *a.ImageId != *b.ImageId || *a.ImageId == *other.ImageId {
		t.Errorf("copies are %s, %s and in another region %s", *a.ImageId, *b.ImageId, *other.ImageId)
	}
	_, err = clone(west, "t", "web2")
	refused(t, err, "IdempotentParameterMismatch")
}

// Images of well-known publishers are stood in for, and say so; no others are.
func TestStandIns(t *testing.T) {
	c, _ := start(t)
	find := func(c *ec2.Client, owner string, kv ...string) []types.Image {
		t.Helper()
		return must[*ec2.DescribeImagesOutput](t)(c.DescribeImages(t.Context(), &ec2.DescribeImagesInput{Owners: []string{owner}, Filters: filters(kv...)})).Images
	}
	const jammy = "ubuntu/images/hvm-ssd/ubuntu-jammy-22.04-amd64-server-*"
	for _, tt := range []struct {
		name, owner string
		filters     []string
		want        string // name; empty: none
	}{
		{"ubuntu", "099720109477", []string{"name", jammy}, "ubuntu/images/hvm-ssd/ubuntu-jammy-22.04-amd64-server-20260101"},
		{"ubuntu by alias", "amazon", []string{"name", jammy}, "ubuntu/images/hvm-ssd/ubuntu-jammy-22.04-amd64-server-20260101"},
		{"ubuntu, exact", "099720109477", []string{"name", "ubuntu/images/hvm-ssd/ubuntu-jammy-22.04-amd64-server-20231207"}, "ubuntu/images/hvm-ssd/ubuntu-jammy-22.04-amd64-server-20231207"},
		{"debian", "136693071363", []string{"name", "debian-12-amd64-*", "architecture", "x86_64"}, "debian-12-amd64-20260101-2257"},
		{"amazon linux", "amazon", []string{"name", "al2023-ami-2023.*-kernel-6.1-x86_64"}, "al2023-ami-2023.9.20260101.0-kernel-6.1-x86_64"},
		{"amazon linux for arm", "amazon", []string{"name", "al2023-ami-2023.*-kernel-6.1-arm64"}, ""},
		{"wrong owner", "136693071363", []string{"name", jammy}, ""},
		{"self", "self", []string{"name", jammy}, ""},
		{"contradiction", "099720109477", []string{"name", jammy, "architecture", "arm64"}, ""},
		{"windows", "amazon", []string{"name", "Windows_Server-2022-English-Full-Base-*"}, ""},
		{"somebody's", "099720109477", []string{"name", "my-base-*"}, ""},
		{"private", "099720109477", []string{"name", jammy, "is-public", "false"}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := find(c, tt.owner, tt.filters...)
			if tt.want == "" {
				if len(got) != 0 {
					t.Fatalf("found %s", *got[0].Name)
				}
				return
			}
			if len(got) != 1 || *got[0].Name != tt.want {
				t.Fatalf("found %+v, want %s", got, tt.want)
			}
			if what := tagMap(got[0].Tags)[localcloud.TagStandIn]; !strings.Contains(what, "host root filesystem") {
				t.Errorf("tag says %q", what)
			}
			again := find(c, tt.owner, tt.filters...)
			if *again[0].ImageId != *got[0].ImageId {
				t.Errorf("asked again: %s, then %s", *got[0].ImageId, *again[0].ImageId)
			}
			if e := find(in(c, "eu-west-1"), tt.owner, tt.filters...); *e[0].ImageId == *got[0].ImageId {
				t.Error("the same id in two regions")
			}
		})
	}
}

// Filters select by every field together, wildcards and pages included.
func TestDescribeImages(t *testing.T) {
	c, _ := start(t)
	ctx := t.Context()
	i := launch(t, c, ubuntu(t, c))
	stop(t, c, i)
	for _, n := range []string{"web/1", "web/2", "dbx"} {
		img := bake(t, c, i, n)
		must[*ec2.CreateTagsOutput](t)(c.CreateTags(ctx, &ec2.CreateTagsInput{Resources: []string{*img.ImageId}, Tags: tags("role", n[:2], "Name", n)}))
	}
	web1 := must[*ec2.DescribeImagesOutput](t)(c.DescribeImages(ctx, &ec2.DescribeImagesInput{Filters: filters("name", "web/1")})).Images[0]
	for _, tt := range []struct {
		name    string
		owners  []string
		filters []types.Filter
		want    string
	}{
		{"mine", []string{"self"}, nil, "dbx web/1 web/2"},
		{"by account", []string{"123456789012"}, nil, "dbx web/1 web/2"},
		{"star", []string{"self"}, filters("name", "web*"), "web/1 web/2"},
		{"question mark", []string{"self"}, filters("name", "?bx"), "dbx"},
		{"either", []string{"self"}, filters("name", "dbx,web/2"), "dbx web/2"},
		{"both", []string{"self"}, filters("name", "web*", "tag:Name", "*1"), "web/1"},
		{"tag key", []string{"self"}, filters("tag-key", "role"), "dbx web/1 web/2"},
		{"tag", nil, filters("tag:role", "we"), "web/1 web/2"},
		{"snapshot", nil, filters("block-device-mapping.snapshot-id", *web1.BlockDeviceMappings[0].Ebs.SnapshotId), "web/1"},
		{"state", []string{"self"}, filters("state", "pending"), ""},
		{"source", nil, filters("source-instance-id", i, "architecture", string(web1.Architecture)), "dbx web/1 web/2"},
		{"created", []string{"self"}, filters("creation-date", time.Now().UTC().Format("2006")+"-*"), "dbx web/1 web/2"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var got []string
			p := ec2.NewDescribeImagesPaginator(c, &ec2.DescribeImagesInput{Owners: tt.owners, Filters: tt.filters, MaxResults: aws.Int32(2)})
			for p.HasMorePages() {
				for _, i := range must[*ec2.DescribeImagesOutput](t)(p.NextPage(ctx)).Images {
					got = append(got, *i.Name)
				}
			}
			slices.Sort(got)
			if s := strings.Join(got, " "); s != tt.want {
				t.Errorf("got %q, want %q", s, tt.want)
			}
		})
	}
}

// What is set on an image is shown on it, and protects or hides it as it says.
func TestImageAttributes(t *testing.T) {
	c, _ := start(t)
	ctx := t.Context()
	i := launch(t, c, ubuntu(t, c))
	stop(t, c, i)
	id := bake(t, c, i, "web").ImageId
	must[*ec2.ModifyImageAttributeOutput](t)(c.ModifyImageAttribute(ctx, &ec2.ModifyImageAttributeInput{ImageId: id, Description: &types.AttributeValue{Value: aws.String("said")}}))
	add := types.LaunchPermission{UserId: aws.String("111122223333")}
	must[*ec2.ModifyImageAttributeOutput](t)(c.ModifyImageAttribute(ctx, &ec2.ModifyImageAttributeInput{
		ImageId: id, UserIds: []string{"111122223333"}, LaunchPermission: &types.LaunchPermissionModifications{Add: []types.LaunchPermission{add}},
	}))
	must[*ec2.ModifyImageAttributeOutput](t)(c.ModifyImageAttribute(ctx, &ec2.ModifyImageAttributeInput{ImageId: id, LaunchPermission: &types.LaunchPermissionModifications{Add: []types.LaunchPermission{{Group: "all"}}}}))
	perms := must[*ec2.DescribeImageAttributeOutput](t)(c.DescribeImageAttribute(ctx, &ec2.DescribeImageAttributeInput{ImageId: id, Attribute: types.ImageAttributeNameLaunchPermission})).LaunchPermissions
	if len(perms) != 2 {
		t.Errorf("permissions are %+v", perms)
	}
	if got := image(t, c, *id); *got.Description != "said" || !*got.Public {
		t.Errorf("description %q, public %v", *got.Description, *got.Public)
	}
	must[*ec2.ResetImageAttributeOutput](t)(c.ResetImageAttribute(ctx, &ec2.ResetImageAttributeInput{ImageId: id, Attribute: types.ResetImageAttributeNameLaunchPermission}))
	if *image(t, c, *id).Public {
		t.Error("still public")
	}
	at := time.Now().Add(48 * time.Hour)
	must[*ec2.EnableImageDeprecationOutput](t)(c.EnableImageDeprecation(ctx, &ec2.EnableImageDeprecationInput{ImageId: id, DeprecateAt: &at}))
	if image(t, c, *id).DeprecationTime == nil {
		t.Error("no deprecation time")
	}
	must[*ec2.DisableImageDeprecationOutput](t)(c.DisableImageDeprecation(ctx, &ec2.DisableImageDeprecationInput{ImageId: id}))
	must[*ec2.EnableImageDeregistrationProtectionOutput](t)(c.EnableImageDeregistrationProtection(ctx, &ec2.EnableImageDeregistrationProtectionInput{ImageId: id}))
	_, err := c.DeregisterImage(ctx, &ec2.DeregisterImageInput{ImageId: id})
	refused(t, err, "OperationNotPermitted")
	must[*ec2.DisableImageDeregistrationProtectionOutput](t)(c.DisableImageDeregistrationProtection(ctx, &ec2.DisableImageDeregistrationProtectionInput{ImageId: id}))
	snap := image(t, c, *id).BlockDeviceMappings[0].Ebs.SnapshotId
	must[*ec2.ModifySnapshotAttributeOutput](t)(c.ModifySnapshotAttribute(ctx, &ec2.ModifySnapshotAttributeInput{SnapshotId: snap, UserIds: []string{"111122223333"}}))
	volume := must[*ec2.DescribeSnapshotAttributeOutput](t)(c.DescribeSnapshotAttribute(ctx, &ec2.DescribeSnapshotAttributeInput{SnapshotId: snap, Attribute: types.SnapshotAttributeNameCreateVolumePermission}))
	if len(volume.CreateVolumePermissions) != 1 {
		t.Errorf("snapshot permissions are %+v", volume.CreateVolumePermissions)
	}
	must[*ec2.DeregisterImageOutput](t)(c.DeregisterImage(ctx, &ec2.DeregisterImageInput{ImageId: id, DeleteAssociatedSnapshots: aws.Bool(true)}))
	_, err = c.DescribeSnapshots(ctx, &ec2.DescribeSnapshotsInput{SnapshotIds: []string{*snap}})
	refused(t, err, "InvalidSnapshot.NotFound")
}

// Tags given at creation are there from the start, on everything.
func TestTags(t *testing.T) {
	c, _ := start(t)
	ctx := t.Context()
	i := launch(t, c, ubuntu(t, c), func(in *ec2.RunInstancesInput) {
		in.TagSpecifications = []types.TagSpecification{spec("instance", "on", "i"), spec("volume", "on", "v"), spec("network-interface", "on", "n")}
	})
	stop(t, c, i)
	out := must[*ec2.CreateImageOutput](t)(c.CreateImage(ctx, &ec2.CreateImageInput{
		InstanceId: &i, Name: aws.String("web"), TagSpecifications: []types.TagSpecification{spec("image", "on", "a"), spec("snapshot", "on", "s")},
	}))
	img := awaitImage(t, c, *out.ImageId)
	all := func() string {
		var got []string
		for _, t := range must[*ec2.DescribeTagsOutput](t)(c.DescribeTags(ctx, &ec2.DescribeTagsInput{Filters: filters("key", "on")})).Tags {
			got = append(got, string(t.ResourceType)+"="+*t.Value)
		}
		slices.Sort(got)
		return strings.Join(got, " ")
	}
	if got, want := all(), "image=a instance=i network-interface=n snapshot=s volume=v"; got != want {
		t.Errorf("tags are %q, want %q", got, want)
	}
	must[*ec2.DeleteTagsOutput](t)(c.DeleteTags(ctx, &ec2.DeleteTagsInput{Resources: []string{i, *img.ImageId}, Tags: []types.Tag{{Key: aws.String("on")}}}))
	must[*ec2.DeleteTagsOutput](t)(c.DeleteTags(ctx, &ec2.DeleteTagsInput{Resources: []string{*img.BlockDeviceMappings[0].Ebs.SnapshotId}, Tags: tags("on", "something else")}))
	if got, want := all(), "network-interface=n snapshot=s volume=v"; got != want {
		t.Errorf("tags are %q, want %q", got, want)
	}
	copied := must[*ec2.CopyImageOutput](t)(in(c, "eu-west-1").CopyImage(ctx, &ec2.CopyImageInput{
		SourceRegion: aws.String(region), SourceImageId: img.ImageId, Name: aws.String("copy"), CopyImageTags: aws.Bool(true), KmsKeyId: aws.String(""),
		TagSpecifications: []types.TagSpecification{spec("image", "more", "x")},
	}))
	if diff := cmp.Diff(map[string]string{"more": "x"}, tagMap(image(t, in(c, "eu-west-1"), *copied.ImageId).Tags)); diff != "" {
		t.Error(diff)
	}
}

// Snapshots outlive what they are of, and images can be registered from them.
func TestSnapshots(t *testing.T) {
	c, fake := start(t)
	ctx := t.Context()
	i := launch(t, c, ubuntu(t, c), func(in *ec2.RunInstancesInput) {
		in.BlockDeviceMappings = []types.BlockDeviceMapping{
			{DeviceName: aws.String("/dev/sda1"), Ebs: &types.EbsBlockDevice{VolumeSize: aws.Int32(20), VolumeType: "gp3", DeleteOnTermination: aws.Bool(false)}},
			{DeviceName: aws.String("/dev/sdf"), Ebs: &types.EbsBlockDevice{VolumeSize: aws.Int32(5)}},
		}
	})
	fake.Write(i, "/kept", "yes")
	volumes := must[*ec2.DescribeVolumesOutput](t)(c.DescribeVolumes(ctx, &ec2.DescribeVolumesInput{Filters: filters("attachment.instance-id", i)})).Volumes
	if len(volumes) != 2 {
		t.Fatalf("%d volumes", len(volumes))
	}
	root := instance(t, c, i).BlockDeviceMappings[0].Ebs.VolumeId
	stop(t, c, i)
	snapshot := func(volume *string) *string {
		t.Helper()
		s := must[*ec2.CreateSnapshotOutput](t)(c.CreateSnapshot(ctx, &ec2.CreateSnapshotInput{VolumeId: volume, Description: aws.String("d")})).SnapshotId
		eventually(t, "snapshot", func() bool {
			return must[*ec2.DescribeSnapshotsOutput](t)(c.DescribeSnapshots(ctx, &ec2.DescribeSnapshotsInput{SnapshotIds: []string{*s}})).Snapshots[0].State == types.SnapshotStateCompleted
		})
		return s
	}
	first := snapshot(root)
	must[*ec2.StartInstancesOutput](t)(c.StartInstances(ctx, &ec2.StartInstancesInput{InstanceIds: []string{i}}))
	await(t, c, i, "running")
	fake.Write(i, "/last", "yes")
	must[*ec2.TerminateInstancesOutput](t)(c.TerminateInstances(ctx, &ec2.TerminateInstancesInput{InstanceIds: []string{i}}))
	await(t, c, i, "terminated")
	left := must[*ec2.DescribeVolumesOutput](t)(c.DescribeVolumes(ctx, &ec2.DescribeVolumesInput{})).Volumes
	if len(left) != 1 || *left[0].VolumeId != *root || left[0].State != types.VolumeStateAvailable {
		t.Fatalf("left are %+v, want the root volume", left)
	}
	last := snapshot(root)
	copied := must[*ec2.CopySnapshotOutput](t)(in(c, "eu-west-1").CopySnapshot(ctx, &ec2.CopySnapshotInput{SourceRegion: aws.String(region), SourceSnapshotId: last}))
	must[*ec2.DeleteVolumeOutput](t)(c.DeleteVolume(ctx, &ec2.DeleteVolumeInput{VolumeId: root}))
	register := func(c *ec2.Client, s *string) string {
		t.Helper()
		out := must[*ec2.RegisterImageOutput](t)(c.RegisterImage(ctx, &ec2.RegisterImageInput{
			Name: aws.String("of " + *s), Architecture: "x86_64", RootDeviceName: aws.String("/dev/xvda"), VirtualizationType: aws.String("hvm"),
			BlockDeviceMappings: []types.BlockDeviceMapping{{DeviceName: aws.String("/dev/xvda"), Ebs: &types.EbsBlockDevice{SnapshotId: s}}},
		}))
		awaitImage(t, c, *out.ImageId)
		return launch(t, c, *out.ImageId)
	}
	for _, tt := range []struct {
		client     *ec2.Client
		snapshot   *string
		kept, last string
	}{{c, first, "yes", ""}, {c, last, "yes", "yes"}, {in(c, "eu-west-1"), copied.SnapshotId, "yes", "yes"}} {
		i := register(tt.client, tt.snapshot)
		if fake.Read(i, "/kept") != tt.kept || fake.Read(i, "/last") != tt.last {
			t.Errorf("%s holds %q and %q, want %q and %q", *tt.snapshot, fake.Read(i, "/kept"), fake.Read(i, "/last"), tt.kept, tt.last)
		}
	}
}

// An instance that ends from inside does as it was told to at launch.
func TestShutdownFromInside(t *testing.T) {
	for behaviour, want := range map[types.ShutdownBehavior]types.InstanceStateName{"": "stopped", "stop": "stopped", "terminate": "terminated"} {
		t.Run("behaviour "+string(behaviour), func(t *testing.T) {
			c, fake := start(t)
			i := launch(t, c, ubuntu(t, c), func(in *ec2.RunInstancesInput) { in.InstanceInitiatedShutdownBehavior = behaviour })
			fake.PowerOff(i)
			await(t, c, i, want)
			if got := *instance(t, c, i).StateReason.Code; got != "Client.InstanceInitiatedShutdown" {
				t.Errorf("reason is %s", got)
			}
		})
	}
}

// What an instance is launched with reaches it, and what is changed is shown.
func TestInstanceAttributes(t *testing.T) {
	c, fake := start(t)
	ctx := t.Context()
	script := "#!/bin/sh\ntouch /x\n"
	i := launch(t, c, ubuntu(t, c), func(in *ec2.RunInstancesInput) {
		in.UserData = aws.String(base64.StdEncoding.EncodeToString([]byte(script)))
		in.MetadataOptions = &types.InstanceMetadataOptionsRequest{HttpTokens: types.HttpTokensStateRequired}
		in.CreditSpecification = &types.CreditSpecificationRequest{CpuCredits: aws.String("unlimited")}
		in.EnclaveOptions = &types.EnclaveOptionsRequest{Enabled: aws.Bool(false)}
	})
	if got := string(fake.Spec(i).UserData); got != script {
		t.Errorf("user data is %q", got)
	}
	if got := instance(t, c, i); got.MetadataOptions.HttpTokens != types.HttpTokensStateRequired || fake.Spec(i).Addr.String() != *got.PublicIpAddress {
		t.Errorf("shown as %+v", got)
	}
	if got := must[*ec2.DescribeInstanceStatusOutput](t)(c.DescribeInstanceStatus(ctx, &ec2.DescribeInstanceStatusInput{InstanceIds: []string{i}})).InstanceStatuses; len(got) != 1 || got[0].InstanceStatus.Status != types.SummaryStatusOk {
		t.Errorf("status is %+v", got)
	}
	_, err := c.ModifyInstanceAttribute(ctx, &ec2.ModifyInstanceAttributeInput{InstanceId: &i, EnaSupport: &types.AttributeBooleanValue{Value: aws.Bool(false)}})
	refused(t, err, "IncorrectInstanceState")
	must[*ec2.ModifyInstanceAttributeOutput](t)(c.ModifyInstanceAttribute(ctx, &ec2.ModifyInstanceAttributeInput{InstanceId: &i, DisableApiTermination: &types.AttributeBooleanValue{Value: aws.Bool(true)}}))
	_, err = c.TerminateInstances(ctx, &ec2.TerminateInstancesInput{InstanceIds: []string{i}})
	refused(t, err, "OperationNotPermitted")
	must[*ec2.RebootInstancesOutput](t)(c.RebootInstances(ctx, &ec2.RebootInstancesInput{InstanceIds: []string{i}}))
	eventually(t, "rebooted", func() bool { s, _ := fake.Status(i); return s.Boots == 2 })
	stop(t, c, i)
	must[*ec2.ModifyInstanceAttributeOutput](t)(c.ModifyInstanceAttribute(ctx, &ec2.ModifyInstanceAttributeInput{InstanceId: &i, EnaSupport: &types.AttributeBooleanValue{Value: aws.Bool(false)}}))
	if v := bake(t, c, i, "web"); *v.EnaSupport {
		t.Error("the image has enaSupport, its instance has not")
	}
	must[*ec2.ModifyInstanceAttributeOutput](t)(c.ModifyInstanceAttribute(ctx, &ec2.ModifyInstanceAttributeInput{InstanceId: &i, Attribute: types.InstanceAttributeNameDisableApiTermination, Value: aws.String("false")}))
	attribute := must[*ec2.DescribeInstanceAttributeOutput](t)(c.DescribeInstanceAttribute(ctx, &ec2.DescribeInstanceAttributeInput{InstanceId: &i, Attribute: types.InstanceAttributeNameDisableApiTermination}))
	if *attribute.DisableApiTermination.Value {
		t.Error("still protected")
	}
}

// An instance that cannot boot is terminated, and says why.
func TestBootFails(t *testing.T) {
	fake := localcloudtest.NewFake()
	fake.OnStart = func(sandbox.Spec) error { return errors.New("no space left") }
	cloud := localcloudtest.StartWith(t, localcloud.Config{Host: fake})
	c := ec2.NewFromConfig(cloud.Config(region))
	out := must[*ec2.RunInstancesOutput](t)(c.RunInstances(t.Context(), &ec2.RunInstancesInput{ImageId: aws.String(ubuntu(t, c)), MinCount: aws.Int32(1), MaxCount: aws.Int32(1)}))
	i := *out.Instances[0].InstanceId
	await(t, c, i, "terminated")
	if got := instance(t, c, i).StateReason; *got.Code != "Server.InternalError" || !strings.Contains(*got.Message, "no space left") {
		t.Errorf("reason is %s: %s", *got.Code, *got.Message)
	}
}

// A capture that fails leaves a failed image that says why, and the instance as it was.
func TestCaptureFails(t *testing.T) {
	fake := localcloudtest.NewFake()
	fake.OnFreeze = func(string, string) error { return errors.New("no space left") }
	cloud := localcloudtest.StartWith(t, localcloud.Config{Host: fake})
	c := ec2.NewFromConfig(cloud.Config(region))
	i := launch(t, c, ubuntu(t, c))
	out := must[*ec2.CreateImageOutput](t)(c.CreateImage(t.Context(), &ec2.CreateImageInput{InstanceId: &i, Name: aws.String("web")}))
	eventually(t, "failed", func() bool { return image(t, c, *out.ImageId).State == types.ImageStateFailed })
	if got := *image(t, c, *out.ImageId).StateReason.Message; !strings.Contains(got, "no space left") {
		t.Errorf("reason is %s", got)
	}
	eventually(t, "runs again", func() bool { s, _ := fake.Status(i); return s.State == "running" && s.Boots == 2 })
}

// With delays, every state on the way can be seen.
func TestDelays(t *testing.T) {
	cloud := localcloudtest.StartWith(t, localcloud.Config{Host: localcloudtest.NewFake(), Delays: 0.01})
	c := ec2.NewFromConfig(cloud.Config(region))
	began := time.Now()
	out := must[*ec2.RunInstancesOutput](t)(c.RunInstances(t.Context(), &ec2.RunInstancesInput{ImageId: aws.String(ubuntu(t, c)), MinCount: aws.Int32(1), MaxCount: aws.Int32(1)}))
	i := *out.Instances[0].InstanceId
	if got := out.Instances[0].State.Name; got != "pending" {
		t.Errorf("launched as %s", got)
	}
	await(t, c, i, "running")
	if d := time.Since(began); d < 160*time.Millisecond {
		t.Errorf("running after %v", d)
	}
	change := must[*ec2.StopInstancesOutput](t)(c.StopInstances(t.Context(), &ec2.StopInstancesInput{InstanceIds: []string{i}})).StoppingInstances[0]
	if change.PreviousState.Name != "running" || change.CurrentState.Name != "stopping" {
		t.Errorf("from %s to %s", change.PreviousState.Name, change.CurrentState.Name)
	}
	await(t, c, i, "stopped")
	began = time.Now()
	bake(t, c, i, "web")
	if d := time.Since(began); d < 600*time.Millisecond {
		t.Errorf("available after %v", d)
	}
}

// Many at once get on, each with an address of its own.
func TestManyAtOnce(t *testing.T) {
	c, fake := start(t)
	ami := ubuntu(t, c)
	var all sync.WaitGroup
	var mu sync.Mutex
	addrs := map[string]bool{}
	for range 10 {
		all.Go(func() {
			out, err := c.RunInstances(t.Context(), &ec2.RunInstancesInput{ImageId: aws.String(ami), MinCount: aws.Int32(1), MaxCount: aws.Int32(1)})
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			addrs[*out.Instances[0].PrivateIpAddress] = true
			mu.Unlock()
			await(t, c, *out.Instances[0].InstanceId, "running")
			img, err := c.CreateImage(t.Context(), &ec2.CreateImageInput{InstanceId: out.Instances[0].InstanceId, Name: out.Instances[0].InstanceId})
			if err != nil {
				t.Error(err)
				return
			}
			awaitImage(t, c, *img.ImageId)
		})
	}
	all.Wait()
	if len(addrs) != 10 {
		t.Errorf("%d addresses for 10 instances", len(addrs))
	}
	if l, _ := fake.Layers(); len(l) != 10 {
		t.Errorf("%d layers for 10 images", len(l))
	}
}

// The APIs beside EC2 say as much as there is to say.
func TestIdentity(t *testing.T) {
	cloud := localcloudtest.StartWith(t, localcloud.Config{Host: localcloudtest.NewFake(), Account: "210987654321"})
	s := sts.NewFromConfig(cloud.Config(region))
	me := must[*sts.GetCallerIdentityOutput](t)(s.GetCallerIdentity(t.Context(), &sts.GetCallerIdentityInput{}))
	if *me.Account != "210987654321" {
		t.Errorf("account is %s", *me.Account)
	}
	_, err := s.AssumeRole(t.Context(), &sts.AssumeRoleInput{RoleArn: aws.String("arn:aws:iam::210987654321:role/x"), RoleSessionName: aws.String("x")})
	refused(t, err, "AccessDenied")
	i := iam.NewFromConfig(cloud.Config(region))
	_, err = i.GetRole(t.Context(), &iam.GetRoleInput{RoleName: aws.String("x")})
	refused(t, err, "NoSuchEntity")
	_, err = i.CreateRole(t.Context(), &iam.CreateRoleInput{RoleName: aws.String("x"), AssumeRolePolicyDocument: aws.String("{}")})
	refused(t, err, "UnsupportedOperation")
}

// Instance profiles are made, named at a launch, in any region, and seen.
func TestInstanceProfiles(t *testing.T) {
	cloud := localcloudtest.StartWith(t, localcloud.Config{Host: localcloudtest.NewFake(), Account: "210987654321"})
	i := iam.NewFromConfig(cloud.Config(region))
	name := aws.String("web+db")
	_, err := i.GetInstanceProfile(t.Context(), &iam.GetInstanceProfileInput{InstanceProfileName: name})
	refused(t, err, "NoSuchEntity")
	made := must[*iam.CreateInstanceProfileOutput](t)(i.CreateInstanceProfile(t.Context(), &iam.CreateInstanceProfileInput{InstanceProfileName: name, Path: aws.String("/bake/")}))
	arn := *made.InstanceProfile.Arn
	if arn != "arn:aws:iam::210987654321:instance-profile/bake/web+db" || made.InstanceProfile.CreateDate.IsZero() {
		t.Errorf("made %+v", made.InstanceProfile)
	}
	_, err = i.CreateInstanceProfile(t.Context(), &iam.CreateInstanceProfileInput{InstanceProfileName: name})
	refused(t, err, "EntityAlreadyExists")
	for _, bad := range []iam.CreateInstanceProfileInput{{InstanceProfileName: aws.String("a b")}, {InstanceProfileName: aws.String("a"), Path: aws.String("bake")}} {
		_, err = i.CreateInstanceProfile(t.Context(), &bad)
		refused(t, err, "ValidationError")
	}
	got := must[*iam.GetInstanceProfileOutput](t)(i.GetInstanceProfile(t.Context(), &iam.GetInstanceProfileInput{InstanceProfileName: name}))
	if *got.InstanceProfile.InstanceProfileId != *made.InstanceProfile.InstanceProfileId {
		t.Errorf("got %+v", got.InstanceProfile)
	}
	for path, n := range map[string]int{"": 1, "/bake/": 1, "/other/": 0} {
		list := must[*iam.ListInstanceProfilesOutput](t)(i.ListInstanceProfiles(t.Context(), &iam.ListInstanceProfilesInput{PathPrefix: aws.String(path)}))
		if len(list.InstanceProfiles) != n {
			t.Errorf("below %q: %+v", path, list.InstanceProfiles)
		}
	}
	for _, in := range []string{region, "eu-west-1"} {
		c := ec2.NewFromConfig(cloud.Config(in))
		ami := ubuntu(t, c)
		for _, spec := range []types.IamInstanceProfileSpecification{{Name: name}, {Arn: aws.String(arn)}} {
			out := must[*ec2.RunInstancesOutput](t)(c.RunInstances(t.Context(), &ec2.RunInstancesInput{ImageId: aws.String(ami), MinCount: aws.Int32(1), MaxCount: aws.Int32(1), IamInstanceProfile: &spec}))
			if p := out.Instances[0].IamInstanceProfile; p == nil || *p.Arn != arn || *p.Id != *made.InstanceProfile.InstanceProfileId {
				t.Errorf("in %s: %+v", in, p)
			}
		}
		for _, spec := range []types.IamInstanceProfileSpecification{{Name: aws.String("other")}, {Arn: aws.String(arn + "x")}} {
			_, err := c.RunInstances(t.Context(), &ec2.RunInstancesInput{ImageId: aws.String(ami), MinCount: aws.Int32(1), MaxCount: aws.Int32(1), IamInstanceProfile: &spec})
			refused(t, err, "InvalidParameterValue")
		}
	}
	must[*iam.DeleteInstanceProfileOutput](t)(i.DeleteInstanceProfile(t.Context(), &iam.DeleteInstanceProfileInput{InstanceProfileName: name}))
	_, err = i.DeleteInstanceProfile(t.Context(), &iam.DeleteInstanceProfileInput{InstanceProfileName: name})
	refused(t, err, "NoSuchEntity")
}
