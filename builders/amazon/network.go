package amazon

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/bakehouse-farm/bakehouse"
)

// place chooses where the instance runs.
func (c *connection) place(ctx context.Context, s *Settings, p *plan) error {
	p.Vpc, p.Subnet, p.Zone = s.VpcID, s.SubnetID, s.AvailabilityZone
	if p.Vpc == "" && !s.VpcFilter.empty() {
		if err := c.filterVpc(ctx, s, p); err != nil {
			return err
		}
	}
	if p.Subnet == "" && s.SubnetFilter != nil && !s.SubnetFilter.empty() {
		if err := c.filterSubnet(ctx, s, p); err != nil {
			return err
		}
	}
	if p.Subnet == "" && s.PublicIP != nil {
		// Packer goes on without a subnet, whatever the trouble: EC2 then chooses.
		if err := c.defaultSubnet(ctx, s, p); err != nil {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			bakehouse.LogOf(ctx).Error(fmt.Sprintf("no subnet chosen for associate_public_ip_address, EC2 chooses one: %v", err))
		}
	}
	if p.Subnet != "" && (p.Zone == "" || p.Vpc == "") {
		return c.completePlace(ctx, p)
	}
	return nil
}

func (c *connection) filterVpc(ctx context.Context, s *Settings, p *plan) error {
	say(ctx, "Using VPC Filters...")
	fs, err := filters(s.VpcFilter.all())
	if err != nil {
		return err
	}
	// Packer means to ask for available ones, and forgets to send it.
	out, err := c.ec2.DescribeVpcs(ctx, &ec2.DescribeVpcsInput{Filters: append(fs, filter("state", "available"))})
	if err != nil {
		return failed(ctx, err, "find VPC")
	}
	if len(out.Vpcs) != 1 {
		return bakehouse.Errorf(bakehouse.NotFound, "Exactly one VPC should match the filter, but %d VPC's was found matching filters: %v",
			len(out.Vpcs), s.VpcFilter.all())
	}
	p.Vpc = aws.ToString(out.Vpcs[0].VpcId)
	say(ctx, "Found VPC ID: %s", p.Vpc)
	return nil
}

func (c *connection) filterSubnet(ctx context.Context, s *Settings, p *plan) error {
	say(ctx, "Using Subnet Filters...")
	m := s.SubnetFilter.all()
	m["state"] = "available"
	if p.Vpc != "" {
		m["vpc-id"] = p.Vpc
	}
	if p.Zone != "" {
		m["availabilityZone"] = p.Zone
	}
	fs, err := filters(m)
	if err != nil {
		return err
	}
	subnets, err := c.subnets(ctx, fs...)
	switch {
	case err != nil:
		return failed(ctx, err, "find subnet")
	case len(subnets) == 0:
		return bakehouse.Errorf(bakehouse.NotFound, "No Subnets was found matching filters: %v", m)
	case len(subnets) > 1 && !s.SubnetFilter.Random && !s.SubnetFilter.MostFree:
		return bakehouse.Errorf(bakehouse.Invalid, "Your filter matched %d Subnets. Please try a more specific search, "+
			"or set random or most_free to true.", len(subnets))
	}
	chosen := subnets[0]
	if s.SubnetFilter.Random {
		chosen = subnets[rand.IntN(len(subnets))] // frozen with the plan
	} else if s.SubnetFilter.MostFree {
		chosen = mostFree(subnets)
	}
	p.Subnet = aws.ToString(chosen.SubnetId)
	say(ctx, "Found Subnet ID: %s", p.Subnet)
	return nil
}

// defaultSubnet chooses, of the default VPC's subnets whose zone offers the
// instance type, the one with the most free addresses.
func (c *connection) defaultSubnet(ctx context.Context, s *Settings, p *plan) error {
	if p.Vpc == "" {
		out, err := c.ec2.DescribeVpcs(ctx, &ec2.DescribeVpcsInput{Filters: []types.Filter{filter("is-default", "true")}})
		if err != nil {
			return failed(ctx, err, "find default VPC")
		}
		if len(out.Vpcs) == 0 {
			return bakehouse.Errorf(bakehouse.NotFound, "there is no default VPC in %s", c.region)
		}
		p.Vpc = aws.ToString(out.Vpcs[0].VpcId)
	}
	fs := []types.Filter{filter("vpc-id", p.Vpc), filter("state", "available")}
	if p.Zone != "" {
		fs = append(fs, filter("availability-zone", p.Zone))
	}
	subnets, err := c.subnets(ctx, fs...)
	if err != nil {
		return failed(ctx, err, "find subnets of %s", p.Vpc)
	}
	if offered, err := c.offering(ctx, s.InstanceType); err == nil && len(offered) > 0 {
		subnets = slices.DeleteFunc(subnets, func(n types.Subnet) bool { return !offered[aws.ToString(n.AvailabilityZone)] })
	}
	if len(subnets) == 0 {
		return bakehouse.Errorf(bakehouse.NotFound, "no subnet of %s offers %s", p.Vpc, s.InstanceType)
	}
	chosen := mostFree(subnets)
	p.Subnet, p.Zone = aws.ToString(chosen.SubnetId), aws.ToString(chosen.AvailabilityZone)
	say(ctx, "AssociatePublicIpAddress is set, using the default VPC %s and subnet %s", p.Vpc, p.Subnet)
	return nil
}

// offering returns the zones in which an instance type is to be had.
func (c *connection) offering(ctx context.Context, instanceType string) (map[string]bool, error) {
	out := map[string]bool{}
	pages := ec2.NewDescribeInstanceTypeOfferingsPaginator(c.ec2, &ec2.DescribeInstanceTypeOfferingsInput{
		LocationType: types.LocationTypeAvailabilityZone,
		Filters:      []types.Filter{filter("instance-type", instanceType)},
	})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, err
		}
		for _, o := range page.InstanceTypeOfferings {
			out[aws.ToString(o.Location)] = true
		}
	}
	return out, nil
}

func (c *connection) completePlace(ctx context.Context, p *plan) error {
	out, err := c.ec2.DescribeSubnets(ctx, &ec2.DescribeSubnetsInput{SubnetIds: []string{p.Subnet}})
	if err != nil {
		return failed(ctx, err, "describe subnet %s", p.Subnet)
	}
	if len(out.Subnets) == 0 {
		return bakehouse.Errorf(bakehouse.NotFound, "subnet %s does not exist in %s", p.Subnet, c.region)
	}
	if p.Zone == "" {
		p.Zone = aws.ToString(out.Subnets[0].AvailabilityZone)
		say(ctx, "AvailabilityZone is not set, using the subnet's: %s", p.Zone)
	}
	if p.Vpc == "" {
		p.Vpc = aws.ToString(out.Subnets[0].VpcId)
	}
	return nil
}

func (c *connection) subnets(ctx context.Context, fs ...types.Filter) ([]types.Subnet, error) {
	var out []types.Subnet
	pages := ec2.NewDescribeSubnetsPaginator(c.ec2, &ec2.DescribeSubnetsInput{Filters: fs})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, err
		}
		out = append(out, page.Subnets...)
	}
	slices.SortFunc(out, func(a, b types.Subnet) int {
		return strings.Compare(aws.ToString(a.SubnetId), aws.ToString(b.SubnetId))
	})
	return out, nil
}

func mostFree(subnets []types.Subnet) types.Subnet {
	return slices.MaxFunc(subnets, func(a, b types.Subnet) int {
		return int(aws.ToInt32(a.AvailableIpAddressCount) - aws.ToInt32(b.AvailableIpAddressCount))
	})
}
