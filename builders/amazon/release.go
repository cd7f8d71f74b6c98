package amazon

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/bakehouse-farm/bakehouse"
	"github.com/bakehouse-farm/bakehouse/builders"
)

// clinging is for how long something may be held by what was just removed: a
// group by its instance, a snapshot by its image. What holds it may also be
// something that lists did not show, so that it is looked for again meanwhile.
const clinging = 5 * time.Minute

// visible is for how long EC2's lists may not show what EC2 has made. What lags
// behind for longer is for a sweep to find.
const visible = 30 * time.Second

// Release removes all that carries the build's tag in all its regions, but the
// images in h.Keep and their snapshots. It goes on after a failure, and returns
// all failures together. It is Trouble as long as another try may help.
//
// It looks again for a while when something that the build was told of is not
// to be seen, or when a request had no answer.
func (e *EBS) Release(ctx context.Context, b bakehouse.Build, r builders.Resolved, h builders.Holding) error {
	if b.ID == "" {
		return bakehouse.Errorf(bakehouse.Invalid, "release: the build has no ID")
	}
	s, home, err := e.open(ctx, b, r.Region)
	if err != nil {
		return err
	}
	seen := map[string]bool{}
	for _, k := range h.Keep {
		seen[k.ID] = true
	}
	// What lists did not show when an earlier call of this release looked, they
	// show by now: a release that is cut off again and again must not begin to wait
	// again each time.
	start, delay := h.Since, time.Second
	if start.IsZero() {
		start = time.Now()
	}
	for first := true; ; first = false {
		err := e.releaseSeen(ctx, b, s, r, home, h.Keep, seen)
		hidden := slices.ContainsFunc(h.Made, func(id string) bool { return !seen[id] })
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if !hidden && !h.Asked || time.Since(start) >= visible {
			return err
		}
		if first {
			say(ctx, "Looking again for what AWS may not show yet...")
		}
		if err := pause(ctx, delay); err != nil {
			return err
		}
		delay = min(2*delay, 8*time.Second)
	}
}

// releaseSeen removes what is to be seen, and notes down what that was.
func (e *EBS) releaseSeen(ctx context.Context, b bakehouse.Build, s *Settings, r builders.Resolved, home *connection, keep []builders.Image, seen map[string]bool) error {
	var p failures
	regions := append(slices.Clone(s.Regions), r.CopyRegions...)
	slices.Sort(regions)
	for _, region := range slices.Compact(regions) {
		if region == home.region {
			continue
		}
		c, err := e.connections.to(ctx, s.Access, region)
		if err != nil {
			p.add(err)
			continue
		}
		p.add(c.releaseImages(ctx, b, keep, seen))
	}
	e.releaseHome(ctx, b, s, r, home, keep, seen, &p)
	return p.err()
}

// releaseHome removes what is in the region of the build.
func (e *EBS) releaseHome(ctx context.Context, b bakehouse.Build, s *Settings, r builders.Resolved, c *connection, keep []builders.Image, seen map[string]bool, p *failures) {
	ids, err := c.terminate(ctx, b, seen)
	p.add(err)
	p.add(c.releaseImages(ctx, b, keep, seen))
	p.add(e.awaitTerminated(ctx, s, c, ids))
	// What holds a volume or a group may be an instance whose launch was answered
	// to nobody, and that could not be seen before.
	terminateAgain := func() {
		if ids, err := c.terminate(ctx, b, seen); err == nil {
			_ = e.awaitTerminated(ctx, s, c, ids) // what it held says whether it has helped
		}
	}
	p.add(c.releaseVolumes(ctx, b, len(ids) > 0, terminateAgain))
	p.add(c.releaseGroups(ctx, b, seen, terminateAgain))
	p.add(c.releaseKeyPairs(ctx, b, r, seen))
}

// failures collects what went wrong.
type failures []error

func (f *failures) add(err error) {
	if err != nil {
		*f = append(*f, err)
	}
}

