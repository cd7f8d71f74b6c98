package localcloud

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/bakehouse-farm/bakehouse/localcloud/filter"
	"github.com/bakehouse-farm/bakehouse/localcloud/state"
	"github.com/bakehouse-farm/bakehouse/localcloud/wire"
)

// regionZones lists the regions and the letters of their availability zones.
func regionZones() map[string]string {
	return map[string]string{
		"us-east-1": "abcdef", "us-east-2": "abc", "us-west-1": "ab", "us-west-2": "abcd",
		"ca-central-1": "abd", "sa-east-1": "abc",
		"eu-west-1": "abc", "eu-west-2": "abc", "eu-west-3": "abc", "eu-central-1": "abc", "eu-north-1": "abc", "eu-south-1": "abc",
		"ap-south-1": "abc", "ap-southeast-1": "abc", "ap-southeast-2": "abc",
		"ap-northeast-1": "acd", "ap-northeast-2": "abcd", "ap-northeast-3": "abc",
	}
}

func regionNames() []string {
	var names []string
	for r := range regionZones() {
		names = append(names, r)
	}
	slices.Sort(names)
	return names
}

// setUp gives a region what a new account finds in it: a default network and
// the images that exist everywhere. It does so once, when the region is first
// used, with ids that depend on nothing but the region.
func (l *Cloud) setUp(region string) error {
	l.mu.Lock()
	ready := l.regions[region]
	l.mu.Unlock()
	if ready {
		return nil
	}
	zones, ok := regionZones()[region]
	if !ok {
		return wire.Errorf("AuthFailure", "The region %s does not exist here", region)
	}
	err := l.write(itself(setUpRegion+region), func(t *state.Tx) error {
		if state.Get[state.Region](t, "", region) != nil {
			return nil
		}
		state.Put(t, &state.Region{Name: region})
		vpc := &state.VPC{Region: region, ID: state.FixedID("vpc", l.account, region), CIDR: defaultRange, Default: true}
		state.Put(t, vpc)
		for n, zone := range zones {
			id := state.FixedID("subnet", l.account, region, string(zone))
			state.Put(t, &state.Subnet{
				Region: region, ID: id, VPC: vpc.ID, Zone: region + string(zone),
				CIDR: fmt.Sprintf("198.18.%d.0/20", n*16), Default: true, Public: true,
			})
		}
		putDefaultGroup(t, region, vpc.ID, state.FixedID("sg", l.account, region))
		for _, b := range state.List[state.Base](t, "") {
			l.register(t, region, b)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("set up region %s: %w", region, err)
	}
	l.mu.Lock()
	l.regions[region] = true
	l.mu.Unlock()
	return nil
}

type describeRegionsInput struct {
	RegionName []string
	AllRegions bool
	Filter     []filter.Filter
}

type regionItem struct {
	Name     string `xml:"regionName"`
	Endpoint string `xml:"regionEndpoint"`
	OptIn    string `xml:"optInStatus"`
}

type describeRegionsOutput struct {
	Regions []regionItem `xml:"regionInfo>item"`
}

func describeRegions(_ *call, in *describeRegionsInput) (*describeRegionsOutput, error) {
	var list []regionItem
	for _, r := range regionNames() {
		if len(in.RegionName) == 0 || slices.Contains(in.RegionName, r) {
			list = append(list, regionItem{r, "ec2." + r + ".amazonaws.com", "opt-in-not-required"})
		}
	}
	for _, r := range in.RegionName {
		if !slices.Contains(regionNames(), r) {
			return nil, wire.Errorf("InvalidParameterValue", "Invalid region provided: %s", r)
		}
	}
	list, err := filter.Apply(list, in.Filter, filter.Fields[regionItem]{
		"region-name":   func(r regionItem) []string { return one(r.Name) },
		"endpoint":      func(r regionItem) []string { return one(r.Endpoint) },
		"opt-in-status": func(r regionItem) []string { return one(r.OptIn) },
	}, noTags)
	return &describeRegionsOutput{list}, err
}

func noTags[T any](T) map[string]string { return nil }

type describeZonesInput struct {
	ZoneName             []string
	ZoneId               []string //nolint:revive // EC2's name
	AllAvailabilityZones bool
	Filter               []filter.Filter
}

type zoneItem struct {
	Name   string `xml:"zoneName"`
	State  string `xml:"zoneState"`
	Region string `xml:"regionName"`
	ID     string `xml:"zoneId"`
	Group  string `xml:"groupName"`
	Type   string `xml:"zoneType"`
	OptIn  string `xml:"optInStatus"`
}

type describeZonesOutput struct {
	Zones []zoneItem `xml:"availabilityZoneInfo>item"`
}

func describeZones(c *call, in *describeZonesInput) (*describeZonesOutput, error) {
	var list []zoneItem
	for n, z := range regionZones()[c.region] {
		item := zoneItem{c.region + string(z), "available", c.region, zoneID(c.region, n), c.region, "availability-zone", "opt-in-not-required"}
		byName := len(in.ZoneName) == 0 || slices.Contains(in.ZoneName, item.Name)
		byID := len(in.ZoneId) == 0 || slices.Contains(in.ZoneId, item.ID)
		if byName && byID {
			list = append(list, item)
		}
	}
	for _, z := range in.ZoneName {
		if !slices.ContainsFunc(list, func(i zoneItem) bool { return i.Name == z }) {
			return nil, wire.Errorf("InvalidParameterValue", "Invalid availability zone: [%s]", z)
		}
	}
	list, err := filter.Apply(list, in.Filter, filter.Fields[zoneItem]{
		"zone-name":     func(z zoneItem) []string { return one(z.Name) },
		"zone-id":       func(z zoneItem) []string { return one(z.ID) },
		"zone-type":     func(z zoneItem) []string { return one(z.Type) },
		"state":         func(z zoneItem) []string { return one(z.State) },
		"region-name":   func(z zoneItem) []string { return one(z.Region) },
		"group-name":    func(z zoneItem) []string { return one(z.Group) },
		"opt-in-status": func(z zoneItem) []string { return one(z.OptIn) },
	}, noTags)
	return &describeZonesOutput{list}, err
}

// zoneID returns the id of the nth zone, the same in every account: use1-az1.
func zoneID(region string, n int) string {
	var short string
	for _, part := range splitRegion(region) {
		short += part
	}
	return fmt.Sprintf("%s-az%d", short, n+1)
}

// splitRegion abbreviates a region name as zone ids do: us-east-1 is us, e, 1;
// ap-southeast-2 is ap, se, 2.
func splitRegion(region string) []string {
	var area, side string
	var n int
	if _, err := fmt.Sscanf(region, "%2s-%s", &area, &side); err != nil || len(side) < 3 {
		return []string{region}
	}
	if _, err := fmt.Sscanf(side[len(side)-1:], "%d", &n); err != nil {
		return []string{region}
	}
	short := map[string]string{
		"north": "n", "east": "e", "south": "s", "west": "w", "central": "c",
		"northeast": "ne", "southeast": "se", "northwest": "nw", "southwest": "sw",
	}[side[:len(side)-2]]
	return []string{area, short, fmt.Sprint(n)}
}

// Instances are reached at addresses of 198.18.0.0/15, which is set aside for
// laboratories (RFC 2544): it collides with no network that a machine is in.
// Default networks have the lower half. Instances of networks that users make,
// whatever those networks' ranges, live in the upper half.
const (
	defaultRange = "198.18.0.0/16"
	otherRange   = "198.19.0.0/16"
)

// address picks a free address for an instance in a subnet. It is picked at
// random, so that two localclouds on a machine hardly meet, and is free as far
// as our own instances and this machine's routes tell.
func (c *call) address(s *state.Subnet) (netip.Addr, error) {
	within := s.CIDR
	if !s.Default {
		within = otherRange
	}
	prefix, err := netip.ParsePrefix(within)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("range of %s: %w", s.ID, err)
	}
	taken := routed()
	for _, i := range state.List[state.Instance](c.Tx, "*") {
		if i.State != state.Terminated {
			taken[i.Addr] = true
		}
	}
	size := 1 << (32 - prefix.Bits())
	base := prefix.Masked().Addr().As4()
	for range 64 {
		// The first four and the last address of a subnet are not for instances.
		// Neither are those that the host and its name server have inside.
		n := 4 + randomBelow(size-5)
		a := netip.AddrFrom4([4]byte{base[0], base[1], base[2] | byte(n>>8), base[3] | byte(n)})
		if !taken[a.String()] {
			return a, nil
		}
	}
	return netip.Addr{}, wire.Errorf("InsufficientFreeAddressesInSubnet", "There are not enough free addresses in subnet '%s'", s.ID)
}
