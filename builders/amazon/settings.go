package amazon

import (
	"encoding/json"

	"github.com/bakehouse-farm/bakehouse"
	"github.com/bakehouse-farm/bakehouse/communicator"
)

// Settings are the arguments of amazon-ebs.
type Settings struct {
	Access
	Run
	Spot
	Image

	AMIMappings    []BlockDevice `json:"ami_block_device_mappings" bake:"block"`
	LaunchMappings []BlockDevice `json:"launch_block_device_mappings" bake:"block"`
	FastLaunch     *FastLaunch   `json:"fast_launch" bake:"block"`

	communicator.Settings
	SSHInterface       string `json:"ssh_interface"`
	SessionManagerPort int    `json:"session_manager_port"`
}

// Access are the arguments that say who talks to AWS, and how.
type Access struct {
	AccessKey                   string       `json:"access_key" bake:"secret"`
	SecretKey                   string       `json:"secret_key" bake:"secret"`
	Token                       string       `json:"token" bake:"secret"`
	Profile                     string       `json:"profile"`
	SharedCredentialsFile       string       `json:"shared_credentials_file"`
	Region                      string       `json:"region"`
	AssumeRole                  *AssumeRole  `json:"assume_role" bake:"block"`
	VaultAWSEngine              *VaultEngine `json:"vault_aws_engine" bake:"block"`
	MFACode                     string       `json:"mfa_code" bake:"secret"`
	CustomEndpoint              string       `json:"custom_endpoint_ec2"`
	InsecureSkipTLSVerify       bool         `json:"insecure_skip_tls_verify"`
	SkipCredentialValidation    bool         `json:"skip_credential_validation"`
	SkipMetadataAPICheck        bool         `json:"skip_metadata_api_check"`
	DecodeAuthorizationMessages bool         `json:"decode_authorization_messages"`
	MaxRetries                  int          `json:"max_retries"`
	Polling                     *Polling     `json:"aws_polling" bake:"block"`
}

// AssumeRole is the block assume_role.
type AssumeRole struct {
	RoleARN           string            `json:"role_arn"`
	DurationSeconds   int               `json:"duration_seconds"`
	ExternalID        string            `json:"external_id"`
	Policy            string            `json:"policy"`
	PolicyARNs        []string          `json:"policy_arns"`
	SessionName       string            `json:"session_name"`
	Tags              map[string]string `json:"tags"`
	TransitiveTagKeys []string          `json:"transitive_tag_keys"`
}

// VaultEngine is the block vault_aws_engine.
type VaultEngine struct {
	Name       string `json:"name"`
	RoleARN    string `json:"role_arn"`
	TTL        string `json:"ttl"`
	EngineName string `json:"engine_name"`
}

// Polling is the block aws_polling. Zero means that it is not set.
type Polling struct {
	MaxAttempts  int `json:"max_attempts"`
	DelaySeconds int `json:"delay_seconds"`
}

