package localcloud

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/bakehouse-farm/bakehouse/localcloud/filter"
	"github.com/bakehouse-farm/bakehouse/localcloud/state"
	"github.com/bakehouse-farm/bakehouse/localcloud/wire"
)

type reasonItem struct {
	Code    string `xml:"code"`
	Message string `xml:"message"`
}

func showReason(r state.Reason) *reasonItem {
	if r == (state.Reason{}) {
		return nil
	}
	return &reasonItem{r.Code, r.Message}
}

type ebsItem struct {
	Snapshot   string `xml:"snapshotId,omitempty"`
	Size       int64  `xml:"volumeSize,omitempty"`
	Delete     bool   `xml:"deleteOnTermination"`
	Type       string `xml:"volumeType,omitempty"`
	IOPS       int64  `xml:"iops,omitempty"`
	Throughput int64  `xml:"throughput,omitempty"`
	Encrypted  bool   `xml:"encrypted"`
	KMSKey     string `xml:"kmsKeyId,omitempty"`
}

type mappingItem struct {
	Device  string   `xml:"deviceName"`
	Virtual string   `xml:"virtualName,omitempty"`
	EBS     *ebsItem `xml:"ebs,omitempty"`
}

func showMappings(list []state.Mapping) []mappingItem {
	var items []mappingItem
	for _, m := range list {
		item := mappingItem{Device: m.Device, Virtual: m.Virtual}
		if m.Virtual == "" {
			item.EBS = &ebsItem{m.Snapshot, m.Size, m.DeleteOnTermination, m.Type, m.IOPS, m.Throughput, m.Encrypted, m.KMSKey}
		}
		items = append(items, item)
	}
	return items
}

type imageItem struct {
	ID             string        `xml:"imageId"`
	Location       string        `xml:"imageLocation"`
	State          string        `xml:"imageState"`
	Reason         *reasonItem   `xml:"stateReason,omitempty"`
	Owner          string        `xml:"imageOwnerId"`
	Alias          string        `xml:"imageOwnerAlias,omitempty"`
	Public         bool          `xml:"isPublic"`
	Arch           string        `xml:"architecture"`
	Type           string        `xml:"imageType"`
	Name           string        `xml:"name"`
	Description    string        `xml:"description,omitempty"`
	RootType       string        `xml:"rootDeviceType"`
	RootDevice     string        `xml:"rootDeviceName"`
	Mappings       []mappingItem `xml:"blockDeviceMapping>item"`
	Virtualization string        `xml:"virtualizationType"`
	Hypervisor     string        `xml:"hypervisor"`
	ENA            bool          `xml:"enaSupport"`
	SRIOV          string        `xml:"sriovNetSupport,omitempty"`
	BootMode       string        `xml:"bootMode,omitempty"`
	IMDS           string        `xml:"imdsSupport,omitempty"`
	TPM            string        `xml:"tpmSupport,omitempty"`
	Created        string        `xml:"creationDate"`
	Deprecated     string        `xml:"deprecationTime,omitempty"`
	Protection     string        `xml:"deregistrationProtection,omitempty"`
	Platform       string        `xml:"platformDetails"`
	Usage          string        `xml:"usageOperation"`
	SourceInstance string        `xml:"sourceInstanceId,omitempty"`
	SourceImage    string        `xml:"sourceImageId,omitempty"`
	SourceRegion   string        `xml:"sourceImageRegion,omitempty"`
	Codes          []codeItem    `xml:"productCodes>item"`
	Tags           []tag         `xml:"tagSet>item"`
}

type codeItem struct {
	Code string `xml:"productCode"`
	Type string `xml:"type"`
}

func public(i *state.Image) bool {
	return slices.ContainsFunc(i.Permissions, func(p state.Permission) bool { return p.Group == "all" })
}

