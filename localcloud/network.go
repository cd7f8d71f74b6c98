package localcloud

import (
	"net/netip"
	"strconv"

	"github.com/bakehouse-farm/bakehouse/localcloud/filter"
	"github.com/bakehouse-farm/bakehouse/localcloud/state"
	"github.com/bakehouse-farm/bakehouse/localcloud/wire"
)

type describeVpcsInput struct {
	VpcId  []string //nolint:revive // EC2's name
	Filter []filter.Filter
	Paging
}

type vpcItem struct {
	ID      string `xml:"vpcId"`
	Owner   string `xml:"ownerId"`
	State   string `xml:"state"`
	CIDR    string `xml:"cidrBlock"`
	Ranges  []cidr `xml:"cidrBlockAssociationSet>item"`
	DHCP    string `xml:"dhcpOptionsId"`
	Tags    []tag  `xml:"tagSet>item"`
	Tenancy string `xml:"instanceTenancy"`
	Default bool   `xml:"isDefault"`
}

type cidr struct {
	Block string `xml:"cidrBlock"`
	ID    string `xml:"associationId"`
	State string `xml:"cidrBlockState>state"`
}

type describeVpcsOutput struct {
	VPCs []vpcItem `xml:"vpcSet>item"`
	Next string    `xml:"nextToken,omitempty"`
}

func (c *call) vpcItem(v *state.VPC) vpcItem {
	return vpcItem{
		ID: v.ID, Owner: c.cloud.account, State: "available", CIDR: v.CIDR,
		Ranges: []cidr{{v.CIDR, state.FixedID("vpc-cidr-assoc", v.ID), "associated"}},
		DHCP:   state.FixedID("dopt", v.Region), Tags: shown(v.Tags), Tenancy: "default", Default: v.Default,
	}
}

func describeVpcs(c *call, in *describeVpcsInput) (*describeVpcsOutput, error) {
	list, err := selected(c, vpcSpecies, in.VpcId, in.Filter, filter.Fields[*state.VPC]{
		"vpc-id":                            func(v *state.VPC) []string { return one(v.ID) },
		"state":                             func(*state.VPC) []string { return one("available") },
		"cidr":                              func(v *state.VPC) []string { return one(v.CIDR) },
		"cidr-block-association.cidr-block": func(v *state.VPC) []string { return one(v.CIDR) },
		"is-default":                        func(v *state.VPC) []string { return yes(v.Default) },
		"isDefault":                         func(v *state.VPC) []string { return yes(v.Default) },
		"owner-id":                          func(*state.VPC) []string { return one(c.cloud.account) },
	}, func(v *state.VPC) map[string]string { return v.Tags })
	if err != nil {
		return nil, err
	}
	list, next, err := page(list, in.Paging)
	out := &describeVpcsOutput{Next: next}
	for _, v := range list {
		out.VPCs = append(out.VPCs, c.vpcItem(v))
	}
	return out, err
}

type createVpcInput struct {
	CidrBlock        string `q:",required"` //nolint:revive // EC2's name
	TagSpecification []tagSpec
}

type createVpcOutput struct {
	VPC vpcItem `xml:"vpc"`
}

func createVpc(c *call, in *createVpcInput) (*createVpcOutput, error) {
	if err := checkSpecs(in.TagSpecification, "vpc"); err != nil {
		return nil, err
	}
	p, err := netip.ParsePrefix(in.CidrBlock)
	if err != nil || !p.Addr().Is4() || p.Bits() < 16 || p.Bits() > 28 {
		return nil, wire.Errorf("InvalidVpc.Range", "The CIDR '%s' is invalid.", in.CidrBlock)
	}
	v := &state.VPC{
		Region: c.region, ID: state.NewID("vpc"), CIDR: p.Masked().String(),
		Tags: tagged(in.TagSpecification, "vpc"),
	}
	state.Put(c.Tx, v)
	putDefaultGroup(c.Tx, c.region, v.ID, state.NewID("sg"))
	return &createVpcOutput{c.vpcItem(v)}, nil
}

type deleteVpcInput struct {
	VpcId string `q:",required"` //nolint:revive // EC2's name
}

func deleteVpc(c *call, in *deleteVpcInput) (*done, error) {
	v, err := find[state.VPC](c, vpcSpecies, in.VpcId)
	if err != nil {
		return nil, err
	}
	busy := wire.Errorf("DependencyViolation", "The vpc '%s' has dependencies and cannot be deleted.", v.ID)
	for _, s := range state.List[state.Subnet](c.Tx, c.region) {
		if s.VPC == v.ID {
			return nil, busy
		}
	}
	var last []*state.SecurityGroup
	for _, g := range state.List[state.SecurityGroup](c.Tx, c.region) {
		if g.VPC != v.ID {
			continue
		}
		if g.Name != "default" {
			return nil, busy
		}
		last = append(last, g)
	}
	for _, g := range last {
		state.Delete(c.Tx, g)
	}
	state.Delete(c.Tx, v)
	return &done{true}, nil
}

