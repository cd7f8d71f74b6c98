package amazon

import (
	"fmt"
	"maps"
	"regexp"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/bakehouse-farm/bakehouse"
	"github.com/bakehouse-farm/bakehouse/template/interpolate"
)

// render fills in what tags and the description say of the source image. The
// result is frozen: each region gets the same.
func render(b bakehouse.Build, s *Settings, generated map[string]string, sourceTags []types.Tag, p *plan) error {
	data := map[string]any{}
	for k, v := range generated {
		data[k] = v
	}
	own := map[string]string{}
	for _, t := range sourceTags {
		own[aws.ToString(t.Key)] = aws.ToString(t.Value)
	}
	data["SourceAMITags"] = own
	c := interpolate.Context{
		Time: b.Started, Seed: string(b.ID), BuildName: b.Source, BuildType: b.Type, Data: data, Clean: CleanName,
	}
	var err error
	if p.Description, err = interpolate.Render(s.Description, c); err != nil {
		return bakehouse.Errorf(bakehouse.Invalid, "ami_description: %w", err)
	}
	for _, tags := range []struct {
		name string
		from map[string]string
		to   *map[string]string
	}{
		{"run_tags", merged(s.RunTags, s.RunTag), &p.RunTags},
		{"run_volume_tags", merged(s.RunVolumeTags, s.RunVolumeTag), &p.VolumeTags},
		{"tags", merged(s.Tags, s.Tag), &p.Tags},
		{"snapshot_tags", merged(s.SnapshotTags, s.SnapshotTag), &p.SnapshotTags},
	} {
		if *tags.to, err = renderTags(tags.from, c); err != nil {
			return bakehouse.Errorf(bakehouse.Invalid, "%s: %w", tags.name, err)
		}
	}
	return nil
}

func renderTags(in map[string]string, c interpolate.Context) (map[string]string, error) {
	out := make(map[string]string, len(in))
	for _, k := range slices.Sorted(maps.Keys(in)) {
		key, err := interpolate.Render(k, c)
		if err != nil {
			return nil, fmt.Errorf("key %q: %w", k, err)
		}
		if out[key], err = interpolate.Render(in[k], c); err != nil {
			return nil, fmt.Errorf("value of %q: %w", k, err)
		}
	}
	return out, nil
}

var unclean = regexp.MustCompile(`[^A-Za-z0-9()\[\] ./\-'@_]`)

// CleanName is clean_resource_name: it replaces by dashes what the name of an
// image cannot have.
func CleanName(name string) string { return unclean.ReplaceAllString(name, "-") }
