package localcloud

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"github.com/bakehouse-farm/bakehouse/localcloud/filter"
	"github.com/bakehouse-farm/bakehouse/localcloud/state"
	"github.com/bakehouse-farm/bakehouse/localcloud/wire"
)

// TagStandIn is the tag that says what really stands behind a resource that
// bears the name or the description of something else.
const TagStandIn = "localcloud:stand-in"

type tag struct {
	Key   string `xml:"key"`
	Value string `xml:"value"`
}

type tagSpec struct {
	ResourceType string
	Tag          []tag
}

// shown lists tags as answers carry them, ordered by key.
func shown(tags state.Tags) []tag {
	var list []tag
	for _, k := range slices.Sorted(maps.Keys(tags)) {
		list = append(list, tag{k, tags[k]})
	}
	return list
}

// tagged returns the tags that the specifications give to resources of a kind.
func tagged(specs []tagSpec, kind string) state.Tags {
	var tags state.Tags
	for _, s := range specs {
		if s.ResourceType != kind {
			continue
		}
		for _, t := range s.Tag {
			if tags == nil {
				tags = state.Tags{}
			}
			tags[t.Key] = t.Value
		}
	}
	return tags
}

// checkSpecs refuses specifications for kinds that the action does not make.
func checkSpecs(specs []tagSpec, kinds ...string) error {
	for _, s := range specs {
		if !slices.Contains(kinds, s.ResourceType) {
			return wire.Errorf("InvalidParameterValue", "'%s' is not a valid taggable resource type for this operation.", s.ResourceType)
		}
		if err := checkTags(s.Tag); err != nil {
			return err
		}
	}
	return nil
}

func checkTags(tags []tag) error {
	seen := map[string]bool{}
	for _, t := range tags {
		switch {
		case t.Key == "" || len(t.Key) > 128:
			return wire.Errorf("InvalidParameterValue", "Tag key exceeds the maximum length of 128 characters or is empty: '%s'", t.Key)
		case len([]rune(t.Value)) > 256:
			return wire.Errorf("InvalidParameterValue", "Tag value exceeds the maximum length of 256 characters: '%s'", t.Value)
		case strings.HasPrefix(t.Key, "aws:"):
			return wire.Errorf("InvalidParameterValue", "Tag keys starting with 'aws:' are reserved for internal use")
		case seen[t.Key]:
			return wire.Errorf("InvalidParameterValue", "Duplicate tag key '%s' specified.", t.Key)
		}
		seen[t.Key] = true
	}
	if len(tags) > 50 {
		return wire.Errorf("TagLimitExceeded", "More than 50 tags specified")
	}
	return nil
}

// A holder is a resource with tags, of whatever kind.
type holder struct {
	kind string
	tags *state.Tags
	keep func()
}

func hold[T any, R state.Record[T]](c *call, s species, id, kind string, tags func(R) *state.Tags) (holder, error) {
	r, err := find[T, R](c, s, id)
	if err != nil {
		return holder{}, err
	}
	return holder{kind, tags(r), func() { state.Put[T, R](c.Tx, r) }}, nil
}

// holderOf finds the resource with an id of any kind.
func (c *call) holderOf(id string) (holder, error) {
	prefix, _, _ := strings.Cut(id, "-")
	switch prefix {
	case "ami":
		return hold(c, imageSpecies, id, "image", func(r *state.Image) *state.Tags { return &r.Tags })
	case "i":
		return hold(c, instanceSpecies, id, "instance", func(r *state.Instance) *state.Tags { return &r.Tags })
	case "snap":
		return hold(c, snapshotSpecies, id, "snapshot", func(r *state.Snapshot) *state.Tags { return &r.Tags })
	case "vol":
		return hold(c, volumeSpecies, id, "volume", func(r *state.Volume) *state.Tags { return &r.Tags })
	case "sg":
		return hold(c, groupSpecies, id, "security-group", func(r *state.SecurityGroup) *state.Tags { return &r.Tags })
	case "vpc":
		return hold(c, vpcSpecies, id, "vpc", func(r *state.VPC) *state.Tags { return &r.Tags })
	case "subnet":
		return hold(c, subnetSpecies, id, "subnet", func(r *state.Subnet) *state.Tags { return &r.Tags })
	case "key":
		return hold(c, keySpecies, id, "key-pair", func(r *state.KeyPair) *state.Tags { return &r.Tags })
	case "eni":
		return hold(c, interfaceSpecies, id, "network-interface", func(r *state.Interface) *state.Tags { return &r.Tags })
	}
	return holder{}, wire.Errorf("InvalidID", "The ID '%s' is not valid", id)
}

