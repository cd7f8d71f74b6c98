package amazon

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/bakehouse-farm/bakehouse"
	"github.com/bakehouse-farm/bakehouse/builders"
)

// Finish gives an available image what the settings ask for, removes the
// snapshots of the image that it replaces, and takes away the time at which a
// sweep may remove it. All of it can be done again.
func (e *EBS) Finish(ctx context.Context, b bakehouse.Build, r builders.Resolved, img builders.Image) error {
	s, c, err := e.open(ctx, b, img.Region)
	if err != nil {
		return err
	}
	p, err := planOf(r)
	if err != nil {
		return err
	}
	for _, step := range []func(context.Context, *Settings, plan, builders.Image) error{
		c.deprecate, c.protect, c.modifyImage, c.shareSnapshots, c.tagImage, c.deleteReplaced, c.keepForEver,
	} {
		if err := step(ctx, s, p, img); err != nil {
			return err
		}
	}
	return nil
}

func (c *connection) deprecate(ctx context.Context, s *Settings, _ plan, img builders.Image) error {
	if s.DeprecateAt == "" {
		return nil
	}
	at, err := time.Parse(time.RFC3339, s.DeprecateAt)
	if err != nil {
		return bakehouse.Errorf(bakehouse.Invalid, "deprecate_at is not a valid time: %q", s.DeprecateAt)
	}
	say(ctx, "Enabling deprecation on AMI (%s) in region %q ...", img.ID, img.Region)
	_, err = c.ec2.EnableImageDeprecation(ctx, &ec2.EnableImageDeprecationInput{ImageId: aws.String(img.ID), DeprecateAt: aws.Time(at)})
	return failed(ctx, err, "Error enable AMI deprecation")
}

func (c *connection) protect(ctx context.Context, s *Settings, _ plan, img builders.Image) error {
	if s.DeregistrationProtect == nil || !s.DeregistrationProtect.Enabled {
		return nil
	}
	say(ctx, "Enabling deregistration protection on AMI (%s) in region %q ...", img.ID, img.Region)
	_, err := c.ec2.EnableImageDeregistrationProtection(ctx, &ec2.EnableImageDeregistrationProtectionInput{
		ImageId: aws.String(img.ID), WithCooldown: aws.Bool(s.DeregistrationProtect.WithCooldown),
	})
	return failed(ctx, err, "Error enabling AMI deregistration protection")
}

// modifyImage makes one request for each attribute, as EC2 demands.
func (c *connection) modifyImage(ctx context.Context, s *Settings, p plan, img builders.Image) error {
	changes := imageChanges(s, p)
	if len(changes) == 0 {
		return nil
	}
	say(ctx, "Modifying attributes on AMI (%s)...", img.ID)
	for _, ch := range changes {
		say(ctx, "Modifying: %s", ch.what)
		ch.in.ImageId = aws.String(img.ID)
		if _, err := c.ec2.ModifyImageAttribute(ctx, &ch.in); err != nil {
			return failed(ctx, err, "Error modify AMI attributes: %s", ch.what)
		}
	}
	return nil
}

type imageChange struct {
	what string
	in   ec2.ModifyImageAttributeInput
}

func imageChanges(s *Settings, p plan) []imageChange {
	var out []imageChange
	add := func(what string, in ec2.ModifyImageAttributeInput) { out = append(out, imageChange{what, in}) }
	permit := func(list []string, one func(string) types.LaunchPermission) *types.LaunchPermissionModifications {
		m := &types.LaunchPermissionModifications{}
		for _, v := range list {
			m.Add = append(m.Add, one(v))
		}
		return m
	}
	if p.Description != "" {
		add("description", ec2.ModifyImageAttributeInput{Description: &types.AttributeValue{Value: aws.String(p.Description)}})
	}
	if len(s.Groups) > 0 {
		add("groups", ec2.ModifyImageAttributeInput{UserGroups: s.Groups, LaunchPermission: permit(s.Groups,
			func(v string) types.LaunchPermission { return types.LaunchPermission{Group: types.PermissionGroup(v)} })})
	}
	if len(s.Users) > 0 {
		add("users", ec2.ModifyImageAttributeInput{UserIds: s.Users, LaunchPermission: permit(s.Users,
			func(v string) types.LaunchPermission { return types.LaunchPermission{UserId: aws.String(v)} })})
	}
	if len(s.OrgARNs) > 0 {
		add("ami org arns", ec2.ModifyImageAttributeInput{OrganizationArns: s.OrgARNs, LaunchPermission: permit(s.OrgARNs,
			func(v string) types.LaunchPermission { return types.LaunchPermission{OrganizationArn: aws.String(v)} })})
	}
	if len(s.OUARNs) > 0 {
		add("ami ou arns", ec2.ModifyImageAttributeInput{OrganizationalUnitArns: s.OUARNs, LaunchPermission: permit(s.OUARNs,
			func(v string) types.LaunchPermission {
				return types.LaunchPermission{OrganizationalUnitArn: aws.String(v)}
			})})
	}
	if len(s.ProductCodes) > 0 {
		add("product codes", ec2.ModifyImageAttributeInput{ProductCodes: s.ProductCodes})
	}
	if s.IMDSSupport != "" {
		add("imds_support", ec2.ModifyImageAttributeInput{ImdsSupport: &types.AttributeValue{Value: aws.String(s.IMDSSupport)}})
	}
	return out
}

