package localcloud

import (
	"slices"
	"strconv"

	"github.com/bakehouse-farm/bakehouse/localcloud/filter"
	"github.com/bakehouse-farm/bakehouse/localcloud/state"
	"github.com/bakehouse-farm/bakehouse/localcloud/wire"
)

type snapshotItem struct {
	ID          string    `xml:"snapshotId"`
	Volume      string    `xml:"volumeId"`
	State       string    `xml:"status"`
	Message     string    `xml:"statusMessage,omitempty"`
	Started     wire.Time `xml:"startTime"`
	Progress    string    `xml:"progress"`
	Owner       string    `xml:"ownerId"`
	Alias       string    `xml:"ownerAlias,omitempty"`
	Size        int64     `xml:"volumeSize"`
	Bytes       int64     `xml:"fullSnapshotSizeInBytes,omitempty"`
	Description string    `xml:"description"`
	Encrypted   bool      `xml:"encrypted"`
	KMSKey      string    `xml:"kmsKeyId,omitempty"`
	Tier        string    `xml:"storageTier"`
	Tags        []tag     `xml:"tagSet>item"`
}

func progress(s *state.Snapshot) string {
	if s.State == state.Completed {
		return "100%"
	}
	return "0%"
}

func showSnapshot(s *state.Snapshot) snapshotItem {
	return snapshotItem{
		ID: s.ID, Volume: s.Volume, State: s.State, Message: s.Message, Started: wire.Time(s.Started), Progress: progress(s),
		Owner: s.Owner, Alias: s.Alias, Size: s.Size, Bytes: s.Bytes, Description: s.Description, Encrypted: s.Encrypted,
		KMSKey: s.KMSKey, Tier: "standard", Tags: shown(s.Tags),
	}
}

type describeSnapshotsInput struct {
	SnapshotId   []string //nolint:revive // EC2's name
	Owner        []string
	RestorableBy []string
	Filter       []filter.Filter
	Paging
}

type describeSnapshotsOutput struct {
	Snapshots []snapshotItem `xml:"snapshotSet>item"`
	Next      string         `xml:"nextToken,omitempty"`
}

// owned tells whether one of the owners of a request means an owner.
func (c *call) owned(owners []string, owner, alias string) bool {
	for _, o := range owners {
		switch {
		case o == "self" && owner == c.cloud.account, o == owner, alias != "" && o == alias:
			return true
		}
	}
	return false
}

// allowed tells whether a permission lets a user in: an account id, self, or
// all.
func (c *call) allowed(perms []state.Permission, owner string, users []string) bool {
	for _, u := range users {
		if u == "self" {
			u = c.cloud.account
		}
		if owner == u {
			return true
		}
		for _, p := range perms {
			if p.Group == "all" && (u == "all" || !slices.Contains(users, "all")) || p.User != "" && p.User == u {
				return true
			}
		}
	}
	return false
}

func describeSnapshots(c *call, in *describeSnapshotsInput) (*describeSnapshotsOutput, error) {
	list, err := selected(c, snapshotSpecies, in.SnapshotId, in.Filter, filter.Fields[*state.Snapshot]{
		"snapshot-id":  func(s *state.Snapshot) []string { return one(s.ID) },
		"volume-id":    func(s *state.Snapshot) []string { return one(s.Volume) },
		"status":       func(s *state.Snapshot) []string { return one(s.State) },
		"description":  func(s *state.Snapshot) []string { return one(s.Description) },
		"owner-id":     func(s *state.Snapshot) []string { return one(s.Owner) },
		"owner-alias":  func(s *state.Snapshot) []string { return one(s.Alias) },
		"volume-size":  func(s *state.Snapshot) []string { return one(strconv.FormatInt(s.Size, 10)) },
		"start-time":   func(s *state.Snapshot) []string { return one(wire.Stamp(s.Started)) },
		"encrypted":    func(s *state.Snapshot) []string { return yes(s.Encrypted) },
		"progress":     func(s *state.Snapshot) []string { return one(progress(s)) },
		"storage-tier": func(*state.Snapshot) []string { return one("standard") },
	}, func(s *state.Snapshot) map[string]string { return s.Tags })
	if err != nil {
		return nil, err
	}
	list = slices.DeleteFunc(list, func(s *state.Snapshot) bool {
		return len(in.Owner) > 0 && !c.owned(in.Owner, s.Owner, s.Alias) ||
			len(in.RestorableBy) > 0 && !c.allowed(s.Permissions, s.Owner, in.RestorableBy)
	})
	list, next, err := page(list, in.Paging)
	out := &describeSnapshotsOutput{Next: next}
	for _, s := range list {
		out.Snapshots = append(out.Snapshots, showSnapshot(s))
	}
	return out, err
}

