package amazon

import (
	"net"
	"os"
	"regexp"
	"slices"
	"strings"
)

// run are the rules for the instance.
func (c *check) run() {
	c.keyType()
	c.metadata()
	c.interfaces()
	c.keyPair()
	c.source()
	c.instanceType()
	c.userData()
	c.groups()
	c.fail(!slices.Contains([]string{"", "stop", "terminate"}, c.s.ShutdownBehavior), "shutdown_behavior",
		"shutdown_behavior only accepts 'stop' or 'terminate' values.")
	c.credits()
	c.capacity()
	c.tenancy()
	c.enclave()
}

func (c *check) keyType() {
	t := c.s.TemporaryKeyPairType
	c.fail(t != "" && t != "rsa" && t != "ed25519", "temporary_key_pair_type",
		"temporary_key_pair_type requires either rsa or ed25519 as its value")
}

func (c *check) metadata() {
	m := c.s.metadataSettings()
	c.fail(m.HTTPEndpoint != "enabled" && m.HTTPEndpoint != "disabled", "metadata_options.http_endpoint",
		"http_endpoint requires either disabled or enabled as its value")
	c.fail(m.HTTPTokens != "optional" && m.HTTPTokens != "required", "metadata_options.http_tokens",
		"http_tokens requires either optional or required as its value")
	c.fail(*m.HopLimit < 1 || *m.HopLimit > 64, "metadata_options.http_put_response_hop_limit",
		"http_put_response_hop_limit requires a number between 1 and 64")
	c.fail(m.InstanceTags != "enabled" && m.InstanceTags != "disabled", "metadata_options.instance_metadata_tags",
		"instance_metadata_tags requires either disabled or enabled as its value")
}

func (c *check) interfaces() {
	s := c.s
	known := []string{"", "public_ip", "private_ip", "public_dns", "private_dns", "ipv6", "session_manager"}
	c.fail(!slices.Contains(known, s.SSHInterface), "ssh_interface", "Unknown interface type: %s", s.SSHInterface)
	if s.SSHInterface != "session_manager" {
		return
	}
	c.fail(s.Communicator == "winrm", "ssh_interface communicator",
		`session_manager connectivity is not supported with the "winrm" communicator; please use "ssh"`)
	c.fail(s.InstanceProfile == "" && s.ProfileDocument == nil, "iam_instance_profile temporary_iam_instance_profile_policy_document",
		"no iam_instance_profile defined; session_manager connectivity requires a valid instance profile with "+
			"AmazonSSMManagedInstanceCore permissions. Alternatively a temporary_iam_instance_profile_policy_document can be used.")
}

func (c *check) keyPair() {
	s := c.s
	if s.SSHKeypairName == "" {
		return
	}
	if s.Communicator == "winrm" && s.WinRMPassword == "" && s.SSHPrivateKeyFile == "" {
		c.fail(true, "ssh_keypair_name winrm_password ssh_private_key_file",
			"ssh_private_key_file must be provided to retrieve the winrm password when using ssh_keypair_name.")
		return
	}
	c.fail(s.SSHPrivateKeyFile == "" && !s.SSHAgentAuth, "ssh_keypair_name ssh_private_key_file ssh_agent_auth",
		"ssh_private_key_file must be provided or ssh_agent_auth enabled when ssh_keypair_name is specified.")
}

func (c *check) source() {
	s := c.s
	f := s.SourceAMIFilter
	if f == nil {
		f = &SourceAMIFilter{}
	}
	c.fail(s.SourceAMI == "" && len(f.Owners) == 0 && len(f.Filters) == 0, "source_ami source_ami_filter",
		"A source_ami or source_ami_filter must be specified")
	c.fail(s.SourceAMI == "" && len(f.Owners) == 0, "source_ami_filter.owners source_ami source_ami_filter",
		"For security reasons, your source AMI filter must declare an owner.")
}

func (c *check) instanceType() {
	s := c.s
	c.fail(s.InstanceType == "" && len(s.SpotInstanceTypes) == 0, "instance_type spot_instance_types",
		"either instance_type or spot_instance_types must be specified")
	c.fail(s.InstanceType != "" && len(s.SpotInstanceTypes) > 0, "instance_type spot_instance_types",
		"either instance_type or spot_instance_types must be specified, not both")
	c.fail(!s.spot() && s.FleetTags != nil, "fleet_tags spot_price",
		"fleet_tags should not be set when not requesting a spot instance")
	c.fail(s.BlockDurationMinutes%60 != 0, "block_duration_minutes", "block_duration_minutes must be multiple of 60")
	c.fail(!s.spot() && s.SpotTags != nil, "spot_tags spot_price",
		"spot_tags should not be set when not requesting a spot instance")
	strategies := []string{
		"", "lowest-price", "diversified", "capacity-optimized", "capacity-optimized-prioritized", "price-capacity-optimized",
	}
	c.fail(!slices.Contains(strategies, s.SpotAllocation), "spot_allocation_strategy",
		"invalid spot allocation strategy %q, valid values are either lowest-price, diversified,capacity-optimized, "+
			"capacity-optimized-prioritized, price-capacity-optimized", s.SpotAllocation)
}