// err returns all of them as one, which is final only when all are.
func (f failures) err() error {
	if len(f) == 0 {
		return nil
	}
	kind := bakehouse.KindOf(f[0])
	for _, err := range f {
		if k := bakehouse.KindOf(err); !k.Final() {
			kind = k
		}
	}
	return bakehouse.Errorf(kind, "release: %w", errors.Join(f...))
}

// terminate asks for the end of all instances of the build and returns their ids.
func (c *connection) terminate(ctx context.Context, b bakehouse.Build, seen map[string]bool) ([]string, error) {
	list, err := c.findInstances(ctx, madeBy(b, "")...)
	if err != nil {
		return nil, failed(ctx, err, "look for instances of the build in %s", c.region)
	}
	var ids []string
	for _, i := range list {
		seen[aws.ToString(i.InstanceId)] = true
		if i.State != nil && i.State.Name == types.InstanceStateNameTerminated {
			continue
		}
		ids = append(ids, aws.ToString(i.InstanceId))
	}
	if len(ids) == 0 {
		return nil, nil
	}
	say(ctx, "Terminating the source AWS instance...")
	if _, err := c.ec2.TerminateInstances(ctx, &ec2.TerminateInstancesInput{InstanceIds: ids}); err != nil && !gone(err) {
		return ids, failed(ctx, err, "Error terminating instance, may still be around")
	}
	return ids, nil
}

func (e *EBS) awaitTerminated(ctx context.Context, s *Settings, c *connection, ids []string) error {
	var p failures
	wait := e.config.polling(s.Polling, instanceLimit)
	for _, id := range ids {
		seen := lookout{what: "Error waiting for instance " + id + " to terminate", start: time.Now(), patienceOf: wait}
		p.add(c.instances.follow(ctx, id, wait.delay, func(i instanceState, found bool) (bool, error) {
			if !found || i.State.Name == types.InstanceStateNameTerminated {
				return true, nil
			}
			if err := seen.late(); err != nil {
				return false, fmt.Errorf("%s: still %s after %s", seen.what, i.State.Name, wait.limit) // try again
			}
			return false, nil
		}))
	}
	return p.err()
}

// releaseImages removes the build's images and snapshots, finished or not, but
// those to keep.
func (c *connection) releaseImages(ctx context.Context, b bakehouse.Build, keep []builders.Image, seen map[string]bool) error {
	var p failures
	images, err := c.buildImages(ctx, b)
	if err != nil {
		return failed(ctx, err, "look for images of the build in %s", c.region)
	}
	kept := map[string]bool{}
	for _, k := range keep {
		if k.Region == c.region {
			kept[k.ID] = true
			for _, id := range k.Snapshots {
				kept[id] = true
			}
		}
	}
	freed, err := c.deregisterAll(ctx, images, kept, seen)
	p.add(err)
	p.add(c.releaseSnapshots(ctx, b, freed, kept, seen))
	return p.err()
}

// deregisterAll deregisters images but those to keep, and returns the snapshots
// that they held. Those of images that stay are noted down in kept.
func (c *connection) deregisterAll(ctx context.Context, images []types.Image, kept, seen map[string]bool) (freed []string, err error) {
	var p failures
	for _, img := range images {
		id := aws.ToString(img.ImageId)
		seen[id] = true
		if !kept[id] {
			say(ctx, "Deregistering the AMI (%s) and deleting its snapshots", id)
			err := c.deregister(ctx, img)
			if err == nil {
				freed = append(freed, snapshotsOf(img)...)
				continue
			}
			p.add(failed(ctx, err, "Error deregistering AMI %s in %s, may still be around", id, c.region))
		}
		for _, snap := range snapshotsOf(img) {
			kept[snap] = true // in use; if its image should go, another try removes both
		}
	}
	return freed, p.err()
}