func showImage(i *state.Image) imageItem {
	item := imageItem{
		ID: i.ID, Location: i.Owner + "/" + i.Name, State: i.State, Reason: showReason(i.Reason), Owner: i.Owner, Alias: i.Alias,
		Public: public(i), Arch: i.Arch, Type: "machine", Name: i.Name, Description: i.Description, RootType: "ebs",
		RootDevice: i.RootDevice, Mappings: showMappings(i.Mappings), Virtualization: "hvm", Hypervisor: "xen", ENA: i.ENA,
		SRIOV: i.SRIOV, BootMode: i.Boot, IMDS: i.IMDS, TPM: i.TPM, Created: wire.Stamp(i.Created), Protection: protection(i),
		Platform: "Linux/UNIX", Usage: "RunInstances", SourceInstance: i.SourceInstance, SourceImage: i.SourceImage,
		SourceRegion: i.SourceRegion, Tags: shown(i.Tags),
	}
	if !i.Deprecated.IsZero() {
		item.Deprecated = wire.Stamp(i.Deprecated)
	}
	for _, c := range i.ProductCodes {
		item.Codes = append(item.Codes, codeItem{c, "marketplace"})
	}
	return item
}

func protection(i *state.Image) string {
	switch {
	case i.Protected && i.Cooldown:
		return "enabled-with-cooldown"
	case i.Protected:
		return "enabled-without-cooldown"
	}
	return "disabled"
}

func (c *call) imageFields() filter.Fields[*state.Image] {
	each := func(f func(state.Mapping) string) func(*state.Image) []string {
		return func(i *state.Image) []string {
			var v []string
			for _, m := range i.Mappings {
				if s := f(m); s != "" {
					v = append(v, s)
				}
			}
			return v
		}
	}
	always := func(v string) func(*state.Image) []string {
		return func(*state.Image) []string { return []string{v} }
	}
	return filter.Fields[*state.Image]{
		"architecture":        func(i *state.Image) []string { return one(i.Arch) },
		"creation-date":       func(i *state.Image) []string { return one(wire.Stamp(i.Created)) },
		"description":         func(i *state.Image) []string { return one(i.Description) },
		"ena-support":         func(i *state.Image) []string { return yes(i.ENA) },
		"sriov-net-support":   func(i *state.Image) []string { return one(i.SRIOV) },
		"image-id":            func(i *state.Image) []string { return one(i.ID) },
		"is-public":           func(i *state.Image) []string { return yes(public(i)) },
		"name":                func(i *state.Image) []string { return one(i.Name) },
		"manifest-location":   func(i *state.Image) []string { return one(i.Owner + "/" + i.Name) },
		"owner-id":            func(i *state.Image) []string { return one(i.Owner) },
		"owner-alias":         func(i *state.Image) []string { return one(i.Alias) },
		"root-device-name":    func(i *state.Image) []string { return one(i.RootDevice) },
		"state":               func(i *state.Image) []string { return one(i.State) },
		"state-reason-code":   func(i *state.Image) []string { return one(i.Reason.Code) },
		"source-instance-id":  func(i *state.Image) []string { return one(i.SourceInstance) },
		"source-image-id":     func(i *state.Image) []string { return one(i.SourceImage) },
		"source-image-region": func(i *state.Image) []string { return one(i.SourceRegion) },
		"boot-mode":           func(i *state.Image) []string { return one(i.Boot) },
		"imds-support":        func(i *state.Image) []string { return one(i.IMDS) },
		"product-code":        func(i *state.Image) []string { return i.ProductCodes },
		"image-type":          always("machine"),
		"hypervisor":          always("xen"),
		"root-device-type":    always("ebs"),
		"virtualization-type": always("hvm"),
		"platform-details":    always("Linux/UNIX"),
		"usage-operation":     always("RunInstances"),
		// Only Windows images have a platform.
		"platform":                                   func(*state.Image) []string { return nil },
		"kernel-id":                                  func(*state.Image) []string { return nil },
		"ramdisk-id":                                 func(*state.Image) []string { return nil },
		"block-device-mapping.device-name":           each(func(m state.Mapping) string { return m.Device }),
		"block-device-mapping.snapshot-id":           each(func(m state.Mapping) string { return m.Snapshot }),
		"block-device-mapping.volume-type":           each(func(m state.Mapping) string { return m.Type }),
		"block-device-mapping.volume-size":           each(func(m state.Mapping) string { return strconv.FormatInt(m.Size, 10) }),
		"block-device-mapping.encrypted":             each(func(m state.Mapping) string { return strconv.FormatBool(m.Encrypted) }),
		"block-device-mapping.delete-on-termination": each(func(m state.Mapping) string { return strconv.FormatBool(m.DeleteOnTermination) }),
	}
}

type describeImagesInput struct {
	ImageId           []string //nolint:revive // EC2's name
	Owner             []string
	ExecutableBy      []string
	IncludeDeprecated bool
	Filter            []filter.Filter
	Paging
}

