package localcloud_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"
	"github.com/google/go-cmp/cmp"

	"github.com/bakehouse-farm/bakehouse/localcloud"
	"github.com/bakehouse-farm/bakehouse/localcloud/faults"
	"github.com/bakehouse-farm/bakehouse/localcloud/localcloudtest"
	"github.com/bakehouse-farm/bakehouse/localcloud/record"
)

// laboratory starts a cloud on a fake host that a test breaks.
func laboratory(t *testing.T) (*localcloudtest.Cloud, *ec2.Client, *localcloudtest.Fake) {
	t.Helper()
	fake := localcloudtest.NewFake()
	c := localcloudtest.StartWith(t, localcloud.Config{Host: fake})
	return c, ec2.NewFromConfig(c.Config(region)), fake
}

func misbehave(t *testing.T, c *localcloudtest.Cloud, r faults.Rule) faults.Rule {
	t.Helper()
	r, err := c.Faults().Add(r)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func entries(t *testing.T, c *localcloudtest.Cloud, f record.Filter) []record.Entry {
	t.Helper()
	var list []record.Entry
	if err := c.Record(f, func(e record.Entry) bool { list = append(list, e); return true }); err != nil {
		t.Fatal(err)
	}
	return list
}

func createGroup(t *testing.T, c *ec2.Client, name string) error {
	t.Helper()
	_, err := c.CreateSecurityGroup(t.Context(), &ec2.CreateSecurityGroupInput{
		GroupName: &name, Description: aws.String("d"),
		TagSpecifications: []types.TagSpecification{{ResourceType: "security-group", Tags: []types.Tag{{Key: aws.String(localcloud.TagBuild), Value: aws.String("b-" + name)}}}},
	})
	return err
}

// Each kind that concerns a request answers as EC2 would, takes effect or not as
// it says, and is on record.
func TestFaultyAnswers(t *testing.T) {
	for _, tt := range []struct {
		rule   faults.Rule
		code   string // empty: no answer at all
		status int
		effect bool
	}{
		{faults.Rule{Kind: faults.Throttle}, "RequestLimitExceeded", 503, false},
		{faults.Rule{Kind: faults.Internal}, "InternalError", 500, false},
		{faults.Rule{Kind: faults.Unavailable}, "Unavailable", 503, false},
		{faults.Rule{Kind: faults.Expired}, "RequestExpired", 400, false},
		{faults.Rule{Kind: faults.Expired, Code: "ExpiredToken"}, "ExpiredToken", 403, false},
		{faults.Rule{Kind: faults.Expired, Code: "AuthFailure"}, "AuthFailure", 401, false},
		{faults.Rule{Kind: faults.Unauthorized}, "UnauthorizedOperation", 403, false},
		{faults.Rule{Kind: faults.Reset}, "", 0, false},
		{faults.Rule{Kind: faults.Lost}, "", 0, true},
		{faults.Rule{Kind: faults.Lost500}, "InternalError", 500, true},
	} {
		t.Run(string(tt.rule.Kind)+tt.rule.Code, func(t *testing.T) {
			cloud, c, _ := laboratory(t)
			tt.rule.Count, tt.rule.Actions = 1, []string{"CreateSecurityGroup"}
			rule := misbehave(t, cloud, tt.rule)
			err := createGroup(t, c, "web")
			var api smithy.APIError
			var resp *smithyhttp.ResponseError
			switch {
			case tt.code == "":
				if !errors.Is(err, syscall.ECONNRESET) {
					t.Errorf("got %v, want a reset", err)
				}
			case !errors.As(err, &api) || api.ErrorCode() != tt.code:
				t.Errorf("got %v, want %s", err, tt.code)
			case !errors.As(err, &resp) || resp.HTTPStatusCode() != tt.status:
				t.Errorf("got %v, want status %d", err, tt.status)
			}
			groups := must[*ec2.DescribeSecurityGroupsOutput](t)(c.DescribeSecurityGroups(t.Context(), &ec2.DescribeSecurityGroupsInput{
				Filters: []types.Filter{{Name: aws.String("group-name"), Values: []string{"web"}}},
			}))
			if got := len(groups.SecurityGroups) == 1; got != tt.effect {
				t.Errorf("took effect: %v, want %v", got, tt.effect)
			}
			if got := cloud.Faults().List()[0]; got.Hits != 1 {
				t.Errorf("hits %d", got.Hits)
			}
			list := entries(t, cloud, record.Filter{Fault: rule.ID})
			if len(list) != 1 {
				t.Fatalf("on record %d times", len(list))
			}
			e := list[0]
			if e.Action != "CreateSecurityGroup" || !slices.Equal(e.Builds, []string{"b-web"}) || (len(e.Changes) == 1) != tt.effect || e.AccessKey != "test" {
				t.Errorf("on record: %+v", e)
			}
			if tt.effect && e.Answer == "" || !tt.effect && tt.code != "" && e.Code != tt.code {
				t.Errorf("on record: answer %q, code %q", e.Answer, e.Code)
			}
			// The same again, once the rule rests.
			err = createGroup(t, c, "web")
			if tt.effect {
				refused(t, err, "InvalidGroup.Duplicate")
			} else if err != nil {
				t.Error(err)
			}
		})
	}
}

// Behind a wrapper that hides the connection, an answer is lost all the same.
func TestLostBehindWrapper(t *testing.T) {
	type hidden struct{ http.ResponseWriter }
	cloud := localcloudtest.StartWith(t, localcloud.Config{Host: localcloudtest.NewFake(), Wrap: func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { h.ServeHTTP(hidden{w}, r) })
	}})
	misbehave(t, cloud, faults.Rule{Kind: faults.Lost, Count: 1})
	c := ec2.NewFromConfig(cloud.Config(region))
	err := createGroup(t, c, "web")
	var api smithy.APIError
	if err == nil || errors.As(err, &api) {
		t.Errorf("got %v", err)
	}
	refused(t, createGroup(t, c, "web"), "InvalidGroup.Duplicate")
}

