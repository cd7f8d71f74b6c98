package state

import (
	"bytes"
	"encoding/json"
	"slices"
	"time"

	"github.com/bakehouse-farm/bakehouse"
)

// What a transaction can do to a resource.
const (
	Created = "created"
	Changed = "changed"
	Deleted = "deleted"
)

// A Change is what a transaction did to one resource.
type Change struct {
	Op string `json:"op"` // Created, Changed or Deleted
	Summary
	// Before is the record as it was, nil for what was created.
	Before json.RawMessage `json:"-"`
}

// A Summary is what can be said of a resource of any kind. A field that a kind
// does not have is empty.
type Summary struct {
	Kind   string `json:"kind"`
	Region string `json:"region"`
	ID     string `json:"id"`
	Name   string `json:"name,omitempty"`
	State  string `json:"state,omitempty"`
	Reason string `json:"reason,omitempty"` // why it is in the state, as EC2 words it
	// Of is what it belongs to or was made from: the instance of a volume, the
	// volume of a snapshot, the instance or image behind an image.
	Of    string    `json:"of,omitempty"`
	Since time.Time `json:"since,omitzero"` // when it was made, or launched
	Tags  Tags      `json:"tags,omitempty"`
}

// resources are the kinds of records that users see as resources.
var resources = []string{
	(*Instance)(nil).Kind(), (*Volume)(nil).Kind(), (*Interface)(nil).Kind(), (*Image)(nil).Kind(), (*Snapshot)(nil).Kind(),
	(*KeyPair)(nil).Kind(), (*SecurityGroup)(nil).Kind(), (*VPC)(nil).Kind(), (*Subnet)(nil).Kind(),
}

// ResourceKinds lists the kinds of records that are resources of EC2, as its
// tags name them.
func ResourceKinds() []string { return slices.Clone(resources) }

// summarise reads what all kinds of records call by the same names.
func summarise(kind, region, id string, v []byte) Summary {
	var r struct {
		Name, State, Message, Instance, Volume, VPC string
		SourceInstance, SourceImage, Image          string
		Reason                                      Reason
		Created, Started, Launched                  time.Time
		Tags                                        Tags
	}
	s := Summary{Kind: kind, Region: region, ID: id}
	if json.Unmarshal(v, &r) != nil {
		return s // Get fails for the same reason, and says so
	}
	s.Name, s.State, s.Tags = r.Name, r.State, r.Tags
	s.Reason = r.Reason.Message
	if kind == (*Snapshot)(nil).Kind() {
		s.Reason = r.Message
	}
	for _, of := range []string{r.Instance, r.Volume, r.SourceInstance, r.SourceImage, r.Image, r.VPC} {
		if s.Of == "" {
			s.Of = of
		}
	}
	for _, t := range []time.Time{r.Created, r.Started, r.Launched} {
		if s.Since.IsZero() {
			s.Since = t
		}
	}
	return s
}

// Summaries lists the resources of a region, or of all when region is "*", by
// kind and then by id.
func (t *Tx) Summaries(region string) []Summary {
	var list []Summary
	for _, kind := range resources {
		t.each(kind, region, func(in, id string, v []byte) bool {
			list = append(list, summarise(kind, in, id, v))
			return true
		})
	}
	return list
}

// TagsOf returns the tags of the resource with the id in a region, of whatever
// kind it is; nil when there is none.
func (t *Tx) TagsOf(region, id string) Tags {
	for _, kind := range resources {
		if v := t.raw(kind, region, id); v != nil {
			return summarise(kind, region, id, v).Tags
		}
	}
	return nil
}

// A touch is what a transaction did to one record.
type touch struct {
	kind, region, id string
	before, after    []byte
}

// touched notes that a record was written or, with nil, deleted.
func (t *Tx) touched(kind, region, id string, before, after []byte) {
	if !slices.Contains(resources, kind) {
		return
	}
	key := kind + "/" + region + "/" + id
	if t.touches == nil {
		t.touches = map[string]*touch{}
	}
	if x := t.touches[key]; x != nil {
		x.after = after
		return
	}
	x := &touch{kind, region, id, bytes.Clone(before), after}
	t.touches[key] = x
	t.order = append(t.order, x)
}

// Changes lists what the transaction has done to resources so far, each once,
// in the order in which they were first touched.
func (t *Tx) Changes() []Change {
	var list []Change
	for _, x := range t.order {
		c := Change{Op: Changed, Before: x.before}
		shown := x.after
		switch {
		case x.before == nil && x.after == nil, bytes.Equal(x.before, x.after):
			continue
		case x.before == nil:
			c.Op = Created
		case x.after == nil:
			c.Op, shown = Deleted, x.before
		}
		c.Summary = summarise(x.kind, x.region, x.id, shown)
		list = append(list, c)
	}
	return list
}

// A Lens shows a record otherwise than it is: it returns what a reader is to
// see of it, or nil when it is not to be seen.
type Lens func(kind, region, id string, v []byte) []byte

// Look makes a reading transaction see all records through a lens. In a
// writing one it would be written back what was only seen: there it fails.
func (t *Tx) Look(l Lens) {
	if t.Writable() {
		t.fail(bakehouse.Errorf(bakehouse.Invalid, "a writing transaction looks through a lens"))
		return
	}
	t.lens = l
}

// A Mark tells up to where the journal of what was done agrees with the state.
type Mark struct {
	Seq uint64
}

// Kind implements Record.
func (*Mark) Kind() string { return "mark" }

// Key implements Record.
func (*Mark) Key() (region, id string) { return "", "journal" }
