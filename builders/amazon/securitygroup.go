package amazon

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/bakehouse-farm/bakehouse"
	"github.com/bakehouse-farm/bakehouse/builders"
)

// groups finds the groups that the template names, or says who may reach the
// temporary one.
func (e *EBS) groups(ctx context.Context, c *connection, s *Settings, p *plan) error {
	ids := s.GroupIDs
	if s.GroupID != "" {
		ids = []string{s.GroupID}
	}
	switch {
	case len(ids) > 0:
		if _, err := c.ec2.DescribeSecurityGroups(ctx, &ec2.DescribeSecurityGroupsInput{GroupIds: ids}); err != nil {
			return failed(ctx, err, "Couldn't find specified security group")
		}
		p.Groups = ids
		say(ctx, "Using specified security groups: %s", strings.Join(ids, ", "))
		return nil
	case !s.GroupFilter.empty():
		return c.filterGroups(ctx, s, p)
	}
	p.CIDRs = s.SourceCIDRs
	if len(p.CIDRs) > 0 {
		return nil
	}
	if s.SourcePublicIP {
		ip, err := e.publicIP(ctx)
		if err != nil {
			return err
		}
		p.CIDRs = []string{ip}
		return nil
	}
	p.CIDRs = []string{"0.0.0.0/0"}
	if s.SSHInterface == "ipv6" {
		p.CIDRs = []string{"::/0"}
	}
	return nil
}

func (c *connection) filterGroups(ctx context.Context, s *Settings, p *plan) error {
	say(ctx, "Using SecurityGroup Filters...")
	m := s.GroupFilter.all()
	if p.Vpc != "" {
		m["vpc-id"] = p.Vpc
	}
	fs, err := filters(m)
	if err != nil {
		return err
	}
	groups, err := c.findSecurityGroups(ctx, fs...)
	if err != nil {
		return failed(ctx, err, "find security groups")
	}
	for _, g := range groups {
		p.Groups = append(p.Groups, aws.ToString(g.GroupId))
	}
	if len(p.Groups) == 0 {
		return bakehouse.Errorf(bakehouse.NotFound, "No security groups was found for filters: %v", m)
	}
	say(ctx, "Found Security Group(s): %s", strings.Join(p.Groups, ", "))
	return nil
}

// SecurityGroup makes the temporary group and opens the communicator's port in
// it, or adopts the one that an earlier call made. When the template names
// groups, it returns those.
func (e *EBS) SecurityGroup(ctx context.Context, b bakehouse.Build, r builders.Resolved) ([]string, error) {
	p, err := planOf(r)
	if err != nil {
		return nil, err
	}
	if len(p.Groups) > 0 {
		return p.Groups, nil
	}
	s, c, err := e.open(ctx, b, r.Region)
	if err != nil {
		return nil, err
	}
	name := ownName(b)
	say(ctx, "Creating temporary security group for this instance: %s", name)
	id, err := c.createGroup(ctx, b, name, p)
	if err != nil {
		return nil, failed(ctx, err, "create temporary security group %s", name)
	}
	port := s.port()
	if port == 0 {
		return []string{id}, nil
	}
	say(ctx, "Authorizing access to port %d from [%s] in the temporary security groups...", port, strings.Join(p.CIDRs, " "))
	in := &ec2.AuthorizeSecurityGroupIngressInput{
		GroupId:       aws.String(id),
		IpPermissions: []types.IpPermission{permission(port, p.CIDRs)},
	}
	err = settled(ctx, settling, gone, func() error {
		_, err := c.ec2.AuthorizeSecurityGroupIngress(ctx, in)
		if is(err, "InvalidPermission.Duplicate") {
			return nil
		}
		return err
	})
	return []string{id}, failed(ctx, err, "authorize access to %s", id)
}

// createGroup returns the id of the group that it made, or that was made before.
func (c *connection) createGroup(ctx context.Context, b bakehouse.Build, name string, p plan) (string, error) {
	in := &ec2.CreateSecurityGroupInput{
		GroupName:         aws.String(name),
		Description:       aws.String("Temporary group of a Bakehouse build"),
		TagSpecifications: []types.TagSpecification{spec(types.ResourceTypeSecurityGroup, marked(b, stepGroup, p.RunTags))},
	}
	fs := []types.Filter{filter("group-name", name)}
	if p.Vpc != "" {
		in.VpcId = aws.String(p.Vpc)
		fs = append(fs, filter("vpc-id", p.Vpc))
	}
	var id string
	// A group that exists may not be described yet.
	err := settled(ctx, settling, func(err error) bool { return err == errUnknown }, func() error {
		made, err := c.ec2.CreateSecurityGroup(ctx, in)
		if err == nil {
			id = aws.ToString(made.GroupId)
			return nil
		}
		if !is(err, "InvalidGroup.Duplicate") {
			return err
		}
		out, err := c.ec2.DescribeSecurityGroups(ctx, &ec2.DescribeSecurityGroupsInput{Filters: fs})
		if err != nil {
			return err
		}
		if len(out.SecurityGroups) == 0 {
			return errUnknown
		}
		if !ours(b, out.SecurityGroups[0].Tags) {
			return bakehouse.Errorf(bakehouse.Conflict, "a security group of that name exists and was not made by this build")
		}
		id = aws.ToString(out.SecurityGroups[0].GroupId)
		return nil
	})
	return id, err
}

// port is the one that the communicator connects to; zero when there is none.
func (s *Settings) port() int {
	if s.session() {
		return 0 // the machine calls out
	}
	switch s.Communicator {
	case "none":
		return 0
	case "winrm":
		return s.WinRMPort
	}
	return s.SSHPort
}

// permission opens a TCP port to networks of both families.
func permission(port int, cidrs []string) types.IpPermission {
	p := types.IpPermission{
		IpProtocol: aws.String("tcp"),
		FromPort:   aws.Int32(int32(port)),
		ToPort:     aws.Int32(int32(port)),
	}
	for _, cidr := range cidrs {
		if n, err := netip.ParsePrefix(cidr); err == nil && n.Addr().Is6() {
			p.Ipv6Ranges = append(p.Ipv6Ranges, types.Ipv6Range{CidrIpv6: aws.String(cidr)})
		} else {
			p.IpRanges = append(p.IpRanges, types.IpRange{CidrIp: aws.String(cidr)})
		}
	}
	return p
}

// publicIP returns, as a network, the address under which the agent is seen.
func (e *EBS) publicIP(ctx context.Context) (string, error) {
	ask := e.config.PublicIP
	if ask == nil {
		ask = checkIP
	}
	text, err := ask(ctx)
	if err != nil {
		return "", fmt.Errorf("find public address for temporary_security_group_source_public_ip: %w", err)
	}
	ip, err := netip.ParseAddr(strings.TrimSpace(text))
	if err != nil {
		return "", fmt.Errorf("read public address: %w", err)
	}
	return netip.PrefixFrom(ip, ip.BitLen()).String(), nil
}

func checkIP(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://checkip.amazonaws.com", nil)
	if err != nil {
		return "", err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("checkip.amazonaws.com answers %s", resp.Status)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, 256))
	return string(body), err
}