func (c *check) userData() {
	s := c.s
	if c.fail(s.UserData != "" && s.UserDataFile != "", "user_data user_data_file",
		"Only one of user_data or user_data_file can be specified.") || s.UserDataFile == "" || !c.known("user_data_file") {
		return
	}
	_, err := os.Stat(c.files.Path(s.UserDataFile))
	c.fail(err != nil, "user_data_file", "user_data_file not found: %s", s.UserDataFile)
}

func (c *check) groups() {
	s := c.s
	c.fail(s.GroupID != "" && len(s.GroupIDs) > 0, "security_group_id security_group_ids",
		"Only one of security_group_id or security_group_ids can be specified.")
	for _, cidr := range s.SourceCIDRs {
		_, _, err := net.ParseCIDR(cidr)
		if err != nil {
			c.fail(true, "temporary_security_group_source_cidrs",
				"Error parsing CIDR in temporary_security_group_source_cidrs: %s", err)
		}
	}
}

// Packer's own expression has a colon too many, which changes nothing.
var unlimited = regexp.MustCompile(`^t(2|3a?|4g)\.`)

func (c *check) credits() {
	s := c.s
	if !s.UnlimitedCredits && !s.T2Unlimited {
		return
	}
	c.fail(!unlimited.MatchString(s.InstanceType), "instance_type enable_unlimited_credits",
		"Error: Instance Type: %s is not within the supported types for Unlimited credits. Supported instance types are T2, T3, and T4g",
		s.InstanceType)
	c.fail(s.spot() && strings.HasPrefix(s.InstanceType, "t2"), "enable_unlimited_credits spot_price instance_type",
		"Error: Unlimited credits cannot be used in conjunction with Spot Instances")
}

func (c *check) capacity() {
	s := c.s
	c.fail(s.CapacityID != "" && s.CapacityGroup != "", "capacity_reservation_id capacity_reservation_group_arn",
		"capacity_reservation_id and capacity_reservation_group_arn are mutually exclusive, only one should be used")
	c.fail((s.CapacityID != "" || s.CapacityGroup != "") && s.CapacityPreference != "",
		"capacity_reservation_preference capacity_reservation_id capacity_reservation_group_arn",
		"capacity_reservation_id, capacity_reservation_group_arn and capacity_reservation_preference are mutually exclusive, only one should be set")
	c.fail(!slices.Contains([]string{"", "none", "open"}, s.CapacityPreference), "capacity_reservation_preference",
		"capacity_reservation_preference only accepts 'none' or 'open' values")
}

func (c *check) tenancy() {
	s := c.s
	var p Placement
	if s.Placement != nil {
		p = *s.Placement
	}
	c.fail(s.Tenancy != "" && p.Tenancy != "", "tenancy placement.tenancy",
		"Error: Please set only one of placement.tenancy and tenancy (deprecated)")
	tenancy, field := p.Tenancy, "placement.tenancy"
	if tenancy == "" {
		tenancy, field = s.Tenancy, "tenancy"
	}
	c.fail(!slices.Contains([]string{"", "default", "dedicated", "host"}, tenancy), field, "Error: Unknown tenancy type %s", tenancy)
	c.fail(p.HostID != "" && p.HostResourceGroupARN != "", "placement.host_id placement.host_resource_group_arn",
		"The `host_id` and `host_resource_group_arn` settings cannot be specified at the same time.")
	c.fail((p.HostID != "" || p.HostResourceGroupARN != "") && p.Tenancy != "" && p.Tenancy != "host",
		"placement.tenancy placement.host_id placement.host_resource_group_arn",
		"The tenancy should be `host` if either the `host_id` or `host_resource_group_arn` attributes are specified.")
}

func (c *check) enclave() {
	s := c.s
	if !s.NitroEnclave {
		return
	}
	c.fail(s.SpotPrice != "", "enable_nitro_enclave spot_price", "Error: Nitro Enclave cannot be used in conjunction with Spot Instances")
	c.fail(strings.HasPrefix(s.InstanceType, "t"), "enable_nitro_enclave instance_type",
		"Error: Nitro Enclaves cannot be used in conjunction with burstable instance types: %s", s.InstanceType)
}
