package amazon

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"golang.org/x/crypto/ssh"

	"github.com/bakehouse-farm/bakehouse"
	"github.com/bakehouse-farm/bakehouse/builders"
)

func testBuild(t *testing.T, more map[string]any) bakehouse.Build {
	t.Helper()
	s := settingsFor("web-1")
	for k, v := range more {
		s[k] = v
	}
	raw, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	return bakehouse.Build{
		ID: "build-7", Name: "amazon-ebs.web", Type: "amazon-ebs", Source: "web",
		Started: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), ExpiresAt: time.Date(2026, 1, 3, 0, 0, 0, 0, time.UTC), Settings: raw,
	}
}

func testKey(t *testing.T, seed byte) string {
	t.Helper()
	key, err := ssh.NewPublicKey(ed25519.NewKeyFromSeed([]byte(strings.Repeat(string(seed), 32))).Public())
	if err != nil {
		t.Fatal(err)
	}
	return string(ssh.MarshalAuthorizedKey(key))
}

// insist calls step, with a new agent each time, as the farm does: until it
// succeeds, or fails for good. It returns how often it was called.
func insist(t *testing.T, f *fakeCloud, step func(*EBS) error) int {
	t.Helper()
	for n := 1; ; n++ {
		err := step(f.agent())
		if err == nil {
			return n
		}
		if n == 5 || bakehouse.KindOf(err).Final() {
			t.Fatalf("call %d: %v (%s)", n, err, bakehouse.KindOf(err))
		}
	}
}

// What took effect although its answer was lost is found again: each request
// that makes something makes it once.
func TestLostAnswers(t *testing.T) {
	ctx := t.Context()
	var r builders.Resolved
	var groups []string
	var m builders.Machine
	var img builders.Image
	steps := []struct {
		action, kind string
		step         func(b bakehouse.Build) func(*EBS) error
		want         int
	}{
		{"ImportKeyPair", "key", func(b bakehouse.Build) func(*EBS) error {
			return func(e *EBS) error { return e.KeyPair(ctx, b, r, testKey(t, 'k')) }
		}, 1},
		{"CreateSecurityGroup AuthorizeSecurityGroupIngress", "group", func(b bakehouse.Build) func(*EBS) error {
			return func(e *EBS) (err error) { groups, err = e.SecurityGroup(ctx, b, r); return err }
		}, 1},
		{"RunInstances", "instance", func(b bakehouse.Build) func(*EBS) error {
			return func(e *EBS) (err error) { m, err = e.Launch(ctx, b, r, groups); return err }
		}, 1},
		{"DescribeInstances", "instance", func(b bakehouse.Build) func(*EBS) error {
			return func(e *EBS) (err error) { m, err = e.Await(ctx, b, m); return err }
		}, 1},
		{"StopInstances", "instance", func(b bakehouse.Build) func(*EBS) error {
			return func(e *EBS) (err error) { return e.Stop(ctx, b, r, m) }
		}, 1},
		{"CreateImage", "image", func(b bakehouse.Build) func(*EBS) error {
			return func(e *EBS) (err error) {
				if img, _, err = e.Capture(ctx, b, r, m); err != nil {
					return err
				}
				img, err = e.AwaitImage(ctx, b, img)
				return err
			}
		}, 1},
		{"CopyImage", "image", func(b bakehouse.Build) func(*EBS) error {
			return func(e *EBS) error { _, err := e.Copy(ctx, b, r, img, "us-west-2"); return err }
		}, 2},
		{"DeleteTags", "image", func(b bakehouse.Build) func(*EBS) error {
			return func(e *EBS) error { return e.Finish(ctx, b, r, img) }
		}, 2},
		{"TerminateInstances", "instance", func(b bakehouse.Build) func(*EBS) error {
			return func(e *EBS) error { return e.Release(ctx, b, r, builders.Holding{}) }
		}, 0},
	}
	for _, tags := range []string{"seen by tag", "seen by token and name only"} {
		t.Run(tags, func(t *testing.T) {
			f := newFake()
			b := testBuild(t, nil)
			var err error
			if r, err = f.agent().Resolve(ctx, b); err != nil {
				t.Fatal(err)
			}
			for _, st := range steps {
				actions := strings.Fields(st.action)
				for _, a := range actions {
					f.lose[a] = 1
				}
				f.blind = tags != "seen by tag" && slices.Contains([]string{"RunInstances", "CreateImage", "CopyImage"}, st.action)
				calls := insist(t, f, st.step(b))
				for _, a := range actions {
					if f.lose[a] != 0 {
						t.Errorf("%s was not called", a)
					}
				}
				// A poller bears trouble by itself; everything else is called again.
				if calls < len(actions)+1 && st.action != "DescribeInstances" {
					t.Errorf("%s: called %d times: a lost answer was not noticed", st.action, calls)
				}
				f.blind = false
				if got := f.count(st.kind, b.ID); got != st.want {
					t.Errorf("%s, answer lost: %d of kind %s, want %d", st.action, got, st.kind, st.want)
				}
			}
			if left, _ := f.left(ctx, b.ID); len(left) > 0 {
				t.Errorf("left %v", left)
			}
		})
	}
}

