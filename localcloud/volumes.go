package localcloud

import (
	"slices"
	"strconv"

	"github.com/bakehouse-farm/bakehouse/localcloud/filter"
	"github.com/bakehouse-farm/bakehouse/localcloud/state"
	"github.com/bakehouse-farm/bakehouse/localcloud/wire"
)

type ebs struct {
	DeleteOnTermination *bool
	VolumeSize          *int64
	VolumeType          string
	Iops                int64
	Throughput          int64
	Encrypted           *bool
	KmsKeyId            string //nolint:revive // EC2's name
	SnapshotId          string //nolint:revive // EC2's name
}

// A device is a BlockDeviceMapping of a request.
type device struct {
	DeviceName  string
	NoDevice    *string
	VirtualName string
	Ebs         *ebs
}

// volumeTypes lists EC2's volume types.
func volumeTypes() []string { return []string{"standard", "gp2", "gp3", "io1", "io2", "st1", "sc1"} }

// merge puts what a request says about devices over the mappings of an image.
func merge(base []state.Mapping, devices []device) ([]state.Mapping, error) {
	list := slices.Clone(base)
	for _, d := range devices {
		if d.DeviceName == "" {
			return nil, wire.Errorf("InvalidBlockDeviceMapping", "A block device mapping lacks its device name")
		}
		n := slices.IndexFunc(list, func(m state.Mapping) bool { return m.Device == d.DeviceName })
		if d.NoDevice != nil {
			if n >= 0 {
				list = slices.Delete(list, n, n+1)
			}
			continue
		}
		m := state.Mapping{Device: d.DeviceName, DeleteOnTermination: true}
		if n >= 0 {
			m = list[n]
		}
		switch {
		case d.VirtualName != "":
			m = state.Mapping{Device: d.DeviceName, Virtual: d.VirtualName}
		case d.Ebs != nil:
			if err := d.Ebs.over(&m); err != nil {
				return nil, err
			}
		case n < 0:
			return nil, wire.Errorf("MissingParameter", "The request must contain the parameter size or snapshotId (device %s)", d.DeviceName)
		}
		if n >= 0 {
			list[n] = m
		} else {
			list = append(list, m)
		}
	}
	return list, nil
}

// over writes what was said about a disk over what holds without it.
func (e *ebs) over(m *state.Mapping) error {
	if e.SnapshotId != "" {
		m.Snapshot = e.SnapshotId
	}
	if e.VolumeSize != nil {
		if *e.VolumeSize < 1 || *e.VolumeSize > 65536 {
			return wire.Errorf("InvalidParameterValue", "Volume of %d GiB is too small or too large", *e.VolumeSize)
		}
		if m.Snapshot != "" && m.Size > *e.VolumeSize {
			return wire.Errorf("InvalidBlockDeviceMapping", "Volume of size %dGB is smaller than snapshot '%s', expect size >= %dGB", *e.VolumeSize, m.Snapshot, m.Size)
		}
		m.Size = *e.VolumeSize
	}
	if m.Size == 0 && m.Snapshot == "" {
		return wire.Errorf("MissingParameter", "The request must contain the parameter size or snapshotId")
	}
	if e.VolumeType != "" {
		if !slices.Contains(volumeTypes(), e.VolumeType) {
			return wire.Errorf("InvalidParameterValue", "Invalid volume type: %s", e.VolumeType)
		}
		m.Type = e.VolumeType
	}
	if m.Type == "" {
		m.Type = "gp2"
	}
	if e.Iops != 0 {
		m.IOPS = e.Iops
	}
	if e.Throughput != 0 {
		m.Throughput = e.Throughput
	}
	if e.DeleteOnTermination != nil {
		m.DeleteOnTermination = *e.DeleteOnTermination
	}
	if e.Encrypted != nil {
		m.Encrypted = *e.Encrypted
	}
	if e.KmsKeyId != "" {
		m.KMSKey = e.KmsKeyId
	}
	return nil
}

type describeVolumesInput struct {
	VolumeId []string //nolint:revive // EC2's name
	Filter   []filter.Filter
	Paging
}