// Run are the arguments about the source image, the instance and its place.
type Run struct {
	SourceAMI        string           `json:"source_ami"`
	SourceAMIFilter  *SourceAMIFilter `json:"source_ami_filter" bake:"block"`
	InstanceType     string           `json:"instance_type"`
	UserData         string           `json:"user_data"`
	UserDataFile     string           `json:"user_data_file" bake:"file"`
	InstanceProfile  string           `json:"iam_instance_profile"`
	SkipProfileCheck bool             `json:"skip_profile_validation"`
	ProfileDocument  *PolicyDocument  `json:"temporary_iam_instance_profile_policy_document" bake:"block"`
	ShutdownBehavior string           `json:"shutdown_behavior"`
	DisableStop      bool             `json:"disable_stop_instance"`
	EBSOptimized     bool             `json:"ebs_optimized"`
	NitroEnclave     bool             `json:"enable_nitro_enclave"`
	UnlimitedCredits bool             `json:"enable_unlimited_credits"`
	T2Unlimited      bool             `json:"enable_t2_unlimited"`

	CapacityPreference string        `json:"capacity_reservation_preference"`
	CapacityID         string        `json:"capacity_reservation_id"`
	CapacityGroup      string        `json:"capacity_reservation_group_arn"`
	Licenses           []LicenseSpec `json:"license_specifications" bake:"block"`
	Placement          *Placement    `json:"placement" bake:"block"`
	Tenancy            string        `json:"tenancy"`
	Metadata           *Metadata     `json:"metadata_options" bake:"block"`

	WindowsPasswordTimeout bakehouse.Duration `json:"windows_password_timeout"`
	PublicIP               *bool              `json:"associate_public_ip_address"`
	AvailabilityZone       string             `json:"availability_zone"`
	VpcID                  string             `json:"vpc_id"`
	VpcFilter              *Filter            `json:"vpc_filter" bake:"block"`
	SubnetID               string             `json:"subnet_id"`
	SubnetFilter           *SubnetFilter      `json:"subnet_filter" bake:"block"`
	GroupID                string             `json:"security_group_id"`
	GroupIDs               []string           `json:"security_group_ids"`
	GroupFilter            *Filter            `json:"security_group_filter" bake:"block"`
	SourceCIDRs            []string           `json:"temporary_security_group_source_cidrs"`
	SourcePublicIP         bool               `json:"temporary_security_group_source_public_ip"`
	RunTags                map[string]string  `json:"run_tags" bake:"late"`
	RunTag                 []KeyValue         `json:"run_tag" bake:"block,late"`
	RunVolumeTags          map[string]string  `json:"run_volume_tags" bake:"late"`
	RunVolumeTag           []NameValue        `json:"run_volume_tag" bake:"block,late"`
	NoEphemeral            bool               `json:"no_ephemeral"`
	PauseBeforeSSM         bakehouse.Duration `json:"pause_before_ssm"`
}

// SourceAMIFilter is the block source_ami_filter.
type SourceAMIFilter struct {
	Filters           map[string]string `json:"filters"`
	Owners            []string          `json:"owners"`
	MostRecent        bool              `json:"most_recent"`
	IncludeDeprecated bool              `json:"include_deprecated"`
}

// Filter is the block vpc_filter or security_group_filter.
type Filter struct {
	Filters map[string]string `json:"filters"`
	Filter  []NameValue       `json:"filter" bake:"block"`
}

// SubnetFilter is the block subnet_filter.
type SubnetFilter struct {
	Filter
	MostFree bool `json:"most_free"`
	Random   bool `json:"random"`
}

// PolicyDocument is the block temporary_iam_instance_profile_policy_document.
type PolicyDocument struct {
	Version    string            `json:"Version"`
	Statements []PolicyStatement `json:"Statement" bake:"block"`
}

// PolicyStatement is one Statement of a PolicyDocument.
type PolicyStatement struct {
	Effect   string   `json:"Effect"`
	Action   []string `json:"Action"`
	Resource []string `json:"Resource"`
}

// LicenseSpec is one block license_specifications.
type LicenseSpec struct {
	Request *LicenseRequest `json:"license_configuration_request" bake:"block"`
}

// LicenseRequest is the block license_configuration_request.
type LicenseRequest struct {
	ARN string `json:"license_configuration_arn"`
}

// Placement is the block placement.
type Placement struct {
	HostResourceGroupARN string `json:"host_resource_group_arn"`
	HostID               string `json:"host_id"`
	Tenancy              string `json:"tenancy"`
}

// Metadata is the block metadata_options.
type Metadata struct {
	HTTPEndpoint string `json:"http_endpoint"`
	HTTPTokens   string `json:"http_tokens"`
	HopLimit     *int   `json:"http_put_response_hop_limit"`
	InstanceTags string `json:"instance_metadata_tags"`
}