func (c *connection) shareSnapshots(ctx context.Context, s *Settings, _ plan, img builders.Image) error {
	if len(s.SnapshotUsers)+len(s.SnapshotGroups) == 0 {
		return nil
	}
	for _, id := range img.Snapshots {
		say(ctx, "Modifying attributes on snapshot (%s)...", id)
		for _, in := range snapshotChanges(s, id) {
			if _, err := c.ec2.ModifySnapshotAttribute(ctx, in); err != nil {
				return failed(ctx, err, "Error modify snapshot attributes")
			}
		}
	}
	return nil
}

func snapshotChanges(s *Settings, id string) []*ec2.ModifySnapshotAttributeInput {
	var out []*ec2.ModifySnapshotAttributeInput
	add := func(p []types.CreateVolumePermission, in ec2.ModifySnapshotAttributeInput) {
		in.SnapshotId = aws.String(id)
		in.Attribute = types.SnapshotAttributeNameCreateVolumePermission
		in.CreateVolumePermission = &types.CreateVolumePermissionModifications{Add: p}
		out = append(out, &in)
	}
	var groups, users []types.CreateVolumePermission
	for _, g := range s.SnapshotGroups {
		groups = append(groups, types.CreateVolumePermission{Group: types.PermissionGroup(g)})
	}
	for _, u := range s.SnapshotUsers {
		users = append(users, types.CreateVolumePermission{UserId: aws.String(u)})
	}
	if len(groups) > 0 {
		add(groups, ec2.ModifySnapshotAttributeInput{GroupNames: s.SnapshotGroups})
	}
	if len(users) > 0 {
		add(users, ec2.ModifySnapshotAttributeInput{UserIds: s.SnapshotUsers})
	}
	return out
}

func (c *connection) tagImage(ctx context.Context, _ *Settings, p plan, img builders.Image) error {
	if len(p.Tags)+len(p.SnapshotTags) == 0 {
		return nil
	}
	say(ctx, "Adding tags to AMI (%s)...", img.ID)
	for _, id := range img.Snapshots {
		say(ctx, "Tagging snapshot: %s", id)
	}
	say(ctx, "Creating AMI tags")
	if err := c.addTags(ctx, append([]string{img.ID}, img.Snapshots...), p.Tags); err != nil {
		return failed(ctx, err, "Error adding tags to Resources (%v)", append([]string{img.ID}, img.Snapshots...))
	}
	say(ctx, "Creating snapshot tags")
	return failed(ctx, c.addTags(ctx, img.Snapshots, p.SnapshotTags), "Error adding tags to Resources (%v)", img.Snapshots)
}

// addTags tags what may be too new for EC2 to know.
func (c *connection) addTags(ctx context.Context, ids []string, tags map[string]string) error {
	if len(ids) == 0 || len(tags) == 0 {
		return nil
	}
	for _, k := range slices.Sorted(maps.Keys(tags)) {
		say(ctx, "Adding tag: %q: %q", k, tags[k])
	}
	return settled(ctx, settling, gone, func() error {
		_, err := c.ec2.CreateTags(ctx, &ec2.CreateTagsInput{Resources: ids, Tags: tagList(tags)})
		return err
	})
}

// deleteReplaced removes the snapshots of the image that this one takes the
// place of; only now, when the new one is there.
func (c *connection) deleteReplaced(ctx context.Context, s *Settings, p plan, img builders.Image) error {
	if !s.ForceDeregister || !s.ForceDeleteSnapshot {
		return nil
	}
	for _, old := range p.Replaces {
		if old.Region != img.Region {
			continue
		}
		for _, id := range old.Snapshots {
			err := c.deleteSnapshot(ctx, id)
			if is(err, "InvalidSnapshot.InUse") {
				bakehouse.LogOf(ctx).Error("snapshot " + id + " is in use by another image and stays")
				continue
			}
			if err != nil {
				return failed(ctx, err, "Error deleting existing snapshot: %s", id)
			}
			say(ctx, "Deleted snapshot: %s", id)
		}
	}
	return nil
}

// keepForEver makes the image a result: a sweep takes what has expired.
func (c *connection) keepForEver(ctx context.Context, _ *Settings, _ plan, img builders.Image) error {
	_, err := c.ec2.DeleteTags(ctx, &ec2.DeleteTagsInput{
		Resources: append([]string{img.ID}, img.Snapshots...),
		Tags:      []types.Tag{{Key: aws.String(bakehouse.TagExpiresAt)}},
	})
	return failed(ctx, err, "remove tag %s from %s", bakehouse.TagExpiresAt, img.ID)
}
