package localcloud

import (
	"bufio"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/bakehouse-farm/bakehouse/localcloud/filter"
	"github.com/bakehouse-farm/bakehouse/localcloud/standin"
	"github.com/bakehouse-farm/bakehouse/localcloud/state"
	"github.com/bakehouse-farm/bakehouse/localcloud/wire"
)

// The account and the name under which this machine's own root can be launched.
const (
	hostOwner = "000000000000"
	hostAlias = "localcloud"
	hostName  = "localcloud/host-root"
)

func baseKey(b *state.Base) string {
	_, id := b.Key()
	return id
}

// hostBase describes this machine's own root as a base.
func (l *Cloud) hostBase() *state.Base {
	return &state.Base{
		Name: hostName, Owner: hostOwner, Alias: hostAlias, Arch: l.arch, Public: true,
		Description: "The root file system of this machine (" + systemName("/etc/os-release") + "), read-only",
		RootDevice:  "/dev/sda1", Size: 8, Layers: []string{l.host.HostLayer()},
		Created: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC),
	}
}

// systemName reads what a system calls itself.
func systemName(file string) string {
	f, err := os.Open(file)
	if err != nil {
		return "Linux"
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		if v, ok := strings.CutPrefix(s.Text(), "PRETTY_NAME="); ok {
			return strings.Trim(v, `"`)
		}
	}
	return "Linux"
}

// image makes the image and the snapshot that a base is in a region. Their ids
// follow from region, owner and name.
func (l *Cloud) image(region string, b *state.Base) (*state.Image, *state.Snapshot) {
	s := &state.Snapshot{
		Region: region, ID: state.FixedID("snap", region, b.Owner, b.Name, b.Created.String()), Owner: b.Owner, Alias: b.Alias,
		Volume: "vol-ffffffff", Size: b.Size, Description: b.Description, Started: b.Created,
		State: state.Completed, Layers: b.Layers,
	}
	i := &state.Image{
		Region: region, ID: state.FixedID("ami", region, b.Owner, b.Name, b.Created.String()), Owner: b.Owner, Alias: b.Alias,
		Name: b.Name, Description: b.Description, Arch: b.Arch, Created: b.Created, State: state.Available,
		RootDevice: b.RootDevice, ENA: true, SRIOV: "simple",
		Mappings: []state.Mapping{{
			Device: b.RootDevice, Snapshot: s.ID, Size: b.Size, Type: "gp3", IOPS: 3000, Throughput: 125, DeleteOnTermination: true,
		}},
	}
	if b.Public {
		i.Permissions = []state.Permission{{Group: "all"}}
	}
	return i, s
}

// register makes a base launchable in a region.
func (l *Cloud) register(t *state.Tx, region string, b *state.Base) *state.Image {
	i, s := l.image(region, b)
	state.Put(t, s)
	state.Put(t, i)
	return i
}

// standIn answers a search that found nothing with an image that stands in for
// the one asked for, if it is a well-known publisher's that would be found on
// AWS. Whoever finds it can read in its tags and its description what it is.
func (c *call) standIn(owners []string, filters []filter.Filter) (*state.Image, error) {
	patterns, ok := filter.Values(filters, "name")
	if !ok {
		return nil, nil
	}
	for _, f := range []string{"owner-id", "owner-alias"} {
		v, _ := filter.Values(filters, f)
		owners = append(slices.Clone(owners), v...)
	}
	n, ok := standin.Find(owners, patterns, c.cloud.arch)
	if !ok {
		return nil, nil
	}
	base := c.cloud.hostBase()
	what := "host root filesystem of this machine (" + systemName("/etc/os-release") + ")"
	for _, b := range state.List[state.Base](c.Tx, "") {
		// A name may be matched without the publisher's path before it.
		named := func(p string) bool { return filter.Match(p, b.Name) || filter.Match(path.Base(p), b.Name) }
		if b.Imported && slices.ContainsFunc(patterns, named) {
			base, what = b, "imported image "+b.Name
		}
	}
	b := &state.Base{
		Name: n.Name, Owner: n.Owner, Alias: n.Alias, Arch: base.Arch, RootDevice: n.RootDevice, Size: base.Size,
		Layers: base.Layers, Created: n.Published, Public: true,
		Description: "Not " + n.Publisher + "'s image: localcloud stand-in, " + what,
	}
	i, s := c.cloud.image(c.region, b)
	i.StandIn = what
	i.Tags = state.Tags{TagStandIn: what}
	s.Tags = state.Tags{TagStandIn: what}
	// It must pass all that was asked, not only the name.
	list, err := filter.Apply([]*state.Image{i}, filters, c.imageFields(), func(i *state.Image) map[string]string { return i.Tags })
	if err != nil || len(list) == 0 {
		return nil, err
	}
	if !c.Writable() {
		return nil, errWrite
	}
	state.Put(c.Tx, s)
	state.Put(c.Tx, i)
	c.later(func() {
		c.cloud.log.Warn("an image stands in for the one asked for",
			"region", i.Region, "name", i.Name, "owner", i.Owner, "image", i.ID, "really", what,
			"hint", "localcloud import NAME ROOTFS.tar gives localcloud another one")
	})
	return i, nil
}

// launchable finds an image to launch from, and tells in the log what to do
// about one that is unknown.
func (c *call) launchable(id string) (*state.Image, error) {
	i, err := find[state.Image](c, imageSpecies, id)
	if err != nil {
		c.cloud.log.Warn("no such image", "region", c.region, "image", id,
			"hint", "localcloud has the images it made and those of `localcloud import NAME ROOTFS.tar`; `localcloud images` lists them. AMI ids of AWS mean nothing here: use source_ami_filter")
		return nil, err
	}
	if i.State != state.Available {
		return nil, wire.Errorf("InvalidAMIID.Unavailable", "The image ID '%s' is not available (it is %s)", id, i.State)
	}
	return i, nil
}