type describeImagesOutput struct {
	Images []imageItem `xml:"imagesSet>item"`
	Next   string      `xml:"nextToken,omitempty"`
}

func describeImages(c *call, in *describeImagesInput) (*describeImagesOutput, error) {
	list, err := selected(c, imageSpecies, in.ImageId, in.Filter, c.imageFields(), func(i *state.Image) map[string]string { return i.Tags })
	if err != nil {
		return nil, err
	}
	list = slices.DeleteFunc(list, func(i *state.Image) bool {
		outdated := !i.Deprecated.IsZero() && i.Deprecated.Before(c.now) && i.Owner != c.cloud.account
		return outdated && !in.IncludeDeprecated && len(in.ImageId) == 0 ||
			len(in.Owner) > 0 && !c.owned(in.Owner, i.Owner, i.Alias) ||
			len(in.ExecutableBy) > 0 && !c.allowed(i.Permissions, i.Owner, in.ExecutableBy)
	})
	if len(list) == 0 && len(in.ImageId) == 0 && len(in.ExecutableBy) == 0 {
		i, err := c.standIn(in.Owner, in.Filter)
		if err != nil {
			return nil, err
		}
		if i != nil {
			list = append(list, i)
		}
	}
	slices.SortFunc(list, func(a, b *state.Image) int {
		return cmp.Or(a.Created.Compare(b.Created), strings.Compare(a.ID, b.ID))
	})
	list, next, err := page(list, in.Paging)
	out := &describeImagesOutput{Next: next}
	for _, i := range list {
		out.Images = append(out.Images, showImage(i))
	}
	return out, err
}

// freeName refuses the name of an image that there is already. EC2's message
// carries the id, which lets a caller see whether it is its own.
func (c *call) freeName(name string) error {
	if n := len(name); n < 3 || n > 128 || strings.IndexFunc(name, notInName) >= 0 {
		return wire.Errorf("InvalidAMIName.Malformed", "AMI names must be between 3 and 128 characters long, and may contain letters, numbers, '(', ')', '.', '-', '/' and '_'")
	}
	for _, i := range state.List[state.Image](c.Tx, c.region) {
		if i.Owner == c.cloud.account && i.Name == name && i.State != state.Failed {
			return wire.Errorf("InvalidAMIName.Duplicate", "AMI name %s is already in use by AMI %s", name, i.ID)
		}
	}
	return nil
}

func notInName(r rune) bool {
	return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("()[] ./-'@_", r)
}

type imageID struct {
	ID string `xml:"imageId"`
}

type createImageInput struct {
	InstanceId         string `q:",required"` //nolint:revive // EC2's name
	Name               string `q:",required"`
	Description        string
	NoReboot           bool
	BlockDeviceMapping []device
	TagSpecification   []tagSpec
}

func createImage(c *call, in *createImageInput) (*imageID, error) {
	if err := checkSpecs(in.TagSpecification, "image", "snapshot"); err != nil {
		return nil, err
	}
	i, err := find[state.Instance](c, instanceSpecies, in.InstanceId)
	if err != nil {
		return nil, err
	}
	if err := c.freeName(in.Name); err != nil {
		return nil, err
	}
	switch {
	case i.State == state.Terminated || i.State == state.ShuttingDown:
		return nil, wire.Errorf("IncorrectInstanceState", "The instance '%s' is not in a state from which it can be captured: %s", i.ID, i.State)
	case i.State != state.Running && i.State != state.Stopped:
		return nil, wire.Errorf("InvalidParameterValue", "Instance is not in state 'running' or 'stopped' (it is %s)", i.State)
	case i.State == state.Running && in.NoReboot:
		if err := c.canCaptureLive(i); err != nil {
			return nil, err
		}
	case i.State == state.Running:
		i.Reboot = true
		state.Put(c.Tx, i)
	}
	img := &state.Image{
		Region: c.region, ID: state.NewID("ami"), Owner: c.cloud.account, Name: in.Name, Description: in.Description, Arch: i.Arch,
		Created: c.now, State: state.Pending, SourceInstance: i.ID, SourceImage: i.Image, SourceRegion: c.region,
		RootDevice: i.RootDevice, ENA: i.ENA, SRIOV: i.SRIOV, Tags: tagged(in.TagSpecification, "image"),
	}
	if img.Mappings, err = c.capture(img, i, in); err != nil {
		return nil, err
	}
	state.Put(c.Tx, img)
	c.later(func() { c.cloud.attend(i.Region, i.ID) })
	c.later(func() { poke(c.cloud.ripe) })
	return &imageID{img.ID}, nil
}

