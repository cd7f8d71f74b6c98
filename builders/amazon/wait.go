package amazon

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/bakehouse-farm/bakehouse"
)

// How long things may take when the template does not say: Packer's limits.
const (
	imageLimit    = 30 * time.Minute
	instanceLimit = 10 * time.Minute
	pollDelay     = 15 * time.Second
)

// A patienceOf says how long to wait, and how often to look.
type patienceOf struct{ limit, delay time.Duration }

// polling returns what aws_polling says, or the environment of the agent.
// Attempts without a delay are 15 s apart, as they were in Packer before its
// amazon plugin 1.8, and not 2 s, which cut builds off after a fraction of the
// time that their authors had meant.
func (c Config) polling(p *Polling, limit time.Duration) patienceOf {
	number := func(set int, env string) time.Duration {
		if set > 0 {
			return time.Duration(set)
		}
		n, err := strconv.Atoi(c.getenv(env))
		if err != nil || n < 0 {
			return 0
		}
		return time.Duration(n)
	}
	if p == nil {
		p = &Polling{}
	}
	attempts := number(p.MaxAttempts, "AWS_MAX_ATTEMPTS")
	delay := number(p.DelaySeconds, "AWS_POLL_DELAY_SECONDS") * time.Second
	out := patienceOf{limit, pollDelay}
	if delay > 0 {
		out.delay = delay
	}
	switch {
	case attempts > 0:
		out.limit = attempts * out.delay
	default:
		if total := number(0, "AWS_TIMEOUT_SECONDS") * time.Second; total > 0 {
			out.limit = total
		}
	}
	return out
}

// until fails when the limit has passed. What the error says is what the
// waiting was for.
func (p patienceOf) until(start time.Time) func(what string) error {
	return func(what string) error {
		if time.Since(start) < p.limit {
			return nil
		}
		return bakehouse.Errorf(bakehouse.Timeout, "%s: waited for %s, which is the limit; "+
			"aws_polling { max_attempts, delay_seconds } raises it", what, p.limit)
	}
}

// settled calls f until it succeeds, or fails with another code than those. EC2
// may say for a while that it does not know what it has just made.
func settled(ctx context.Context, limit time.Duration, transient func(error) bool, f func() error) error {
	start, delay := time.Now(), 200*time.Millisecond
	for {
		err := f()
		if err == nil || !transient(err) || time.Since(start) > limit {
			return err
		}
		if err := pause(ctx, delay); err != nil {
			return err
		}
		delay = min(delay*2, 5*time.Second)
	}
}

// pause sleeps, or returns the cause of the end of ctx.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}

// imageState and instanceState are what a poller sees.
type (
	imageState    = types.Image
	instanceState = types.Instance
)

// describeImages finds images by filter, not by id: one unknown id would fail
// the call for all.
func (c *connection) describeImages(ctx context.Context, ids []string) (map[string]imageState, error) {
	out := map[string]imageState{}
	pages := ec2.NewDescribeImagesPaginator(c.ec2, &ec2.DescribeImagesInput{Filters: []types.Filter{filter("image-id", ids...)}})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, err
		}
		for _, img := range page.Images {
			out[aws.ToString(img.ImageId)] = img
		}
	}
	return out, nil
}

func (c *connection) describeInstances(ctx context.Context, ids []string) (map[string]instanceState, error) {
	list, err := c.findInstances(ctx, filter("instance-id", ids...))
	if err != nil {
		return nil, err
	}
	out := map[string]instanceState{}
	for _, i := range list {
		out[aws.ToString(i.InstanceId)] = i
	}
	return out, nil
}

// findInstances returns all instances that match.
func (c *connection) findInstances(ctx context.Context, filters ...types.Filter) ([]types.Instance, error) {
	var out []types.Instance
	pages := ec2.NewDescribeInstancesPaginator(c.ec2, &ec2.DescribeInstancesInput{Filters: filters})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, err
		}
		for _, r := range page.Reservations {
			out = append(out, r.Instances...)
		}
	}
	return out, nil
}

// findImages returns the account's own images that match.
func (c *connection) findImages(ctx context.Context, filters ...types.Filter) ([]types.Image, error) {
	var out []types.Image
	pages := ec2.NewDescribeImagesPaginator(c.ec2, &ec2.DescribeImagesInput{Owners: []string{"self"}, Filters: filters})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, err
		}
		out = append(out, page.Images...)
	}
	return out, nil
}

// findSnapshots returns the account's own snapshots that match. On an error it
// returns what it had found until then, too.
func (c *connection) findSnapshots(ctx context.Context, filters ...types.Filter) ([]types.Snapshot, error) {
	var out []types.Snapshot
	pages := ec2.NewDescribeSnapshotsPaginator(c.ec2, &ec2.DescribeSnapshotsInput{OwnerIds: []string{"self"}, Filters: filters})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return out, err
		}
		out = append(out, page.Snapshots...)
	}
	return out, nil
}

// findSecurityGroups returns all security groups that match.
func (c *connection) findSecurityGroups(ctx context.Context, filters ...types.Filter) ([]types.SecurityGroup, error) {
	var out []types.SecurityGroup
	pages := ec2.NewDescribeSecurityGroupsPaginator(c.ec2, &ec2.DescribeSecurityGroupsInput{Filters: filters})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, err
		}
		out = append(out, page.SecurityGroups...)
	}
	return out, nil
}

// errUnknown says that something is not there yet, or no more.
var errUnknown = errors.New("not known to EC2")

// reason words why something has failed.
func reason(r *types.StateReason) string {
	if r == nil {
		return "no reason given"
	}
	if m := aws.ToString(r.Message); m != "" {
		return m
	}
	return aws.ToString(r.Code)
}

// snapshotsOf returns the snapshots that an image consists of.
func snapshotsOf(img types.Image) []string {
	var out []string
	for _, m := range img.BlockDeviceMappings {
		if m.Ebs != nil && aws.ToString(m.Ebs.SnapshotId) != "" {
			out = append(out, *m.Ebs.SnapshotId)
		}
	}
	return out
}
