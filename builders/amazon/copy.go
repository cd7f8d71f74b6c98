package amazon

import (
	"context"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/bakehouse-farm/bakehouse"
	"github.com/bakehouse-farm/bakehouse/builders"
)

// Copy asks for the copy of the image into one region, or finds the one that an
// earlier call asked for.
func (e *EBS) Copy(ctx context.Context, b bakehouse.Build, r builders.Resolved, img builders.Image, region string) (builders.Image, error) {
	s, c, err := e.open(ctx, b, region)
	if err != nil {
		return builders.Image{}, err
	}
	p, err := planOf(r)
	if err != nil {
		return builders.Image{}, err
	}
	if i := slices.Index(r.CopyRegions, region); i == 0 {
		say(ctx, "Copying/Encrypting AMI (%s) to other regions...", img.ID)
	}
	say(ctx, "Copying to: %s", region)
	out := builders.Image{Region: region}
	there, err := c.findImages(ctx, madeBy(b, "")...)
	if err != nil {
		return out, failed(ctx, err, "look for the build's copy in %s", region)
	}
	there = slices.DeleteFunc(there, func(img types.Image) bool { return !isCopy(img) })
	if i := slices.IndexFunc(there, usable); i >= 0 {
		out.ID = aws.ToString(there[i].ImageId)
		return out, nil
	}
	// One that this very attempt has asked for, and that has failed since: who
	// waits for it says why. Asked again, EC2 would name it again, by its token.
	if i := slices.IndexFunc(there, func(img types.Image) bool { return tag(img.Tags, bakehouse.TagStep) == again(b, stepCopy) }); i >= 0 {
		out.ID = aws.ToString(there[i].ImageId)
		return out, nil
	}
	if err := c.failedImages(ctx, there); err != nil {
		return out, err
	}
	if err := c.makeRoom(ctx, b, s, p); err != nil {
		return out, err
	}
	made, err := c.ec2.CopyImage(ctx, copyInput(b, s, r, p, img, region))
	if is(err, "InvalidAMIName.Duplicate") {
		out.ID, err = c.adoptImage(ctx, b, p.Name, err)
		return out, failed(ctx, err, "Error copying AMI (%s) to region (%s)", img.ID, region)
	}
	if err != nil {
		return out, c.explain(ctx, s, failed(ctx, err, "Error copying AMI (%s) to region (%s)", img.ID, region))
	}
	out.ID = aws.ToString(made.ImageId)
	if i := slices.Index(r.CopyRegions, region); i == len(r.CopyRegions)-1 {
		say(ctx, "Waiting for all copies to complete...")
	}
	return out, nil
}

// isCopy tells whether an image of a build was made as a copy.
func isCopy(img types.Image) bool {
	step, _, _ := strings.Cut(tag(img.Tags, bakehouse.TagStep), ".")
	return step == stepCopy
}

// copyInput is the same each time that it is made, as its client token demands.
// The tags of the original are given anew instead of being copied with it: what
// EC2 does with a tag that is both copied and given is not documented.
func copyInput(b bakehouse.Build, s *Settings, r builders.Resolved, p plan, img builders.Image, region string) *ec2.CopyImageInput {
	tags := marked(b, again(b, stepCopy), p.imageTags(s))
	in := &ec2.CopyImageInput{
		ClientToken:   aws.String(token(b, again(b, stepCopy), region, img.ID)),
		Name:          aws.String(p.Name),
		SourceImageId: aws.String(img.ID),
		SourceRegion:  aws.String(r.Region),
		Encrypted:     s.EncryptBoot,
		TagSpecifications: []types.TagSpecification{
			spec(types.ResourceTypeImage, tags),
			spec(types.ResourceTypeSnapshot, tags),
		},
	}
	if s.encrypted() {
		key := s.RegionKMSKeyIDs[region]
		if key == "" && region == r.Region {
			key = s.KMSKeyID
		}
		if key != "" {
			in.KmsKeyId = aws.String(key)
		}
	}
	if s.CopyDurationMinutes != nil {
		in.SnapshotCopyCompletionDurationMinutes = aws.Int64(int64(*s.CopyDurationMinutes))
	}
	return in
}
