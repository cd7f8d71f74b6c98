package localcloud

import (
	"encoding/base64"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/bakehouse-farm/bakehouse/localcloud/filter"
	"github.com/bakehouse-farm/bakehouse/localcloud/state"
	"github.com/bakehouse-farm/bakehouse/localcloud/wire"
)

// A species says how EC2 speaks of ids of one kind of resource.
type species struct {
	prefix              string
	malformed, notFound string
	message             string // of notFound, with one %s
}

var (
	imageSpecies     = species{"ami", "InvalidAMIID.Malformed", "InvalidAMIID.NotFound", "The image id '[%s]' does not exist"}
	instanceSpecies  = species{"i", "InvalidInstanceID.Malformed", "InvalidInstanceID.NotFound", "The instance ID '%s' does not exist"}
	snapshotSpecies  = species{"snap", "InvalidSnapshotID.Malformed", "InvalidSnapshot.NotFound", "The snapshot '%s' does not exist."}
	volumeSpecies    = species{"vol", "InvalidVolumeID.Malformed", "InvalidVolume.NotFound", "The volume '%s' does not exist."}
	groupSpecies     = species{"sg", "InvalidGroupId.Malformed", "InvalidGroup.NotFound", "The security group '%s' does not exist"}
	vpcSpecies       = species{"vpc", "InvalidVpcId.Malformed", "InvalidVpcID.NotFound", "The vpc ID '%s' does not exist"}
	subnetSpecies    = species{"subnet", "InvalidSubnetID.Malformed", "InvalidSubnetID.NotFound", "The subnet ID '%s' does not exist"}
	keySpecies       = species{"key", "InvalidKeyPairId.Malformed", "InvalidKeyPair.NotFound", "The key pair '%s' does not exist"}
	interfaceSpecies = species{"eni", "InvalidNetworkInterfaceId.Malformed", "InvalidNetworkInterfaceID.NotFound", "The networkInterface ID '%s' does not exist"}
	idForm           = regexp.MustCompile(`^[a-z]+-[0-9a-f]{8}([0-9a-f]{9})?$`)
)

// check tells whether id can be one of the species.
func (s species) check(id string) error {
	if !strings.HasPrefix(id, s.prefix+"-") || !idForm.MatchString(id) {
		return wire.Errorf(s.malformed, "Invalid id: %q (expecting \"%s-...\")", id, s.prefix)
	}
	return nil
}

func (s species) missing(id string) error { return wire.Errorf(s.notFound, s.message, id) }

// find returns the resource with the id in the call's region, or EC2's error.
func find[T any, R state.Record[T]](c *call, s species, id string) (R, error) {
	if err := s.check(id); err != nil {
		return nil, err
	}
	r := state.Get[T, R](c.Tx, c.region, id)
	if r == nil || c.sight.hides(r.Kind(), c.region, id) {
		return nil, s.missing(id)
	}
	return r, nil
}

// selected returns the resources of the call's region that have one of ids (if
// any are given; all must be there) and pass the filters.
func selected[T any, R state.Record[T]](c *call, s species, ids []string, filters []filter.Filter, fields filter.Fields[R], tags func(R) map[string]string) ([]R, error) {
	var list []R
	if len(ids) == 0 {
		list = state.List[T, R](c.Tx, c.region)
	}
	for i, id := range ids {
		if slices.Contains(ids[:i], id) {
			continue
		}
		r, err := find[T, R](c, s, id)
		if err != nil {
			return nil, err
		}
		list = append(list, r)
	}
	return filter.Apply(list, filters, fields, tags)
}

// A Paging is how a caller asks for a part of a long list.
type Paging struct {
	MaxResults *int
	NextToken  string
}

// page returns the part of list that was asked for and the token of the next.
// Lists are ordered by something that does not change; what comes in between
// two pages may be missed, as in EC2.
func page[T any](list []T, p Paging) (part []T, next string, err error) {
	from := 0
	if p.NextToken != "" {
		b, err := base64.RawURLEncoding.DecodeString(p.NextToken)
		if err == nil {
			from, err = strconv.Atoi(strings.TrimPrefix(string(b), "from "))
		}
		if err != nil || from < 0 {
			return nil, "", wire.Errorf("InvalidNextToken", "The token '%s' is invalid", p.NextToken)
		}
	}
	from = min(from, len(list))
	to := len(list)
	if p.MaxResults != nil {
		if *p.MaxResults < 1 {
			return nil, "", wire.Errorf("InvalidParameterValue", "Value (%d) for parameter maxResults is invalid. Expecting a value greater than 0.", *p.MaxResults)
		}
		to = min(from+*p.MaxResults, len(list))
	}
	if to < len(list) {
		next = base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, "from %d", to))
	}
	return list[from:to], next, nil
}

// one wraps a value as a filter's list of values; nothing when it is empty.
func one(s string) []string {
	if s == "" {
		return nil
	}
	return []string{s}
}

func yes(b bool) []string { return []string{strconv.FormatBool(b)} }
