package amazon

import (
	"context"
	"encoding/json"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"github.com/bakehouse-farm/bakehouse"
	"github.com/bakehouse-farm/bakehouse/builders"
)

// Resolve checks the credentials, the regions, the names and the network, finds
// the source image, and fixes all that later steps depend on. It only reads.
func (e *EBS) Resolve(ctx context.Context, b bakehouse.Build) (builders.Resolved, error) {
	s, c, err := e.open(ctx, b, "")
	if err != nil {
		return builders.Resolved{}, err
	}
	if s.session() { // said before anything is made
		if _, err := agentsProgram(); err != nil {
			return builders.Resolved{}, err
		}
	}
	if err := c.whoAmI(ctx, s); err != nil {
		return builders.Resolved{}, err
	}
	p := plan{Name: s.AMIName, CaptureName: s.AMIName}
	if err := e.prevalidate(ctx, b, s, c, &p); err != nil {
		return builders.Resolved{}, err
	}
	source, err := c.selectImage(ctx, s.SourceAMI, s.SourceAMIFilter)
	if err != nil {
		return builders.Resolved{}, err
	}
	p.AMI = aws.ToString(source.ImageId)
	say(ctx, "Found Image ID: %s", p.AMI)
	if err := s.fits(source); err != nil {
		return builders.Resolved{}, err
	}
	if err := c.place(ctx, s, &p); err != nil {
		return builders.Resolved{}, err
	}
	if err := e.groups(ctx, c, s, &p); err != nil {
		return builders.Resolved{}, err
	}
	if err := c.checkProfile(ctx, s); err != nil {
		return builders.Resolved{}, err
	}
	if _, err := e.userData(b, s); err != nil { // says now what is wrong with it
		return builders.Resolved{}, err
	}
	return e.freeze(b, s, c.region, source, p)
}

// freeze puts together what is known.
func (e *EBS) freeze(b bakehouse.Build, s *Settings, region string, source types.Image, p plan) (builders.Resolved, error) {
	r := builders.Resolved{Region: region, KeyType: s.TemporaryKeyPairType}
	if !s.SkipCreateAMI {
		r.Intermediate = s.encrypted() || s.SkipSaveBuildRegion
		r.CopyRegions = copyRegions(s, region, r.Intermediate)
	}
	if r.Intermediate {
		p.CaptureName = ownName(b)
	}
	r.KeyPair, p.KeyName = keyPair(b, s)
	if r.KeyPair == "" {
		r.KeyType = ""
	}
	r.OwnGroup = len(p.Groups) == 0
	r.Generated = map[string]string{
		"BuildRegion":           region,
		"SourceAMI":             p.AMI,
		"SourceAMIName":         aws.ToString(source.Name),
		"SourceAMICreationDate": aws.ToString(source.CreationDate),
		"SourceAMIOwner":        aws.ToString(source.OwnerId),
		"SourceAMIOwnerName":    aws.ToString(source.ImageOwnerAlias),
	}
	if err := render(b, s, r.Generated, source.Tags, &p); err != nil {
		return builders.Resolved{}, err
	}
	var err error
	r.Details, err = json.Marshal(p)
	return r, err
}

