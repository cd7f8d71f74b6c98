package amazon

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"github.com/bakehouse-farm/bakehouse"
	"github.com/bakehouse-farm/bakehouse/builders"
)

// Capture asks for the image of the stopped instance, or finds the one that an
// earlier call asked for. With force_deregister, an older image of that name
// goes just before.
func (e *EBS) Capture(ctx context.Context, b bakehouse.Build, r builders.Resolved, m builders.Machine) (builders.Image, bool, error) {
	s, c, err := e.open(ctx, b, r.Region)
	if err != nil {
		return builders.Image{}, false, err
	}
	if s.SkipCreateAMI {
		say(ctx, "Skipping AMI creation...")
		return builders.Image{}, false, nil
	}
	p, err := planOf(r)
	if err != nil {
		return builders.Image{}, false, err
	}
	img := builders.Image{Region: c.region}
	there, err := c.findImages(ctx, madeBy(b, stepCapture)...)
	if err != nil {
		return img, true, failed(ctx, err, "look for the build's image")
	}
	if i := slices.IndexFunc(there, usable); i >= 0 {
		img.ID = aws.ToString(there[i].ImageId)
		say(ctx, "AMI: %s", img.ID)
		return img, true, nil
	}
	if err := c.failedImages(ctx, there); err != nil {
		return img, true, err
	}
	if !r.Intermediate {
		if err := c.makeRoom(ctx, b, s, p); err != nil {
			return img, true, err
		}
	}
	say(ctx, "Creating AMI %s from instance %s", p.CaptureName, m.ID)
	tags := marked(b, stepCapture, p.imageTags(s))
	img.ID, err = c.createImage(ctx, b, &ec2.CreateImageInput{
		InstanceId:          aws.String(m.ID),
		Name:                aws.String(p.CaptureName),
		BlockDeviceMappings: devices(s.AMIMappings),
		TagSpecifications: []types.TagSpecification{
			spec(types.ResourceTypeImage, tags),
			spec(types.ResourceTypeSnapshot, tags),
		},
	})
	if err != nil {
		return img, true, c.explain(ctx, s, failed(ctx, err, "Error creating AMI"))
	}
	say(ctx, "AMI: %s", img.ID)
	return img, true, nil
}

// imageTags are the tags that the image gets when it is made.
func (p plan) imageTags(s *Settings) map[string]string {
	if s.SkipAMIRunTags {
		return nil
	}
	return p.RunTags
}

// usable tells whether an image is, or can still become, available.
func usable(img types.Image) bool {
	return img.State == types.ImageStateAvailable || img.State == types.ImageStatePending
}

var imageID = regexp.MustCompile(`\bami-[0-9a-f]+\b`)

// createImage returns the id of the image that it made, or of the one that a
// call whose answer was lost has made.
func (c *connection) createImage(ctx context.Context, b bakehouse.Build, in *ec2.CreateImageInput) (string, error) {
	var id string
	err := settled(ctx, settling, unsettledImage, func() error {
		out, err := c.ec2.CreateImage(ctx, in)
		if err == nil {
			id = aws.ToString(out.ImageId)
			return nil
		}
		if !is(err, "InvalidAMIName.Duplicate") {
			return err
		}
		id, err = c.adoptImage(ctx, b, aws.ToString(in.Name), err)
		return err
	})
	return id, err
}

// unsettledImage tells whether CreateImage may succeed shortly: the stop has not
// sunk in everywhere, or the image that has the name is not to be seen yet.
func unsettledImage(err error) bool {
	return err == errUnknown || code(err) != "" && !is(err, "InvalidAMIName.Duplicate") &&
		regexp.MustCompile(`is not in state`).MatchString(err.Error())
}

// adoptImage returns the image of that name if the build made it.
func (c *connection) adoptImage(ctx context.Context, b bakehouse.Build, name string, duplicate error) (string, error) {
	images, err := c.findImages(ctx, filter("name", name))
	if err != nil {
		return "", err
	}
	for _, img := range images {
		if ours(b, img.Tags) && usable(img) {
			return aws.ToString(img.ImageId), nil
		}
	}
	if len(images) == 0 {
		// The name is taken, by an image that cannot be seen yet, or never.
		if known := imageID.FindString(duplicate.Error()); known != "" {
			return "", fmt.Errorf("%w: %s has the name %q", errUnknown, known, name)
		}
		return "", errUnknown
	}
	return "", bakehouse.Errorf(bakehouse.Conflict, "AMI name '%s' is used by an existing AMI: %s: %w",
		name, aws.ToString(images[0].ImageId), duplicate)
}

// makeRoom deregisters the images of the region that ours replaces. Their
// snapshots go once the new image is there.
func (c *connection) makeRoom(ctx context.Context, b bakehouse.Build, s *Settings, p plan) error {
	if !s.ForceDeregister {
		return nil
	}
	images, err := c.findImages(ctx, filter("name", p.Name))
	if err != nil {
		return failed(ctx, err, "Error describing AMI")
	}
	for _, img := range images {
		if ours(b, img.Tags) {
			continue
		}
		if err := c.deregister(ctx, img); err != nil {
			return failed(ctx, err, "Error deregistering existing AMI")
		}
		say(ctx, "Deregistered AMI %s, id: %s", p.Name, aws.ToString(img.ImageId))
	}
	return nil
}

// AwaitImage waits until the image is available. The limit counts from when it
// was asked for, also when another agent has begun to wait.
func (e *EBS) AwaitImage(ctx context.Context, b bakehouse.Build, img builders.Image) (builders.Image, error) {
	s, c, err := e.open(ctx, b, img.Region)
	if err != nil {
		return img, err
	}
	if img.Region == "" {
		img.Region = c.region
	}
	say(ctx, "Waiting for AMI to become ready...")
	wait := e.config.polling(s.Polling, imageLimit)
	seen := lookout{what: fmt.Sprintf("Error waiting for AMI %s in %s", img.ID, img.Region), start: time.Now(), patienceOf: wait}
	err = c.images.follow(ctx, img.ID, wait.delay, func(i imageState, found bool) (bool, error) {
		if done, err := seen.unknown(found); done {
			return false, err
		}
		switch i.State {
		case types.ImageStateAvailable:
			img.Snapshots = snapshotsOf(i)
			return true, nil
		case types.ImageStatePending, types.ImageStateTransient:
			if t, err := time.Parse(time.RFC3339, aws.ToString(i.CreationDate)); err == nil && t.Before(seen.start) {
				seen.start = t
			}
			return false, seen.late()
		}
		return false, bakehouse.Errorf(bakehouse.Failed, "%s: it is %s: %s", seen.what, i.State, reason(i.StateReason))
	})
	return img, failed(ctx, err, "wait for AMI %s", img.ID)
}

// explain decodes what AWS says about a denied request, when the settings ask
// for that.
func (c *connection) explain(ctx context.Context, s *Settings, err error) error {
	if err == nil || !s.DecodeAuthorizationMessages || c.sts == nil || !is(err, "UnauthorizedOperation") {
		return err
	}
	encoded := encodedMessage.FindStringSubmatch(err.Error())
	if encoded == nil {
		return err
	}
	out, derr := c.sts.DecodeAuthorizationMessage(ctx, &sts.DecodeAuthorizationMessageInput{EncodedMessage: aws.String(encoded[1])})
	if derr != nil {
		return fmt.Errorf("%w (its authorization message could not be decoded: %w)", err, derr)
	}
	return fmt.Errorf("%w: decoded authorization message: %s", err, aws.ToString(out.DecodedMessage))
}

var encodedMessage = regexp.MustCompile(`Encoded authorization failure message: ([\w-]+)`)