// canCaptureLive tells whether a running instance can be captured as it is.
func (c *call) canCaptureLive(i *state.Instance) error {
	if _, ok := c.cloud.host.(snapshotter); ok {
		return nil
	}
	return wire.Errorf("UnsupportedOperation", "this localcloud captures an instance only while it stands still: stop %s first, or let CreateImage restart it", i.ID)
}

// capture begins a snapshot of each of an instance's volumes that the image is
// to have, and returns the image's mappings.
func (c *call) capture(img *state.Image, i *state.Instance, in *createImageInput) ([]state.Mapping, error) {
	list, err := merge(i.Mappings, in.BlockDeviceMapping)
	if err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(list, func(m state.Mapping) bool { return m.Device == i.RootDevice && m.Volume != "" }) {
		return nil, wire.Errorf("InvalidBlockDeviceMapping", "The root device %s cannot be left out", i.RootDevice)
	}
	for n := range list {
		m := &list[n]
		if m.Volume == "" { // an empty or ephemeral disk of the future instances
			if err := c.checkSnapshot(*m); err != nil {
				return nil, err
			}
			continue
		}
		v, err := find[state.Volume](c, volumeSpecies, m.Volume)
		if err != nil {
			return nil, err
		}
		s, err := c.snapshot(v)
		if err != nil {
			return nil, err
		}
		s.Description = fmt.Sprintf("Created by CreateImage(%s) for %s", i.ID, img.ID)
		s.Encrypted, s.KMSKey = s.Encrypted || m.Encrypted, cmp.Or(s.KMSKey, m.KMSKey)
		s.Tags = tagged(in.TagSpecification, "snapshot")
		s.Live = s.Freezes != "" && in.NoReboot && i.State == state.Running
		state.Put(c.Tx, s)
		m.Volume, m.Snapshot, m.Size = "", s.ID, max(m.Size, v.Size)
		m.Encrypted, m.KMSKey = s.Encrypted, s.KMSKey
	}
	return list, nil
}

// checkSnapshot tells whether the snapshot of a mapping can be used.
func (c *call) checkSnapshot(m state.Mapping) error {
	if m.Snapshot == "" {
		return nil
	}
	s, err := find[state.Snapshot](c, snapshotSpecies, m.Snapshot)
	if err != nil {
		return err
	}
	if s.State == state.Errored {
		return wire.Errorf("IncorrectState", "The snapshot '%s' has failed", s.ID)
	}
	return nil
}

type registerImageInput struct {
	Name               string `q:",required"`
	Description        string
	Architecture       string
	RootDeviceName     string
	VirtualizationType string
	BlockDeviceMapping []device
	EnaSupport         bool
	SriovNetSupport    string
	BootMode           string
	ImdsSupport        string
	TpmSupport         string
	TagSpecification   []tagSpec
}

func registerImage(c *call, in *registerImageInput) (*imageID, error) {
	if err := checkSpecs(in.TagSpecification, "image"); err != nil {
		return nil, err
	}
	if err := c.freeName(in.Name); err != nil {
		return nil, err
	}
	if in.VirtualizationType != "" && in.VirtualizationType != "hvm" {
		return nil, wire.Errorf("UnsupportedOperation", "localcloud has images of virtualization type hvm only, not %s", in.VirtualizationType)
	}
	arch := cmp.Or(in.Architecture, "x86_64")
	root := cmp.Or(in.RootDeviceName, "/dev/sda1")
	list, err := merge(nil, in.BlockDeviceMapping)
	if err != nil {
		return nil, err
	}
	n := slices.IndexFunc(list, func(m state.Mapping) bool { return m.Device == root && m.Snapshot != "" })
	if n < 0 {
		return nil, wire.Errorf("InvalidBlockDeviceMapping", "No snapshot is mapped to the root device %s", root)
	}
	for k := range list {
		if err := c.checkSnapshot(list[k]); err != nil {
			return nil, err
		}
		if s := state.Get[state.Snapshot](c.Tx, c.region, list[k].Snapshot); s != nil {
			if list[k].Size == 0 {
				list[k].Size = s.Size
			}
			list[k].Encrypted, list[k].KMSKey = s.Encrypted, s.KMSKey
		}
	}
	if s := state.Get[state.Snapshot](c.Tx, c.region, list[n].Snapshot); s.State == state.Completed && len(s.Layers) == 0 {
		return nil, wire.Errorf("UnsupportedOperation", "snapshot %s is of a volume that nothing was ever written to: nothing can boot from it", s.ID)
	}
	i := &state.Image{
		Region: c.region, ID: state.NewID("ami"), Owner: c.cloud.account, Name: in.Name, Description: in.Description, Arch: arch,
		Created: c.now, State: state.Pending, RootDevice: root, Mappings: list, ENA: in.EnaSupport, SRIOV: in.SriovNetSupport,
		Boot: in.BootMode, IMDS: in.ImdsSupport, TPM: in.TpmSupport, Tags: tagged(in.TagSpecification, "image"),
	}
	state.Put(c.Tx, i)
	c.later(func() { poke(c.cloud.ripe) })
	return &imageID{i.ID}, nil
}

