package localcloud

import (
	"cmp"
	"encoding/base64"
	"slices"
	"strconv"
	"strings"

	"github.com/bakehouse-farm/bakehouse/localcloud/state"
	"github.com/bakehouse-farm/bakehouse/localcloud/wire"
)

func encode(b []byte) string { return base64.StdEncoding.EncodeToString(b) }

// A nic is a NetworkInterface of a request.
type nic struct {
	DeviceIndex              int
	SubnetId                 string   //nolint:revive // EC2's name
	SecurityGroupId          []string //nolint:revive // EC2's name
	AssociatePublicIpAddress *bool    //nolint:revive // EC2's name
	DeleteOnTermination      *bool
}

type runInput struct {
	ImageId                           string `q:",required"` //nolint:revive // EC2's name
	InstanceType                      string
	MinCount                          int `q:",required"`
	MaxCount                          int `q:",required"`
	KeyName                           string
	SecurityGroupId                   []string //nolint:revive // EC2's name
	SecurityGroup                     []string
	SubnetId                          string //nolint:revive // EC2's name
	NetworkInterface                  []nic
	Placement                         struct{ AvailabilityZone string }
	UserData                          []byte
	ClientToken                       string
	BlockDeviceMapping                []device
	TagSpecification                  []tagSpec
	InstanceInitiatedShutdownBehavior string
	DisableApiTermination             bool
	DisableApiStop                    bool
	EbsOptimized                      bool
	Monitoring                        struct{ Enabled bool }
	IamInstanceProfile                profileSpec
	MetadataOptions                   struct {
		HttpEndpoint, HttpTokens, HttpPutResponseHopLimit, InstanceMetadataTags, HttpProtocolIpv6 string //nolint:revive // EC2's name
	}
}

// runInstances makes instances. They boot once that is on disk.
func runInstances(c *call, in *runInput) (*reservationItem, error) {
	if err := checkSpecs(in.TagSpecification, "instance", "volume", "network-interface"); err != nil {
		return nil, err
	}
	before, keep, err := c.token(in.ClientToken)
	if err != nil {
		return nil, err
	}
	// Instances are forgotten an hour after their end, and their token with them.
	if r := c.reservation(before); before != "" && len(r.Instances) > 0 {
		return r, nil
	}
	if in.MinCount < 1 || in.MaxCount < in.MinCount || in.MaxCount > 100 {
		return nil, wire.Errorf("InvalidParameterValue", "MinCount (%d) and MaxCount (%d) must be between 1 and 100, and MinCount the smaller", in.MinCount, in.MaxCount)
	}
	if len(in.UserData) > 16<<10 {
		return nil, wire.Errorf("InvalidParameterValue", "User data is limited to 16384 bytes")
	}
	img, err := c.launchable(in.ImageId)
	if err != nil {
		return nil, err
	}
	kind := cmp.Or(in.InstanceType, "m1.small")
	arch, err := archOf(kind)
	if err != nil {
		return nil, err
	}
	switch {
	case arch != img.Arch && in.InstanceType != "":
		return nil, wire.Errorf("InvalidParameterValue", "The architecture '%s' of the specified instance type does not match the architecture '%s' of the specified AMI. Specify an instance type and an AMI that have matching architectures, and try again.", arch, img.Arch)
	case img.Arch != c.cloud.arch:
		return nil, wire.Errorf("Unsupported", "localcloud runs on %s and cannot boot an image for %s", c.cloud.arch, img.Arch)
	}
	subnet, groups, err := c.place(in)
	if err != nil {
		return nil, err
	}
	var keys []string
	if in.KeyName != "" {
		k := c.key(in.KeyName)
		if k == nil || c.sight.hides(k.Kind(), c.region, k.ID) {
			return nil, keySpecies.missing(in.KeyName)
		}
		keys = []string{k.Public}
	}
	profile, err := c.launchProfile(in.IamInstanceProfile)
	if err != nil {
		return nil, err
	}
	switch in.InstanceInitiatedShutdownBehavior {
	case "", "stop", "terminate":
	default:
		return nil, wire.Errorf("InvalidParameterValue", "Value (%s) for parameter instanceInitiatedShutdownBehavior is invalid.", in.InstanceInitiatedShutdownBehavior)
	}
	reservation := state.NewID("r")
	for n := range in.MaxCount {
		addr, err := c.address(subnet)
		if err != nil {
			return nil, err
		}
		i := &state.Instance{
			Region: c.region, ID: state.NewID("i"), Reservation: reservation, Index: n, Image: img.ID, Type: kind, Arch: img.Arch,
			KeyPair: in.KeyName, Keys: keys, VPC: subnet.VPC, Subnet: subnet.ID, Zone: subnet.Zone, Addr: addr.String(),
			Public: subnet.Public, Groups: groups, RootDevice: img.RootDevice, UserData: in.UserData,
			Shutdown: cmp.Or(in.InstanceInitiatedShutdownBehavior, "stop"), Protected: in.DisableApiTermination, NoStop: in.DisableApiStop,
			EBSOpt: in.EbsOptimized, ENA: img.ENA, SRIOV: img.SRIOV, SourceDest: true, Monitoring: in.Monitoring.Enabled,
			Options: in.options(), Token: in.ClientToken, Tags: tagged(in.TagSpecification, "instance"),
		}
		if len(in.NetworkInterface) > 0 && in.NetworkInterface[0].AssociatePublicIpAddress != nil {
			i.Public = *in.NetworkInterface[0].AssociatePublicIpAddress
		}
		if profile != nil {
			i.Profile = *profile
		}
		enter(i, state.Pending, c.now)
		if err := c.attach(i, img, in); err != nil {
			return nil, err
		}
		nic := &state.Interface{
			Region: c.region, ID: state.NewID("eni"), Instance: i.ID, VPC: i.VPC, Subnet: i.Subnet, Zone: i.Zone, Addr: i.Addr,
			Groups: groups, Tags: tagged(in.TagSpecification, "network-interface"),
		}
		i.Interface = nic.ID
		state.Put(c.Tx, nic)
		state.Put(c.Tx, i)
		c.later(func() { c.cloud.attend(i.Region, i.ID) })
	}
	keep(reservation)
	return c.reservation(reservation), nil
}