// STS, too, has answers to lose; and a rule may be about one access key.
func TestFaultsOfOthers(t *testing.T) {
	cloud, c, _ := laboratory(t)
	misbehave(t, cloud, faults.Rule{Kind: faults.Expired, Code: "ExpiredToken", AccessKey: "OLD*"})
	conf := cloud.Config(region)
	conf.Credentials = credentials.NewStaticCredentialsProvider("OLDKEY", "x", "")
	_, err := sts.NewFromConfig(conf).GetCallerIdentity(t.Context(), nil)
	refused(t, err, "ExpiredToken")
	_, err = ec2.NewFromConfig(conf).DescribeRegions(t.Context(), nil)
	refused(t, err, "ExpiredToken")
	if _, err := c.DescribeRegions(t.Context(), nil); err != nil {
		t.Errorf("another key: %v", err)
	}
}

// Only requests about the build are hit: by the tag in the request, by that of
// what it names, by a filter, by a name.
func TestFaultsOfABuild(t *testing.T) {
	cloud, c, _ := laboratory(t)
	if err := errors.Join(createGroup(t, c, "mine"), createGroup(t, c, "other")); err != nil {
		t.Fatal(err)
	}
	groups := must[*ec2.DescribeSecurityGroupsOutput](t)(c.DescribeSecurityGroups(t.Context(), &ec2.DescribeSecurityGroupsInput{}))
	id := map[string]string{}
	for _, g := range groups.SecurityGroups {
		id[*g.GroupName] = *g.GroupId
	}
	misbehave(t, cloud, faults.Rule{Kind: faults.Throttle, Build: "b-mine"})
	describe := func(in *ec2.DescribeSecurityGroupsInput) func() error {
		return func() error { _, err := c.DescribeSecurityGroups(t.Context(), in); return err }
	}
	filter := func(key, value string) *ec2.DescribeSecurityGroupsInput {
		return &ec2.DescribeSecurityGroupsInput{Filters: []types.Filter{{Name: aws.String(key), Values: []string{"z", value}}}}
	}
	for _, tt := range []struct {
		name string
		call func() error
		hit  bool
	}{
		{"tag of the resource", describe(&ec2.DescribeSecurityGroupsInput{GroupIds: []string{id["mine"]}}), true},
		{"among others", describe(&ec2.DescribeSecurityGroupsInput{GroupIds: []string{id["other"], id["mine"]}}), true},
		{"other resource", describe(&ec2.DescribeSecurityGroupsInput{GroupIds: []string{id["other"]}}), false},
		{"filter", describe(filter("tag:"+localcloud.TagBuild, "b-mine")), true},
		{"other filter", describe(filter("tag:"+localcloud.TagBuild, "b-other")), false},
		{"tag of the request", func() error { return createGroup(t, c, "mine") }, true},
		{"name", func() error {
			_, err := c.DeleteKeyPair(t.Context(), &ec2.DeleteKeyPairInput{KeyName: aws.String("bakehouse-b-mine")})
			return err
		}, true},
		{"all", describe(&ec2.DescribeSecurityGroupsInput{}), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := tt.call(); (err != nil) != tt.hit {
				t.Errorf("got %v", err)
			}
		})
	}
}