// Spot are the arguments about spot instances and fleets.
type Spot struct {
	SpotPrice            string            `json:"spot_price"`
	SpotPriceAutoProduct string            `json:"spot_price_auto_product"`
	SpotInstanceTypes    []string          `json:"spot_instance_types"`
	SpotAllocation       string            `json:"spot_allocation_strategy"`
	SpotTags             map[string]string `json:"spot_tags" bake:"late"`
	SpotTag              []KeyValue        `json:"spot_tag" bake:"block,late"`
	FleetTags            map[string]string `json:"fleet_tags" bake:"late"`
	FleetTag             []KeyValue        `json:"fleet_tag" bake:"block,late"`
	BlockDurationMinutes int               `json:"block_duration_minutes"`
}

// Image are the arguments about the image that is made.
type Image struct {
	AMIName               string                    `json:"ami_name"`
	Description           string                    `json:"ami_description" bake:"late"`
	VirtualizationType    string                    `json:"ami_virtualization_type"`
	Users                 []string                  `json:"ami_users"`
	Groups                []string                  `json:"ami_groups"`
	OrgARNs               []string                  `json:"ami_org_arns"`
	OUARNs                []string                  `json:"ami_ou_arns"`
	ProductCodes          []string                  `json:"ami_product_codes"`
	Regions               []string                  `json:"ami_regions"`
	SkipRegionValidation  bool                      `json:"skip_region_validation"`
	CopyDurationMinutes   *int                      `json:"snapshot_copy_duration_minutes"`
	Tags                  map[string]string         `json:"tags" bake:"late"`
	Tag                   []KeyValue                `json:"tag" bake:"block,late"`
	SnapshotTags          map[string]string         `json:"snapshot_tags" bake:"late"`
	SnapshotTag           []KeyValue                `json:"snapshot_tag" bake:"block,late"`
	SnapshotUsers         []string                  `json:"snapshot_users"`
	SnapshotGroups        []string                  `json:"snapshot_groups"`
	ENASupport            *bool                     `json:"ena_support"`
	SriovSupport          bool                      `json:"sriov_support"`
	ForceDeregister       bool                      `json:"force_deregister"`
	ForceDeleteSnapshot   bool                      `json:"force_delete_snapshot"`
	EncryptBoot           *bool                     `json:"encrypt_boot"`
	KMSKeyID              string                    `json:"kms_key_id"`
	RegionKMSKeyIDs       map[string]string         `json:"region_kms_key_ids"`
	SkipSaveBuildRegion   bool                      `json:"skip_save_build_region"`
	IMDSSupport           string                    `json:"imds_support"`
	DeprecateAt           string                    `json:"deprecate_at"`
	DeregistrationProtect *DeregistrationProtection `json:"deregistration_protection" bake:"block"`
	SkipCreateAMI         bool                      `json:"skip_create_ami"`
	SkipAMIRunTags        bool                      `json:"skip_ami_run_tags"`
}

// DeregistrationProtection is the block deregistration_protection.
type DeregistrationProtection struct {
	Enabled      bool `json:"enabled"`
	WithCooldown bool `json:"with_cooldown"`
}

// KeyValue is a block such as tag.
type KeyValue struct {
	Key   string `json:"key"`
	Value string `json:"value"`
}

// NameValue is a block such as filter or run_volume_tag.
type NameValue struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// BlockDevice is one block of ami_block_device_mappings or
// launch_block_device_mappings. Sizes are GiB, throughput MiB/s.
type BlockDevice struct {
	DeviceName          string `json:"device_name"`
	VolumeSize          int    `json:"volume_size"`
	VolumeType          string `json:"volume_type"`
	IOPS                *int   `json:"iops"`
	Throughput          *int   `json:"throughput"`
	DeleteOnTermination bool   `json:"delete_on_termination"`
	Encrypted           *bool  `json:"encrypted"`
	KMSKeyID            string `json:"kms_key_id"`
	SnapshotID          string `json:"snapshot_id"`
	VirtualName         string `json:"virtual_name"`
	NoDevice            bool   `json:"no_device"`
}

