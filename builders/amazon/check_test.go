package amazon

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/bakehouse-farm/bakehouse"
)

type with = map[string]any

// good are settings with which nothing is wrong.
func good() with {
	return with{
		"ami_name": "web-1", "source_ami": "ami-1", "instance_type": "t3.micro", "ssh_username": "admin", "region": "us-east-1",
	}
}

func check1(t *testing.T, change with, unknown ...string) []bakehouse.Finding {
	t.Helper()
	s := good()
	for k, v := range change {
		if v == nil {
			delete(s, k)
		} else {
			s[k] = v
		}
	}
	raw, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	return NewEBS(Config{}).Check(raw, unknown, bakehouse.Files{})
}

const cannotWinRM = `Bakehouse cannot use the communicator "winrm" yet`

func TestCheck(t *testing.T) {
	dir := t.TempDir()
	noKey := filepath.Join(dir, "key")
	if err := os.WriteFile(noKey, []byte("not a key"), 0o600); err != nil {
		t.Fatal(err)
	}
	device := func(d with) with { return with{"launch_block_device_mappings": []with{d}} }
	west := with{"ami_regions": []string{"us-west-2"}, "region_kms_key_ids": map[string]string{"us-west-2": ""}, "encrypt_boot": true}
	and := func(a, b with) with { c := maps.Clone(a); maps.Copy(c, b); return c }
	tests := []struct {
		change with
		field  string
		want   []string // "..." at the end: the rest does not matter
	}{
		{with{}, "", nil},
		{with{"access_key": "a"}, "access_key", []string{"`access_key` and `secret_key` must both be either set or not set."}},
		{with{"access_key": "a", "secret_key": "b", "vault_aws_engine": with{"name": "x"}}, "vault_aws_engine", []string{
			"If you have set vault_aws_engine, you must not set the access_key or secret_key.",
			"Bakehouse cannot do that yet: credentials from Vault",
		}},

		{with{"ami_name": nil}, "ami_name", []string{"ami_name must be specified", "ami_name must be between 3 and 128 characters long"}},
		{with{"ami_name": "ab"}, "ami_name", []string{"ami_name must be between 3 and 128 characters long"}},
		{with{"ami_name": strings.Repeat("a", 129)}, "ami_name", []string{"ami_name must be between 3 and 128 characters long"}},
		{with{"ami_name": strings.Repeat("a", 128)}, "", nil},
		{with{"ami_name": "a:b+c"}, "ami_name", []string{"AMIName should only contain alphanumeric characters..."}},
		{with{"ami_name": "aA0()[] ./-'@_"}, "", nil},
		{
			with{"region_kms_key_ids": with{"us-west-2": "alias/x"}, "encrypt_boot": true},
			"region_kms_key_ids",
			[]string{"Region us-west-2 is in region_kms_key_ids but not in ami_regions"},
		},
		{
			and(west, with{"ami_regions": []string{"us-west-2", "eu-west-1", "eu-west-1"}}), "ami_regions",
			[]string{"Region eu-west-1 is in ami_regions but not in region_kms_key_ids"},
		},
		{with{"encrypt_boot": true, "ami_users": []string{"1"}}, "encrypt_boot", []string{"Cannot share AMI encrypted with default KMS key"}},
		{with{"encrypt_boot": true, "ami_org_arns": []string{"1"}}, "encrypt_boot", []string{"Cannot share AMI encrypted with default KMS key"}},
		{
			and(west, with{"ami_ou_arns": []string{"1"}}), "region_kms_key_ids",
			[]string{"Cannot share AMI encrypted with default KMS key for other regions"},
		},
		{
			with{"kms_key_id": "alias/x"},
			"kms_key_id",
			[]string{"If you have set either region_kms_key_ids or kms_key_id, encrypt_boot must also be true."},
		},
		{with{"kms_key_id": "key!", "encrypt_boot": true}, "kms_key_id", []string{`"key!" is not a valid KMS Key Id.`}},
		{with{"kms_key_id": "arn:aws-us-gov:kms:us-gov-west-1:123456789012:key/12-ab", "encrypt_boot": true}, "", nil},
		{with{"kms_key_id": "mrk-12ab", "encrypt_boot": true}, "", nil},
		{with{"kms_key_id": "12ab-34", "encrypt_boot": true}, "", nil},
		{with{"encrypt_boot": true, "snapshot_users": []string{"1"}}, "snapshot_users", []string{"Cannot share snapshot encrypted with default KMS key, see..."}},
		{and(west, with{"snapshot_users": []string{"1"}}), "region_kms_key_ids", []string{"Cannot share snapshot encrypted with default KMS key"}},
		{with{"imds_support": "v1"}, "imds_support", []string{`The only valid imds_support values are "v2.0" or the empty string`}},
		{
			with{"deprecate_at": "tomorrow"},
			"deprecate_at",
			[]string{`deprecate_at is not a valid time: "tomorrow". Expect time format: YYYY-MM-DDTHH:MM:SSZ`},
		},
		{with{"deprecate_at": "2000-01-01T00:00:00Z"}, "", nil},

		{device(with{}), "launch_block_device_mappings", []string{"The `device_name` must be specified for every device in the block device mapping."}},
		{
			device(with{"device_name": "d", "kms_key_id": "x", "encrypted": false}), "launch_block_device_mappings",
			[]string{"The device d, must also have `encrypted: true` when setting a kms_key_id."},
		},
		{device(with{"device_name": "d", "kms_key_id": "x"}), "", nil},
		{
			device(with{"device_name": "d", "volume_type": "io1", "volume_size": 10, "iops": 510}), "launch_block_device_mappings",
			[]string{"d: the maximum ratio of provisioned IOPS to requested volume size (in GiB) is 50:1 for io1 volumes"},
		},
		{device(with{"device_name": "d", "volume_type": "io1", "volume_size": 10, "iops": 509}), "", nil}, // integer division
		{
			device(with{"device_name": "d", "volume_type": "io2", "volume_size": 10, "iops": 5010}), "launch_block_device_mappings",
			[]string{"d: the maximum ratio of provisioned IOPS to requested volume size (in GiB) is 500:1 for io2 volumes"},
		},
		{
			device(with{"device_name": "d", "volume_type": "io1", "volume_size": 10, "iops": 99}), "launch_block_device_mappings",
			[]string{"IOPS must be between 100 and 64000 for device d"},
		},
		{
			device(with{"device_name": "d", "volume_type": "gp3", "throughput": 124}), "launch_block_device_mappings",
			[]string{"Throughput must be between 125 and 1000 for device d"},
		},
		{
			device(with{"device_name": "d", "volume_type": "gp3", "iops": 16001}), "launch_block_device_mappings",
			[]string{"IOPS must be between 3000 and 16000 for device d"},
		},
		{
			device(with{"device_name": "d", "volume_type": "gp2", "throughput": 125}), "launch_block_device_mappings",
			[]string{`Throughput is only valid for gp3 volumes, "d" is of type gp2`},
		},
		{
			with{"ami_block_device_mappings": []with{{"device_name": ""}}},
			"ami_block_device_mappings",
			[]string{"The `device_name` must be specified for every device in the block device mapping."},
		},

		{with{"communicator": "smoke"}, "communicator", []string{"Communicator type smoke is invalid"}},
		{with{"ssh_username": nil}, "ssh_username", []string{"An ssh_username must be specified\n  Note: some builders used to default ssh_username to \"root\"."}},
		{with{"ssh_certificate_file": "c"}, "ssh_certificate_file", []string{"ssh_private_key_file must be specified if ssh_certificate_file is specified"}},
		{with{"ssh_bastion_certificate_file": "c"}, "ssh_bastion_certificate_file", []string{"ssh_bastion_private_key_file must be specified if ssh_bastion_certificate_file is specified"}},
		{with{"ssh_private_key_file": noKey}, "ssh_private_key_file", []string{"ssh_private_key_file is invalid: ..."}},
		{with{"ssh_bastion_host": "b"}, "ssh_bastion_host", []string{"ssh_bastion_password, ssh_bastion_private_key_file or ssh_bastion_agent_auth must be specified"}},
		{with{"ssh_bastion_host": "b", "ssh_bastion_private_key_file": noKey}, "ssh_bastion_private_key_file", []string{"ssh_bastion_private_key_file is invalid: ..."}},
		{with{"ssh_file_transfer_method": "ftp"}, "ssh_file_transfer_method", []string{"ssh_file_transfer_method ('ftp') is invalid, valid methods: sftp, scp"}},
		{
			with{"ssh_bastion_host": "b", "ssh_bastion_password": "p", "ssh_proxy_host": "p"},
			"ssh_proxy_host",
			[]string{"please specify either ssh_bastion_host or ssh_proxy_host, not both"},
		},
		{with{"ssh_local_tunnels": []string{"1"}}, "ssh_local_tunnels", []string{"ssh_local_tunnels ('1') is invalid: ..."}},
		{with{"ssh_remote_tunnels": []string{"1:a"}}, "ssh_remote_tunnels", []string{"ssh_remote_tunnels ('1:a') is invalid: ..."}},
		{with{"ssh_remote_tunnels": []string{"8080:localhost:80"}}, "", nil},
		{with{"communicator": "winrm"}, "winrm_username", []string{"winrm_username must be specified.", cannotWinRM}},
		{with{"communicator": "none", "ssh_username": nil}, "", nil},

		{with{"temporary_key_pair_type": "dsa"}, "temporary_key_pair_type", []string{"temporary_key_pair_type requires either rsa or ed25519 as its value"}},
		{with{"metadata_options": with{"http_endpoint": "x"}}, "metadata_options.http_endpoint", []string{"http_endpoint requires either disabled or enabled as its value"}},
		{with{"metadata_options": with{"http_tokens": "x"}}, "metadata_options.http_tokens", []string{"http_tokens requires either optional or required as its value"}},
		{
			with{"metadata_options": with{"http_put_response_hop_limit": 65}},
			"metadata_options.http_put_response_hop_limit",
			[]string{"http_put_response_hop_limit requires a number between 1 and 64"},
		},
		{
			with{"metadata_options": with{"instance_metadata_tags": "x"}},
			"metadata_options.instance_metadata_tags",
			[]string{"instance_metadata_tags requires either disabled or enabled as its value"},
		},
		{with{"ssh_interface": "wifi"}, "ssh_interface", []string{"Unknown interface type: wifi"}},
		{with{"ssh_interface": "session_manager"}, "iam_instance_profile", []string{
			"no iam_instance_profile defined; session_manager connectivity requires a valid instance profile with " +
				"AmazonSSMManagedInstanceCore permissions. Alternatively a temporary_iam_instance_profile_policy_document can be used.",
		}},
		{with{"ssh_interface": "session_manager", "iam_instance_profile": "p"}, "", nil},
		{with{"ssh_interface": "session_manager", "iam_instance_profile": "p", "session_manager_port": 8000}, "session_manager_port", []string{
			"warning: session_manager_port changes nothing: no local port is opened for session manager.",
		}},
		{with{"ssh_interface": "session_manager", "iam_instance_profile": "p", "ssh_proxy_host": "h"}, "ssh_interface", []string{
			"Bakehouse cannot do that yet: session manager together with a bastion or a proxy",
		}},
		{with{"ssh_interface": "session_manager", "communicator": "winrm", "winrm_username": "w", "iam_instance_profile": "p"}, "communicator", []string{
			cannotWinRM,
			`session_manager connectivity is not supported with the "winrm" communicator; please use "ssh"`,
		}},
		{with{"ssh_keypair_name": "k"}, "ssh_keypair_name", []string{"ssh_private_key_file must be provided or ssh_agent_auth enabled when ssh_keypair_name is specified."}},
		{with{"ssh_keypair_name": "k", "communicator": "winrm", "winrm_username": "w"}, "communicator", []string{
			cannotWinRM,
			"ssh_private_key_file must be provided to retrieve the winrm password when using ssh_keypair_name.",
		}},
		{with{"source_ami": nil}, "source_ami", []string{
			"A source_ami or source_ami_filter must be specified",
			"For security reasons, your source AMI filter must declare an owner.",
		}},
		{
			with{"source_ami": nil, "source_ami_filter": with{"filters": with{"name": "x"}}},
			"source_ami_filter.owners",
			[]string{"For security reasons, your source AMI filter must declare an owner."},
		},
		{with{"source_ami": nil, "source_ami_filter": with{"owners": []string{"self"}}}, "", nil},
		{with{"instance_type": nil}, "instance_type", []string{"either instance_type or spot_instance_types must be specified"}},
		{with{"spot_instance_types": []string{"a"}}, "instance_type", []string{
			"either instance_type or spot_instance_types must be specified, not both",
			"Bakehouse cannot do that yet: spot instances and fleets",
		}},
		{with{"fleet_tags": with{}}, "fleet_tags", []string{"fleet_tags should not be set when not requesting a spot instance"}},
		{with{"spot_tags": with{}, "spot_price": "0"}, "spot_tags", []string{"spot_tags should not be set when not requesting a spot instance"}},
		{with{"block_duration_minutes": 61}, "block_duration_minutes", []string{"block_duration_minutes must be multiple of 60"}},
		{with{"spot_allocation_strategy": "x"}, "spot_allocation_strategy", []string{`invalid spot allocation strategy "x", valid values are either lowest-price, diversified,capacity-optimized, capacity-optimized-prioritized, price-capacity-optimized`}},
		{with{"user_data": "a", "user_data_file": noKey}, "user_data", []string{"Only one of user_data or user_data_file can be specified."}},
		{with{"user_data_file": "/nowhere/to/be"}, "user_data_file", []string{"user_data_file not found: /nowhere/to/be"}},
		{with{"user_data_file": noKey}, "", nil},
		{
			with{"security_group_id": "a", "security_group_ids": []string{"b"}},
			"security_group_id",
			[]string{"Only one of security_group_id or security_group_ids can be specified."},
		},
		{
			with{"temporary_security_group_source_cidrs": []string{"10.0.0.0/8", "x"}},
			"temporary_security_group_source_cidrs",
			[]string{"Error parsing CIDR in temporary_security_group_source_cidrs: invalid CIDR address: x"},
		},
		{with{"shutdown_behavior": "sleep"}, "shutdown_behavior", []string{"shutdown_behavior only accepts 'stop' or 'terminate' values."}},
		{with{"enable_unlimited_credits": true, "instance_type": "m5.large"}, "instance_type", []string{
			"Error: Instance Type: m5.large is not within the supported types for Unlimited credits. Supported instance types are T2, T3, and T4g",
		}},
		{with{"enable_unlimited_credits": true, "instance_type": "t3a.nano"}, "", nil},
		{with{"enable_unlimited_credits": true, "instance_type": "t2.nano", "spot_price": "1"}, "enable_unlimited_credits", []string{
			"Error: Unlimited credits cannot be used in conjunction with Spot Instances", "Bakehouse cannot do that yet: spot instances",
		}},
		{
			with{"capacity_reservation_id": "a", "capacity_reservation_group_arn": "b"},
			"capacity_reservation_id",
			[]string{"capacity_reservation_id and capacity_reservation_group_arn are mutually exclusive, only one should be used"},
		},
		{
			with{"capacity_reservation_id": "a", "capacity_reservation_preference": "open"},
			"capacity_reservation_preference",
			[]string{"capacity_reservation_id, capacity_reservation_group_arn and capacity_reservation_preference are mutually exclusive, only one should be set"},
		},
		{with{"capacity_reservation_id": "a"}, "", nil},
		{with{"capacity_reservation_preference": "x"}, "capacity_reservation_preference", []string{"capacity_reservation_preference only accepts 'none' or 'open' values"}},
		{with{"tenancy": "host", "placement": with{"tenancy": "host"}}, "tenancy", []string{"Error: Please set only one of placement.tenancy and tenancy (deprecated)"}},
		{with{"tenancy": "x"}, "tenancy", []string{"Error: Unknown tenancy type x"}},
		{
			with{"placement": with{"host_id": "a", "host_resource_group_arn": "b"}},
			"placement.host_id",
			[]string{"The `host_id` and `host_resource_group_arn` settings cannot be specified at the same time."},
		},
		{
			with{"placement": with{"host_id": "a", "tenancy": "dedicated"}},
			"placement.tenancy",
			[]string{"The tenancy should be `host` if either the `host_id` or `host_resource_group_arn` attributes are specified."},
		},
		{
			with{"enable_nitro_enclave": true, "instance_type": "m5.large", "spot_price": "0"},
			"enable_nitro_enclave",
			[]string{"Error: Nitro Enclave cannot be used in conjunction with Spot Instances"},
		},
		{
			with{"enable_nitro_enclave": true},
			"enable_nitro_enclave",
			[]string{"Error: Nitro Enclaves cannot be used in conjunction with burstable instance types: t3.micro"},
		},

		{with{"fast_launch": with{"max_parallel_launches": 5, "target_resource_count": -1}}, "fast_launch.max_parallel_launches", []string{
			"max_parallel_launches must be >= 6, provided value is 5", "target_resource_count must be >= 1, provided value is -1",
			"Bakehouse cannot do that yet: fast launch",
		}},
		{with{"fast_launch": with{"template_id": "a", "region_launch_templates": []with{{"region": "us-east-1", "template_id": "b"}}}}, "fast_launch", []string{
			`fast launch: launch template specified twice for region "us-east-1", only once is supported`, "Bakehouse cannot do that yet: fast launch",
		}},
		{with{"fast_launch": with{"region_launch_templates": []with{
			{"region": "us-east-1", "template_id": "a", "template_name": "b"}, {"region": "us-west-2", "template_version": -1},
		}}}, "fast_launch", []string{
			`fast_launch_template_config region "us-east-1": both template ID and name cannot be specified at the same time`,
			`fast_launch_template_config region "us-west-2": the launch template version must be >= 1, provided value is -1`,
			`fast_launch_template_config region "us-west-2": launch template version specified without an ID or name`,
			`Launch template specified for enabling fast-launch on region "us-west-2", but the AMI won't be copied there.`,
			"Bakehouse cannot do that yet: fast launch",
		}},
		{with{"spot_price": "1", "ena_support": true}, "spot_price", []string{
			"Spot instances do not support modification, which is required when either `ena_support` or `sriov_support` are set. " +
				"Please ensure you use an AMI that already has either SR-IOV or ENA enabled.",
			"Bakehouse cannot do that yet: spot instances",
		}},
		{with{"spot_price_auto_product": "x"}, "spot_price_auto_product", []string{"warning: spot_price_auto_product is deprecated..."}},
		{with{"enable_t2_unlimited": true}, "enable_t2_unlimited", []string{"warning: enable_t2_unlimited is deprecated please use enable_unlimited_credits..."}},
		{with{"mfa_code": "1"}, "mfa_code", []string{"Bakehouse cannot do that yet: multi-factor authentication"}},
		{
			with{"temporary_iam_instance_profile_policy_document": with{"Version": "1"}},
			"temporary_iam_instance_profile_policy_document",
			[]string{"Bakehouse cannot do that yet: a temporary instance profile"},
		},
		{with{"iops": 1, "ami_regions": 3}, "", []string{"json: ..."}},
	}
	for _, tt := range tests {
		found := check1(t, tt.change)
		var got []string
		for i, f := range found {
			m := f.Message
			if f.Warning {
				m = "warning: " + m
			}
			if i < len(tt.want) {
				if head, cut := strings.CutSuffix(tt.want[i], "..."); cut && strings.HasPrefix(m, head) {
					m = tt.want[i]
				}
			}
			got = append(got, m)
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%v (-want +got):\n%s", tt.change, diff)
		}
		if len(found) > 0 && found[0].Field != tt.field {
			t.Errorf("%v: field %q, want %q", tt.change, found[0].Field, tt.field)
		}
	}
}

