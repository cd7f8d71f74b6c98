package amazon

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/bakehouse-farm/bakehouse"
	"github.com/bakehouse-farm/bakehouse/builders"
)

// watchDelay is the longest time between two looks at a machine that is worked
// on. One call looks at all machines of the agent.
const watchDelay = 10 * time.Second

// Watch implements builders.Watcher.
func (e *EBS) Watch(ctx context.Context, b bakehouse.Build, m builders.Machine) error {
	s, c, err := e.openMachine(ctx, b, m)
	if err != nil {
		return err
	}
	what := fmt.Sprintf("machine %s is gone", m.ID)
	seen := lookout{what: what, start: time.Now(), patienceOf: patienceOf{limit: 1<<63 - 1}}
	err = c.instances.follow(ctx, m.ID, min(watchDelay, e.config.polling(s.Polling, instanceLimit).delay), func(i instanceState, found bool) (bool, error) {
		if unknown, err := seen.unknown(found); err != nil {
			return false, bakehouse.Errorf(bakehouse.Gone, "%w", err)
		} else if unknown {
			return false, nil
		}
		switch i.State.Name {
		case types.InstanceStateNamePending, types.InstanceStateNameRunning:
			return false, nil
		case types.InstanceStateNameStopping, types.InstanceStateNameStopped:
			if s.DisableStop {
				return false, nil // the template says that the machine stops itself
			}
		}
		return false, bakehouse.Errorf(bakehouse.Gone, "%s: it is %s: %s", what, i.State.Name, reason(i.StateReason))
	})
	return failed(ctx, err, "watch instance %s", m.ID)
}

// Discard implements builders.Watcher. Volumes that outlive the instance carry
// the build's tag and go with Release.
func (e *EBS) Discard(ctx context.Context, b bakehouse.Build, m builders.Machine) error {
	if m.ID == "" {
		return nil
	}
	_, c, err := e.openMachine(ctx, b, m)
	if err != nil {
		return err
	}
	_, err = c.ec2.TerminateInstances(ctx, &ec2.TerminateInstancesInput{InstanceIds: []string{m.ID}})
	if gone(err) {
		return nil
	}
	return failed(ctx, err, "Error terminating instance %s", m.ID)
}

// Checkpoint implements builders.Checkpointer. The instance goes on: what its
// file systems have not written yet is for the caller to flush.
func (e *EBS) Checkpoint(ctx context.Context, b bakehouse.Build, r builders.Resolved, m builders.Machine, name string) (builders.Image, error) {
	_, c, err := e.open(ctx, b, r.Region)
	if err != nil {
		return builders.Image{}, err
	}
	img := builders.Image{Region: c.region}
	step := stepCheckpoint + "-" + name
	there, err := c.findImages(ctx, madeBy(b, step)...)
	if err != nil {
		return img, failed(ctx, err, "look for the build's checkpoint")
	}
	if i := slices.IndexFunc(there, usable); i >= 0 {
		img.ID = aws.ToString(there[i].ImageId)
		return img, nil
	}
	tags := marked(b, step, nil)
	img.ID, err = c.createImage(ctx, b, &ec2.CreateImageInput{
		InstanceId:  aws.String(m.ID),
		Name:        aws.String(ownName(b) + "-" + name),
		Description: aws.String("checkpoint of a build; removed when the build ends"),
		NoReboot:    aws.Bool(true),
		TagSpecifications: []types.TagSpecification{
			spec(types.ResourceTypeImage, tags),
			spec(types.ResourceTypeSnapshot, tags),
		},
	})
	return img, failed(ctx, err, "Error creating checkpoint %s", name)
}

// Forget implements builders.Checkpointer.
func (e *EBS) Forget(ctx context.Context, b bakehouse.Build, img builders.Image) error {
	_, c, err := e.open(ctx, b, img.Region)
	if err != nil {
		return err
	}
	freed, err := c.deregisterCheckpoint(ctx, b, img.ID)
	if err != nil {
		return err
	}
	// Lists may not show it yet.
	deregisterAgain := func() { _, _ = c.deregisterCheckpoint(ctx, b, img.ID) }
	var p failures
	snapshots := append(slices.Clone(img.Snapshots), freed...)
	slices.Sort(snapshots)
	for _, id := range slices.Compact(snapshots) {
		p.add(c.deleteFreed(ctx, id, deregisterAgain))
	}
	return p.err()
}

// deregisterCheckpoint deregisters a checkpoint, if it is there, and returns the
// snapshots that it held.
func (c *connection) deregisterCheckpoint(ctx context.Context, b bakehouse.Build, id string) (freed []string, err error) {
	images, err := c.findImages(ctx, filter("image-id", id))
	if err != nil {
		return nil, failed(ctx, err, "look for checkpoint %s", id)
	}
	for _, i := range images {
		if !ours(b, i.Tags) {
			return nil, bakehouse.Errorf(bakehouse.Conflict, "image %s is not this build's checkpoint", id)
		}
		freed = append(freed, snapshotsOf(i)...)
		if err := c.deregister(ctx, i); err != nil {
			return nil, failed(ctx, err, "Error deregistering checkpoint %s", id)
		}
	}
	return freed, nil
}

// failedImages removes images of one step that EC2 has given up on: they hold
// the name.
func (c *connection) failedImages(ctx context.Context, images []types.Image) error {
	for _, img := range images {
		if img.State != types.ImageStateFailed && img.State != types.ImageStateError && img.State != types.ImageStateInvalid {
			continue
		}
		say(ctx, "Deregistering the failed AMI (%s)", aws.ToString(img.ImageId))
		if err := c.deregister(ctx, img); err != nil {
			return failed(ctx, err, "Error deregistering failed AMI %s", aws.ToString(img.ImageId))
		}
	}
	return nil
}