// buildImages returns the images that carry the build's tag, or the name that
// only this build gives.
func (c *connection) buildImages(ctx context.Context, b bakehouse.Build) ([]types.Image, error) {
	images, err := c.findImages(ctx, madeBy(b, "")...)
	if err != nil {
		return nil, err
	}
	named, err := c.findImages(ctx, filter("name", ownName(b)))
	if err != nil {
		return nil, err
	}
	for _, img := range named {
		if !slices.ContainsFunc(images, func(i types.Image) bool { return aws.ToString(i.ImageId) == aws.ToString(img.ImageId) }) {
			images = append(images, img)
		}
	}
	return images, nil
}

// releaseSnapshots deletes those that were freed, and those that carry the
// build's tag although no image is seen to have them (any more).
func (c *connection) releaseSnapshots(ctx context.Context, b bakehouse.Build, freed []string, kept, seen map[string]bool) error {
	var p failures
	found, err := c.findSnapshots(ctx, madeBy(b, "")...)
	p.add(failed(ctx, err, "look for snapshots of the build in %s", c.region))
	for _, snap := range found {
		freed = append(freed, aws.ToString(snap.SnapshotId))
	}
	deregisterAgain := func() {
		if images, err := c.buildImages(ctx, b); err == nil {
			more, _ := c.deregisterAll(ctx, images, kept, seen) // the snapshot says whether it has helped
			freed = append(freed, more...)
		}
	}
	done := map[string]bool{}
	for len(freed) > 0 {
		id := freed[0]
		freed = freed[1:]
		if kept[id] || done[id] {
			continue
		}
		done[id] = true
		p.add(failed(ctx, c.deleteFreed(ctx, id, deregisterAgain), "Error deleting snapshot %s in %s, may still be around", id, c.region))
	}
	return p.err()
}

// deregister removes an image, protected or not. Removing what is gone is no
// error.
func (c *connection) deregister(ctx context.Context, img types.Image) error {
	if p := aws.ToString(img.DeregistrationProtection); p != "" && p != "disabled" {
		_, err := c.ec2.DisableImageDeregistrationProtection(ctx,
			&ec2.DisableImageDeregistrationProtectionInput{ImageId: img.ImageId})
		if err != nil && !gone(err) {
			return err
		}
	}
	_, err := c.ec2.DeregisterImage(ctx, &ec2.DeregisterImageInput{ImageId: img.ImageId})
	if gone(err) {
		return nil
	}
	return err
}

// deleteFreed deletes a snapshot that an image may still hold: one that has just
// been deregistered, or one that was not seen, which deregisterAgain removes.
func (c *connection) deleteFreed(ctx context.Context, id string, deregisterAgain func()) error {
	return settled(ctx, clinging, held(deregisterAgain, "InvalidSnapshot.InUse"), func() error { return c.deleteSnapshot(ctx, id) })
}

// held returns what tells settled that something is still held, which the codes
// say; each time, it looks again for what holds it.
func held(lookAgain func(), codes ...string) func(error) bool {
	return func(err error) bool {
		if !is(err, codes...) {
			return false
		}
		lookAgain()
		return true
	}
}

func (c *connection) deleteSnapshot(ctx context.Context, id string) error {
	_, err := c.ec2.DeleteSnapshot(ctx, &ec2.DeleteSnapshotInput{SnapshotId: aws.String(id)})
	if gone(err) {
		return nil
	}
	return err
}