// A slow answer comes late; what was asked for is done at once.
func TestSlow(t *testing.T) {
	cloud, c, _ := laboratory(t)
	misbehave(t, cloud, faults.Rule{Kind: faults.Slow, Delay: 400 * time.Millisecond, Actions: []string{"CreateSecurityGroup"}})
	begin := time.Now()
	done := make(chan error, 1)
	go func() { done <- createGroup(t, c, "web") }()
	eventually(t, "done", func() bool {
		return len(entries(t, cloud, record.Filter{Action: "CreateSecurityGroup", Effects: true})) == 1
	})
	select {
	case <-done:
		t.Error("answered as soon as it was done")
	default:
	}
	if err := <-done; err != nil || time.Since(begin) < 400*time.Millisecond {
		t.Errorf("answered after %s: %v", time.Since(begin), err)
	}
}

// What was just made is not there yet for those who look, whatever it is, in
// EC2's words; it is there for those who do not look but act.
func TestUnseen(t *testing.T) {
	cloud, c, _ := laboratory(t)
	ctx := t.Context()
	ami := ubuntu(t, c)
	// Long enough for a slow machine; ended by removing the rule.
	rule := misbehave(t, cloud, faults.Rule{Kind: faults.Unseen, Delay: faults.MaxLag, Actions: []string{"Describe*", "Modify*", "CreateTags", "StopInstances"}})
	must[*ec2.ImportKeyPairOutput](t)(c.ImportKeyPair(ctx, &ec2.ImportKeyPairInput{KeyName: aws.String("k"), PublicKeyMaterial: publicOf(t, *must[*ec2.CreateKeyPairOutput](t)(c.CreateKeyPair(ctx, &ec2.CreateKeyPairInput{KeyName: aws.String("k0")})).KeyMaterial)}))
	group := *must[*ec2.CreateSecurityGroupOutput](t)(c.CreateSecurityGroup(ctx, &ec2.CreateSecurityGroupInput{GroupName: aws.String("g"), Description: aws.String("d")})).GroupId
	run := must[*ec2.RunInstancesOutput](t)(c.RunInstances(ctx, &ec2.RunInstancesInput{
		ImageId: &ami, MinCount: aws.Int32(1), MaxCount: aws.Int32(1), KeyName: aws.String("k"), SecurityGroupIds: []string{group}, ClientToken: aws.String("once"),
	}))
	i := *run.Instances[0].InstanceId
	again := must[*ec2.RunInstancesOutput](t)(c.RunInstances(ctx, &ec2.RunInstancesInput{
		ImageId: &ami, MinCount: aws.Int32(1), MaxCount: aws.Int32(1), KeyName: aws.String("k"), SecurityGroupIds: []string{group}, ClientToken: aws.String("once"),
	}))
	if *again.Instances[0].InstanceId != i {
		t.Errorf("the token made %s, then %s", i, *again.Instances[0].InstanceId)
	}
	eventually(t, "running", func() bool {
		list := must[[]localcloud.Resource](t)(cloud.Census(localcloud.Search{}))
		return slices.ContainsFunc(list, func(r localcloud.Resource) bool { return r.ID == i && r.State == "running" })
	})
	img := *must[*ec2.CreateImageOutput](t)(c.CreateImage(ctx, &ec2.CreateImageInput{InstanceId: &i, Name: aws.String("web")})).ImageId
	var snap string
	for _, r := range must[[]localcloud.Resource](t)(cloud.Census(localcloud.Search{})) {
		if r.Kind == "snapshot" {
			snap = r.ID
		}
	}
	filter := func(name, value string) []types.Filter {
		return []types.Filter{{Name: aws.String(name), Values: []string{value}}}
	}
	looks := []struct {
		name, code string
		look       func() (found int, err error)
	}{
		{"instance", "InvalidInstanceID.NotFound", func() (int, error) {
			_, err := c.DescribeInstances(ctx, &ec2.DescribeInstancesInput{InstanceIds: []string{i}})
			return 1, err
		}},
		{"status", "InvalidInstanceID.NotFound", func() (int, error) {
			_, err := c.DescribeInstanceStatus(ctx, &ec2.DescribeInstanceStatusInput{InstanceIds: []string{i}})
			return 1, err
		}},
		{"instances by filter", "", func() (int, error) {
			out, err := c.DescribeInstances(ctx, &ec2.DescribeInstancesInput{Filters: filter("client-token", "once")})
			return len(out.Reservations), err
		}},
		{"attribute", "InvalidInstanceID.NotFound", func() (int, error) {
			_, err := c.ModifyInstanceAttribute(ctx, &ec2.ModifyInstanceAttributeInput{InstanceId: &i, DisableApiStop: &types.AttributeBooleanValue{Value: aws.Bool(false)}})
			return 1, err
		}},
		{"stop", "InvalidInstanceID.NotFound", func() (int, error) {
			_, err := c.StopInstances(ctx, &ec2.StopInstancesInput{InstanceIds: []string{i}, DryRun: aws.Bool(true)})
			var api smithy.APIError
			if errors.As(err, &api) && api.ErrorCode() == "DryRunOperation" {
				err = nil
			}
			return 1, err
		}},
		{"tags of an instance", "InvalidInstanceID.NotFound", func() (int, error) {
			_, err := c.CreateTags(ctx, &ec2.CreateTagsInput{Resources: []string{i}, Tags: []types.Tag{{Key: aws.String("a"), Value: aws.String("b")}}})
			return 1, err
		}},
		{"image", "InvalidAMIID.NotFound", func() (int, error) {
			_, err := c.DescribeImages(ctx, &ec2.DescribeImagesInput{ImageIds: []string{img}})
			return 1, err
		}},
		{"images by name", "", func() (int, error) {
			out, err := c.DescribeImages(ctx, &ec2.DescribeImagesInput{Owners: []string{"self"}, Filters: filter("name", "web")})
			return len(out.Images), err
		}},
		{"image attribute", "InvalidAMIID.NotFound", func() (int, error) {
			_, err := c.ModifyImageAttribute(ctx, &ec2.ModifyImageAttributeInput{ImageId: &img, Description: &types.AttributeValue{Value: aws.String("d")}})
			return 1, err
		}},
		{"snapshot", "InvalidSnapshot.NotFound", func() (int, error) {
			_, err := c.DescribeSnapshots(ctx, &ec2.DescribeSnapshotsInput{SnapshotIds: []string{snap}})
			return 1, err
		}},
		{"tags of a snapshot", "InvalidSnapshot.NotFound", func() (int, error) {
			_, err := c.CreateTags(ctx, &ec2.CreateTagsInput{Resources: []string{snap}, Tags: []types.Tag{{Key: aws.String("a"), Value: aws.String("b")}}})
			return 1, err
		}},
		{"key pair", "InvalidKeyPair.NotFound", func() (int, error) {
			_, err := c.DescribeKeyPairs(ctx, &ec2.DescribeKeyPairsInput{KeyNames: []string{"k"}})
			return 1, err
		}},
		{"security group", "InvalidGroup.NotFound", func() (int, error) {
			_, err := c.DescribeSecurityGroups(ctx, &ec2.DescribeSecurityGroupsInput{GroupIds: []string{group}})
			return 1, err
		}},
		{"volumes", "", func() (int, error) {
			out, err := c.DescribeVolumes(ctx, &ec2.DescribeVolumesInput{})
			return len(out.Volumes), err
		}},
	}
	for _, l := range looks {
		if n, err := l.look(); l.code != "" {
			refused(t, err, l.code)
		} else if err != nil || n != 0 {
			t.Errorf("%s: %d, %v", l.name, n, err)
		}
	}
	// What was always there is there, and does not count as a hit.
	before := cloud.Faults().List()[0].Hits
	if before != len(looks) {
		t.Errorf("%d hits, want %d", before, len(looks))
	}
	if out, err := c.DescribeVpcs(ctx, &ec2.DescribeVpcsInput{}); err != nil || len(out.Vpcs) != 1 {
		t.Errorf("networks: %v, %v", out, err)
	}
	if image(t, c, ami).State != "available" {
		t.Error("the source image")
	}
	if got := cloud.Faults().List()[0].Hits; got != before {
		t.Errorf("%d hits of what was always there", got-before)
	}
	if err := cloud.Faults().Remove(rule.ID); err != nil {
		t.Fatal(err)
	}
	for _, l := range looks {
		if n, err := l.look(); err != nil || n == 0 {
			t.Errorf("%s, later: %d, %v", l.name, n, err)
		}
	}
}

