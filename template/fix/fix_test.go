package fix

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// A change is what a fixer makes of one block.
type change struct{ name, in, want string }

// same says that a fixer leaves a block alone.
const same = ""

var builderChanges = []change{
	{"iso-md5", `{"type":"qemu","iso_md5":"abc"}`, `{"type":"qemu","iso_checksum":"abc","iso_checksum_type":"md5"}`},
	{"iso-md5", `{"type":"x","iso_md5":5}`, same},
	{"createtime", `{"type":"amazon-ebs","ami_name":"a {{.CreateTime}} {{ .CreateTime }}"}`, `{"type":"amazon-ebs","ami_name":"a {{timestamp}} {{timestamp}}"}`},
	{"createtime", `{"type":"amazon-ebs","ami_name":"{{.CreateTime | x}}","x":"{{.CreateTime}}"}`, same},
	{"virtualbox-gaattach", `{"type":"virtualbox","guest_additions_attach":true}`, `{"type":"virtualbox","guest_additions_mode":"attach"}`},
	{"virtualbox-gaattach", `{"type":"virtualbox","guest_additions_attach":false,"guest_additions_mode":"x"}`, `{"type":"virtualbox","guest_additions_mode":"upload"}`},
	{"virtualbox-gaattach", `{"type":"virtualbox-iso","guest_additions_attach":true}`, same},
	{"virtualbox-gaattach", `{"type":"virtualbox","guest_additions_attach":"true"}`, same},
	{"virtualbox-rename", `{"type":"virtualbox"}`, `{"type":"virtualbox-iso"}`},
	{"virtualbox-rename", `{"type":"virtualbox-ovf"}`, same},
	{"vmware-rename", `{"type":"vmware","name":"n"}`, `{"type":"vmware-iso","name":"n"}`},
	{"vmware-rename", `{"type":"vmware-vmx"}`, same},
	{"parallels-headless", `{"type":"parallels-iso","headless":true}`, `{"type":"parallels-iso"}`},
	{"parallels-headless", `{"type":"parallels-pvm","headless":null}`, `{"type":"parallels-pvm"}`},
	{"parallels-headless", `{"type":"vmware-iso","headless":true}`, same},
	{"parallels-deprecations", `{"type":"parallels-pvm","parallels_tools_host_path":"x","guest_os_distribution":"u","guest_os_type":"v"}`, `{"type":"parallels-pvm","guest_os_type":"u"}`},
	{"parallels-deprecations", `{"type":"null","parallels_tools_host_path":"x"}`, same},
	{"sshkeypath", `{"type":"null","ssh_key_path":"k"}`, `{"type":"null","ssh_private_key_file":"k"}`},
	{"sshkeypath", `{"type":"null","ssh_key_path":"k","ssh_private_key_file":"l"}`, `{"type":"null","ssh_private_key_file":"l"}`},
	{"sshkeypath", `{"type":"null","ssh_key_path":5}`, same},
	{"sshdisableagent", `{"type":"null","ssh_disable_agent":true}`, `{"type":"null","ssh_disable_agent_forwarding":true}`},
	{"sshdisableagent", `{"type":"null","ssh_disable_agent":true,"ssh_disable_agent_forwarding":false}`, `{"type":"null","ssh_disable_agent_forwarding":false}`},
	{"sshdisableagent", `{"type":"null","ssh_disable_agent":"true"}`, same},
	{"scaleway-access-key", `{"type":"scaleway","access_key":"k"}`, `{"type":"scaleway","organization_id":"k"}`},
	{"scaleway-access-key", `{"type":"scaleway","access_key":"k","organization_id":"o"}`, `{"type":"scaleway","organization_id":"o"}`},
	{"scaleway-access-key", `{"type":"amazon-ebs","access_key":"k"}`, same},
	{"amazon-shutdown_behavior", `{"type":"amazon-ebs","shutdown_behaviour":"stop"}`, `{"type":"amazon-ebs","shutdown_behavior":"stop"}`},
	{"amazon-shutdown_behavior", `{"type":"osc-bsu","shutdown_behaviour":"stop"}`, same},
	{"amazon-enhanced-networking", `{"type":"amazon-instance","enhanced_networking":false,"ena_support":true}`, `{"type":"amazon-instance","ena_support":false}`},
	{"amazon-enhanced-networking", `{"type":"amazon-ebs","enhanced_networking":"true"}`, same},
	{"amazon-private-ip", `{"type":"amazon-ebs","ssh_private_ip":true}`, `{"type":"amazon-ebs","ssh_interface":"private_ip"}`},
	{"amazon-private-ip", `{"type":"amazon-chroot","ssh_private_ip":"false"}`, `{"type":"amazon-chroot","ssh_interface":"public_ip"}`},
	{"amazon-private-ip", `{"type":"amazon-ebs","ssh_private_ip":true,"ssh_interface":"public_dns"}`, same},
	{"amazon-temp-sec-cidrs", `{"type":"amazon-ebs","temporary_security_group_source_cidr":"10.0.0.0/8"}`, `{"type":"amazon-ebs","temporary_security_group_source_cidrs":["10.0.0.0/8"]}`},
	{"amazon-temp-sec-cidrs", `{"type":"amazon-ebs","temporary_security_group_source_cidr":["a"]}`, same},
	{"vmware-compaction", `{"type":"vmware-iso","remote_type":"esx5"}`, `{"type":"vmware-iso","remote_type":"esx5","disk_type_id":"zeroedthick","skip_compaction":true}`},
	{"vmware-compaction", `{"type":"vmware-iso","remote_type":"esx5","disk_type_id":"eagerzeroedthick","skip_compaction":false}`, `{"type":"vmware-iso","remote_type":"esx5","disk_type_id":"eagerzeroedthick","skip_compaction":true}`},
	{"vmware-compaction", `{"type":"vmware-iso","remote_type":"esx5","disk_type_id":"thin"}`, same},
	{"vmware-compaction", `{"type":"vmware-iso","disk_type_id":"zeroedthick"}`, same},
	{"vmware-compaction", `{"type":"vmware-vmx","remote_type":"esx5"}`, same},
	{"hyperv-deprecations", `{"type":"hyperv-iso","vhd_temp_path":"x"}`, `{"type":"hyperv-iso"}`},
	{"hyperv-deprecations", `{"type":"hyperv-vmcx","vhd_temp_path":"x"}`, same},
	{"hyperv-vmxc-typo", `{"type":"hyperv-vmcx","clone_from_vmxc_path":"x","clone_from_vmcx_path":"y"}`, `{"type":"hyperv-vmcx","clone_from_vmcx_path":"x"}`},
	{"hyperv-vmxc-typo", `{"type":"hyperv-iso","clone_from_vmxc_path":"x"}`, same},
	{"hyperv-cpu-and-ram", `{"type":"hyperv-iso","cpu":2,"ram_size":"512"}`, `{"type":"hyperv-iso","cpus":2,"memory":"512"}`},
	{"hyperv-cpu-and-ram", `{"type":"null","cpu":2,"ram_size":512}`, same},
	{"clean-image-name", `{"type":"amazon-ebs","ami_name":"{{isotime | clean_ami_name}}","tags":{"a":"{{clean_image_name}}"}}`, `{"type":"amazon-ebs","ami_name":"{{isotime | clean_resource_name}}","tags":{"a":"{{clean_resource_name}}"}}`},
	{"clean-image-name", `{"type":"amazon-ebs","l":["{{clean_ami_name}}"],"tags":{"a":{"b":"{{clean_ami_name}}"}}}`, same},
	{"spot-price-auto-product", `{"type":"amazon-ebs","spot_price_auto_product":"Linux"}`, `{"type":"amazon-ebs"}`},
	{"spot-price-auto-product", `{"type":"amazon-chroot","spot_price_auto_product":"Linux"}`, same},
	{"qemu-disk-size", `{"type":"qemu","disk_size":40000}`, `{"type":"qemu","disk_size":"40000M"}`},
	{"qemu-disk-size", `{"type":"qemu","disk_size":"40000"}`, same},
	{"comm-config", `{"type":"virtualbox-ovf","ssh_host_port_min":1,"ssh_host_port_max":"2","ssh_skip_nat_mapping":true}`, `{"type":"virtualbox-ovf","host_port_min":1,"host_port_max":"2","skip_nat_mapping":true}`},
	{"comm-config", `{"type":"virtualbox-iso","ssh_host_port_min":1,"host_port_min":5,"ssh_skip_nat_mapping":false,"skip_nat_mapping":true}`, `{"type":"virtualbox-iso","host_port_min":5,"skip_nat_mapping":true}`},
	{"comm-config", `{"type":"vmware-iso","ssh_host_port_min":1}`, same},
	{"comm-config", `{"type":"virtualbox-iso","ssh_skip_nat_mapping":"true"}`, same},
	{"ssh-wait-timeout", `{"type":"null","ssh_wait_timeout":"5m"}`, `{"type":"null","ssh_timeout":"5m"}`},
	{"ssh-wait-timeout", `{"type":"null","ssh_wait_timeout":"5m","ssh_timeout":"6m"}`, `{"type":"null","ssh_timeout":"6m"}`},
	{"ssh-wait-timeout", `{"type":"null","ssh_wait_timeout":5}`, same},
	{"vsphere-iso-net-disk", `{"type":"vsphere-iso","network":"n","network_card":"c","disk_size":1,"disk_thin_provisioned":true,"disk_eagerly_scrub":false}`, `{"type":"vsphere-iso","network_adapters":[{"network":"n","network_card":"c"}],"storage":[{"disk_size":1,"disk_thin_provisioned":true,"disk_eagerly_scrub":false}]}`},
	{"vsphere-iso-net-disk", `{"type":"vsphere-iso","network":"n","network_adapters":[{"network":"z"}]}`, `{"type":"vsphere-iso","network_adapters":[{"network":"n"},{"network":"z"}]}`},
	{"vsphere-iso-net-disk", `{"type":"vsphere-clone","network":"n","disk_size":1}`, same},
	{"vsphere-iso-net-disk", `{"type":"vsphere-iso","network_adapters":[{"network":"z"}],"storage":[]}`, same},
	{"iso-checksum-type-and-url", `{"type":"qemu","iso_checksum":"abc","iso_checksum_type":"sha256"}`, `{"type":"qemu","iso_checksum":"sha256:abc"}`},
	{"iso-checksum-type-and-url", `{"type":"qemu","iso_checksum":"abc","iso_checksum_type":"sha256","iso_checksum_url":"http://u"}`, `{"type":"qemu","iso_checksum":"file:http://u"}`},
	{"iso-checksum-type-and-url", `{"type":"qemu","iso_checksum_type":"sha1"}`, `{"type":"qemu"}`},
	{"iso-checksum-type-and-url", `{"type":"qemu","iso_checksum":5,"iso_checksum_type":"sha1"}`, `{"type":"qemu","iso_checksum":5}`},
	{"iso-checksum-type-and-url", `{"type":"qemu","iso_checksum":"abc"}`, same},
	{"qemu-host-port", `{"type":"qemu","ssh_host_port_min":1,"ssh_host_port_max":2,"host_port_max":3}`, `{"type":"qemu","host_port_min":1,"host_port_max":2}`},
	{"qemu-host-port", `{"type":"null","ssh_host_port_min":1}`, same},
	{"azure-exclude_from_latest", `{"type":"azure-chroot","shared_image_destination":{"exlude_from_latest":true,"image_name":"x"}}`, `{"type":"azure-chroot","shared_image_destination":{"exclude_from_latest":true,"image_name":"x"}}`},
	{"azure-exclude_from_latest", `{"type":"azure-arm","shared_image_destination":{"exlude_from_latest":true}}`, same},
	{"proxmox-type", `{"type":"proxmox"}`, `{"type":"proxmox-iso"}`},
	{"proxmox-type", `{"type":"proxmox-clone"}`, same},
}