// FastLaunch is the block fast_launch.
type FastLaunch struct {
	Enable          bool                 `json:"enable_fast_launch"`
	TemplateID      string               `json:"template_id"`
	TemplateName    string               `json:"template_name"`
	TemplateVersion int                  `json:"template_version"`
	MaxParallel     int                  `json:"max_parallel_launches"`
	TargetCount     int                  `json:"target_resource_count"`
	Regions         []FastLaunchOfRegion `json:"region_launch_templates" bake:"block"`
}

// FastLaunchOfRegion is one block region_launch_templates.
type FastLaunchOfRegion struct {
	Region          string `json:"region"`
	Enable          *bool  `json:"enable_fast_launch"`
	TemplateID      string `json:"template_id"`
	TemplateName    string `json:"template_name"`
	TemplateVersion int    `json:"template_version"`
}

// defaults returns settings in which nothing is set but what has a default.
func defaults() *Settings {
	s := &Settings{}
	s.Communicator = "ssh"
	s.ShutdownBehavior = "stop"
	s.MaxRetries = 10
	s.TemporaryKeyPairType = "rsa"
	return s
}

// decode reads evaluated settings over the defaults.
func decode(raw json.RawMessage) (*Settings, error) {
	s := defaults()
	if len(raw) == 0 {
		return s, nil
	}
	if err := json.Unmarshal(raw, s); err != nil {
		return nil, bakehouse.Errorf(bakehouse.Invalid, "read settings of amazon-ebs: %w", err)
	}
	s.complete()
	return s, nil
}

// complete fills in what depends on other settings.
func (s *Settings) complete() {
	if s.MaxRetries <= 0 {
		s.MaxRetries = 10
	}
	if s.DeregistrationProtect != nil && s.DeregistrationProtect.WithCooldown {
		s.DeregistrationProtect.Enabled = true
	}
	c := &s.Settings
	if c.SSHWaitTimeout != 0 {
		c.SSHTimeout = c.SSHWaitTimeout
	}
	// A limit for one of the two lifts the default of the other.
	noTimeout, noAttempts := c.SSHTimeout == 0, c.SSHHandshakeAttempts == 0
	if noTimeout && noAttempts {
		c.SSHTimeout = bakehouse.Duration(defaultSSHTimeout)
		c.SSHHandshakeAttempts = defaultHandshakes
	}
	if c.SSHPort == 0 {
		c.SSHPort = 22
	}
	if c.WinRMPort == 0 {
		c.WinRMPort = 5985
		if c.WinRMUseSSL {
			c.WinRMPort = 5986
		}
	}
}

// spot tells whether a spot instance is asked for.
func (s *Settings) spot() bool { return s.SpotPrice != "" && s.SpotPrice != "0" }

// encrypted tells whether encrypt_boot is true; unset differs from false.
func (s *Settings) encrypted() bool { return s.EncryptBoot != nil && *s.EncryptBoot }

// merged returns the tags of the map and of the blocks; blocks win.
func merged[T KeyValue | NameValue](m map[string]string, blocks []T) map[string]string {
	out := make(map[string]string, len(m)+len(blocks))
	for k, v := range m {
		out[k] = v
	}
	for _, b := range blocks {
		switch b := any(b).(type) {
		case KeyValue:
			out[b.Key] = b.Value
		case NameValue:
			out[b.Name] = b.Value
		}
	}
	return out
}

// empty tells whether the filter restricts anything.
func (f *Filter) empty() bool { return f == nil || len(f.Filters)+len(f.Filter) == 0 }

// all returns the filters of the map and of the blocks; blocks win.
func (f *Filter) all() map[string]string {
	if f == nil {
		return nil
	}
	return merged(f.Filters, f.Filter)
}