// Time alone makes things appear.
func TestSeenAfterAWhile(t *testing.T) {
	cloud, c, _ := laboratory(t)
	misbehave(t, cloud, faults.Rule{Kind: faults.Unseen, Delay: 300 * time.Millisecond, Resources: []string{"security-group"}})
	begin := time.Now()
	if err := createGroup(t, c, "g"); err != nil {
		t.Fatal(err)
	}
	look := func() int {
		return len(must[*ec2.DescribeSecurityGroupsOutput](t)(c.DescribeSecurityGroups(t.Context(), &ec2.DescribeSecurityGroupsInput{
			Filters: []types.Filter{{Name: aws.String("group-name"), Values: []string{"g"}}},
		})).SecurityGroups)
	}
	eventually(t, "appears", func() bool { return look() == 1 })
	if d := time.Since(begin); d < 300*time.Millisecond {
		t.Errorf("appeared after %s", d)
	}
}

// Describe shows what was, all the time or to and fro; tags alone, if wanted.
func TestStale(t *testing.T) {
	cloud, c, _ := laboratory(t)
	i := launch(t, c, ubuntu(t, c))
	rule := misbehave(t, cloud, faults.Rule{Kind: faults.Stale, Delay: faults.MaxLag, Resources: []string{"tags"}, Probability: 0.5, Seed: 3})
	must[*ec2.CreateTagsOutput](t)(c.CreateTags(t.Context(), &ec2.CreateTagsInput{Resources: []string{i}, Tags: []types.Tag{{Key: aws.String("a"), Value: aws.String("b")}}}))
	seen := map[int]int{}
	for range 40 {
		got := instance(t, c, i)
		if got.State.Name != "running" {
			t.Fatalf("state %s: only tags lag", got.State.Name)
		}
		seen[len(got.Tags)]++
	}
	if seen[0] < 5 || seen[1] < 5 || seen[0]+seen[1] != 40 {
		t.Errorf("without and with the tag: %v", seen)
	}
	if err := cloud.Faults().Remove(rule.ID); err != nil {
		t.Fatal(err)
	}
	// The state lags by the time that it says: what it was then, not what it was last.
	rule = misbehave(t, cloud, faults.Rule{Kind: faults.Stale, Delay: faults.MaxLag, Resources: []string{"instance"}})
	_, err := c.DescribeInstances(t.Context(), &ec2.DescribeInstancesInput{InstanceIds: []string{i}})
	refused(t, err, "InvalidInstanceID.NotFound")
	if err := cloud.Faults().Remove(rule.ID); err != nil {
		t.Fatal(err)
	}
	stop(t, c, i)
	time.Sleep(50 * time.Millisecond)
	misbehave(t, cloud, faults.Rule{Kind: faults.Stale, Delay: 40 * time.Millisecond})
	if got := instance(t, c, i).State.Name; got != "stopped" {
		t.Errorf("state of 40 ms ago: %s", got)
	}
}