type volumeItem struct {
	ID          string             `xml:"volumeId"`
	Size        int64              `xml:"size"`
	Snapshot    string             `xml:"snapshotId"`
	Zone        string             `xml:"availabilityZone"`
	Status      string             `xml:"status"`
	Created     wire.Time          `xml:"createTime"`
	Attachments []volumeAttachment `xml:"attachmentSet>item"`
	Tags        []tag              `xml:"tagSet>item"`
	Type        string             `xml:"volumeType"`
	IOPS        int64              `xml:"iops,omitempty"`
	Throughput  int64              `xml:"throughput,omitempty"`
	Encrypted   bool               `xml:"encrypted"`
	KMSKey      string             `xml:"kmsKeyId,omitempty"`
}

type volumeAttachment struct {
	Volume   string    `xml:"volumeId"`
	Instance string    `xml:"instanceId"`
	Device   string    `xml:"device"`
	Status   string    `xml:"status"`
	Time     wire.Time `xml:"attachTime"`
	Delete   bool      `xml:"deleteOnTermination"`
}

type describeVolumesOutput struct {
	Volumes []volumeItem `xml:"volumeSet>item"`
	Next    string       `xml:"nextToken,omitempty"`
}

func volumeStatus(v *state.Volume) string {
	if v.Instance != "" {
		return "in-use"
	}
	return "available"
}

func showVolume(v *state.Volume) volumeItem {
	item := volumeItem{
		ID: v.ID, Size: v.Size, Snapshot: v.Snapshot, Zone: v.Zone, Status: volumeStatus(v), Created: wire.Time(v.Created),
		Tags: shown(v.Tags), Type: v.Type, IOPS: v.IOPS, Throughput: v.Throughput, Encrypted: v.Encrypted, KMSKey: v.KMSKey,
	}
	if v.Instance != "" {
		item.Attachments = []volumeAttachment{{v.ID, v.Instance, v.Device, "attached", wire.Time(v.Created), v.DeleteWith}}
	}
	return item
}

func describeVolumes(c *call, in *describeVolumesInput) (*describeVolumesOutput, error) {
	list, err := selected(c, volumeSpecies, in.VolumeId, in.Filter, filter.Fields[*state.Volume]{
		"volume-id":                        func(v *state.Volume) []string { return one(v.ID) },
		"status":                           func(v *state.Volume) []string { return one(volumeStatus(v)) },
		"size":                             func(v *state.Volume) []string { return one(strconv.FormatInt(v.Size, 10)) },
		"volume-type":                      func(v *state.Volume) []string { return one(v.Type) },
		"snapshot-id":                      func(v *state.Volume) []string { return one(v.Snapshot) },
		"availability-zone":                func(v *state.Volume) []string { return one(v.Zone) },
		"encrypted":                        func(v *state.Volume) []string { return yes(v.Encrypted) },
		"create-time":                      func(v *state.Volume) []string { return one(wire.Stamp(v.Created)) },
		"attachment.instance-id":           func(v *state.Volume) []string { return one(v.Instance) },
		"attachment.device":                func(v *state.Volume) []string { return one(v.Device) },
		"attachment.delete-on-termination": func(v *state.Volume) []string { return yes(v.DeleteWith) },
	}, func(v *state.Volume) map[string]string { return v.Tags })
	if err != nil {
		return nil, err
	}
	list, next, err := page(list, in.Paging)
	out := &describeVolumesOutput{Next: next}
	for _, v := range list {
		out.Volumes = append(out.Volumes, showVolume(v))
	}
	return out, err
}

type deleteVolumeInput struct {
	VolumeId string `q:",required"` //nolint:revive // EC2's name
}

func deleteVolume(c *call, in *deleteVolumeInput) (*done, error) {
	v, err := find[state.Volume](c, volumeSpecies, in.VolumeId)
	if err != nil {
		return nil, err
	}
	if v.Instance != "" {
		return nil, wire.Errorf("VolumeInUse", "Volume %s is currently attached to %s", v.ID, v.Instance)
	}
	for _, s := range state.List[state.Snapshot](c.Tx, c.region) {
		if s.Volume == v.ID && s.State == state.Pending && len(s.Layers) == 0 && s.Freezes != "" {
			return nil, wire.Errorf("VolumeInUse", "Volume %s is being captured as %s", v.ID, s.ID)
		}
	}
	state.Delete(c.Tx, v)
	c.later(func() { poke(c.cloud.trash) })
	return &done{true}, nil
}