type describeSubnetsInput struct {
	SubnetId []string //nolint:revive // EC2's name
	Filter   []filter.Filter
	Paging
}

type subnetItem struct {
	ID      string `xml:"subnetId"`
	ARN     string `xml:"subnetArn"`
	State   string `xml:"state"`
	Owner   string `xml:"ownerId"`
	VPC     string `xml:"vpcId"`
	CIDR    string `xml:"cidrBlock"`
	Free    int    `xml:"availableIpAddressCount"`
	Zone    string `xml:"availabilityZone"`
	ZoneID  string `xml:"availabilityZoneId"`
	Default bool   `xml:"defaultForAz"`
	Public  bool   `xml:"mapPublicIpOnLaunch"`
	Tags    []tag  `xml:"tagSet>item"`
}

type describeSubnetsOutput struct {
	Subnets []subnetItem `xml:"subnetSet>item"`
	Next    string       `xml:"nextToken,omitempty"`
}

// free counts the addresses of a subnet that no instance has.
func (c *call) free(s *state.Subnet) int {
	p, err := netip.ParsePrefix(s.CIDR)
	if err != nil {
		return 0
	}
	n := 1<<(32-p.Bits()) - 5
	for _, i := range state.List[state.Interface](c.Tx, c.region) {
		if i.Subnet == s.ID {
			n--
		}
	}
	return max(n, 0)
}

func (c *call) subnetItem(s *state.Subnet) subnetItem {
	id := ""
	for n, z := range regionZones()[c.region] {
		if s.Zone == c.region+string(z) {
			id = zoneID(c.region, n)
		}
	}
	return subnetItem{
		ID: s.ID, ARN: "arn:aws:ec2:" + c.region + ":" + c.cloud.account + ":subnet/" + s.ID, State: "available",
		Owner: c.cloud.account, VPC: s.VPC, CIDR: s.CIDR, Free: c.free(s), Zone: s.Zone, ZoneID: id,
		Default: s.Default, Public: s.Public, Tags: shown(s.Tags),
	}
}

func describeSubnets(c *call, in *describeSubnetsInput) (*describeSubnetsOutput, error) {
	zone := func(s *state.Subnet) []string { return one(s.Zone) }
	def := func(s *state.Subnet) []string { return yes(s.Default) }
	block := func(s *state.Subnet) []string { return one(s.CIDR) }
	list, err := selected(c, subnetSpecies, in.SubnetId, in.Filter, filter.Fields[*state.Subnet]{
		"subnet-id":                  func(s *state.Subnet) []string { return one(s.ID) },
		"vpc-id":                     func(s *state.Subnet) []string { return one(s.VPC) },
		"state":                      func(*state.Subnet) []string { return one("available") },
		"availability-zone":          zone,
		"availabilityZone":           zone,
		"availability-zone-id":       func(s *state.Subnet) []string { return one(c.subnetItem(s).ZoneID) },
		"cidr":                       block,
		"cidrBlock":                  block,
		"cidr-block":                 block,
		"default-for-az":             def,
		"defaultForAz":               def,
		"map-public-ip-on-launch":    func(s *state.Subnet) []string { return yes(s.Public) },
		"owner-id":                   func(*state.Subnet) []string { return one(c.cloud.account) },
		"available-ip-address-count": func(s *state.Subnet) []string { return one(strconv.Itoa(c.free(s))) },
	}, func(s *state.Subnet) map[string]string { return s.Tags })
	if err != nil {
		return nil, err
	}
	list, next, err := page(list, in.Paging)
	out := &describeSubnetsOutput{Next: next}
	for _, s := range list {
		out.Subnets = append(out.Subnets, c.subnetItem(s))
	}
	return out, err
}

type createSubnetInput struct {
	VpcId            string `q:",required"` //nolint:revive // EC2's name
	CidrBlock        string `q:",required"` //nolint:revive // EC2's name
	AvailabilityZone string
	TagSpecification []tagSpec
}

type createSubnetOutput struct {
	Subnet subnetItem `xml:"subnet"`
}

func createSubnet(c *call, in *createSubnetInput) (*createSubnetOutput, error) {
	if err := checkSpecs(in.TagSpecification, "subnet"); err != nil {
		return nil, err
	}
	v, err := find[state.VPC](c, vpcSpecies, in.VpcId)
	if err != nil {
		return nil, err
	}
	within, err := netip.ParsePrefix(v.CIDR)
	if err != nil {
		return nil, err
	}
	p, err := netip.ParsePrefix(in.CidrBlock)
	if err != nil || !p.Addr().Is4() || p.Bits() > 28 || p.Bits() < within.Bits() || !within.Contains(p.Addr()) {
		return nil, wire.Errorf("InvalidSubnet.Range", "The CIDR '%s' is invalid.", in.CidrBlock)
	}
	p = p.Masked()
	for _, s := range state.List[state.Subnet](c.Tx, c.region) {
		if q, err := netip.ParsePrefix(s.CIDR); err == nil && s.VPC == v.ID && q.Overlaps(p) {
			return nil, wire.Errorf("InvalidSubnet.Conflict", "The CIDR '%s' conflicts with another subnet", in.CidrBlock)
		}
	}
	zone := in.AvailabilityZone
	if zone == "" {
		zone = c.region + "a"
	}
	if err := c.checkZone(zone); err != nil {
		return nil, err
	}
	s := &state.Subnet{
		Region: c.region, ID: state.NewID("subnet"), VPC: v.ID, Zone: zone, CIDR: p.String(),
		Tags: tagged(in.TagSpecification, "subnet"),
	}
	state.Put(c.Tx, s)
	return &createSubnetOutput{c.subnetItem(s)}, nil
}