// copyRegions returns where the image is copied to, sorted.
func copyRegions(s *Settings, region string, intermediate bool) []string {
	out := slices.DeleteFunc(slices.Clone(s.Regions), func(r string) bool { return r == region })
	if intermediate && !s.SkipSaveBuildRegion {
		out = append(out, region)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// keyPair returns the name of the key pair to make, or else that of the
// existing one to launch with; Packer's rules.
func keyPair(b bakehouse.Build, s *Settings) (temporary, existing string) {
	name := s.TemporaryKeyPairName
	if name == "" && s.SSHKeypairName == "" && s.SSHPrivateKeyFile == "" && s.SSHPassword == "" {
		name = ownName(b)
	}
	if s.SSHPrivateKeyFile != "" || s.SSHAgentAuth {
		return "", s.SSHKeypairName
	}
	return name, ""
}

// whoAmI finds out whether AWS knows the credentials.
func (c *connection) whoAmI(ctx context.Context, s *Settings) error {
	if s.SkipCredentialValidation || c.sts == nil {
		return nil
	}
	_, err := c.sts.GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{})
	return failed(ctx, err, "validate credentials (skip_credential_validation leaves this out)")
}

// prevalidate is what Packer checks before it does anything.
func (e *EBS) prevalidate(ctx context.Context, b bakehouse.Build, s *Settings, c *connection, p *plan) error {
	if err := c.checkRegions(ctx, s); err != nil {
		return err
	}
	if !s.ForceDeregister {
		say(ctx, "Prevalidating any provided VPC information")
	}
	if s.VpcID != "" && s.SubnetID == "" && (s.SubnetFilter == nil || s.SubnetFilter.empty()) {
		if err := c.checkVpc(ctx, s.VpcID); err != nil {
			return err
		}
	}
	switch {
	case s.SkipCreateAMI:
		say(ctx, "skip_create_ami was set; not prevalidating AMI name")
		return nil
	case s.ForceDeregister:
		say(ctx, "Force Deregister flag found, skipping prevalidating AMI Name")
		return e.findReplaced(ctx, b, s, c, p)
	case s.SkipSaveBuildRegion:
		say(ctx, "skip_build_region was set; not prevalidating AMI name")
		return nil
	}
	say(ctx, "Prevalidating AMI Name: %s", s.AMIName)
	images, err := c.findImages(ctx, filter("name", s.AMIName))
	if err != nil {
		return failed(ctx, err, "Error querying AMI")
	}
	for _, img := range images {
		if !ours(b, img.Tags) {
			return bakehouse.Errorf(bakehouse.Conflict, "Error: AMI Name: '%s' is used by an existing AMI: %s",
				aws.ToString(img.Name), aws.ToString(img.ImageId))
		}
	}
	return nil
}

// findReplaced finds the images that the new ones take the place of, in every
// region, while it is still known what they consist of.
func (e *EBS) findReplaced(ctx context.Context, b bakehouse.Build, s *Settings, c *connection, p *plan) error {
	regions := append(slices.Clone(s.Regions), c.region)
	slices.Sort(regions)
	for _, region := range slices.Compact(regions) {
		if region == c.region && s.SkipSaveBuildRegion {
			continue // nothing of that name will be made there
		}
		rc, err := e.connections.to(ctx, s.Access, region)
		if err != nil {
			return err
		}
		images, err := rc.findImages(ctx, filter("name", s.AMIName))
		if err != nil {
			return failed(ctx, err, "find images called %q in %s", s.AMIName, region)
		}
		for _, img := range images {
			if !ours(b, img.Tags) {
				p.Replaces = append(p.Replaces, replaced{region, aws.ToString(img.ImageId), snapshotsOf(img)})
			}
		}
	}
	return nil
}

func (c *connection) checkRegions(ctx context.Context, s *Settings) error {
	if s.SkipRegionValidation {
		return nil
	}
	out, err := c.ec2.DescribeRegions(ctx, &ec2.DescribeRegionsInput{})
	if err != nil {
		return failed(ctx, err, "error validating regions")
	}
	var known, unknown []string
	for _, r := range out.Regions {
		known = append(known, aws.ToString(r.RegionName))
	}
	for _, r := range append(slices.Clone(s.Regions), s.Region) {
		if r != "" && !slices.Contains(known, r) && !slices.Contains(unknown, r) {
			unknown = append(unknown, r)
		}
	}
	if len(unknown) > 0 {
		return bakehouse.Errorf(bakehouse.Invalid, "Invalid region(s): [%s], available regions: [%s]",
			strings.Join(unknown, ", "), strings.Join(known, ", "))
	}
	return nil
}

func (c *connection) checkVpc(ctx context.Context, id string) error {
	out, err := c.ec2.DescribeVpcs(ctx, &ec2.DescribeVpcsInput{VpcIds: []string{id}})
	if err != nil {
		return failed(ctx, err, "Error retrieving VPC information for vpc_id %s", id)
	}
	if len(out.Vpcs) == 0 {
		return bakehouse.Errorf(bakehouse.NotFound, "Error retrieving VPC information for vpc_id %s: it does not exist", id)
	}
	if !aws.ToBool(out.Vpcs[0].IsDefault) {
		return bakehouse.Errorf(bakehouse.Invalid, "Error: subnet_id or subnet_filter must be provided for non-default VPCs (%s)", id)
	}
	return nil
}

func (c *connection) checkProfile(ctx context.Context, s *Settings) error {
	if s.InstanceProfile == "" || s.SkipProfileCheck || c.iam == nil {
		return nil
	}
	_, err := c.iam.GetInstanceProfile(ctx, &iam.GetInstanceProfileInput{InstanceProfileName: aws.String(s.InstanceProfile)})
	return failed(ctx, err, "Couldn't find specified instance profile %s", s.InstanceProfile)
}