// options returns the metadata options as given. There is no metadata endpoint
// inside instances; what it would say is in /run/bakehouse/metadata.json.
func (in *runInput) options() map[string]string {
	o := map[string]string{}
	for k, v := range map[string]string{
		"HttpEndpoint": in.MetadataOptions.HttpEndpoint, "HttpTokens": in.MetadataOptions.HttpTokens,
		"HttpPutResponseHopLimit": in.MetadataOptions.HttpPutResponseHopLimit, "InstanceMetadataTags": in.MetadataOptions.InstanceMetadataTags,
		"HttpProtocolIpv6": in.MetadataOptions.HttpProtocolIpv6,
	} {
		if v != "" {
			o[k] = v
		}
	}
	return o
}

func (c *call) reservation(id string) *reservationItem {
	r := &reservationItem{ID: id, Owner: c.cloud.account}
	for _, i := range state.List[state.Instance](c.Tx, c.region) {
		if i.Reservation == id {
			r.Instances = append(r.Instances, c.showInstance(i))
		}
	}
	slices.SortFunc(r.Instances, func(a, b instanceItem) int { return a.Index - b.Index })
	return r
}

// place finds the subnet and the groups that a request asks for.
func (c *call) place(in *runInput) (*state.Subnet, []string, error) {
	subnetID, groups := in.SubnetId, in.SecurityGroupId
	if len(in.NetworkInterface) > 1 {
		return nil, nil, wire.Errorf("UnsupportedOperation", "localcloud gives an instance one network interface, not %d", len(in.NetworkInterface))
	}
	for _, n := range in.NetworkInterface {
		if subnetID != "" || len(groups) > 0 || len(in.SecurityGroup) > 0 {
			return nil, nil, wire.Errorf("InvalidParameterCombination", "Network interfaces and an instance-level subnet ID or security groups may not be specified on the same request")
		}
		if n.DeviceIndex != 0 {
			return nil, nil, wire.Errorf("InvalidParameterValue", "The first network interface must have device index 0")
		}
		if n.DeleteOnTermination != nil && !*n.DeleteOnTermination {
			return nil, nil, wire.Errorf("UnsupportedOperation", "localcloud removes network interfaces with their instances: NetworkInterface.1.DeleteOnTermination=false")
		}
		subnetID, groups = n.SubnetId, n.SecurityGroupId
	}
	var subnet *state.Subnet
	var err error
	if subnetID != "" {
		if subnet, err = find[state.Subnet](c, subnetSpecies, subnetID); err != nil {
			return nil, nil, err
		}
		if z := in.Placement.AvailabilityZone; z != "" && z != subnet.Zone {
			return nil, nil, wire.Errorf("InvalidParameterValue", "Subnet %s is in %s, not in %s", subnet.ID, subnet.Zone, z)
		}
	} else if subnet, err = c.defaultSubnet(in.Placement.AvailabilityZone); err != nil {
		return nil, nil, err
	}
	for _, g := range groups {
		have, err := find[state.SecurityGroup](c, groupSpecies, g)
		if err != nil {
			return nil, nil, err
		}
		if have.VPC != subnet.VPC {
			return nil, nil, wire.Errorf("InvalidParameter", "Security group %s and subnet %s belong to different networks.", g, subnet.ID)
		}
	}
	for _, name := range in.SecurityGroup {
		g, err := c.group("", name)
		if err != nil {
			return nil, nil, err
		}
		groups = append(groups, g.ID)
	}
	if len(groups) == 0 {
		for _, g := range state.List[state.SecurityGroup](c.Tx, c.region) {
			if g.VPC == subnet.VPC && g.Name == "default" {
				groups = []string{g.ID}
			}
		}
	}
	return subnet, groups, nil
}

