package fix

import (
	"encoding/json"
	"strconv"
)

var parallels = []string{"parallels-iso", "parallels-pvm"}

func parallelsHeadless(d *document) error {
	for _, b := range typed(d.builders, parallels...) {
		delete(b, "headless")
	}
	return nil
}

func parallelsDeprecations(d *document) error {
	for _, b := range typed(d.builders, parallels...) {
		delete(b, "parallels_tools_host_path")
		move(b, "guest_os_distribution", "guest_os_type")
	}
	return nil
}

func hypervDeprecations(d *document) error {
	for _, b := range typed(d.builders, "hyperv-iso") {
		delete(b, "vhd_temp_path")
	}
	return nil
}

func hypervTypo(d *document) error {
	for _, b := range typed(d.builders, "hyperv-vmcx") {
		move(b, "clone_from_vmxc_path", "clone_from_vmcx_path")
	}
	return nil
}

func hypervCPUAndRAM(d *document) error {
	for _, b := range typed(d.builders, "hyperv-iso", "hyperv-vmcx") {
		move(b, "cpu", "cpus")
		move(b, "ram_size", "memory")
	}
	return nil
}

// qemuDiskSize writes 40000 as "40000M". A number that is not whole is left for
// the builder to refuse.
func qemuDiskSize(d *document) error {
	for _, b := range typed(d.builders, "qemu") {
		size, ok := b["disk_size"].(json.Number)
		if !ok {
			continue
		}
		if n, err := strconv.ParseInt(size.String(), 10, 64); err == nil {
			b["disk_size"] = strconv.FormatInt(n, 10) + "M"
		}
	}
	return nil
}

func qemuHostPort(d *document) error {
	for _, b := range typed(d.builders, "qemu") {
		move(b, "ssh_host_port_min", "host_port_min")
		move(b, "ssh_host_port_max", "host_port_max")
	}
	return nil
}

func proxmoxType(d *document) error {
	retype(d.builders, "proxmox", "proxmox-iso")
	return nil
}