type copyImageInput struct {
	SourceRegion     string `q:",required"`
	SourceImageId    string `q:",required"` //nolint:revive // EC2's name
	Name             string `q:",required"`
	Description      *string
	Encrypted        bool
	KmsKeyId         string //nolint:revive // EC2's name
	CopyImageTags    bool
	ClientToken      string
	TagSpecification []tagSpec
}

func copyImage(c *call, in *copyImageInput) (*imageID, error) {
	if err := checkSpecs(in.TagSpecification, "image", "snapshot"); err != nil {
		return nil, err
	}
	before, keep, err := c.token(in.ClientToken)
	if err != nil || before != "" {
		return &imageID{before}, err
	}
	if err := imageSpecies.check(in.SourceImageId); err != nil {
		return nil, err
	}
	src := state.Get[state.Image](c.Tx, in.SourceRegion, in.SourceImageId)
	if src == nil {
		return nil, imageSpecies.missing(in.SourceImageId)
	}
	if src.State != state.Available {
		return nil, wire.Errorf("InvalidRequest", "Image %s is not in state 'available' (it is %s)", src.ID, src.State)
	}
	if err := c.freeName(in.Name); err != nil {
		return nil, err
	}
	i := &state.Image{
		Region: c.region, ID: state.NewID("ami"), Owner: c.cloud.account, Name: in.Name, Description: src.Description, Arch: src.Arch,
		Created: c.now, State: state.Pending, SourceImage: src.ID, SourceRegion: in.SourceRegion, RootDevice: src.RootDevice,
		Mappings: slices.Clone(src.Mappings), ENA: src.ENA, SRIOV: src.SRIOV, Boot: src.Boot, IMDS: src.IMDS, TPM: src.TPM,
		Copied: true, StandIn: src.StandIn,
	}
	if in.Description != nil {
		i.Description = *in.Description
	}
	if in.CopyImageTags && src.Owner == c.cloud.account {
		i.Tags = state.Tags{}
		for k, v := range src.Tags {
			i.Tags[k] = v
		}
	}
	for k, v := range tagged(in.TagSpecification, "image") {
		if i.Tags == nil {
			i.Tags = state.Tags{}
		}
		i.Tags[k] = v
	}
	for n := range i.Mappings {
		m := &i.Mappings[n]
		if m.Snapshot == "" {
			continue
		}
		from := state.Get[state.Snapshot](c.Tx, in.SourceRegion, m.Snapshot)
		if from == nil {
			return nil, wire.Errorf("InvalidSnapshot.NotFound", "The snapshot '%s' of image %s does not exist", m.Snapshot, src.ID)
		}
		s := c.copyOf(from, in.Encrypted, in.KmsKeyId)
		s.Description = fmt.Sprintf("Copied for DestinationAmi %s from SourceAmi %s for SourceSnapshot %s. Task created on %d.", i.ID, src.ID, from.ID, c.now.UnixMilli())
		s.Tags = tagged(in.TagSpecification, "snapshot")
		state.Put(c.Tx, s)
		m.Snapshot, m.Encrypted, m.KMSKey = s.ID, s.Encrypted, s.KMSKey
	}
	state.Put(c.Tx, i)
	keep(i.ID)
	c.later(func() { poke(c.cloud.ripe) })
	return &imageID{i.ID}, nil
}