// defaultSubnet returns the default subnet of a zone, or of the first zone.
func (c *call) defaultSubnet(zone string) (*state.Subnet, error) {
	if zone != "" {
		if err := c.checkZone(zone); err != nil {
			return nil, err
		}
	}
	var best *state.Subnet
	for _, s := range state.List[state.Subnet](c.Tx, c.region) {
		if s.Default && (zone == "" || s.Zone == zone) && (best == nil || s.Zone < best.Zone) {
			best = s
		}
	}
	if best == nil {
		return nil, wire.Errorf("MissingInput", "No subnets found for the default VPC. Please specify a subnet.")
	}
	return best, nil
}

// attach gives an instance its volumes.
func (c *call) attach(i *state.Instance, img *state.Image, in *runInput) error {
	list, err := merge(img.Mappings, in.BlockDeviceMapping)
	if err != nil {
		return err
	}
	for _, m := range list {
		root := m.Device == img.RootDevice
		tags := tagged(in.TagSpecification, "volume")
		var content []string
		if m.Snapshot != "" {
			s, err := find[state.Snapshot](c, snapshotSpecies, m.Snapshot)
			if err != nil {
				return err
			}
			if s.State != state.Completed {
				return wire.Errorf("IncorrectState", "The snapshot '%s' is %s, not completed", s.ID, s.State)
			}
			m.Size = max(m.Size, s.Size)
			content = s.Layers
		}
		switch {
		case root && len(content) == 0:
			return wire.Errorf("InvalidBlockDeviceMapping", "The root device %s has no snapshot to boot from", m.Device)
		case !root && len(content) > 0:
			return wire.Errorf("UnsupportedOperation", "localcloud attaches no volume besides the root volume; the content of snapshot %s could not be seen at %s", m.Snapshot, m.Device)
		case !root:
			c.later(func() {
				c.cloud.log.Warn("a disk is recorded only: instances here have one file system and no block devices", "instance", i.ID, "device", m.Device)
			})
			if tags == nil {
				tags = state.Tags{}
			}
			tags[TagStandIn] = "recorded only: instances here have one file system and no block devices"
		}
		if m.Virtual != "" {
			i.Mappings = append(i.Mappings, m)
			continue
		}
		if m.Encrypted {
			m.KMSKey = c.kmsKey(m.KMSKey)
			c.inClear(m.Device + " of " + i.ID)
		}
		v := &state.Volume{
			Region: c.region, ID: state.NewID("vol"), Zone: i.Zone, Size: m.Size, Type: cmp.Or(m.Type, "gp2"), IOPS: m.IOPS,
			Throughput: m.Throughput, Snapshot: m.Snapshot, Encrypted: m.Encrypted, KMSKey: m.KMSKey, Created: c.now,
			Instance: i.ID, Device: m.Device, DeleteWith: m.DeleteOnTermination, Tags: tags,
		}
		state.Put(c.Tx, v)
		m.Volume, m.Snapshot = v.ID, ""
		i.Mappings = append(i.Mappings, m)
		if root {
			i.Layers = content
		}
	}
	if len(i.Layers) == 0 {
		return wire.Errorf("InvalidBlockDeviceMapping", "The root device %s cannot be left out", img.RootDevice)
	}
	return nil
}

// metadata is what an instance can read about itself.
func metadata(i *state.Instance) map[string]string {
	m := map[string]string{
		"instance-id": i.ID, "ami-id": i.Image, "instance-type": i.Type, "region": i.Region,
		"availability-zone": i.Zone, "local-ipv4": i.Addr, "reservation-id": i.Reservation,
		"ami-launch-index": strconv.Itoa(i.Index), "hostname": hostname(i),
	}
	if i.Public {
		m["public-ipv4"] = i.Addr
	}
	return m
}

// hostname is how EC2 would call the instance.
func hostname(i *state.Instance) string { return "ip-" + strings.ReplaceAll(i.Addr, ".", "-") }
