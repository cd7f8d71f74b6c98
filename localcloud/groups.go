package localcloud

import (
	"net/netip"
	"slices"
	"strconv"

	"github.com/bakehouse-farm/bakehouse/localcloud/filter"
	"github.com/bakehouse-farm/bakehouse/localcloud/state"
	"github.com/bakehouse-farm/bakehouse/localcloud/wire"
)

// putDefaultGroup makes the group that every VPC has.
func putDefaultGroup(t *state.Tx, region, vpc, id string) {
	state.Put(t, &state.SecurityGroup{
		Region: region, ID: id, VPC: vpc, Name: "default", Description: "default VPC security group",
		Rules: []state.Rule{
			{ID: state.FixedID("sgr", id, "in"), Protocol: "-1", Group: id},
			{ID: state.FixedID("sgr", id, "out"), Egress: true, Protocol: "-1", CIDR: "0.0.0.0/0"},
		},
	})
}

type groupName struct {
	ID   string `xml:"groupId"`
	Name string `xml:"groupName"`
}

func (c *call) groupNames(ids []string) []groupName {
	var list []groupName
	for _, id := range ids {
		name := ""
		if g := state.Get[state.SecurityGroup](c.Tx, c.region, id); g != nil {
			name = g.Name
		}
		list = append(list, groupName{id, name})
	}
	return list
}

// defaultVPC returns the region's default VPC, or nil when it has been deleted.
func (c *call) defaultVPC() *state.VPC {
	for _, v := range state.List[state.VPC](c.Tx, c.region) {
		if v.Default {
			return v
		}
	}
	return nil
}

type createGroupInput struct {
	GroupName        string `q:",required"`
	GroupDescription string `q:",required"`
	VpcId            string //nolint:revive // EC2's name
	TagSpecification []tagSpec
}

type createGroupOutput struct {
	ID   string `xml:"groupId"`
	ARN  string `xml:"securityGroupArn"`
	Tags []tag  `xml:"tagSet>item"`
	Done bool   `xml:"return"`
}

func createGroup(c *call, in *createGroupInput) (*createGroupOutput, error) {
	if err := checkSpecs(in.TagSpecification, "security-group"); err != nil {
		return nil, err
	}
	vpc := in.VpcId
	if vpc == "" {
		v := c.defaultVPC()
		if v == nil {
			return nil, wire.Errorf("VPCIdNotSpecified", "No default VPC for this user")
		}
		vpc = v.ID
	} else if _, err := find[state.VPC](c, vpcSpecies, vpc); err != nil {
		return nil, err
	}
	if in.GroupName == "default" {
		return nil, wire.Errorf("InvalidGroup.Reserved", "The security group 'default' is reserved")
	}
	if len(in.GroupName) > 255 || len(in.GroupDescription) > 255 {
		return nil, wire.Errorf("InvalidParameterValue", "Name and description of a security group have at most 255 characters")
	}
	for _, g := range state.List[state.SecurityGroup](c.Tx, c.region) {
		if g.VPC == vpc && g.Name == in.GroupName {
			return nil, wire.Errorf("InvalidGroup.Duplicate", "The security group '%s' already exists for VPC '%s'", in.GroupName, vpc)
		}
	}
	g := &state.SecurityGroup{
		Region: c.region, ID: state.NewID("sg"), VPC: vpc, Name: in.GroupName, Description: in.GroupDescription,
		Rules: []state.Rule{{ID: state.NewID("sgr"), Egress: true, Protocol: "-1", CIDR: "0.0.0.0/0"}},
		Tags:  tagged(in.TagSpecification, "security-group"),
	}
	state.Put(c.Tx, g)
	return &createGroupOutput{g.ID, c.groupARN(g.ID), shown(g.Tags), true}, nil
}

func (c *call) groupARN(id string) string {
	return "arn:aws:ec2:" + c.region + ":" + c.cloud.account + ":security-group/" + id
}

type describeGroupsInput struct {
	GroupId   []string //nolint:revive // EC2's name
	GroupName []string
	Filter    []filter.Filter
	Paging
}