// Names that others have taken are never touched.
func TestForeign(t *testing.T) {
	ctx := t.Context()
	f, b := newFake(), testBuild(t, map[string]any{"temporary_key_pair_name": "ours"})
	r, err := f.agent().Resolve(ctx, b)
	if err != nil {
		t.Fatal(err)
	}
	f.add("us-east-1", "key", map[string]string{"name": "ours"}, nil, nil)
	f.add("us-east-1", "group", map[string]string{"name": ownName(b)}, nil, nil)
	f.add("us-east-1", "image", map[string]string{"name": "web-1", "state": "available", "owner": "self"}, nil, nil)
	for name, err := range map[string]error{
		"key pair": f.agent().KeyPair(ctx, b, r, testKey(t, 'k')),
		"group":    second(f.agent().SecurityGroup(ctx, b, r)),
		"image":    third(f.agent().Capture(ctx, b, r, builders.Machine{ID: "i-1"})),
		"resolve":  second(f.agent().Resolve(ctx, b)),
	} {
		if bakehouse.KindOf(err) != bakehouse.Conflict {
			t.Errorf("%s: %v (%s), want a conflict", name, err, bakehouse.KindOf(err))
		}
	}
	if f.get("us-east-1", "key", "ours") == nil || f.get("us-east-1", "image", "web-1") == nil {
		t.Error("something foreign is gone")
	}
	if err := f.agent().Release(ctx, b, r, builders.Holding{}); err != nil {
		t.Fatal(err)
	}
	if f.get("us-east-1", "key", "ours") == nil {
		t.Error("release has taken a foreign key pair")
	}
}

// A release that was cut off does not begin to wait again for what its earlier
// calls have removed: cut off often enough, it would never end.
func TestReleaseWaitsOnceInAll(t *testing.T) {
	f, b := newFake(), testBuild(t, nil)
	e := f.agent()
	r, err := e.Resolve(t.Context(), b)
	if err != nil {
		t.Fatal(err)
	}
	h := builders.Holding{Made: []string{"i-removed-by-an-earlier-call"}}
	short, cancel := context.WithTimeout(t.Context(), visible/10)
	defer cancel()
	if err := e.Release(short, b, r, h); err == nil {
		t.Error("a first call did not wait for what lists may not show yet")
	}
	h.Since = time.Now().Add(-2 * visible)
	long, cancel := context.WithTimeout(t.Context(), visible/2)
	defer cancel()
	if err := e.Release(long, b, r, h); err != nil {
		t.Error(err)
	}
}