// There is no room for an instance: said at once, or noticed later.
func TestCapacity(t *testing.T) {
	cloud, c, fake := laboratory(t)
	ctx := t.Context()
	ami := ubuntu(t, c)
	run := func(token string) (*ec2.RunInstancesOutput, error) {
		return c.RunInstances(ctx, &ec2.RunInstancesInput{ImageId: &ami, MinCount: aws.Int32(1), MaxCount: aws.Int32(1), ClientToken: &token})
	}
	misbehave(t, cloud, faults.Rule{Kind: faults.Capacity, Count: 1})
	_, err := run("a")
	refused(t, err, "InsufficientInstanceCapacity")

	misbehave(t, cloud, faults.Rule{Kind: faults.Die, Count: 1, Delay: 50 * time.Millisecond})
	out := must[*ec2.RunInstancesOutput](t)(run("a"))
	i := *out.Instances[0].InstanceId
	if got := out.Instances[0].State.Name; got != "pending" {
		t.Errorf("begins %s", got)
	}
	await(t, c, i, "terminated")
	if got := instance(t, c, i).StateReason; *got.Code != "Server.InsufficientInstanceCapacity" || !strings.HasPrefix(*got.Message, "Server.InsufficientInstanceCapacity: ") {
		t.Errorf("because of %s: %s", *got.Code, *got.Message)
	}
	if s := fake.Spec(i); s.ID != "" {
		t.Error("it has been booted")
	}
	// The same token means the same, dead instance; another one lives.
	if again := must[*ec2.RunInstancesOutput](t)(run("a")); *again.Instances[0].InstanceId != i || again.Instances[0].State.Name != "terminated" {
		t.Errorf("the token again: %s is %s", *again.Instances[0].InstanceId, again.Instances[0].State.Name)
	}
	await(t, c, *must[*ec2.RunInstancesOutput](t)(run("b")).Instances[0].InstanceId, "running")
	misbehave(t, cloud, faults.Rule{Kind: faults.Die, Code: "Server.InternalError"})
	i = *must[*ec2.RunInstancesOutput](t)(run("c")).Instances[0].InstanceId
	await(t, c, i, "terminated")
	if got := *instance(t, c, i).StateReason.Code; got != "Server.InternalError" {
		t.Errorf("because of %s", got)
	}
	var states []string
	for _, r := range must[[]localcloud.Resource](t)(cloud.Census(localcloud.Search{})) {
		if r.ID == i {
			for _, m := range r.History {
				states = append(states, m.State)
			}
		}
	}
	if diff := cmp.Diff([]string{"pending", "shutting-down", "terminated"}, states); diff != "" {
		t.Error(diff)
	}
}