var provisionerChanges = []change{
	{"virtualbox-rename", `{"type":"shell","only":["virtualbox"],"override":{"virtualbox":{"a":1},"x":{}}}`, `{"type":"shell","only":["virtualbox"],"override":{"virtualbox-iso":{"a":1},"x":{}}}`},
	{"vmware-rename", `{"type":"shell","override":{"vmware":{"a":1}}}`, same},
	{"powershell-escapes", "{\"type\":\"powershell\",\"environment_vars\":[\"A=a`$b\",\"B=``c`n\"],\"elevated_user\":\"u`$\",\"elevated_password\":\"p`\\\"`'\"}", "{\"type\":\"powershell\",\"environment_vars\":[\"A=a$b\",\"B=`c`n\"],\"elevated_user\":\"u$\",\"elevated_password\":\"p\\\"'\"}"},
	{"powershell-escapes", "{\"type\":\"powershell\",\"environment_vars\":[5,\"`$\"],\"inline\":[\"`$\"]}", same},
	{"powershell-escapes", "{\"type\":\"windows-shell\",\"environment_vars\":[\"`$\"]}", same},
	{"galaxy-command", `{"type":"ansible-local","galaxycommand":"x"}`, `{"type":"ansible-local","galaxy_command":"x"}`},
	{"galaxy-command", `{"type":"ansible-local","galaxycommand":"x","galaxy_command":"y"}`, `{"type":"ansible-local","galaxy_command":"y"}`},
	{"galaxy-command", `{"type":"ansible","galaxycommand":"x"}`, same},
}