// What is not known yet is not wrong yet.
func TestCheckUnknown(t *testing.T) {
	if got := check1(t, with{"ami_name": nil, "source_ami": nil}, "ami_name", "source_ami_filter"); len(got) > 0 {
		t.Errorf("found %v", got)
	}
	if got := check1(t, with{"source_ami": nil, "source_ami_filter": with{"filters": with{}}}, "source_ami_filter.owners"); len(got) > 0 {
		t.Errorf("found %v", got)
	}
}

func TestCheckAMI(t *testing.T) {
	tests := []struct {
		settings string
		want     []string
	}{
		{`{"owners": ["self"], "filters": {"name": "x"}}`, nil},
		{`{"owners": ["self"]}`, nil},
		{`{}`, []string{"The `filters` must be specified", "For security reasons, you must declare an owner."}},
		{`{"filters": {"name": "x"}}`, []string{"For security reasons, you must declare an owner."}},
		{`{"owners": ["self"], "mfa_code": "1"}`, []string{"Bakehouse cannot do that yet: multi-factor authentication"}},
	}
	for _, tt := range tests {
		var got []string
		for _, f := range NewAMI(Config{}).Check(json.RawMessage(tt.settings), nil, bakehouse.Files{}) {
			got = append(got, f.Message)
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.settings, diff)
		}
	}
}

// Packer's amazon-ebs takes 148 arguments, its amazon-ami 20.
func TestCountOfSettings(t *testing.T) {
	for name, tt := range map[string]struct {
		settings any
		want     int
	}{"amazon-ebs": {NewEBS(Config{}).Settings(), 148}, "amazon-ami": {NewAMI(Config{}).Settings(), 20}} {
		seen := map[string]bool{}
		keys(t, reflect.TypeOf(tt.settings).Elem(), seen)
		if len(seen) != tt.want {
			t.Errorf("%s takes %d arguments, want %d", name, len(seen), tt.want)
		}
	}
}

func keys(t *testing.T, typ reflect.Type, seen map[string]bool) {
	for f := range typ.Fields() {
		if f.Anonymous {
			keys(t, f.Type, seen)
			continue
		}
		name := f.Tag.Get("json")
		if name == "" || seen[name] {
			t.Errorf("field %s: tag %q is empty or taken", f.Name, name)
		}
		seen[name] = true
	}
}