// Images, copies and snapshots fail, or take their time.
func TestDoomedImages(t *testing.T) {
	cloud, c, fake := laboratory(t)
	ctx := t.Context()
	west := in(c, "us-west-2")
	i := launch(t, c, ubuntu(t, c))
	stop(t, c, i)
	create := func(name string) string {
		return *must[*ec2.CreateImageOutput](t)(c.CreateImage(ctx, &ec2.CreateImageInput{InstanceId: &i, Name: &name})).ImageId
	}
	fails := func(c *ec2.Client, id string) types.Image {
		t.Helper()
		eventually(t, id+" failed", func() bool {
			if got := image(t, c, id).State; got != "pending" {
				if got != "failed" {
					t.Fatalf("%s is %s", id, got)
				}
				return true
			}
			return false
		})
		return image(t, c, id)
	}
	misbehave(t, cloud, faults.Rule{Kind: faults.Fail, Actions: []string{"CreateImage"}, Count: 1, Delay: 50 * time.Millisecond})
	if got := fails(c, create("one")).StateReason; *got.Code != "Server.InternalError" {
		t.Errorf("because of %+v", got)
	}
	// What is throttled begins nothing that could fail: the fault waits for what does.
	misbehave(t, cloud, faults.Rule{Kind: faults.Fail, Actions: []string{"CreateImage"}, Count: 1, Delay: 50 * time.Millisecond})
	misbehave(t, cloud, faults.Rule{Kind: faults.Throttle, Actions: []string{"CreateImage"}, Count: 1})
	_, err := c.CreateImage(ctx, &ec2.CreateImageInput{InstanceId: &i, Name: aws.String("throttled")})
	refused(t, err, "RequestLimitExceeded")
	fails(c, create("throttled"))
	one := create("one") // a failed image does not keep its name
	awaitImage(t, c, one)
	misbehave(t, cloud, faults.Rule{Kind: faults.Fail, Regions: []string{"us-west-2"}, Count: 1, Code: "Client.Whatever", Message: "so be it"})
	copied := *must[*ec2.CopyImageOutput](t)(west.CopyImage(ctx, &ec2.CopyImageInput{SourceRegion: aws.String(region), SourceImageId: &one, Name: aws.String("one")})).ImageId
	if got := fails(west, copied).StateReason; *got.Message != "Client.Whatever: so be it" {
		t.Errorf("because of %s", *got.Message)
	}
	misbehave(t, cloud, faults.Rule{Kind: faults.Fail, Actions: []string{"CreateSnapshot"}, Count: 1})
	snap := *must[*ec2.CreateSnapshotOutput](t)(c.CreateSnapshot(ctx, &ec2.CreateSnapshotInput{VolumeId: instance(t, c, i).BlockDeviceMappings[0].Ebs.VolumeId})).SnapshotId
	eventually(t, snap+" error", func() bool {
		got := must[*ec2.DescribeSnapshotsOutput](t)(c.DescribeSnapshots(ctx, &ec2.DescribeSnapshotsInput{SnapshotIds: []string{snap}})).Snapshots[0]
		return got.State == "error" && strings.Contains(*got.StateMessage, "Server.InternalError")
	})
	misbehave(t, cloud, faults.Rule{Kind: faults.Linger, Delay: 400 * time.Millisecond})
	begin := time.Now()
	img := awaitImage(t, c, create("late"))
	if d := time.Since(begin); d < 400*time.Millisecond {
		t.Errorf("available after %s", d)
	}
	if n := launch(t, c, *img.ImageId); fake.Spec(n).ID == "" {
		t.Error("nothing booted from it")
	}
}