type groupItem struct {
	Owner       string           `xml:"ownerId"`
	ID          string           `xml:"groupId"`
	Name        string           `xml:"groupName"`
	Description string           `xml:"groupDescription"`
	VPC         string           `xml:"vpcId"`
	ARN         string           `xml:"securityGroupArn"`
	In          []permissionItem `xml:"ipPermissions>item"`
	Out         []permissionItem `xml:"ipPermissionsEgress>item"`
	Tags        []tag            `xml:"tagSet>item"`
}

type permissionItem struct {
	Protocol string      `xml:"ipProtocol"`
	From     *int        `xml:"fromPort,omitempty"`
	To       *int        `xml:"toPort,omitempty"`
	Groups   []rulePeer  `xml:"groups>item"`
	Ranges   []ruleRange `xml:"ipRanges>item"`
	Ranges6  []ruleRange `xml:"ipv6Ranges>item"`
	Prefixes []ruleRange `xml:"prefixListIds>item"`
}

type rulePeer struct {
	User        string `xml:"userId"`
	Group       string `xml:"groupId"`
	Description string `xml:"description,omitempty"`
}

type ruleRange struct {
	CIDR        string `xml:"cidrIp,omitempty"`
	CIDR6       string `xml:"cidrIpv6,omitempty"`
	Prefix      string `xml:"prefixListId,omitempty"`
	Description string `xml:"description,omitempty"`
}

// permissions groups the rules of one direction as EC2 shows them: one item for
// each protocol and range of ports.
func (c *call) permissions(rules []state.Rule, egress bool) []permissionItem {
	var list []permissionItem
	at := map[string]int{}
	for _, r := range rules {
		if r.Egress != egress {
			continue
		}
		key := r.Protocol + "/" + strconv.Itoa(r.From) + "/" + strconv.Itoa(r.To)
		n, ok := at[key]
		if !ok {
			n = len(list)
			at[key] = n
			item := permissionItem{Protocol: r.Protocol}
			if r.Protocol != "-1" {
				item.From, item.To = &r.From, &r.To
			}
			list = append(list, item)
		}
		p := &list[n]
		switch {
		case r.CIDR != "":
			p.Ranges = append(p.Ranges, ruleRange{CIDR: r.CIDR, Description: r.Description})
		case r.CIDR6 != "":
			p.Ranges6 = append(p.Ranges6, ruleRange{CIDR6: r.CIDR6, Description: r.Description})
		case r.PrefixList != "":
			p.Prefixes = append(p.Prefixes, ruleRange{Prefix: r.PrefixList, Description: r.Description})
		case r.Group != "":
			p.Groups = append(p.Groups, rulePeer{c.cloud.account, r.Group, r.Description})
		}
	}
	return list
}

type describeGroupsOutput struct {
	Groups []groupItem `xml:"securityGroupInfo>item"`
	Next   string      `xml:"nextToken,omitempty"`
}

func (c *call) groupFields() filter.Fields[*state.SecurityGroup] {
	each := func(f func(state.Rule) string) func(*state.SecurityGroup) []string {
		return func(g *state.SecurityGroup) []string {
			var v []string
			for _, r := range g.Rules {
				if s := f(r); !r.Egress && s != "" {
					v = append(v, s)
				}
			}
			return v
		}
	}
	return filter.Fields[*state.SecurityGroup]{
		"group-id":                func(g *state.SecurityGroup) []string { return one(g.ID) },
		"group-name":              func(g *state.SecurityGroup) []string { return one(g.Name) },
		"description":             func(g *state.SecurityGroup) []string { return one(g.Description) },
		"vpc-id":                  func(g *state.SecurityGroup) []string { return one(g.VPC) },
		"owner-id":                func(*state.SecurityGroup) []string { return one(c.cloud.account) },
		"ip-permission.protocol":  each(func(r state.Rule) string { return r.Protocol }),
		"ip-permission.cidr":      each(func(r state.Rule) string { return r.CIDR }),
		"ip-permission.ipv6-cidr": each(func(r state.Rule) string { return r.CIDR6 }),
		"ip-permission.group-id":  each(func(r state.Rule) string { return r.Group }),
		"ip-permission.from-port": each(func(r state.Rule) string { return strconv.Itoa(r.From) }),
		"ip-permission.to-port":   each(func(r state.Rule) string { return strconv.Itoa(r.To) }),
	}
}

