package amazon

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/bakehouse-farm/bakehouse"
	"github.com/bakehouse-farm/bakehouse/communicator"
)

// Check says what is wrong with settings, in Packer's words and order, and then
// what Bakehouse cannot do yet.
func (e *EBS) Check(settings json.RawMessage, unknown []string, files bakehouse.Files) []bakehouse.Finding {
	s := defaults()
	if len(settings) > 0 {
		if err := json.Unmarshal(settings, s); err != nil {
			return []bakehouse.Finding{{Message: err.Error()}}
		}
	}
	c := &check{s: s, unknown: unknown, files: files}
	c.access()
	c.image()
	c.devices("ami_block_device_mappings", s.AMIMappings)
	c.devices("launch_block_device_mappings", s.LaunchMappings)
	c.found = append(c.found, communicator.CheckSettings(s.Settings, files, unknown...)...)
	c.run()
	c.fastLaunch()
	c.enhancedNetworking()
	c.deprecated()
	c.notYet()
	return c.found
}

// check collects findings.
type check struct {
	s       *Settings
	unknown []string
	files   bakehouse.Files
	found   []bakehouse.Finding
}

// fail notes what is wrong with the first of fields, when all of them are known.
func (c *check) fail(wrong bool, fields string, format string, args ...any) bool {
	list := strings.Fields(fields)
	if !wrong || !c.known(list...) {
		return false
	}
	f := bakehouse.Finding{Message: fmt.Sprintf(format, args...)}
	if len(list) > 0 {
		f.Field = list[0]
	}
	c.found = append(c.found, f)
	return true
}

func (c *check) warn(wrong bool, field, message string) {
	if wrong {
		c.found = append(c.found, bakehouse.Finding{Field: field, Message: message, Warning: true})
	}
}

// known tells whether the values of all fields are known, also of what is
// inside them.
func (c *check) known(fields ...string) bool {
	for _, f := range fields {
		for _, u := range c.unknown {
			if u == f || strings.HasPrefix(u, f+".") || strings.HasPrefix(f, u+".") || strings.HasPrefix(u, f+"[") {
				return false
			}
		}
	}
	return true
}

func (c *check) access() {
	a := c.s.Access
	vault := a.VaultAWSEngine
	c.fail(vault != nil && *vault != (VaultEngine{}) && a.AccessKey != "", "vault_aws_engine access_key",
		"If you have set vault_aws_engine, you must not set the access_key or secret_key.")
	c.fail((a.AccessKey == "") != (a.SecretKey == ""), "access_key secret_key",
		"`access_key` and `secret_key` must both be either set or not set.")
}

// fastLaunch are the rules for the block fast_launch.
func (c *check) fastLaunch() {
	f := c.s.FastLaunch
	if f == nil {
		return
	}
	c.fail(f.MaxParallel != 0 && f.MaxParallel < 6, "fast_launch.max_parallel_launches",
		"max_parallel_launches must be >= 6, provided value is %d", f.MaxParallel)
	c.fail(f.TargetCount != 0 && f.TargetCount < 1, "fast_launch.target_resource_count",
		"target_resource_count must be >= 1, provided value is %d", f.TargetCount)
	templates := f.Regions
	if f.TemplateID != "" || f.TemplateName != "" || f.TemplateVersion != 0 {
		templates = append([]FastLaunchOfRegion{{
			Region: c.s.Region, TemplateID: f.TemplateID, TemplateName: f.TemplateName, TemplateVersion: f.TemplateVersion,
		}}, templates...)
	}
	seen := map[string]bool{}
	for i, t := range templates {
		c.fail(seen[t.Region], "fast_launch region", "fast launch: launch template specified twice for region %q, only once is supported", t.Region)
		seen[t.Region] = true
		top := len(templates) > len(f.Regions) && i == 0
		c.fail(t.Region == "" && !top, "fast_launch", "region cannot be empty for a regional fast template config")
		c.launchTemplate(t)
	}
	for _, t := range templates {
		there := t.Region == c.s.Region
		for _, r := range c.s.Regions {
			there = there || r == t.Region
		}
		c.fail(!there, "fast_launch ami_regions region",
			"Launch template specified for enabling fast-launch on region %q, but the AMI won't be copied there.", t.Region)
	}
}

func (c *check) launchTemplate(t FastLaunchOfRegion) {
	c.fail(t.TemplateID != "" && t.TemplateName != "", "fast_launch",
		"fast_launch_template_config region %q: both template ID and name cannot be specified at the same time", t.Region)
	c.fail(t.TemplateVersion < 0, "fast_launch",
		"fast_launch_template_config region %q: the launch template version must be >= 1, provided value is %d", t.Region, t.TemplateVersion)
	c.fail(t.TemplateVersion != 0 && t.TemplateID == "" && t.TemplateName == "", "fast_launch",
		"fast_launch_template_config region %q: launch template version specified without an ID or name", t.Region)
}

func (c *check) enhancedNetworking() {
	s := c.s
	c.fail(s.spot() && (s.SriovSupport || s.ENASupport != nil && *s.ENASupport), "spot_price ena_support sriov_support",
		"Spot instances do not support modification, which is required when either `ena_support` or `sriov_support` are set. "+
			"Please ensure you use an AMI that already has either SR-IOV or ENA enabled.")
}

func (c *check) deprecated() {
	c.warn(c.s.SpotPriceAutoProduct != "", "spot_price_auto_product",
		"spot_price_auto_product is deprecated and no longer necessary for Packer builds. In future versions of Packer, "+
			"inclusion of spot_price_auto_product will error your builds. Please take a look at our current documentation "+
			"to understand how Packer requests Spot instances.")
	c.warn(c.s.session() && c.s.SessionManagerPort != 0, "session_manager_port",
		"session_manager_port changes nothing: no local port is opened for session manager.")
	c.warn(c.s.T2Unlimited, "enable_t2_unlimited",
		"enable_t2_unlimited is deprecated please use enable_unlimited_credits. In future versions of Packer, "+
			"inclusion of enable_t2_unlimited will error your builds.")
}

// notYet refuses what is not built. A build that would silently do less than
// its template says is worse than none.
func (c *check) notYet() {
	s := c.s
	refuse := func(set bool, field, what, hint string) {
		if set {
			c.found = append(c.found, bakehouse.Finding{
				Field: field, Message: "Bakehouse cannot do that yet: " + what, Hint: hint, NotYet: true,
			})
		}
	}
	refuse(s.spot(), "spot_price", "spot instances", "leave spot_price out and set instance_type to launch on demand")
	refuse(!s.spot() && len(s.SpotInstanceTypes) > 0, "spot_instance_types", "spot instances and fleets", "set instance_type instead")
	refuse(s.session() && (s.SSHBastionHost != "" || s.SSHProxyHost != ""), "ssh_interface",
		"session manager together with a bastion or a proxy", "leave out ssh_bastion_host and ssh_proxy_host: session manager needs neither")
	refuse(s.FastLaunch != nil, "fast_launch", "fast launch", "")
	refuse(s.VaultAWSEngine != nil && *s.VaultAWSEngine != (VaultEngine{}), "vault_aws_engine", "credentials from Vault",
		"give the agent credentials through its environment, a profile or its role")
	refuse(s.MFACode != "", "mfa_code", "multi-factor authentication", "give the agent a role")
	refuse(s.ProfileDocument != nil, "temporary_iam_instance_profile_policy_document", "a temporary instance profile",
		"make the profile beforehand and name it in iam_instance_profile")
}