// What cannot be removed because of something that lists do not show yet, or
// that a request made which was on its way meanwhile, goes as soon as that can
// be seen, and not only when waiting for what clings has come to its end.
func TestReleaseLooksAgainForWhatHolds(t *testing.T) {
	b := testBuild(t, nil)
	image := func(f *fakeCloud, step string) builders.Image {
		tags := tagList(marked(b, step, nil))
		img := f.addImage("us-east-1", "bakehouse-"+step, []types.TagSpecification{
			{ResourceType: types.ResourceTypeImage, Tags: tags}, {ResourceType: types.ResourceTypeSnapshot, Tags: tags},
		}, nil)
		img.unseen = 3
		return builders.Image{Region: "us-east-1", ID: img.id, Snapshots: img.parts}
	}
	tests := []struct {
		name string
		step func(ctx context.Context, t *testing.T, f *fakeCloud, r builders.Resolved) error
	}{
		{"image of a snapshot", func(ctx context.Context, _ *testing.T, f *fakeCloud, r builders.Resolved) error {
			image(f, stepCapture)
			return f.agent().Release(ctx, b, r, builders.Holding{})
		}},
		{"snapshot of such an image, not seen either", func(ctx context.Context, _ *testing.T, f *fakeCloud, r builders.Resolved) error {
			img := image(f, stepCapture)
			other := f.add("us-east-1", "snapshot", map[string]string{"owner": "self"}, marked(b, stepCapture, nil), nil)
			other.unseen = 100
			it := f.get("us-east-1", "image", img.ID)
			it.parts = append(it.parts, other.id)
			return f.agent().Release(ctx, b, r, builders.Holding{})
		}},
		{"checkpoint", func(ctx context.Context, _ *testing.T, f *fakeCloud, _ builders.Resolved) error {
			return f.agent().Forget(ctx, b, image(f, stepCheckpoint+"-1"))
		}},
		{"machine of a volume", func(ctx context.Context, t *testing.T, f *fakeCloud, r builders.Resolved) error {
			e := f.agent()
			m := launched(t, e, b, r)
			f.get("us-east-1", "instance", m.ID).unseen = 3
			return e.Release(ctx, b, r, builders.Holding{})
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := newFake()
			r, err := f.agent().Resolve(t.Context(), b)
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), clinging/2)
			defer cancel()
			if err := tt.step(ctx, t, f, r); err != nil {
				t.Error(err)
			}
			if left, _ := f.left(t.Context(), b.ID); len(left) > 0 {
				t.Errorf("left %v", left)
			}
		})
	}
}

func second[A any](_ A, err error) error        { return err }
func third[A, B any](_ A, _ B, err error) error { return err }

// A key pair of ours with another key makes room: the key was made anew by an
// agent that did not know of the first.
func TestKeyPairReplaced(t *testing.T) {
	ctx := t.Context()
	f, b := newFake(), testBuild(t, nil)
	r, err := f.agent().Resolve(ctx, b)
	if err != nil {
		t.Fatal(err)
	}
	for _, seed := range []byte{'a', 'b', 'b'} {
		if err := f.agent().KeyPair(ctx, b, r, testKey(t, seed)); err != nil {
			t.Fatal(err)
		}
	}
	in := f.get("us-east-1", "key", r.KeyPair).in.(*ec2.ImportKeyPairInput)
	if want := strings.TrimSpace(testKey(t, 'b')); string(in.PublicKeyMaterial) != want {
		t.Errorf("key pair holds %s, want %s", in.PublicKeyMaterial, want)
	}
	if n := count(f.calls, "ImportKeyPair"); n != 4 { // a, b (taken), b again, b (is there)
		t.Errorf("imported %d times, want 4", n)
	}
}

func count(list []string, s string) (n int) {
	for _, v := range list {
		if v == s {
			n++
		}
	}
	return n
}