func (c *call) checkZone(zone string) error {
	for _, z := range regionZones()[c.region] {
		if zone == c.region+string(z) {
			return nil
		}
	}
	return wire.Errorf("InvalidParameterValue", "Invalid availability zone: [%s]", zone)
}

type deleteSubnetInput struct {
	SubnetId string `q:",required"` //nolint:revive // EC2's name
}

func deleteSubnet(c *call, in *deleteSubnetInput) (*done, error) {
	s, err := find[state.Subnet](c, subnetSpecies, in.SubnetId)
	if err != nil {
		return nil, err
	}
	for _, i := range state.List[state.Interface](c.Tx, c.region) {
		if i.Subnet == s.ID {
			return nil, wire.Errorf("DependencyViolation", "The subnet '%s' has dependencies and cannot be deleted.", s.ID)
		}
	}
	state.Delete(c.Tx, s)
	return &done{true}, nil
}

type modifySubnetInput struct {
	SubnetId            string `q:",required"` //nolint:revive // EC2's name
	MapPublicIpOnLaunch struct{ Value *bool }
}

func modifySubnet(c *call, in *modifySubnetInput) (*done, error) {
	s, err := find[state.Subnet](c, subnetSpecies, in.SubnetId)
	if err != nil {
		return nil, err
	}
	if v := in.MapPublicIpOnLaunch.Value; v != nil {
		s.Public = *v
	}
	state.Put(c.Tx, s)
	return &done{true}, nil
}

type describeInterfacesInput struct {
	NetworkInterfaceId []string //nolint:revive // EC2's name
	Filter             []filter.Filter
	Paging
}

type describeInterfacesOutput struct {
	Interfaces []interfaceItem `xml:"networkInterfaceSet>item"`
	Next       string          `xml:"nextToken,omitempty"`
}

type interfaceItem struct {
	ID      string      `xml:"networkInterfaceId"`
	Subnet  string      `xml:"subnetId"`
	VPC     string      `xml:"vpcId"`
	Zone    string      `xml:"availabilityZone,omitempty"`
	Owner   string      `xml:"ownerId"`
	Status  string      `xml:"status"`
	Type    string      `xml:"interfaceType"`
	Addr    string      `xml:"privateIpAddress"`
	Groups  []groupName `xml:"groupSet>item"`
	Tags    []tag       `xml:"tagSet>item"`
	Machine struct {
		Instance string `xml:"instanceId,omitempty"`
		Device   int    `xml:"deviceIndex"`
		Status   string `xml:"status"`
		Delete   bool   `xml:"deleteOnTermination"`
	} `xml:"attachment"`
}

func (c *call) interfaceItem(i *state.Interface) interfaceItem {
	item := interfaceItem{
		ID: i.ID, Subnet: i.Subnet, VPC: i.VPC, Zone: i.Zone, Owner: c.cloud.account, Status: "in-use",
		Type: "interface", Addr: i.Addr, Groups: c.groupNames(i.Groups), Tags: shown(i.Tags),
	}
	item.Machine.Instance, item.Machine.Status, item.Machine.Delete = i.Instance, "attached", true
	return item
}

func describeInterfaces(c *call, in *describeInterfacesInput) (*describeInterfacesOutput, error) {
	list, err := selected(c, interfaceSpecies, in.NetworkInterfaceId, in.Filter, filter.Fields[*state.Interface]{
		"network-interface-id":   func(i *state.Interface) []string { return one(i.ID) },
		"subnet-id":              func(i *state.Interface) []string { return one(i.Subnet) },
		"vpc-id":                 func(i *state.Interface) []string { return one(i.VPC) },
		"availability-zone":      func(i *state.Interface) []string { return one(i.Zone) },
		"group-id":               func(i *state.Interface) []string { return i.Groups },
		"private-ip-address":     func(i *state.Interface) []string { return one(i.Addr) },
		"attachment.instance-id": func(i *state.Interface) []string { return one(i.Instance) },
		"status":                 func(*state.Interface) []string { return one("in-use") },
	}, func(i *state.Interface) map[string]string { return i.Tags })
	if err != nil {
		return nil, err
	}
	list, next, err := page(list, in.Paging)
	out := &describeInterfacesOutput{Next: next}
	for _, i := range list {
		out.Interfaces = append(out.Interfaces, c.interfaceItem(i))
	}
	return out, err
}