var postProcessorChanges = []change{
	{"pp-vagrant-override", `{"type":"vagrant","aws":{"a":1},"vmware":{"b":2},"output":"x"}`, `{"type":"vagrant","output":"x","override":{"aws":{"a":1},"vmware":{"b":2}}}`},
	{"pp-vagrant-override", `{"type":"vagrant","aws":{"a":1},"override":{"aws":{"z":1}}}`, `{"type":"vagrant","override":{"aws":{"a":1}}}`},
	{"pp-vagrant-override", `{"type":"vagrant","parallels":{"a":1}}`, same},
	{"pp-vagrant-override", `{"type":"other","aws":{"a":1}}`, same},
	{"manifest-filename", `{"type":"manifest","filename":"f","output":"o"}`, `{"type":"manifest","output":"f"}`},
	{"manifest-filename", `{"type":"checksum","filename":"f"}`, same},
	{"docker-email", `{"type":"docker-push","login_email":"x"}`, `{"type":"docker-push"}`},
	{"docker-tag-tags", `{"type":"docker-tag","tag":"a, b"}`, `{"type":"docker-tag","tags":["a","b"]}`},
	{"docker-tag-tags", `{"type":"docker-tag","tag":["c"],"tags":"a,b"}`, `{"type":"docker-tag","tags":["c","a","b"]}`},
	{"docker-tag-tags", `{"type":"docker-push","tag":"a"}`, same},
}