// releaseVolumes deletes the volumes that did not go with their instance.
func (c *connection) releaseVolumes(ctx context.Context, b bakehouse.Build, launched bool, terminateAgain func()) error {
	var p failures
	volumes, err := c.findVolumes(ctx, madeBy(b, "")...)
	if err != nil {
		return failed(ctx, err, "look for volumes of the build")
	}
	if launched {
		say(ctx, "Cleaning up any extra volumes...")
		if len(volumes) == 0 {
			say(ctx, "No volumes to clean up, skipping")
		}
	}
	inUse := held(terminateAgain, "VolumeInUse")
	clings := func(err error) bool { return inUse(err) || is(err, "IncorrectState") }
	for _, v := range volumes {
		id := aws.ToString(v.VolumeId)
		say(ctx, "Destroying volume (%s)...", id)
		// A volume stays in use for a moment after its instance is gone.
		err := settled(ctx, clinging, clings, func() error {
			_, err := c.ec2.DeleteVolume(ctx, &ec2.DeleteVolumeInput{VolumeId: v.VolumeId})
			if gone(err) {
				return nil
			}
			return err
		})
		p.add(failed(ctx, err, "Error deleting volume %s, may still be around", id))
	}
	return p.err()
}

func (c *connection) findVolumes(ctx context.Context, fs ...types.Filter) ([]types.Volume, error) {
	var out []types.Volume
	pages := ec2.NewDescribeVolumesPaginator(c.ec2, &ec2.DescribeVolumesInput{Filters: fs})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, err
		}
		for _, v := range page.Volumes {
			if v.State != types.VolumeStateDeleting && v.State != types.VolumeStateDeleted {
				out = append(out, v)
			}
		}
	}
	return out, nil
}

// releaseGroups deletes the temporary group.
func (c *connection) releaseGroups(ctx context.Context, b bakehouse.Build, seen map[string]bool, terminateAgain func()) error {
	var p failures
	groups, err := c.findGroups(ctx, b)
	if err != nil {
		return failed(ctx, err, "look for security groups of the build")
	}
	for _, g := range groups {
		seen[g] = true
		say(ctx, "Deleting temporary security group...")
		err := settled(ctx, clinging, held(terminateAgain, "DependencyViolation", "InvalidGroup.InUse"), func() error {
			_, err := c.ec2.DeleteSecurityGroup(ctx, &ec2.DeleteSecurityGroupInput{GroupId: aws.String(g)})
			if gone(err) {
				return nil
			}
			return err
		})
		p.add(failed(ctx, err, "Error cleaning up security group %s, please delete the group manually", g))
	}
	return p.err()
}

// findGroups returns the groups that carry the build's tag, or the name that
// only this build gives.
func (c *connection) findGroups(ctx context.Context, b bakehouse.Build) ([]string, error) {
	var out []string
	for _, fs := range [][]types.Filter{madeBy(b, ""), {filter("group-name", ownName(b))}} {
		groups, err := c.findSecurityGroups(ctx, fs...)
		if err != nil {
			return nil, err
		}
		for _, g := range groups {
			out = append(out, aws.ToString(g.GroupId))
		}
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}

// releaseKeyPairs deletes the key pairs that carry the build's tag, or the name
// that only this build gives.
func (c *connection) releaseKeyPairs(ctx context.Context, b bakehouse.Build, r builders.Resolved, seen map[string]bool) error {
	var p failures
	names := []string{}
	if r.KeyPair != "" && r.KeyPair == ownName(b) {
		names = append(names, r.KeyPair) // nobody else has this name: it need not be listed
	}
	for _, fs := range [][]types.Filter{madeBy(b, ""), {filter("key-name", ownName(b))}} {
		out, err := c.ec2.DescribeKeyPairs(ctx, &ec2.DescribeKeyPairsInput{Filters: fs})
		if err != nil {
			p.add(failed(ctx, err, "look for key pairs of the build"))
			continue
		}
		for _, k := range out.KeyPairs {
			names = append(names, aws.ToString(k.KeyName))
		}
	}
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		if !seen[name] {
			say(ctx, "Deleting temporary keypair...")
		}
		seen[name] = true
		if _, err := c.ec2.DeleteKeyPair(ctx, &ec2.DeleteKeyPairInput{KeyName: aws.String(name)}); err != nil && !gone(err) {
			p.add(failed(ctx, err, "Error cleaning up keypair %s, please delete the key manually", name))
		}
	}
	return p.err()
}
