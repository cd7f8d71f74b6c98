package template

import (
	"sort"

	"github.com/hashicorp/hcl/v2"

	"github.com/bakehouse-farm/bakehouse/template/schema"
)

// packerKnows are the components of Packer and of HashiCorp's plugins for it,
// so that one which this farm lacks can be told from a misspelt one.
var packerKnows = map[string][]string{
	"source": {
		"alicloud-ecs", "amazon-chroot", "amazon-ebs", "amazon-ebssurrogate", "amazon-ebsvolume", "amazon-instance",
		"azure-arm", "azure-chroot", "azure-dtl", "cloudstack", "digitalocean", "docker", "file", "googlecompute",
		"hcloud", "hyperv-iso", "hyperv-vmcx", "linode", "lxc", "lxd", "ncloud", "null", "oneandone", "openstack",
		"oracle-oci", "parallels-iso", "parallels-pvm", "profitbricks", "proxmox-clone", "proxmox-iso", "qemu",
		"scaleway", "tencentcloud-cvm", "triton", "vagrant", "virtualbox-iso", "virtualbox-ovf", "virtualbox-vm",
		"vmware-iso", "vmware-vmx", "vsphere-clone", "vsphere-iso", "vsphere-supervisor", "yandex",
	},
	"provisioner": {
		"ansible", "ansible-local", "breakpoint", "chef-client", "chef-solo", "converge", "file", "goss", "hcp-sbom",
		"inspec", "powershell", "puppet-masterless", "puppet-server", "salt-masterless", "shell", "shell-local",
		"sleep", "windows-restart", "windows-shell", "windows-update",
	},
	"post-processor": {
		"alicloud-import", "amazon-ami-management", "amazon-import", "artifice", "checksum", "compress", "digitalocean-import",
		"docker-import", "docker-push", "docker-save", "docker-tag", "exoscale-import", "googlecompute-export",
		"googlecompute-import", "manifest", "provenance", "shell-local", "ucloud-import", "vagrant", "vagrant-cloud",
		"vsphere", "vsphere-template", "yandex-export", "yandex-import",
	},
	"data source": {
		"amazon-ami", "amazon-parameterstore", "amazon-secretsmanager", "azure-keyvaultsecret", "external",
		"git-commit", "git-repository", "git-tree", "googlecompute-image", "googlecompute-secretsmanager",
		"hcp-packer-artifact", "hcp-packer-image", "hcp-packer-iteration", "hcp-packer-version", "http", "null", "vsphere-virtualmachine",
	},
}

// unknownType says that a component is not there, and why that may be.
func unknownType(kind, typ string, at hcl.Range, have []string) *hcl.Diagnostic {
	for _, known := range packerKnows[kind] {
		if known == typ {
			return failureAt(at, "This farm cannot run "+kind+" type \""+typ+"\" yet",
				"Packer has the %s %q; Bakehouse does not have it yet.", kind, typ)
		}
	}
	d := failureAt(at, "Unknown "+kind+" type \""+typ+"\"", "There is no %s of that type.", kind)
	if near := schema.Nearest(typ, append(have, packerKnows[kind]...)); near != "" {
		d.Detail += " Did you mean \"" + near + "\"?"
	}
	return d
}

func names[V any](m map[string]V) []string {
	list := make([]string, 0, len(m))
	for name := range m {
		list = append(list, name)
	}
	sort.Strings(list)
	return list
}