// changes are all of them, with the words around them that make a template.
func changes() map[string][]change {
	all := map[string][]change{}
	add := func(before, after string, list []change) {
		for _, c := range list {
			if c.want == same {
				c.want = c.in
			}
			all[c.name] = append(all[c.name], change{c.name, before + c.in + after, before + c.want + after})
		}
	}
	add(`{"builders":[`, `]}`, builderChanges)
	add(`{"provisioners":[`, `]}`, provisionerChanges)
	add(`{"post-processors":["manifest",`, `]}`, postProcessorChanges)
	add(`{"post-processors":[["manifest",`, `]]}`, postProcessorChanges)
	return all
}

func decode(t *testing.T, src string) any {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(src))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		t.Fatalf("%v in %s", err, src)
	}
	return v
}

// Each fixer, on its own, changes what it is there for and nothing else.
func TestFixers(t *testing.T) {
	all := changes()
	for _, f := range Fixers() {
		t.Run(f.Name, func(t *testing.T) {
			if len(all[f.Name]) < 2 {
				t.Fatal("no cases")
			}
			changed := false
			for _, c := range all[f.Name] {
				got, diags := Fix([]byte(c.in), "t.json", []Fixer{f})
				if diags.HasErrors() {
					t.Fatal(diags)
				}
				if diff := cmp.Diff(decode(t, c.want), decode(t, string(got))); diff != "" {
					t.Errorf("%s (-want +got)\n%s", c.in, diff)
				}
				changed = changed || c.in != c.want
			}
			if !changed {
				t.Error("no case in which it changes anything")
			}
		})
		delete(all, f.Name)
	}
	for name := range all {
		t.Errorf("cases of %s, which is no fixer", name)
	}
}

