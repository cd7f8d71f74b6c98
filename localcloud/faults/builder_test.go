package faults_test

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"log/slog"
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
	"github.com/bakehouse-farm/bakehouse/builders/amazon"
	"github.com/bakehouse-farm/bakehouse/localcloud"
	"github.com/bakehouse-farm/bakehouse/localcloud/faults"
	"github.com/bakehouse-farm/bakehouse/localcloud/localcloudtest"
	"github.com/bakehouse-farm/bakehouse/localcloud/record"
)

// A bake is one build of the amazon builder, step by step as a farm takes it:
// each step with a new agent, and again until it succeeds or fails for good.
type bake struct {
	cloud *localcloudtest.Cloud
	build bakehouse.Build
	tries int
}

func newBake(t *testing.T, cloud *localcloudtest.Cloud) *bake {
	t.Helper()
	out, err := ec2.NewFromConfig(cloud.Config("us-east-1")).DescribeImages(t.Context(), &ec2.DescribeImagesInput{
		Filters: []types.Filter{{Name: aws.String("name"), Values: []string{"localcloud/host-root"}}},
	})
	if err != nil || len(out.Images) != 1 {
		t.Fatalf("no image to start from: %v, %v", out, err)
	}
	raw, err := json.Marshal(map[string]any{
		"region": "us-east-1", "ami_name": "web", "source_ami": *out.Images[0].ImageId, "instance_type": "t3.micro",
		"ssh_username": "admin", "ami_regions": []string{"us-west-2"}, "tags": map[string]string{"a": "b"},
		"access_key": "test", "secret_key": "test", "max_retries": 2, "ena_support": true,
	})
	if err != nil {
		t.Fatal(err)
	}
	return &bake{cloud: cloud, build: bakehouse.Build{
		ID: "build-1", Name: "amazon-ebs.web", Type: "amazon-ebs", Source: "web", Settings: raw,
		Started: time.Now().UTC(), ExpiresAt: time.Now().Add(time.Hour).UTC(),
	}}
}