// What was asked before a restart is on record after it, and rules go on.
func TestRecordOutlivesRestart(t *testing.T) {
	dir, fake := t.TempDir(), localcloudtest.NewFake()
	var list []record.Entry
	for n := range 3 {
		cloud, err := localcloud.New(localcloud.Config{Dir: dir, Host: fake})
		if err != nil {
			t.Fatal(err)
		}
		server := httptest.NewServer(cloud)
		c := ec2.NewFromConfig(localcloudtest.Config(server.URL, region))
		if n == 0 {
			if _, err := cloud.Faults().Add(faults.Rule{ID: "second", Kind: faults.Throttle, Actions: []string{"CreateSecurityGroup"}, Probability: 0.5, Seed: 1, Count: 1}); err != nil {
				t.Fatal(err)
			}
		}
		for k := range 4 {
			_ = createGroup(t, c, string(rune('a'+n*4+k)))
		}
		list = nil
		if err := cloud.Record(record.Filter{Action: "CreateSecurityGroup"}, func(e record.Entry) bool { list = append(list, e); return true }); err != nil {
			t.Fatal(err)
		}
		server.Close()
		if err := cloud.Close(); err != nil {
			t.Fatal(err)
		}
	}
	hits, effects := 0, 0
	for n, e := range list {
		if n > 0 && e.Seq <= list[n-1].Seq {
			t.Errorf("entry %d comes after %d", e.Seq, list[n-1].Seq)
		}
		hits += len(e.Faults)
		effects += len(e.Changes)
	}
	if len(list) != 12 || hits != 1 || effects != 11 {
		t.Errorf("%d entries, %d hits, %d groups", len(list), hits, effects)
	}
}