type deregisterInput struct {
	ImageId                   string `q:",required"` //nolint:revive // EC2's name
	DeleteAssociatedSnapshots bool
}

type deregisterOutput struct {
	Return  bool            `xml:"return"`
	Results []deletedResult `xml:"deleteSnapshotResultSet>item"`
}

type deletedResult struct {
	Snapshot string `xml:"snapshotId"`
	Code     string `xml:"returnCode"`
}

func deregisterImage(c *call, in *deregisterInput) (*deregisterOutput, error) {
	i, err := c.ownImage(in.ImageId)
	if err != nil {
		return nil, err
	}
	if i.Protected || c.now.Before(i.CooldownUntil) {
		return nil, wire.Errorf("OperationNotPermitted", "The AMI %s is protected from deregistration. Disable deregistration protection first, and wait for its cooldown period if it has one", i.ID)
	}
	state.Delete(c.Tx, i)
	out := &deregisterOutput{Return: true}
	if in.DeleteAssociatedSnapshots {
		for _, m := range i.Mappings {
			s := state.Get[state.Snapshot](c.Tx, c.region, m.Snapshot)
			if s == nil {
				continue
			}
			code := "success"
			if err := c.dropSnapshot(s); err != nil {
				code = "skipped"
			}
			out.Results = append(out.Results, deletedResult{s.ID, code})
		}
	}
	c.later(func() { poke(c.cloud.trash) })
	return out, nil
}

// ownImage finds an image that the account may change.
func (c *call) ownImage(id string) (*state.Image, error) {
	i, err := find[state.Image](c, imageSpecies, id)
	if err != nil {
		return nil, err
	}
	if i.Owner != c.cloud.account {
		return nil, wire.Errorf("AuthFailure", "Not authorized for image:%s (it is owned by %s)", i.ID, i.Owner)
	}
	return i, nil
}

type stringValue struct {
	Value *string
}

type modifyImageInput struct {
	ImageId               string `q:",required"` //nolint:revive // EC2's name
	Attribute             string
	OperationType         string
	Value                 string
	Description           stringValue
	ImdsSupport           stringValue
	ProductCode           []string
	UserId                []string //nolint:revive // EC2's name
	UserGroup             []string
	OrganizationArn       []string
	OrganizationalUnitArn []string
	LaunchPermission      struct{ Add, Remove []permissionChange }
}

func modifyImage(c *call, in *modifyImageInput) (*done, error) {
	i, err := c.ownImage(in.ImageId)
	if err != nil {
		return nil, err
	}
	switch in.Attribute {
	case "", "launchPermission", "productCodes":
	case "description":
		in.Description.Value = &in.Value
	case "imdsSupport":
		in.ImdsSupport.Value = &in.Value
	default:
		return nil, wire.Errorf("InvalidParameterValue", "Value (%s) for parameter attribute is invalid", in.Attribute)
	}
	if v := in.Description.Value; v != nil {
		i.Description = *v
	}
	if v := in.ImdsSupport.Value; v != nil {
		if *v != "v2.0" {
			return nil, wire.Errorf("InvalidParameterValue", "Value (%s) for parameter imdsSupport is invalid: it must be v2.0", *v)
		}
		i.IMDS = *v
	}
	for _, p := range in.ProductCode {
		if !slices.Contains(i.ProductCodes, p) {
			i.ProductCodes = append(i.ProductCodes, p)
		}
	}
	add, remove := legacy(in.OperationType, in.UserId, in.UserGroup, in.OrganizationArn, in.OrganizationalUnitArn)
	i.Permissions, err = permit(i.Permissions, append(add, in.LaunchPermission.Add...), append(remove, in.LaunchPermission.Remove...))
	if err != nil {
		return nil, err
	}
	state.Put(c.Tx, i)
	return &done{true}, nil
}

type imageAttributeInput struct {
	ImageId   string `q:",required"` //nolint:revive // EC2's name
	Attribute string `q:",required"`
}

type valueItem struct {
	Value string `xml:"value"`
}

