// Package fix brings a JSON template of Packer's older kind up to date: each
// fixer replaces one argument that has gone by what stands for it now.
package fix

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/hashicorp/hcl/v2"

	"github.com/bakehouse-farm/bakehouse/template/legacyjson"
)

// A Fixer mends one thing. What is not in its way, or is not of the type that
// it knows, it leaves as it is.
type Fixer struct {
	// Name is what Packer calls it.
	Name string
	// Summary is one sentence that says what it changes.
	Summary string

	mend func(*document) error
}

// Fixers returns all fixers in the order in which they are applied. Later ones
// rely on earlier ones: types are renamed before what belongs to the new type
// is looked at.
func Fixers() []Fixer {
	return []Fixer{
		{"iso-md5", `"iso_md5" becomes "iso_checksum"`, isoMD5},
		{"createtime", `"{{.CreateTime}}" in "ami_name" becomes "{{timestamp}}"`, createTime},
		{"virtualbox-gaattach", `"guest_additions_attach" of VirtualBox becomes "guest_additions_mode"`, guestAdditions},
		{"pp-vagrant-override", `what the vagrant post-processor says for each provider moves into "override"`, vagrantOverride},
		{"virtualbox-rename", `builder "virtualbox" becomes "virtualbox-iso"`, virtualboxRename},
		{"vmware-rename", `builder "vmware" becomes "vmware-iso"`, vmwareRename},
		{"parallels-headless", `"headless" goes from Parallels builders, which never looked at it`, parallelsHeadless},
		{"parallels-deprecations", `"parallels_tools_host_path" goes, "guest_os_distribution" becomes "guest_os_type"`, parallelsDeprecations},
		{"sshkeypath", `"ssh_key_path" becomes "ssh_private_key_file"`, sshKeyPath},
		{"sshdisableagent", `"ssh_disable_agent" becomes "ssh_disable_agent_forwarding"`, sshDisableAgent},
		{"scaleway-access-key", `"access_key" of Scaleway becomes "organization_id"`, scalewayAccessKey},
		{"manifest-filename", `"filename" of the manifest becomes "output"`, manifestFilename},
		{"amazon-shutdown_behavior", `"shutdown_behaviour" becomes "shutdown_behavior"`, amazonShutdownBehavior},
		{"amazon-enhanced-networking", `"enhanced_networking" becomes "ena_support"`, amazonEnhancedNetworking},
		{"amazon-private-ip", `"ssh_private_ip" becomes "ssh_interface"`, amazonPrivateIP},
		{"amazon-temp-sec-cidrs", `"temporary_security_group_source_cidr" becomes the list "temporary_security_group_source_cidrs"`, amazonTemporaryCIDRs},
		{"docker-email", `"login_email" goes, which Docker no longer knows`, dockerEmail},
		{"docker-tag-tags", `"tag" of docker-tag becomes the list "tags"`, dockerTags},
		{"powershell-escapes", "variables and elevated credentials of PowerShell lose their escapes, which are made when needed now", powershellEscapes},
		{"vmware-compaction", `disks on ESXi that cannot be compacted get "skip_compaction"`, vmwareCompaction},
		{"hyperv-deprecations", `"vhd_temp_path" goes from hyperv-iso`, hypervDeprecations},
		{"hyperv-vmxc-typo", `"clone_from_vmxc_path" becomes "clone_from_vmcx_path"`, hypervTypo},
		{"hyperv-cpu-and-ram", `"cpu" and "ram_size" of Hyper-V become "cpus" and "memory"`, hypervCPUAndRAM},
		{"clean-image-name", `functions "clean_ami_name" and "clean_image_name" become "clean_resource_name"`, cleanImageName},
		{"spot-price-auto-product", `"spot_price_auto_product" goes: it is found out`, spotPriceAutoProduct},
		{"qemu-disk-size", `a number as "disk_size" of QEMU becomes a size in megabytes`, qemuDiskSize},
		{"galaxy-command", `"galaxycommand" of ansible-local becomes "galaxy_command"`, galaxyCommand},
		{"comm-config", `port forwarding of VirtualBox loses the prefix "ssh_"`, commConfig},
		{"ssh-wait-timeout", `"ssh_wait_timeout" becomes "ssh_timeout"`, sshWaitTimeout},
		{"vsphere-iso-net-disk", `network and disk of vsphere-iso move into "network_adapters" and "storage"`, vsphereNetworkAndDisk},
		{"iso-checksum-type-and-url", `"iso_checksum_type" and "iso_checksum_url" move into "iso_checksum"`, isoChecksum},
		{"qemu-host-port", `"ssh_host_port_min" and "_max" of QEMU lose the prefix "ssh_"`, qemuHostPort},
		{"azure-exclude_from_latest", `"exlude_from_latest" of azure-chroot becomes "exclude_from_latest"`, azureExcludeFromLatest},
		{"proxmox-type", `builder "proxmox" becomes "proxmox-iso"`, proxmoxType},
	}
}

// Fix applies fixers to a template, in their order. The name stands for the
// template in diagnostics. What comes back is JSON in Packer's layout: two
// spaces, keys in order, no newline at the end.
func Fix(src []byte, name string, fixers []Fixer) ([]byte, hcl.Diagnostics) {
	v, diags := legacyjson.Parse(src, name)
	if diags.HasErrors() {
		return nil, diags
	}
	root, _ := v.Plain().(map[string]any)
	doc, err := open(root)
	if err != nil {
		return nil, append(diags, failure(name, "Cannot fix the template", err))
	}
	for _, f := range fixers {
		if err := f.mend(doc); err != nil {
			return nil, append(diags, failure(name, "Cannot fix the template ("+f.Name+")", err))
		}
	}
	out, err := layout(doc.root)
	if err != nil {
		return nil, append(diags, failure(name, "Cannot write the template", err))
	}
	return out, diags
}

func failure(name, summary string, err error) *hcl.Diagnostic {
	return &hcl.Diagnostic{Severity: hcl.DiagError, Summary: summary, Detail: name + ": " + err.Error() + "."}
}

// layout writes what Packer writes: HTML's angle brackets as they are, its
// ampersand escaped, which means the same to whoever reads JSON.
func layout(root object) ([]byte, error) {
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(root); err != nil {
		return nil, fmt.Errorf("encode: %w", err)
	}
	return bytes.ReplaceAll(bytes.TrimSuffix(out.Bytes(), []byte("\n")), []byte("&"), []byte(`\u0026`)), nil
}