// An image of the same name is replaced just before the new one is made, its
// snapshots go when the new one is there.
func TestForceDeregister(t *testing.T) {
	ctx := t.Context()
	f := newFake()
	b := testBuild(t, map[string]any{"force_delete_snapshot": true})
	b.Force = true
	old := f.addImage("us-east-1", "web-1", nil, nil)
	old.fields["state"], old.fields["protection"] = "available", "enabled"
	e := f.agent()
	r, err := e.Resolve(ctx, b)
	if err != nil {
		t.Fatal(err)
	}
	if f.get("us-east-1", "image", old.id) == nil {
		t.Fatal("resolve has removed the old image")
	}
	m := launched(t, e, b, r)
	img, _, err := e.Capture(ctx, b, r, m)
	if err != nil {
		t.Fatal(err)
	}
	if f.get("us-east-1", "image", old.id) != nil || f.get("us-east-1", "snapshot", old.parts[0]) == nil {
		t.Error("capture must remove the old image, and not yet its snapshots")
	}
	if img, err = e.AwaitImage(ctx, b, img); err != nil {
		t.Fatal(err)
	}
	if err := e.Finish(ctx, b, r, img); err != nil {
		t.Fatal(err)
	}
	if f.get("us-east-1", "snapshot", old.parts[0]) != nil {
		t.Error("the old snapshot is still there")
	}
	if tags := f.get("us-east-1", "image", img.ID).tags; tags[bakehouse.TagExpiresAt] != "" || tags["from"] != "debian-12" {
		t.Errorf("tags of the finished image: %v", tags)
	}
	if err := e.Release(ctx, b, r, builders.Holding{Keep: []builders.Image{img}}); err != nil {
		t.Fatal(err)
	}
}

func launched(t *testing.T, e *EBS, b bakehouse.Build, r builders.Resolved) builders.Machine {
	t.Helper()
	groups, err := e.SecurityGroup(t.Context(), b, r)
	if err != nil {
		t.Fatal(err)
	}
	m, err := e.Launch(t.Context(), b, r, groups)
	if err != nil {
		t.Fatal(err)
	}
	if m, err = e.Await(t.Context(), b, m); err != nil {
		t.Fatal(err)
	}
	return m
}

// A volume that outlives its instance goes too, and one failure does not keep
// the rest from being removed.
func TestReleaseGoesOn(t *testing.T) {
	ctx := t.Context()
	f, b := newFake(), testBuild(t, map[string]any{"run_volume_tags": map[string]string{"stays": "yes"}})
	e := f.agent()
	r, err := e.Resolve(ctx, b)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.KeyPair(ctx, b, r, testKey(t, 'k')); err != nil {
		t.Fatal(err)
	}
	launched(t, e, b, r)
	f.fail["DescribeSnapshots"] = apiError("RequestLimitExceeded", "slow down")
	f.fail["DescribeVolumes"] = apiError("UnauthorizedOperation", "no")
	err = e.Release(ctx, b, r, builders.Holding{})
	if err == nil || bakehouse.KindOf(err) != bakehouse.Trouble {
		t.Errorf("release: %v (%s), want trouble, since another try may help", err, bakehouse.KindOf(err))
	}
	for _, kind := range []string{"instance", "group", "key"} {
		if n := f.count(kind, b.ID); n != 0 {
			t.Errorf("%d of kind %s left", n, kind)
		}
	}
	clear(f.fail)
	if err := e.Release(ctx, b, r, builders.Holding{}); err != nil {
		t.Fatal(err)
	}
	if left, _ := f.left(ctx, b.ID); len(left) > 0 {
		t.Errorf("left %v", left)
	}
}