type imageAttributeOutput struct {
	ID          string            `xml:"imageId"`
	Permissions []permissionShown `xml:"launchPermission>item"`
	Codes       []codeItem        `xml:"productCodes>item"`
	Mappings    []mappingItem     `xml:"blockDeviceMapping>item"`
	Description *valueItem        `xml:"description,omitempty"`
	IMDS        *valueItem        `xml:"imdsSupport,omitempty"`
	BootMode    *valueItem        `xml:"bootMode,omitempty"`
	SRIOV       *valueItem        `xml:"sriovNetSupport,omitempty"`
	TPM         *valueItem        `xml:"tpmSupport,omitempty"`
	Protection  *valueItem        `xml:"deregistrationProtection,omitempty"`
}

func imageAttribute(c *call, in *imageAttributeInput) (*imageAttributeOutput, error) {
	i, err := c.ownImage(in.ImageId)
	if err != nil {
		return nil, err
	}
	out := &imageAttributeOutput{ID: i.ID}
	switch in.Attribute {
	case "launchPermission":
		out.Permissions = showPermissions(i.Permissions)
	case "productCodes":
		out.Codes = showImage(i).Codes
	case "blockDeviceMapping":
		out.Mappings = showMappings(i.Mappings)
	case "description":
		out.Description = &valueItem{i.Description}
	case "imdsSupport":
		out.IMDS = &valueItem{i.IMDS}
	case "bootMode":
		out.BootMode = &valueItem{i.Boot}
	case "sriovNetSupport":
		out.SRIOV = &valueItem{i.SRIOV}
	case "tpmSupport":
		out.TPM = &valueItem{i.TPM}
	case "deregistrationProtection":
		out.Protection = &valueItem{protection(i)}
	default:
		return nil, wire.Errorf("InvalidParameterValue", "Value (%s) for parameter attribute is invalid", in.Attribute)
	}
	return out, nil
}

func resetImageAttribute(c *call, in *imageAttributeInput) (*done, error) {
	i, err := c.ownImage(in.ImageId)
	if err != nil {
		return nil, err
	}
	if in.Attribute != "launchPermission" {
		return nil, wire.Errorf("InvalidParameterValue", "Value (%s) for parameter attribute is invalid", in.Attribute)
	}
	i.Permissions = nil
	state.Put(c.Tx, i)
	return &done{true}, nil
}

type deprecateInput struct {
	ImageId     string    `q:",required"` //nolint:revive // EC2's name
	DeprecateAt time.Time `q:",required"`
}

func enableDeprecation(c *call, in *deprecateInput) (*done, error) {
	i, err := c.ownImage(in.ImageId)
	if err != nil {
		return nil, err
	}
	if in.DeprecateAt.Before(c.now) {
		return nil, wire.Errorf("InvalidParameterValue", "Value (%s) for parameter deprecateAt is invalid: it is in the past", wire.Stamp(in.DeprecateAt))
	}
	if in.DeprecateAt.After(c.now.AddDate(10, 0, 0)) {
		return nil, wire.Errorf("InvalidParameterValue", "Value (%s) for parameter deprecateAt is invalid: it is more than ten years ahead", wire.Stamp(in.DeprecateAt))
	}
	// EC2 rounds to the minute.
	i.Deprecated = in.DeprecateAt.UTC().Round(time.Minute)
	state.Put(c.Tx, i)
	return &done{true}, nil
}

type imageInput struct {
	ImageId string `q:",required"` //nolint:revive // EC2's name
}

func disableDeprecation(c *call, in *imageInput) (*done, error) {
	i, err := c.ownImage(in.ImageId)
	if err != nil {
		return nil, err
	}
	i.Deprecated = time.Time{}
	state.Put(c.Tx, i)
	return &done{true}, nil
}

type protectInput struct {
	ImageId      string `q:",required"` //nolint:revive // EC2's name
	WithCooldown bool
}

type wordOutput struct {
	Return string `xml:"return"`
}

func enableProtection(c *call, in *protectInput) (*wordOutput, error) {
	i, err := c.ownImage(in.ImageId)
	if err != nil {
		return nil, err
	}
	i.Protected, i.Cooldown = true, in.WithCooldown
	state.Put(c.Tx, i)
	return &wordOutput{protection(i)}, nil
}

func disableProtection(c *call, in *imageInput) (*wordOutput, error) {
	i, err := c.ownImage(in.ImageId)
	if err != nil {
		return nil, err
	}
	if i.Protected && i.Cooldown {
		i.CooldownUntil = c.now.Add(24 * time.Hour)
	}
	i.Protected, i.Cooldown = false, false
	state.Put(c.Tx, i)
	return &wordOutput{protection(i)}, nil
}
