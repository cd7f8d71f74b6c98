package fix

import (
	"fmt"
	"regexp"
	"strconv"
)

const amazon = "amazon-"

var createTimeCall = regexp.MustCompile(`\{\{\s*\.CreateTime\s*\}\}`)

// createTime replaces the field that was there before the function.
func createTime(d *document) error {
	for _, b := range d.builders {
		if name, ok := b["ami_name"].(string); ok {
			b["ami_name"] = createTimeCall.ReplaceAllString(name, "{{timestamp}}")
		}
	}
	return nil
}

func amazonShutdownBehavior(d *document) error {
	for _, b := range kin(d.builders, amazon) {
		move(b, "shutdown_behaviour", "shutdown_behavior")
	}
	return nil
}

func amazonEnhancedNetworking(d *document) error {
	for _, b := range kin(d.builders, amazon) {
		if is[bool](b, "enhanced_networking") {
			move(b, "enhanced_networking", "ena_support")
		}
	}
	return nil
}

// amazonPrivateIP says by which address to connect. A template that says both
// is left alone.
func amazonPrivateIP(d *document) error {
	for _, b := range kin(d.builders, amazon) {
		v, ok := b["ssh_private_ip"]
		if !ok || has(b, "ssh_interface") {
			continue
		}
		private, err := strconv.ParseBool(fmt.Sprint(v))
		if err != nil {
			return fmt.Errorf("ssh_private_ip is neither true nor false, but %v", v)
		}
		delete(b, "ssh_private_ip")
		b["ssh_interface"] = "public_ip"
		if private {
			b["ssh_interface"] = "private_ip"
		}
	}
	return nil
}

func amazonTemporaryCIDRs(d *document) error {
	for _, b := range kin(d.builders, amazon) {
		if cidr, ok := b["temporary_security_group_source_cidr"].(string); ok {
			delete(b, "temporary_security_group_source_cidr")
			b["temporary_security_group_source_cidrs"] = []any{cidr}
		}
	}
	return nil
}

func spotPriceAutoProduct(d *document) error {
	for _, b := range typed(d.builders, "amazon-ebs", "amazon-ebssurrogate", "amazon-ebsvolume", "amazon-instance") {
		delete(b, "spot_price_auto_product")
	}
	return nil
}

var cleanName = regexp.MustCompile(`clean_(image|ami)_name`)

// cleanImageName looks at the arguments of a builder and at those one level
// below: names and tags.
func cleanImageName(d *document) error {
	clean := func(o object) {
		for name, v := range o {
			if s, ok := v.(string); ok {
				o[name] = cleanName.ReplaceAllString(s, "clean_resource_name")
			}
		}
	}
	for _, b := range d.builders {
		clean(b)
		for _, v := range b {
			if nested, ok := v.(object); ok {
				clean(nested)
			}
		}
	}
	return nil
}

func scalewayAccessKey(d *document) error {
	for _, b := range typed(d.builders, "scaleway") {
		if is[string](b, "access_key") {
			give(b, "access_key", "organization_id")
		}
	}
	return nil
}

func azureExcludeFromLatest(d *document) error {
	for _, b := range typed(d.builders, "azure-chroot") {
		if gallery, ok := b["shared_image_destination"].(object); ok {
			move(gallery, "exlude_from_latest", "exclude_from_latest")
		}
	}
	return nil
}