type createTagsInput struct {
	ResourceId []string //nolint:revive // EC2's name
	Tag        []tag
}

func createTags(c *call, in *createTagsInput) (*done, error) {
	if len(in.ResourceId) == 0 {
		return nil, wire.Errorf("MissingParameter", "The request must contain the parameter resourceIdSet")
	}
	if len(in.Tag) == 0 {
		return nil, wire.Errorf("MissingParameter", "The request must contain the parameter tagSet")
	}
	if err := checkTags(in.Tag); err != nil {
		return nil, err
	}
	for _, id := range in.ResourceId {
		h, err := c.holderOf(id)
		if err != nil {
			return nil, err
		}
		if *h.tags == nil {
			*h.tags = state.Tags{}
		}
		for _, t := range in.Tag {
			(*h.tags)[t.Key] = t.Value
		}
		if len(*h.tags) > 50 {
			return nil, wire.Errorf("TagLimitExceeded", "The maximum number of tags for resource %s has been reached.", id)
		}
		h.keep()
	}
	return &done{true}, nil
}

type deleteTagsInput struct {
	ResourceId []string //nolint:revive // EC2's name
	Tag        []struct {
		Key   string
		Value *string
	}
}

func deleteTags(c *call, in *deleteTagsInput) (*done, error) {
	for _, id := range in.ResourceId {
		h, err := c.holderOf(id)
		if err != nil {
			return nil, err
		}
		if len(in.Tag) == 0 {
			*h.tags = nil
		}
		for _, t := range in.Tag {
			if have, ok := (*h.tags)[t.Key]; ok && (t.Value == nil || *t.Value == have) {
				delete(*h.tags, t.Key)
			}
		}
		h.keep()
	}
	return &done{true}, nil
}

type describeTagsInput struct {
	Filter []filter.Filter
	Paging
}

type tagItem struct {
	ResourceID   string `xml:"resourceId"`
	ResourceType string `xml:"resourceType"`
	Key          string `xml:"key"`
	Value        string `xml:"value"`
}

type describeTagsOutput struct {
	Tags []tagItem `xml:"tagSet>item"`
	Next string    `xml:"nextToken,omitempty"`
}

func describeTags(c *call, in *describeTagsInput) (*describeTagsOutput, error) {
	var all []tagItem
	add := func(kind, id string, tags state.Tags) {
		for _, t := range shown(tags) {
			all = append(all, tagItem{id, kind, t.Key, t.Value})
		}
	}
	for _, r := range state.List[state.Image](c.Tx, c.region) {
		add("image", r.ID, r.Tags)
	}
	for _, r := range state.List[state.Instance](c.Tx, c.region) {
		add("instance", r.ID, r.Tags)
	}
	for _, r := range state.List[state.Snapshot](c.Tx, c.region) {
		add("snapshot", r.ID, r.Tags)
	}
	for _, r := range state.List[state.Volume](c.Tx, c.region) {
		add("volume", r.ID, r.Tags)
	}
	for _, r := range state.List[state.SecurityGroup](c.Tx, c.region) {
		add("security-group", r.ID, r.Tags)
	}
	for _, r := range state.List[state.VPC](c.Tx, c.region) {
		add("vpc", r.ID, r.Tags)
	}
	for _, r := range state.List[state.Subnet](c.Tx, c.region) {
		add("subnet", r.ID, r.Tags)
	}
	for _, r := range state.List[state.KeyPair](c.Tx, c.region) {
		add("key-pair", r.ID, r.Tags)
	}
	for _, r := range state.List[state.Interface](c.Tx, c.region) {
		add("network-interface", r.ID, r.Tags)
	}
	slices.SortStableFunc(all, func(a, b tagItem) int { return cmp.Compare(a.ResourceID, b.ResourceID) })
	list, err := filter.Apply(all, in.Filter, filter.Fields[tagItem]{
		"key":           func(t tagItem) []string { return []string{t.Key} },
		"value":         func(t tagItem) []string { return []string{t.Value} },
		"resource-id":   func(t tagItem) []string { return []string{t.ResourceID} },
		"resource-type": func(t tagItem) []string { return []string{t.ResourceType} },
	}, func(t tagItem) map[string]string { return state.Tags{t.Key: t.Value} })
	if err != nil {
		return nil, err
	}
	list, next, err := page(list, in.Paging)
	return &describeTagsOutput{list, next}, err
}