type createSnapshotInput struct {
	VolumeId         string `q:",required"` //nolint:revive // EC2's name
	Description      string
	TagSpecification []tagSpec
}

func createSnapshot(c *call, in *createSnapshotInput) (*snapshotItem, error) {
	if err := checkSpecs(in.TagSpecification, "snapshot"); err != nil {
		return nil, err
	}
	v, err := find[state.Volume](c, volumeSpecies, in.VolumeId)
	if err != nil {
		return nil, err
	}
	s, err := c.snapshot(v)
	if err != nil {
		return nil, err
	}
	if s.Freezes != "" {
		switch i := state.Get[state.Instance](c.Tx, c.region, v.Instance); i.State {
		case state.Stopped:
		case state.Running:
			if err := c.canCaptureLive(i); err != nil {
				return nil, err
			}
			s.Live = true
		default:
			return nil, wire.Errorf("IncorrectState", "localcloud takes snapshots of a root volume only while its instance is stopped or running, and %s is %s", i.ID, i.State)
		}
		c.later(func() { c.cloud.attend(v.Region, v.Instance) })
	}
	s.Description = in.Description
	s.Tags = tagged(in.TagSpecification, "snapshot")
	state.Put(c.Tx, s)
	c.later(func() { poke(c.cloud.ripe) })
	item := showSnapshot(s)
	return &item, nil
}

// snapshot begins a snapshot of a volume; the caller adds what it has to say
// and keeps it. If the volume is the root of an instance, what it holds is still
// to be frozen.
func (c *call) snapshot(v *state.Volume) (*state.Snapshot, error) {
	s := &state.Snapshot{
		Region: c.region, ID: state.NewID("snap"), Owner: c.cloud.account, Volume: v.ID, Size: v.Size,
		Started: c.now, State: state.Pending, Layers: v.Layers, Encrypted: v.Encrypted, KMSKey: v.KMSKey,
	}
	if v.Instance == "" {
		return s, nil
	}
	i := state.Get[state.Instance](c.Tx, c.region, v.Instance)
	if i == nil {
		return nil, wire.Errorf("IncorrectState", "The instance '%s' of the volume is gone", v.Instance)
	}
	if v.Device == i.RootDevice {
		s.Freezes = "layer-" + s.ID
	}
	return s, nil
}

type deleteSnapshotInput struct {
	SnapshotId string `q:",required"` //nolint:revive // EC2's name
}

func deleteSnapshot(c *call, in *deleteSnapshotInput) (*done, error) {
	s, err := find[state.Snapshot](c, snapshotSpecies, in.SnapshotId)
	if err != nil {
		return nil, err
	}
	if err := c.dropSnapshot(s); err != nil {
		return nil, err
	}
	return &done{true}, nil
}

