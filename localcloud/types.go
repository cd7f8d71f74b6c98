package localcloud

import (
	"regexp"
	"slices"
	"strings"

	"github.com/bakehouse-farm/bakehouse/localcloud/filter"
	"github.com/bakehouse-farm/bakehouse/localcloud/wire"
)

// families lists instance families with their sizes, by architecture. A type
// says nothing about what an instance gets here: it gets the machine.
func families() map[string][]string {
	small := "nano micro small medium large xlarge 2xlarge"
	big := "large xlarge 2xlarge 4xlarge 8xlarge 12xlarge 16xlarge 24xlarge"
	list := map[string][]string{"x86_64": nil, "arm64": nil}
	add := func(arch, sizes string, names ...string) {
		for _, f := range names {
			for s := range strings.FieldsSeq(sizes) {
				list[arch] = append(list[arch], f+"."+s)
			}
		}
	}
	add("x86_64", small, "t2", "t3", "t3a")
	add("x86_64", big, "m4", "m5", "m5a", "m5d", "m5n", "m6a", "m6i", "m6id", "m7a", "m7i", "m7i-flex", "m8i",
		"c4", "c5", "c5a", "c5d", "c5n", "c6a", "c6i", "c6id", "c7a", "c7i", "c7i-flex", "c8i",
		"r4", "r5", "r5a", "r5d", "r6a", "r6i", "r6id", "r7a", "r7i", "r8i", "i3", "i4i", "z1d")
	add("arm64", small, "t4g")
	add("arm64", "medium "+big, "m6g", "m6gd", "m7g", "m7gd", "m8g", "c6g", "c6gd", "c6gn", "c7g", "c7gd", "c8g",
		"r6g", "r6gd", "r7g", "r7gd", "r8g")
	return list
}

var typeForm = regexp.MustCompile(`^([a-z]+[0-9]+[a-z-]*)\.([0-9]*x?[a-z]+|metal.*)$`)

// archOf returns the architecture of an instance type.
func archOf(name string) (string, error) {
	for arch, types := range families() {
		if slices.Contains(types, name) {
			return arch, nil
		}
	}
	if !typeForm.MatchString(name) {
		return "", wire.Errorf("InvalidParameterValue", "Invalid value '%s' for InstanceType.", name)
	}
	// A type that the list does not have, of a well-formed name: Graviton types
	// have a g behind the generation.
	family, _, _ := strings.Cut(name, ".")
	if i := strings.IndexAny(family, "0123456789"); strings.Contains(strings.TrimLeft(family[i:], "0123456789"), "g") {
		return "arm64", nil
	}
	return "x86_64", nil
}

type describeOfferingsInput struct {
	LocationType string
	Filter       []filter.Filter
	Paging
}

type offering struct {
	Type     string `xml:"instanceType"`
	Kind     string `xml:"locationType"`
	Location string `xml:"location"`
}

type describeOfferingsOutput struct {
	Offerings []offering `xml:"instanceTypeOfferingSet>item"`
	Next      string     `xml:"nextToken,omitempty"`
}

func describeOfferings(c *call, in *describeOfferingsInput) (*describeOfferingsOutput, error) {
	kind := in.LocationType
	var places []string
	switch kind {
	case "", "region":
		kind, places = "region", []string{c.region}
	case "availability-zone":
		for _, z := range regionZones()[c.region] {
			places = append(places, c.region+string(z))
		}
	case "availability-zone-id":
		for n := range regionZones()[c.region] {
			places = append(places, zoneID(c.region, n))
		}
	default:
		return nil, wire.Errorf("InvalidParameterValue", "Value (%s) for parameter locationType is invalid", kind)
	}
	var list []offering
	for _, p := range places {
		for _, t := range families()[c.cloud.arch] {
			list = append(list, offering{t, kind, p})
		}
	}
	list, err := filter.Apply(list, in.Filter, filter.Fields[offering]{
		"instance-type": func(o offering) []string { return one(o.Type) },
		"location":      func(o offering) []string { return one(o.Location) },
	}, noTags)
	if err != nil {
		return nil, err
	}
	list, next, err := page(list, in.Paging)
	return &describeOfferingsOutput{list, next}, err
}