// The names and their order are Packer's.
func TestOrder(t *testing.T) {
	want := strings.Split("iso-md5, createtime, virtualbox-gaattach, pp-vagrant-override, virtualbox-rename, vmware-rename, parallels-headless, parallels-deprecations, sshkeypath, sshdisableagent, scaleway-access-key, manifest-filename, amazon-shutdown_behavior, amazon-enhanced-networking, amazon-private-ip, amazon-temp-sec-cidrs, docker-email, docker-tag-tags, powershell-escapes, vmware-compaction, hyperv-deprecations, hyperv-vmxc-typo, hyperv-cpu-and-ram, clean-image-name, spot-price-auto-product, qemu-disk-size, galaxy-command, comm-config, ssh-wait-timeout, vsphere-iso-net-disk, iso-checksum-type-and-url, qemu-host-port, azure-exclude_from_latest, proxmox-type", ", ")
	var got []string
	for _, f := range Fixers() {
		got = append(got, f.Name)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// Packer itself, which knew all of the fixers when Debian took it, makes the
// same of all cases together.
func TestSameAsPacker(t *testing.T) {
	packer, err := exec.LookPath("packer")
	if err != nil {
		t.Skip("packer is not installed")
	}
	list := func(all []change) string {
		var in []string
		for _, c := range all {
			in = append(in, c.in)
		}
		return strings.Join(in, ",")
	}
	src := `{"_comment":"<b> & \\u003c","variables":{"z":"1","a":null},"builders":[` + list(builderChanges) +
		`],"provisioners":[` + list(provisionerChanges) + `],"post-processors":["manifest",` + list(postProcessorChanges) + `]}`
	dir := t.TempDir()
	file := filepath.Join(dir, "t.json")
	if err := os.WriteFile(file, []byte(src), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), packer, "fix", "-validate=false", file)
	cmd.Env = append(os.Environ(), "HOME="+dir, "CHECKPOINT_DISABLE=1", "PACKER_NO_COLOR=1")
	cmd.Dir = dir
	theirs, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, theirs)
	}
	ours, diags := Fix([]byte(src), "t.json", Fixers())
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	// The backslash of the comment is where Packer's own output goes wrong.
	theirs = bytes.Replace(theirs, []byte(`\<`), []byte(`\\u003c`), 1)
	if diff := cmp.Diff(strings.TrimSpace(string(theirs)), string(ours)); diff != "" {
		t.Errorf("(-Packer +ours)\n%s", diff)
	}
}