func (c *call) dropSnapshot(s *state.Snapshot) error {
	for _, i := range state.List[state.Image](c.Tx, c.region) {
		for _, m := range i.Mappings {
			if m.Snapshot == s.ID {
				return wire.Errorf("InvalidSnapshot.InUse", "The snapshot %s is currently in use by %s", s.ID, i.ID)
			}
		}
	}
	if s.Owner != c.cloud.account {
		return wire.Errorf("UnauthorizedOperation", "You are not authorized to delete snapshot %s of %s", s.ID, s.Owner)
	}
	state.Delete(c.Tx, s)
	c.later(func() { poke(c.cloud.trash) })
	return nil
}

type copySnapshotInput struct {
	SourceRegion     string `q:",required"`
	SourceSnapshotId string `q:",required"` //nolint:revive // EC2's name
	Description      string
	Encrypted        bool
	KmsKeyId         string //nolint:revive // EC2's name
	TagSpecification []tagSpec
}

type copySnapshotOutput struct {
	ID   string `xml:"snapshotId"`
	Tags []tag  `xml:"tagSet>item"`
}

func copySnapshot(c *call, in *copySnapshotInput) (*copySnapshotOutput, error) {
	if err := checkSpecs(in.TagSpecification, "snapshot"); err != nil {
		return nil, err
	}
	if err := snapshotSpecies.check(in.SourceSnapshotId); err != nil {
		return nil, err
	}
	src := state.Get[state.Snapshot](c.Tx, in.SourceRegion, in.SourceSnapshotId)
	if src == nil {
		return nil, snapshotSpecies.missing(in.SourceSnapshotId)
	}
	if src.State != state.Completed {
		return nil, wire.Errorf("IncorrectState", "The snapshot '%s' is %s, not completed", src.ID, src.State)
	}
	s := c.copyOf(src, in.Encrypted, in.KmsKeyId)
	s.Description = in.Description
	if s.Description == "" {
		s.Description = "[Copied " + src.ID + " from " + in.SourceRegion + "] " + src.Description
	}
	s.Tags = tagged(in.TagSpecification, "snapshot")
	state.Put(c.Tx, s)
	c.later(func() { poke(c.cloud.ripe) })
	return &copySnapshotOutput{s.ID, shown(s.Tags)}, nil
}

// copyOf begins a copy of a snapshot in the call's region. Both share their layers.
func (c *call) copyOf(src *state.Snapshot, encrypted bool, key string) *state.Snapshot {
	s := &state.Snapshot{
		Region: c.region, ID: state.NewID("snap"), Owner: c.cloud.account, Volume: "vol-ffffffff", Size: src.Size, Bytes: src.Bytes,
		Started: c.now, State: state.Pending, Layers: src.Layers, Encrypted: src.Encrypted || encrypted, Copied: true,
	}
	if s.Encrypted {
		s.KMSKey = c.kmsKey(key)
		c.inClear(s.ID)
	}
	return s
}

// inClear tells that something is called encrypted and is not: there are no
// keys here to encrypt it with.
func (c *call) inClear(what string) {
	c.later(func() { c.cloud.log.Warn("encryption is recorded, but nothing is encrypted", "what", what) })
}

// kmsKey writes the key that a request names in full, as answers have it.
func (c *call) kmsKey(key string) string {
	prefix := "arn:aws:kms:" + c.region + ":" + c.cloud.account + ":"
	switch {
	case key == "":
		return prefix + "alias/aws/ebs"
	case len(key) > 4 && key[:4] == "arn:":
		return key
	case len(key) > 6 && key[:6] == "alias/":
		return prefix + key
	}
	return prefix + "key/" + key
}

type permissionChange struct {
	UserId, Group, OrganizationArn, OrganizationalUnitArn string //nolint:revive // EC2's name
}

func (p permissionChange) permission() state.Permission {
	return state.Permission{User: p.UserId, Group: p.Group, Org: p.OrganizationArn, OU: p.OrganizationalUnitArn}
}