// The census knows what exists and whose it is, and leaves out what nobody made.
func TestCensus(t *testing.T) {
	cloud, c, _ := laboratory(t)
	ami := ubuntu(t, c)
	tag := func(v string) []types.Tag {
		return []types.Tag{{Key: aws.String(localcloud.TagBuild), Value: aws.String(v)}}
	}
	i := launch(t, c, ami, func(in *ec2.RunInstancesInput) {
		in.TagSpecifications = []types.TagSpecification{{ResourceType: "instance", Tags: tag("b1")}, {ResourceType: "volume", Tags: tag("b1")}}
	})
	if err := createGroup(t, in(c, "eu-west-1"), "g"); err != nil {
		t.Fatal(err)
	}
	kinds := func(s localcloud.Search) []string {
		var list []string
		for _, r := range must[[]localcloud.Resource](t)(cloud.Census(s)) {
			list = append(list, strings.TrimSpace(r.Region+" "+r.Kind+" "+r.State))
		}
		return list
	}
	for _, tt := range []struct {
		name   string
		search localcloud.Search
		want   []string
	}{
		{"all", localcloud.Search{}, []string{"eu-west-1 security-group", "us-east-1 instance running", "us-east-1 network-interface", "us-east-1 volume"}},
		{"region", localcloud.Search{Region: "eu-west-1"}, []string{"eu-west-1 security-group"}},
		{"tag", localcloud.Search{Tags: map[string]string{localcloud.TagBuild: "b1"}}, []string{"us-east-1 instance running", "us-east-1 volume"}},
		{"any value", localcloud.Search{Tags: map[string]string{localcloud.TagBuild: "*"}, Region: "eu-west-1"}, []string{"eu-west-1 security-group"}},
		{"nothing", localcloud.Search{Tags: map[string]string{localcloud.TagBuild: "b2"}}, nil},
	} {
		if diff := cmp.Diff(tt.want, kinds(tt.search)); diff != "" {
			t.Errorf("%s: %s", tt.name, diff)
		}
	}
	if given := kinds(localcloud.Search{Region: "eu-west-1", Given: true}); !slices.Contains(given, "eu-west-1 vpc") || !slices.Contains(given, "eu-west-1 image available") {
		t.Errorf("given: %v", given)
	}
	must[*ec2.TerminateInstancesOutput](t)(c.TerminateInstances(t.Context(), &ec2.TerminateInstancesInput{InstanceIds: []string{i}}))
	await(t, c, i, "terminated")
	// An instance that the API forgets is known still.
	if err := cloud.Reset(t.Context()); err != nil {
		t.Fatal(err)
	}
	gone := must[[]localcloud.Resource](t)(cloud.Census(localcloud.Search{Gone: true}))
	if len(gone) != 1 || gone[0].ID != i || !gone[0].Gone || gone[0].State != "terminated" || gone[0].Tags[localcloud.TagBuild] != "b1" {
		t.Fatalf("gone: %+v", gone)
	}
	var acts []string
	for _, m := range gone[0].History {
		acts = append(acts, strings.TrimSpace(m.State+" "+m.Action))
	}
	if diff := cmp.Diff([]string{"pending RunInstances", "running", "shutting-down TerminateInstances", "terminated"}, acts); diff != "" {
		t.Error(diff)
	}
}