// Where Packer loses what the template says, or crashes, we do not.
func TestDifferentOnPurpose(t *testing.T) {
	tests := []struct{ name, in, want string }{
		{"the word none is kept", `{"builders":[{"type":"qemu","iso_checksum_type":"none"}]}`, `{"builders":[{"type":"qemu","iso_checksum":"none"}]}`},
		{"none is no type of checksum", `{"builders":[{"type":"qemu","iso_checksum":"x","iso_checksum_type":"none"}]}`, `{"builders":[{"type":"qemu","iso_checksum":"none"}]}`},
		{"half a megabyte is not cut off", `{"builders":[{"type":"qemu","disk_size":1.5}]}`, `{"builders":[{"type":"qemu","disk_size":1.5}]}`},
		{"big numbers keep their digits", `{"builders":[{"type":"null","n":12345678901234567890}]}`, `{"builders":[{"type":"null","n":12345678901234567890}]}`},
		{"no list of tags where there was none", `{"post-processors":[{"type":"docker-tag"}]}`, `{"post-processors":[{"type":"docker-tag"}]}`},
		{"other overrides of vagrant stay", `{"post-processors":[{"type":"vagrant","aws":{},"override":{"x":{}}}]}`, `{"post-processors":[{"type":"vagrant","override":{"aws":{},"x":{}}}]}`},
		{"a tag that is no text stays", `{"post-processors":[{"type":"docker-tag","tag":5}]}`, `{"post-processors":[{"type":"docker-tag","tag":5}]}`},
		{"a builder without a type", `{"builders":[{"ssh_key_path":"x"}]}`, `{"builders":[{"ssh_private_key_file":"x"}]}`},
		{"an elevated user that is no text", `{"provisioners":[{"type":"powershell","elevated_user":5}]}`, `{"provisioners":[{"type":"powershell","elevated_user":5}]}`},
		{"one storage that is no list", `{"builders":[{"type":"vsphere-iso","storage":"x","disk_size":1}]}`, `{"builders":[{"type":"vsphere-iso","storage":"x","disk_size":1}]}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, diags := Fix([]byte(tt.in), "t.json", Fixers())
			if diags.HasErrors() {
				t.Fatal(diags)
			}
			if diff := cmp.Diff(decode(t, tt.want), decode(t, string(got))); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// What is no template is refused.
func TestRefused(t *testing.T) {
	tests := []struct{ name, in, want string }{
		{"no JSON", `{"builders": [`, "t.json:1"},
		{"HCL", `source "null" "a" {}`, "t.json:1"},
		{"nothing", ``, ""},
		{"a list", `[]`, "object"},
		{"two templates", "{}\n{}", "t.json:2"},
		{"twice", `{"builders":[{"type":"a","type":"b"}]}`, "duplicate field: type"},
		{"builders", `{"builders":{"a":1}}`, `"builders" is not a list`},
		{"a builder", `{"builders":["x"]}`, "builder 1 is not an object"},
		{"post-processors", `{"post-processors":"x"}`, `"post-processors" is not a list`},
		{"ssh_private_ip", `{"builders":[{"type":"amazon-ebs","ssh_private_ip":"{{user ` + "`x`" + `}}"}]}`, "ssh_private_ip is neither true nor false"},
		{"depth", strings.Repeat(`[`, 20000), "too deep"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			out, diags := Fix([]byte(tt.in), "t.json", Fixers())
			if !diags.HasErrors() || !strings.Contains(diags.Error(), tt.want) {
				t.Errorf("got %v (%s), want %q", diags, out, tt.want)
			}
		})
	}
}

// A reference to a builder that fixing has renamed is found.
func TestDangling(t *testing.T) {
	src := `{"builders":[{"type":"vmware-iso"},{"type":"null","name":"n"}],
	"provisioners":[{"type":"shell","only":["vmware","n"],"except":["vmware-iso"],"override":{"vmware":{},"n":{}}}],
	"post-processors":["manifest",{"type":"manifest","only":["x"]},[{"type":"manifest","except":["y"]}]]}`
	var got []string
	for _, d := range Dangling([]byte(src), "t.json") {
		got = append(got, d.Summary)
	}
	want := []string{
		"provisioner refers to builder 'vmware', which does not exist",
		"provisioner refers to builder 'vmware', which does not exist",
		"post-processor refers to builder 'x', which does not exist",
		"post-processor refers to builder 'y', which does not exist",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if diags := Dangling([]byte(strings.Replace(src, `"n"}`, `"{{user}}"}`, 1)), "t.json"); len(diags) != 0 {
		t.Error("a computed name may be any:", diags)
	}
}