func describeGroups(c *call, in *describeGroupsInput) (*describeGroupsOutput, error) {
	list, err := selected(c, groupSpecies, in.GroupId, in.Filter, c.groupFields(),
		func(g *state.SecurityGroup) map[string]string { return g.Tags })
	if err != nil {
		return nil, err
	}
	for _, name := range in.GroupName {
		if !slices.ContainsFunc(list, func(g *state.SecurityGroup) bool { return g.Name == name }) {
			return nil, groupSpecies.missing(name)
		}
	}
	if len(in.GroupName) > 0 {
		list = slices.DeleteFunc(list, func(g *state.SecurityGroup) bool { return !slices.Contains(in.GroupName, g.Name) })
	}
	list, next, err := page(list, in.Paging)
	out := &describeGroupsOutput{Next: next}
	for _, g := range list {
		out.Groups = append(out.Groups, groupItem{
			Owner: c.cloud.account, ID: g.ID, Name: g.Name, Description: g.Description, VPC: g.VPC, ARN: c.groupARN(g.ID),
			In: c.permissions(g.Rules, false), Out: c.permissions(g.Rules, true), Tags: shown(g.Tags),
		})
	}
	return out, err
}

type permission struct {
	IpProtocol string //nolint:revive // EC2's name
	FromPort   *int
	ToPort     *int
	IpRanges   []struct{ CidrIp, Description string }   //nolint:revive // EC2's name
	Ipv6Ranges []struct{ CidrIpv6, Description string } //nolint:revive // EC2's name
	Groups     []struct {
		GroupId, GroupName, UserId, VpcId, Description string //nolint:revive // EC2's name
	}
	PrefixListIds []struct{ PrefixListId, Description string } //nolint:revive // EC2's name
}

type ruleInput struct {
	GroupId       string //nolint:revive // EC2's name
	GroupName     string
	IpPermissions []permission //nolint:revive // EC2's name
	// The short form of one rule.
	IpProtocol       string //nolint:revive // EC2's name
	FromPort, ToPort *int
	CidrIp           string //nolint:revive // EC2's name
	TagSpecification []tagSpec
}

// group finds the group that a request about rules means.
func (c *call) group(id, name string) (*state.SecurityGroup, error) {
	if id != "" {
		return find[state.SecurityGroup](c, groupSpecies, id)
	}
	if name == "" {
		return nil, wire.Errorf("MissingParameter", "The request must contain the parameter groupName or groupId")
	}
	v := c.defaultVPC()
	for _, g := range state.List[state.SecurityGroup](c.Tx, c.region) {
		if v != nil && g.VPC == v.ID && g.Name == name {
			return g, nil
		}
	}
	return nil, groupSpecies.missing(name)
}

