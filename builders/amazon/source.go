package amazon

import (
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/bakehouse-farm/bakehouse"
)

// selectImage finds the one image that an id and a filter describe.
func (c *connection) selectImage(ctx context.Context, id string, f *SourceAMIFilter) (types.Image, error) {
	in := &ec2.DescribeImagesInput{}
	if id != "" {
		in.ImageIds = []string{id}
	}
	if f == nil {
		f = &SourceAMIFilter{}
	}
	in.Owners = f.Owners
	in.IncludeDeprecated = aws.Bool(f.IncludeDeprecated)
	var err error
	if in.Filters, err = filters(f.Filters); err != nil {
		return types.Image{}, err
	}
	var found []types.Image
	pages := ec2.NewDescribeImagesPaginator(c.ec2, in)
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return types.Image{}, failed(ctx, err, "find source image in %s", c.region)
		}
		found = append(found, page.Images...)
	}
	switch {
	case len(found) == 0:
		return types.Image{}, bakehouse.Errorf(bakehouse.NotFound, "No AMI was found matching filters: %s", wanted(c.region, id, f))
	case len(found) > 1 && !f.MostRecent:
		return types.Image{}, bakehouse.Errorf(bakehouse.Invalid,
			"Your query returned more than one result. Please try a more specific search, or set most_recent to true.")
	}
	// Of two that were made at once the same one is taken each time.
	return slices.MaxFunc(found, func(a, b types.Image) int {
		if c := strings.Compare(aws.ToString(a.CreationDate), aws.ToString(b.CreationDate)); c != 0 {
			return c
		}
		return strings.Compare(aws.ToString(a.ImageId), aws.ToString(b.ImageId))
	}), nil
}

// wanted words what was looked for.
func wanted(region, id string, f *SourceAMIFilter) string {
	parts := []string{"region " + region}
	if id != "" {
		parts = append(parts, "image "+id)
	}
	if len(f.Owners) > 0 {
		parts = append(parts, "owners "+strings.Join(f.Owners, ", "))
	}
	for _, k := range slices.Sorted(maps.Keys(f.Filters)) {
		parts = append(parts, k+"="+f.Filters[k])
	}
	return strings.Join(parts, "; ")
}

// fits says whether an image can be the source of a build.
func (s *Settings) fits(img types.Image) error {
	if img.RootDeviceType != types.DeviceTypeEbs {
		return bakehouse.Errorf(bakehouse.Invalid,
			"The provided source AMI has an invalid root device type.\nExpected 'ebs', got '%s'.", img.RootDeviceType)
	}
	if !s.SriovSupport && (s.ENASupport == nil || !*s.ENASupport) {
		return nil
	}
	if v := s.VirtualizationType; v != "" {
		if v != "hvm" {
			return bakehouse.Errorf(bakehouse.Invalid, "Cannot enable enhanced networking, AMIVirtType '%s' is not HVM", v)
		}
		return nil
	}
	if img.VirtualizationType != types.VirtualizationTypeHvm {
		return bakehouse.Errorf(bakehouse.Invalid,
			"Cannot enable enhanced networking, source AMI '%s' is not HVM", aws.ToString(img.ImageId))
	}
	return nil
}