// permit applies additions and removals. Groups other than all do not exist.
func permit(perms []state.Permission, add, remove []permissionChange) ([]state.Permission, error) {
	for _, a := range add {
		p := a.permission()
		if p.Group != "" && p.Group != "all" {
			return nil, wire.Errorf("InvalidParameterValue", "Invalid value '%s' for group: only all is one", p.Group)
		}
		if p.User != "" && !isAccount(p.User) {
			return nil, wire.Errorf("InvalidAMIAttributeItemValue", "Invalid attribute item value %q for userId item type.", p.User)
		}
		if p == (state.Permission{}) || slices.Contains(perms, p) {
			continue
		}
		perms = append(perms, p)
	}
	for _, r := range remove {
		perms = slices.DeleteFunc(perms, func(p state.Permission) bool { return p == r.permission() })
	}
	return perms, nil
}

func isAccount(s string) bool {
	_, err := strconv.ParseUint(s, 10, 64)
	return err == nil && len(s) == 12
}

// legacy turns the old form of a change of permissions into the new.
func legacy(operation string, users, groups, orgs, ous []string) (add, remove []permissionChange) {
	var list []permissionChange
	for _, v := range users {
		list = append(list, permissionChange{UserId: v})
	}
	for _, v := range groups {
		list = append(list, permissionChange{Group: v})
	}
	for _, v := range orgs {
		list = append(list, permissionChange{OrganizationArn: v})
	}
	for _, v := range ous {
		list = append(list, permissionChange{OrganizationalUnitArn: v})
	}
	if operation == "remove" {
		return nil, list
	}
	return list, nil
}

type modifySnapshotInput struct {
	SnapshotId             string `q:",required"` //nolint:revive // EC2's name
	Attribute              string
	OperationType          string
	UserId, UserGroup      []string //nolint:revive // EC2's name
	CreateVolumePermission struct{ Add, Remove []permissionChange }
}

func modifySnapshot(c *call, in *modifySnapshotInput) (*done, error) {
	s, err := find[state.Snapshot](c, snapshotSpecies, in.SnapshotId)
	if err != nil {
		return nil, err
	}
	if in.Attribute != "" && in.Attribute != "createVolumePermission" {
		return nil, wire.Errorf("UnsupportedOperation", "localcloud does not have the snapshot attribute %s", in.Attribute)
	}
	add, remove := legacy(in.OperationType, in.UserId, in.UserGroup, nil, nil)
	s.Permissions, err = permit(s.Permissions, append(add, in.CreateVolumePermission.Add...), append(remove, in.CreateVolumePermission.Remove...))
	if err != nil {
		return nil, err
	}
	state.Put(c.Tx, s)
	return &done{true}, nil
}

type describeSnapshotAttributeInput struct {
	SnapshotId string `q:",required"` //nolint:revive // EC2's name
	Attribute  string `q:",required"`
}

type permissionShown struct {
	User  string `xml:"userId,omitempty"`
	Group string `xml:"group,omitempty"`
	Org   string `xml:"organizationArn,omitempty"`
	OU    string `xml:"organizationalUnitArn,omitempty"`
}

func showPermissions(perms []state.Permission) []permissionShown {
	var list []permissionShown
	for _, p := range perms {
		list = append(list, permissionShown(p))
	}
	return list
}

type describeSnapshotAttributeOutput struct {
	ID          string            `xml:"snapshotId"`
	Permissions []permissionShown `xml:"createVolumePermission>item"`
}

func describeSnapshotAttribute(c *call, in *describeSnapshotAttributeInput) (*describeSnapshotAttributeOutput, error) {
	s, err := find[state.Snapshot](c, snapshotSpecies, in.SnapshotId)
	if err != nil {
		return nil, err
	}
	switch in.Attribute {
	case "createVolumePermission":
		return &describeSnapshotAttributeOutput{s.ID, showPermissions(s.Permissions)}, nil
	case "productCodes":
		return &describeSnapshotAttributeOutput{ID: s.ID}, nil
	}
	return nil, wire.Errorf("InvalidParameterValue", "Value (%s) for parameter attribute is invalid", in.Attribute)
}