// rules reads the rules that a request is about.
func (c *call) rules(in *ruleInput, egress bool) ([]state.Rule, error) {
	perms := in.IpPermissions
	if len(perms) == 0 && in.IpProtocol != "" {
		p := permission{IpProtocol: in.IpProtocol, FromPort: in.FromPort, ToPort: in.ToPort}
		p.IpRanges = append(p.IpRanges, struct{ CidrIp, Description string }{in.CidrIp, ""})
		perms = append(perms, p)
	}
	if len(perms) == 0 {
		return nil, wire.Errorf("MissingParameter", "The request must contain the parameter ipPermissions")
	}
	var rules []state.Rule
	for _, p := range perms {
		r, err := protocol(p)
		if err != nil {
			return nil, err
		}
		r.Egress = egress
		add := func(f func(*state.Rule)) {
			n := r
			f(&n)
			n.ID = state.NewID("sgr")
			rules = append(rules, n)
		}
		for _, v := range p.IpRanges {
			q, err := netip.ParsePrefix(v.CidrIp)
			if err != nil || !q.Addr().Is4() {
				return nil, wire.Errorf("InvalidParameterValue", "CIDR block %s is malformed", v.CidrIp)
			}
			add(func(n *state.Rule) { n.CIDR, n.Description = q.Masked().String(), v.Description })
		}
		for _, v := range p.Ipv6Ranges {
			q, err := netip.ParsePrefix(v.CidrIpv6)
			if err != nil || !q.Addr().Is6() {
				return nil, wire.Errorf("InvalidParameterValue", "CIDR block %s is malformed", v.CidrIpv6)
			}
			add(func(n *state.Rule) { n.CIDR6, n.Description = q.Masked().String(), v.Description })
		}
		for _, v := range p.Groups {
			g, err := c.group(v.GroupId, v.GroupName)
			if err != nil {
				return nil, err
			}
			add(func(n *state.Rule) { n.Group, n.Description = g.ID, v.Description })
		}
		for _, v := range p.PrefixListIds {
			return nil, wire.Errorf("InvalidPrefixListId.NotFound", "The prefix list ID '%s' does not exist", v.PrefixListId)
		}
	}
	return rules, nil
}

// protocol checks protocol and ports of a rule and writes them EC2's way.
func protocol(p permission) (state.Rule, error) {
	r := state.Rule{Protocol: p.IpProtocol}
	switch p.IpProtocol {
	case "6":
		r.Protocol = "tcp"
	case "17":
		r.Protocol = "udp"
	case "1":
		r.Protocol = "icmp"
	case "tcp", "udp", "icmp", "icmpv6", "-1":
	default:
		if n, err := strconv.Atoi(p.IpProtocol); err != nil || n < 0 || n > 255 {
			return r, wire.Errorf("InvalidParameterValue", "Invalid value '%s' for IP protocol. Unknown protocol.", p.IpProtocol)
		}
	}
	if r.Protocol == "-1" {
		return r, nil
	}
	if p.FromPort == nil || p.ToPort == nil {
		if r.Protocol == "tcp" || r.Protocol == "udp" {
			return r, wire.Errorf("InvalidParameterValue", "Invalid value 'Must specify both from and to ports with TCP/UDP.' for portRange.")
		}
		r.From, r.To = -1, -1
		return r, nil
	}
	r.From, r.To = *p.FromPort, *p.ToPort
	if r.Protocol == "tcp" || r.Protocol == "udp" {
		if r.From < 0 || r.To > 65535 || r.From > r.To {
			return r, wire.Errorf("InvalidParameterValue", "Invalid value '%d-%d' for portRange.", r.From, r.To)
		}
	}
	return r, nil
}

// same tells whether two rules let the same traffic through.
func same(a, b state.Rule) bool {
	a.ID, b.ID, a.Description, b.Description, a.Tags, b.Tags = "", "", "", "", nil, nil
	return a.Egress == b.Egress && a.Protocol == b.Protocol && a.From == b.From && a.To == b.To &&
		a.CIDR == b.CIDR && a.CIDR6 == b.CIDR6 && a.Group == b.Group && a.PrefixList == b.PrefixList
}

type ruleItem struct {
	ID          string `xml:"securityGroupRuleId"`
	Group       string `xml:"groupId"`
	Owner       string `xml:"groupOwnerId"`
	Egress      bool   `xml:"isEgress"`
	Protocol    string `xml:"ipProtocol"`
	From        int    `xml:"fromPort"`
	To          int    `xml:"toPort"`
	CIDR        string `xml:"cidrIpv4,omitempty"`
	CIDR6       string `xml:"cidrIpv6,omitempty"`
	Peer        string `xml:"referencedGroupInfo>groupId,omitempty"`
	Description string `xml:"description,omitempty"`
	Tags        []tag  `xml:"tagSet>item"`
}

type authorizeOutput struct {
	Return bool       `xml:"return"`
	Rules  []ruleItem `xml:"securityGroupRuleSet>item"`
}

