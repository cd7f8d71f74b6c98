package amazon

import (
	"maps"
	"regexp"
	"slices"
	"time"
)

// The forms that a KMS key may be given in.
var kmsForms = []*regexp.Regexp{
	regexp.MustCompile(`^[a-f0-9]+[a-f0-9-]+$`),
	regexp.MustCompile(`^mrk-[a-f0-9]+[a-f0-9-]+$`),
	regexp.MustCompile(`^alias/[a-zA-Z0-9:/_-]+$`),
	regexp.MustCompile(`^arn:aws(-[a-z]{2}(-gov)?)?:kms:([a-z]{2}-(gov-)?[a-z]+-\d{1})?:(\d{12}):` +
		`(key/[a-f0-9]+[a-f0-9-]+|key/mrk-[a-f0-9]+[a-f0-9-]+|alias/[a-zA-Z0-9:/_-]+)$`),
}

func isKMSKey(key string) bool {
	return key == "" || slices.ContainsFunc(kmsForms, func(f *regexp.Regexp) bool { return f.MatchString(key) })
}

// image are the rules for the image that is made.
func (c *check) image() {
	s := c.s
	c.fail(s.AMIName == "", "ami_name", "ami_name must be specified")
	c.regionKeys()
	c.sharing()
	keys := keysOf(s)
	c.fail(len(keys) > 0 && !s.encrypted(), "kms_key_id region_kms_key_ids encrypt_boot",
		"If you have set either region_kms_key_ids or kms_key_id, encrypt_boot must also be true.")
	for _, k := range keys {
		c.fail(!isKMSKey(k), "kms_key_id region_kms_key_ids", "%q is not a valid KMS Key Id.", k)
	}
	c.snapshotSharing()
	c.fail(len(s.AMIName) < 3 || len(s.AMIName) > 128, "ami_name", "ami_name must be between 3 and 128 characters long")
	c.fail(unclean.MatchString(s.AMIName), "ami_name",
		"AMIName should only contain alphanumeric characters, parentheses (()), square brackets ([]), spaces ( ), periods (.), "+
			"slashes (/), dashes (-), single quotes ('), at-signs (@), or underscores(_). You can use the `clean_resource_name` "+
			"template filter to automatically clean your ami name.")
	c.fail(s.IMDSSupport != "" && s.IMDSSupport != "v2.0", "imds_support",
		`The only valid imds_support values are "v2.0" or the empty string`)
	if s.DeprecateAt != "" {
		_, err := time.Parse(time.RFC3339, s.DeprecateAt)
		c.fail(err != nil, "deprecate_at", "deprecate_at is not a valid time: %q. Expect time format: YYYY-MM-DDTHH:MM:SSZ", s.DeprecateAt)
	}
}

// regionKeys are the rules for region_kms_key_ids against ami_regions.
func (c *check) regionKeys() {
	s := c.s
	for _, region := range slices.Sorted(maps.Keys(s.RegionKMSKeyIDs)) {
		c.fail(!slices.Contains(s.Regions, region), "region_kms_key_ids ami_regions",
			"Region %s is in region_kms_key_ids but not in ami_regions", region)
	}
	if len(s.RegionKMSKeyIDs) == 0 {
		return
	}
	for i, region := range s.Regions {
		if _, ok := s.RegionKMSKeyIDs[region]; !ok && slices.Index(s.Regions, region) == i {
			c.fail(true, "ami_regions region_kms_key_ids", "Region %s is in ami_regions but not in region_kms_key_ids", region)
		}
	}
}

// sharing are the rules for images encrypted with a key that others cannot use.
func (c *check) sharing() {
	s := c.s
	if len(s.Users)+len(s.OrgARNs)+len(s.OUARNs) == 0 {
		return
	}
	c.fail(s.KMSKeyID == "" && len(s.RegionKMSKeyIDs) == 0 && s.encrypted(), "encrypt_boot kms_key_id region_kms_key_ids",
		"Cannot share AMI encrypted with default KMS key")
	for range defaultKeys(s) {
		c.fail(true, "region_kms_key_ids", "Cannot share AMI encrypted with default KMS key for other regions")
	}
}

func (c *check) snapshotSharing() {
	s := c.s
	if len(s.SnapshotUsers) == 0 {
		return
	}
	c.fail(s.KMSKeyID == "" && len(s.RegionKMSKeyIDs) == 0 && s.encrypted(), "snapshot_users encrypt_boot kms_key_id region_kms_key_ids",
		"Cannot share snapshot encrypted with default KMS key, see https://www.packer.io/docs/builders/amazon-ebs#region_kms_key_ids for more information")
	for range defaultKeys(s) {
		c.fail(true, "region_kms_key_ids snapshot_users", "Cannot share snapshot encrypted with default KMS key")
	}
}

// keysOf returns the keys that the template names, in a fixed order.
func keysOf(s *Settings) []string {
	var out []string
	if s.KMSKeyID != "" {
		out = append(out, s.KMSKeyID)
	}
	for _, region := range slices.Sorted(maps.Keys(s.RegionKMSKeyIDs)) {
		if k := s.RegionKMSKeyIDs[region]; k != "" {
			out = append(out, k)
		}
	}
	return out
}

// defaultKeys returns the regions for which the account's default key is asked for.
func defaultKeys(s *Settings) []string {
	var out []string
	for _, region := range slices.Sorted(maps.Keys(s.RegionKMSKeyIDs)) {
		if s.RegionKMSKeyIDs[region] == "" {
			out = append(out, region)
		}
	}
	return out
}

// devices are the rules for block device mappings; the first that is broken is
// told for each device.
func (c *check) devices(field string, list []BlockDevice) {
	for _, d := range list {
		c.device(field, d)
	}
}

func (c *check) device(field string, d BlockDevice) {
	provisioned := (d.VolumeType == "io1" || d.VolumeType == "io2") && d.VolumeSize != 0
	ratio := map[string]int{"io1": 50, "io2": 500}[d.VolumeType]
	name := d.DeviceName
	_ = c.fail(name == "", field, "The `device_name` must be specified for every device in the block device mapping.") ||
		c.fail(d.KMSKeyID != "" && d.Encrypted != nil && !*d.Encrypted, field,
			"The device %v, must also have `encrypted: true` when setting a kms_key_id.", name) ||
		c.fail(provisioned && d.IOPS != nil && *d.IOPS/d.VolumeSize > ratio, field,
			"%s: the maximum ratio of provisioned IOPS to requested volume size (in GiB) is %v:1 for %s volumes", name, ratio, d.VolumeType) ||
		c.fail(provisioned && (intOf(d.IOPS) < 100 || intOf(d.IOPS) > 64000), field,
			"IOPS must be between 100 and 64000 for device %s", name) ||
		c.fail(d.VolumeType == "gp3" && d.Throughput != nil && (*d.Throughput < 125 || *d.Throughput > 1000), field,
			"Throughput must be between 125 and 1000 for device %s", name) ||
		c.fail(d.VolumeType == "gp3" && d.IOPS != nil && (*d.IOPS < 3000 || *d.IOPS > 16000), field,
			"IOPS must be between 3000 and 16000 for device %s", name) ||
		c.fail(d.VolumeType != "gp3" && d.Throughput != nil, field,
			"Throughput is only valid for gp3 volumes, %q is of type %s", name, d.VolumeType)
}

func intOf(p *int) int {
	if p == nil {
		return 0
	}
	return *p
}
