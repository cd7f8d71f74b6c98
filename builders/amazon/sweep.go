package amazon

import (
	"cmp"
	"context"
	"encoding/json"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/bakehouse-farm/bakehouse"
	"github.com/bakehouse-farm/bakehouse/builders"
)

var _ builders.Sweeper = (*EBS)(nil)

// Regions implements builders.Sweeper: those that the account may use.
func (e *EBS) Regions(ctx context.Context) ([]string, error) {
	_, c, err := e.open(ctx, bakehouse.Build{}, "")
	if bakehouse.KindOf(err) == bakehouse.Invalid {
		// The agent has no region of its own. Any knows them all.
		_, c, err = e.open(ctx, bakehouse.Build{}, "us-east-1")
	}
	if err != nil {
		return nil, err
	}
	out, err := c.ec2.DescribeRegions(ctx, &ec2.DescribeRegionsInput{})
	if err != nil {
		return nil, failed(ctx, err, "list regions")
	}
	var names []string
	for _, r := range out.Regions {
		names = append(names, aws.ToString(r.RegionName))
	}
	slices.Sort(names)
	return names, nil
}

// Owned implements builders.Sweeper. What has the tag of a build, but no time
// at which it expires, is a result and nobody's to remove.
func (e *EBS) Owned(ctx context.Context, region string) ([]builders.Owned, error) {
	_, c, err := e.open(ctx, bakehouse.Build{}, region)
	if err != nil {
		return nil, err
	}
	var out []builders.Owned
	add := func(kind string, id *string, tags []types.Tag) {
		expires, err := time.Parse(time.RFC3339, tag(tags, bakehouse.TagExpiresAt))
		if err != nil || tag(tags, bakehouse.TagBuild) == "" {
			return
		}
		out = append(out, builders.Owned{
			Build: bakehouse.BuildID(tag(tags, bakehouse.TagBuild)), Source: tag(tags, bakehouse.TagSource),
			Region: c.region, Kind: kind, ID: aws.ToString(id), Expires: expires,
		})
	}
	marked := filter("tag-key", bakehouse.TagBuild)
	instances, err := c.findInstances(ctx, marked, filter("instance-state-name", "pending", "running", "stopping", "stopped"))
	if err != nil {
		return nil, failed(ctx, err, "look for instances in %s", region)
	}
	for _, i := range instances {
		add("instance", i.InstanceId, i.Tags)
	}
	images, err := c.findImages(ctx, marked)
	if err != nil {
		return nil, failed(ctx, err, "look for images in %s", region)
	}
	for _, i := range images {
		add("image", i.ImageId, i.Tags)
	}
	snapshots, err := c.findSnapshots(ctx, marked)
	if err != nil {
		return nil, failed(ctx, err, "look for snapshots in %s", region)
	}
	for _, s := range snapshots {
		add("snapshot", s.SnapshotId, s.Tags)
	}
	volumes, err := c.findVolumes(ctx, marked)
	if err != nil {
		return nil, failed(ctx, err, "look for volumes in %s", region)
	}
	for _, v := range volumes {
		add("volume", v.VolumeId, v.Tags)
	}
	groups, err := c.findSecurityGroups(ctx, marked)
	if err != nil {
		return nil, failed(ctx, err, "look for security groups in %s", region)
	}
	for _, g := range groups {
		add("security-group", g.GroupId, g.Tags)
	}
	keys, err := c.ec2.DescribeKeyPairs(ctx, &ec2.DescribeKeyPairsInput{Filters: []types.Filter{marked}})
	if err != nil {
		return nil, failed(ctx, err, "look for key pairs in %s", region)
	}
	for _, k := range keys.KeyPairs {
		add("key-pair", k.KeyName, k.Tags)
	}
	slices.SortFunc(out, func(a, b builders.Owned) int {
		return cmp.Or(cmp.Compare(a.Build, b.Build), cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.ID, b.ID))
	})
	return out, nil
}

// Sweep implements builders.Sweeper.
func (e *EBS) Sweep(ctx context.Context, region string, id bakehouse.BuildID) error {
	settings, err := json.Marshal(map[string]string{"region": region})
	if err != nil {
		return err
	}
	b := bakehouse.Build{ID: id, Settings: settings}
	_, c, err := e.open(ctx, b, region)
	if err != nil {
		return err
	}
	images, err := c.findImages(ctx, madeBy(b, "")...)
	if err != nil {
		return failed(ctx, err, "look for images of the build in %s", region)
	}
	var results []builders.Image
	for _, i := range images {
		if tag(i.Tags, bakehouse.TagExpiresAt) == "" {
			results = append(results, builders.Image{Region: c.region, ID: aws.ToString(i.ImageId), Snapshots: snapshotsOf(i)})
		}
	}
	return e.Release(ctx, b, builders.Resolved{Region: c.region}, builders.Holding{Keep: results})
}