// What the platform gives up on is final, with its reason.
func TestGivenUp(t *testing.T) {
	ctx := t.Context()
	tests := []struct {
		kind, state string
		want        bakehouse.Kind
		do          func(e *EBS, b bakehouse.Build, r builders.Resolved, m builders.Machine, img builders.Image) error
	}{
		{"instance", "terminated", bakehouse.Gone, func(e *EBS, b bakehouse.Build, _ builders.Resolved, m builders.Machine, _ builders.Image) error {
			return second(e.Await(ctx, b, m))
		}},
		{"instance", "terminated", bakehouse.Gone, func(e *EBS, b bakehouse.Build, r builders.Resolved, m builders.Machine, _ builders.Image) error {
			return e.Stop(ctx, b, r, m)
		}},
		{"image", "failed", bakehouse.Failed, func(e *EBS, b bakehouse.Build, _ builders.Resolved, _ builders.Machine, img builders.Image) error {
			return second(e.AwaitImage(ctx, b, img))
		}},
	}
	for i, tt := range tests {
		t.Run(fmt.Sprint(i, tt.kind), func(t *testing.T) {
			f, b := newFake(), testBuild(t, nil)
			e := f.agent()
			r, err := e.Resolve(ctx, b)
			if err != nil {
				t.Fatal(err)
			}
			m := launched(t, e, b, r)
			img, _, err := e.Capture(ctx, b, r, m)
			if err != nil {
				t.Fatal(err)
			}
			for _, th := range f.things {
				if th.kind == tt.kind && th.id != "ami-0000base" {
					th.fields["state"], th.fields["reason"] = tt.state, "the disk is on fire"
				}
			}
			err = tt.do(e, b, r, m, img)
			if bakehouse.KindOf(err) != tt.want || !strings.Contains(fmt.Sprint(err), "the disk is on fire") {
				t.Errorf("%v (%s), want %s with the reason", err, bakehouse.KindOf(err), tt.want)
			}
		})
	}
}

// Limits of the template end a wait, as a Timeout that says how to raise it.
func TestLimit(t *testing.T) {
	f, b := newFake(), testBuild(t, map[string]any{"aws_polling": map[string]any{"max_attempts": 1, "delay_seconds": 1}})
	e := f.agent()
	r, err := e.Resolve(t.Context(), b)
	if err != nil {
		t.Fatal(err)
	}
	m := launched(t, e, b, r)
	img, _, err := e.Capture(t.Context(), b, r, m)
	if err != nil {
		t.Fatal(err)
	}
	f.mu.Lock()
	f.get("us-east-1", "image", img.ID).looks = 1 << 30
	f.mu.Unlock()
	_, err = e.AwaitImage(t.Context(), b, img)
	if bakehouse.KindOf(err) != bakehouse.Timeout || !strings.Contains(err.Error(), "aws_polling") {
		t.Errorf("%v (%s), want a timeout", err, bakehouse.KindOf(err))
	}
}

// A wait ends with the cause of its context.
func TestWaitStops(t *testing.T) {
	f, b := newFake(), testBuild(t, nil)
	e := f.agent()
	r, err := e.Resolve(t.Context(), b)
	if err != nil {
		t.Fatal(err)
	}
	m := launched(t, e, b, r)
	f.mu.Lock()
	f.get("us-east-1", "instance", m.ID).fields["state"] = "pending"
	f.get("us-east-1", "instance", m.ID).looks = 1 << 30
	f.mu.Unlock()
	ctx, stop := context.WithCancelCause(t.Context())
	time.AfterFunc(20*time.Millisecond, func() { stop(bakehouse.ErrStop) })
	if _, err := e.Await(ctx, b, m); !errors.Is(err, bakehouse.ErrStop) {
		t.Errorf("await: %v, want the cause of its context", err)
	}
}