// insist takes a step until it succeeds or fails for good.
func (b *bake) insist(ctx context.Context, name string, step func(*amazon.EBS) error) error {
	for n := 1; ; n++ {
		b.tries++
		err := step(amazon.NewEBS(amazon.Config{
			Options: []func(*aws.Config){func(c *aws.Config) { c.BaseEndpoint = aws.String(b.cloud.URL) }},
			Getenv:  func(string) string { return "" },
		}))
		switch {
		case err == nil:
			return nil
		case bakehouse.KindOf(err).Final(), ctx.Err() != nil:
			return fmt.Errorf("%s: %w", name, err)
		case n == 30:
			return fmt.Errorf("%s, 30 times: %w", name, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// run takes all steps. between is called when the machine runs.
func (b *bake) run(ctx context.Context, between func()) (images []builders.Image, err error) {
	key, err := ssh.NewPublicKey(ed25519.NewKeyFromSeed([]byte(strings.Repeat("k", 32))).Public())
	if err != nil {
		return nil, err
	}
	var r builders.Resolved
	var groups []string
	var m builders.Machine
	var img builders.Image
	for _, s := range []struct {
		name string
		do   func(*amazon.EBS) error
	}{
		{"resolve", func(e *amazon.EBS) (err error) { r, err = e.Resolve(ctx, b.build); return err }},
		{"key pair", func(e *amazon.EBS) error {
			return e.KeyPair(ctx, b.build, r, string(ssh.MarshalAuthorizedKey(key)))
		}},
		{"security group", func(e *amazon.EBS) (err error) { groups, err = e.SecurityGroup(ctx, b.build, r); return err }},
		{"launch", func(e *amazon.EBS) (err error) { m, err = e.Launch(ctx, b.build, r, groups); return err }},
		{"await", func(e *amazon.EBS) error {
			up, err := e.Await(ctx, b.build, m)
			if err == nil {
				m = up
			}
			return err
		}},
		{"between", func(*amazon.EBS) error { between(); return nil }},
		{"stop", func(e *amazon.EBS) error { return e.Stop(ctx, b.build, r, m) }},
		{"capture", func(e *amazon.EBS) (err error) { img, _, err = e.Capture(ctx, b.build, r, m); return err }},
		{"await image", func(e *amazon.EBS) error {
			done, err := e.AwaitImage(ctx, b.build, img)
			if err == nil {
				images = append(images, done)
			}
			return err
		}},
		{"copy", func(e *amazon.EBS) (err error) {
			img, err = e.Copy(ctx, b.build, r, images[0], r.CopyRegions[0])
			return err
		}},
		{"await copy", func(e *amazon.EBS) error {
			done, err := e.AwaitImage(ctx, b.build, img)
			if err == nil {
				images = append(images, done)
			}
			return err
		}},
		{"finish", func(e *amazon.EBS) error { return e.Finish(ctx, b.build, r, images[0]) }},
		{"finish copy", func(e *amazon.EBS) error { return e.Finish(ctx, b.build, r, images[1]) }},
	} {
		if err = b.insist(ctx, s.name, s.do); err != nil {
			images = nil
			break
		}
	}
	released := b.insist(ctx, "release", func(e *amazon.EBS) error { return e.Release(ctx, b.build, r, builders.Holding{Keep: images}) })
	if err == nil {
		err = released
	} else if released != nil {
		err = fmt.Errorf("%w; %v", err, released) //nolint:errorlint // the first is what counts
	}
	return images, err
}

// What the amazon builder survives, and what it gives up for; and that nothing
// is left, either way, nor made twice.
func TestBuilder(t *testing.T) {
	acts := []string{"Run*", "Create*", "Copy*", "Import*", "Stop*", "Terminate*", "Delete*", "Deregister*", "Modify*", "Authorize*"}
	for _, tt := range []struct {
		name  string
		rules []faults.Rule
		fault localcloud.Act // what becomes of the running machine
		hits  int            // at least so many, of all rules
		gives bakehouse.Kind // empty: the build succeeds
		why   string         // what the error names
	}{
		{name: "nothing"},
		{name: "throttled", rules: []faults.Rule{{Kind: faults.Throttle, Probability: 0.12, Seed: 1}}, hits: 2},
		{name: "internal errors", rules: []faults.Rule{{Kind: faults.Internal, Probability: 0.12, Seed: 2}}, hits: 2},
		{name: "unavailable", rules: []faults.Rule{{Kind: faults.Unavailable, Probability: 0.12, Seed: 3}}, hits: 2},
		{name: "resets", rules: []faults.Rule{{Kind: faults.Reset, Probability: 0.12, Seed: 4}}, hits: 2},
		{name: "lost answers", rules: []faults.Rule{{Kind: faults.Lost, Actions: acts, Probability: 0.4, Seed: 5}}, hits: 3},
		{name: "lost answers, 500", rules: []faults.Rule{{Kind: faults.Lost500, Actions: acts, Probability: 0.4, Seed: 6}}, hits: 3},
		{name: "each answer lost once", rules: once(faults.Lost), hits: 12},
		{name: "slow", rules: []faults.Rule{{Kind: faults.Slow, Delay: 50 * time.Millisecond}}, hits: 10},
		{name: "requests expired", rules: []faults.Rule{{Kind: faults.Expired, Actions: acts, Count: 5}}, hits: 5},
		{name: "token expired", rules: []faults.Rule{{Kind: faults.Expired, Code: "ExpiredToken", Actions: acts, Count: 5}}, hits: 5},
		{name: "not let in", rules: []faults.Rule{{Kind: faults.Expired, Code: "AuthFailure", Actions: []string{"RunInstances"}, Count: 1}}, hits: 1, gives: bakehouse.Denied, why: "AuthFailure"},
		{name: "not allowed", rules: []faults.Rule{{Kind: faults.Unauthorized, Actions: []string{"RunInstances"}, Count: 1}}, hits: 1, gives: bakehouse.Denied, why: "UnauthorizedOperation"},
		{name: "not seen", rules: []faults.Rule{{Kind: faults.Unseen, Delay: time.Second}}, hits: 3},
		{name: "stale", rules: []faults.Rule{{Kind: faults.Stale, Delay: time.Second}}, hits: 3},
		{name: "to and fro", rules: []faults.Rule{{Kind: faults.Stale, Delay: time.Second, Probability: 0.5, Seed: 7}}, hits: 3},
		{name: "no capacity", rules: []faults.Rule{{Kind: faults.Capacity, Count: 4}}, hits: 4},
		{name: "not seen by anybody", rules: []faults.Rule{{Kind: faults.Unseen, Delay: time.Second, Actions: append([]string{"Describe*"}, acts...)}}, hits: 3},
		{name: "machine dies", rules: []faults.Rule{{Kind: faults.Die, Count: 1}}, hits: 1, gives: bakehouse.Gone, why: "InsufficientInstanceCapacity"},
		{name: "image fails", rules: []faults.Rule{{Kind: faults.Fail, Actions: []string{"CreateImage"}, Count: 1}}, hits: 1, gives: bakehouse.Failed, why: "Server.InternalError"},
		{name: "copy fails", rules: []faults.Rule{{Kind: faults.Fail, Actions: []string{"CopyImage"}, Count: 1}}, hits: 1, gives: bakehouse.Failed, why: "Server.InternalError"},
		{name: "interrupted", fault: localcloud.Terminate, gives: bakehouse.Gone, why: "SpotInstanceTermination"},
		{name: "host fails", fault: localcloud.FailHost, gives: bakehouse.Gone, why: "InternalError"},
		{name: "rebooted", fault: localcloud.HardReboot},
		{name: "slow images", rules: []faults.Rule{{Kind: faults.Linger, Delay: 500 * time.Millisecond}}, hits: 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			cloud := localcloudtest.StartWith(t, localcloud.Config{Host: localcloudtest.NewFake(), Log: slog.New(slog.DiscardHandler)})
			b := newBake(t, cloud)
			for _, r := range tt.rules {
				add(t, cloud.Faults(), r)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
			defer cancel()
			images, err := b.run(ctx, func() {
				if tt.fault == "" {
					return
				}
				if _, err := cloud.Break(ctx, localcloud.MachineFault{Act: tt.fault, Tags: map[string]string{localcloud.TagBuild: "build-1"}}); err != nil {
					t.Error(err)
				}
			})
			hits := 0
			for _, s := range cloud.Faults().List() {
				hits += s.Hits
			}
			t.Logf("%d hits, %d tries: %v", hits, b.tries, err)
			if hits < tt.hits {
				t.Errorf("%d hits, want %d", hits, tt.hits)
			}
			if tt.gives == "" && err != nil || tt.gives != "" && (bakehouse.KindOf(err) != tt.gives || !strings.Contains(err.Error(), tt.why)) {
				t.Errorf("ended with %v (%s), want %q %s", err, bakehouse.KindOf(err), tt.gives, tt.why)
			}
			left(t, b, images)
		})
	}
}

// once makes rules that hit each action once.
func once(k faults.Kind) []faults.Rule {
	var list []faults.Rule
	for _, a := range []string{
		"ImportKeyPair", "CreateSecurityGroup", "AuthorizeSecurityGroupIngress", "RunInstances", "StopInstances", "ModifyInstanceAttribute",
		"CreateImage", "CopyImage", "CreateTags", "TerminateInstances", "DeleteSecurityGroup", "DeleteKeyPair", "DescribeImages", "DescribeInstances",
	} {
		list = append(list, faults.Rule{Kind: k, Actions: []string{a}, Count: 1})
	}
	return list
}

// left fails the test when anything is left of the build but the images and
// their snapshots, or when a machine or an image was made twice.
func left(t *testing.T, b *bake, images []builders.Image) {
	t.Helper()
	found, err := b.cloud.Census(localcloud.Search{})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range found {
		mine := slices.ContainsFunc(images, func(i builders.Image) bool { return i.ID == r.ID || slices.Contains(i.Snapshots, r.ID) })
		if !mine && r.State != "terminated" {
			t.Errorf("left: %s %s in %s (%s %v)", r.Kind, r.ID, r.Region, r.State, r.Tags)
		}
	}
	made := map[string]int{}
	err = b.cloud.Record(record.Filter{By: record.API, Effects: true}, func(e record.Entry) bool {
		for _, c := range e.Changes {
			if c.Op == "created" {
				made[c.Kind+" in "+c.Region]++
			}
		}
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	for what, n := range made {
		if n > 1 {
			t.Errorf("made %d times: %s", n, what)
		}
	}
}