func authorize(egress bool) func(*call, *ruleInput) (*authorizeOutput, error) {
	return func(c *call, in *ruleInput) (*authorizeOutput, error) {
		if err := checkSpecs(in.TagSpecification, "security-group-rule"); err != nil {
			return nil, err
		}
		g, err := c.group(in.GroupId, in.GroupName)
		if err != nil {
			return nil, err
		}
		rules, err := c.rules(in, egress)
		if err != nil {
			return nil, err
		}
		out := &authorizeOutput{Return: true}
		for _, r := range rules {
			if slices.ContainsFunc(g.Rules, func(have state.Rule) bool { return same(have, r) }) {
				return nil, wire.Errorf("InvalidPermission.Duplicate", "the specified rule \"peer: %s, %s, from port: %d, to port: %d, ALLOW\" already exists", peer(r), r.Protocol, r.From, r.To)
			}
			r.Tags = tagged(in.TagSpecification, "security-group-rule")
			g.Rules = append(g.Rules, r)
			out.Rules = append(out.Rules, ruleItem{
				r.ID, g.ID, c.cloud.account, egress, r.Protocol, r.From, r.To, r.CIDR, r.CIDR6, r.Group, r.Description, shown(r.Tags),
			})
		}
		state.Put(c.Tx, g)
		return out, nil
	}
}

func peer(r state.Rule) string { return r.CIDR + r.CIDR6 + r.Group }

type revokeInput struct {
	ruleInput
	SecurityGroupRuleId []string //nolint:revive // EC2's name
}

func revoke(egress bool) func(*call, *revokeInput) (*done, error) {
	return func(c *call, in *revokeInput) (*done, error) {
		g, err := c.group(in.GroupId, in.GroupName)
		if err != nil {
			return nil, err
		}
		for _, id := range in.SecurityGroupRuleId {
			n := slices.IndexFunc(g.Rules, func(r state.Rule) bool { return r.ID == id && r.Egress == egress })
			if n < 0 {
				return nil, wire.Errorf("InvalidSecurityGroupRuleId.NotFound", "The security group rule ID '%s' does not exist", id)
			}
			g.Rules = slices.Delete(g.Rules, n, n+1)
		}
		if len(in.SecurityGroupRuleId) == 0 {
			rules, err := c.rules(&in.ruleInput, egress)
			if err != nil {
				return nil, err
			}
			for _, r := range rules {
				n := slices.IndexFunc(g.Rules, func(have state.Rule) bool { return same(have, r) })
				if n < 0 {
					return nil, wire.Errorf("InvalidPermission.NotFound", "The specified rule does not exist in this security group.")
				}
				g.Rules = slices.Delete(g.Rules, n, n+1)
			}
		}
		state.Put(c.Tx, g)
		return &done{true}, nil
	}
}

type deleteGroupInput struct {
	GroupId   string //nolint:revive // EC2's name
	GroupName string
}

type deleteGroupOutput struct {
	Return bool   `xml:"return"`
	ID     string `xml:"groupId"`
}

func deleteGroup(c *call, in *deleteGroupInput) (*deleteGroupOutput, error) {
	g, err := c.group(in.GroupId, in.GroupName)
	if err != nil {
		return nil, err
	}
	if g.Name == "default" {
		return nil, wire.Errorf("CannotDelete", "the specified group: %q name: \"default\" cannot be deleted by a user", g.ID)
	}
	for _, i := range state.List[state.Interface](c.Tx, c.region) {
		if slices.Contains(i.Groups, g.ID) {
			return nil, wire.Errorf("DependencyViolation", "resource %s has a dependent object", g.ID)
		}
	}
	for _, o := range state.List[state.SecurityGroup](c.Tx, c.region) {
		for _, r := range o.Rules {
			if o.ID != g.ID && r.Group == g.ID {
				return nil, wire.Errorf("DependencyViolation", "resource %s has a dependent object", g.ID)
			}
		}
	}
	state.Delete(c.Tx, g)
	return &deleteGroupOutput{true, g.ID}, nil
}