// The requests that a full template leads to.
func TestRequests(t *testing.T) {
	f := newFake()
	b := testBuild(t, map[string]any{
		"encrypt_boot": true, "kms_key_id": "alias/home", "region_kms_key_ids": map[string]string{"us-west-2": "alias/west", "eu-west-1": ""},
		"associate_public_ip_address": false, "subnet_id": "subnet-1", "user_data": "#!/bin/sh\n",
		"run_tags": map[string]string{"who": "{{ .SourceAMIOwner }}"}, "run_volume_tag": []map[string]string{{"name": "v", "value": "1"}},
		"metadata_options": map[string]any{"http_endpoint": "disabled"}, "enable_unlimited_credits": true,
		"launch_block_device_mappings": []map[string]any{
			{"device_name": "/dev/xvda", "volume_size": 9, "volume_type": "gp2", "iops": 3000, "encrypted": true},
			{"device_name": "/dev/xvdb", "no_device": true},
			{"device_name": "/dev/xvdc", "virtual_name": "ephemeral0"},
		},
	})
	f.add("us-east-1", "subnet", map[string]string{"zone": "us-east-1b", "vpc-id": "vpc-9"}, nil, nil).id = "subnet-1"
	e := f.agent()
	r, err := e.Resolve(t.Context(), b)
	if err != nil {
		t.Fatal(err)
	}
	m := launched(t, e, b, r)
	in := f.get("us-east-1", "instance", m.ID).in.(*ec2.RunInstancesInput)
	ni := in.NetworkInterfaces[0]
	checks := map[string]bool{
		"no subnet beside an interface":  in.SubnetId == nil && in.SecurityGroupIds == nil,
		"subnet":                         aws.ToString(ni.SubnetId) == "subnet-1" && !aws.ToBool(ni.AssociatePublicIpAddress) && len(ni.Groups) == 1,
		"zone":                           aws.ToString(in.Placement.AvailabilityZone) == "us-east-1b",
		"user data":                      aws.ToString(in.UserData) == "IyEvYmluL3NoCg==",
		"credits":                        aws.ToString(in.CreditSpecification.CpuCredits) == "unlimited",
		"no metadata":                    in.MetadataOptions.HttpEndpoint == types.InstanceMetadataEndpointStateDisabled,
		"tags of the instance":           specTags(in.TagSpecifications, types.ResourceTypeInstance)["who"] == "amazon",
		"tags of the volume":             specTags(in.TagSpecifications, types.ResourceTypeVolume)["v"] == "1",
		"the build's tags on the volume": specTags(in.TagSpecifications, types.ResourceTypeVolume)[bakehouse.TagBuild] == string(b.ID),
		"expiry":                         specTags(in.TagSpecifications, types.ResourceTypeInstance)[bakehouse.TagExpiresAt] == "2026-01-03T00:00:00Z",
		"no iops for gp2":                in.BlockDeviceMappings[0].Ebs.Iops == nil && aws.ToInt32(in.BlockDeviceMappings[0].Ebs.VolumeSize) == 9,
		"kept on termination":            !aws.ToBool(in.BlockDeviceMappings[0].Ebs.DeleteOnTermination),
		"no device":                      in.BlockDeviceMappings[1].NoDevice != nil && in.BlockDeviceMappings[1].Ebs == nil,
		"ephemeral":                      aws.ToString(in.BlockDeviceMappings[2].VirtualName) == "ephemeral0",
		"key pair":                       aws.ToString(in.KeyName) == "bakehouse-build-7",
		"intermediate":                   r.Intermediate && slices.Equal(r.CopyRegions, []string{"eu-west-1", "us-east-1", "us-west-2"}),
	}
	img, _, err := e.Capture(t.Context(), b, r, m)
	if err != nil {
		t.Fatal(err)
	}
	checks["name of the intermediate image"] = f.get("us-east-1", "image", img.ID).fields["name"] == "bakehouse-build-7"
	for region, key := range map[string]string{"us-east-1": "alias/home", "us-west-2": "alias/west", "eu-west-1": ""} {
		c, err := e.Copy(t.Context(), b, r, img, region)
		if err != nil {
			t.Fatal(err)
		}
		in := f.get(region, "image", c.ID).in.(*ec2.CopyImageInput)
		checks["key in "+region] = aws.ToBool(in.Encrypted) && aws.ToString(in.KmsKeyId) == key && aws.ToString(in.Name) == "web-1"
		checks["source region in "+region] = aws.ToString(in.SourceRegion) == "us-east-1"
	}
	for name, ok := range checks {
		if !ok {
			t.Errorf("%s: not as it should be\n%+v", name, in)
		}
	}
}
