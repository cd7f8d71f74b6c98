package fix

// guestAdditions turns "guest_additions_attach" of the builder "virtualbox", as
// it was called then, into a mode: attach, or upload.
func guestAdditions(d *document) error {
	for _, b := range typed(d.builders, "virtualbox") {
		attach, ok := b["guest_additions_attach"].(bool)
		if !ok {
			continue
		}
		delete(b, "guest_additions_attach")
		b["guest_additions_mode"] = "upload"
		if attach {
			b["guest_additions_mode"] = "attach"
		}
	}
	return nil
}

// vagrantOverride gathers what the vagrant post-processor says for one provider
// only under "override".
func vagrantOverride(d *document) error {
	for _, p := range typed(d.postProcessors, "vagrant") {
		override, ok := p["override"].(object)
		if has(p, "override") && !ok {
			continue
		}
		for _, provider := range []string{"aws", "digitalocean", "virtualbox", "vmware"} {
			if v, there := p[provider]; there {
				if override == nil {
					override = object{}
					p["override"] = override
				}
				override[provider] = v
				delete(p, provider)
			}
		}
	}
	return nil
}

// virtualboxRename renames the builder, and what provisioners override for it.
func virtualboxRename(d *document) error {
	retype(d.builders, "virtualbox", "virtualbox-iso")
	for _, p := range d.provisioners {
		if override, ok := p["override"].(object); ok {
			move(override, "virtualbox", "virtualbox-iso")
		}
	}
	return nil
}

// commConfig renames "ssh_host_port_min", "ssh_host_port_max" and
// "ssh_skip_nat_mapping", which serve WinRM as well.
func commConfig(d *document) error {
	for _, b := range kin(d.builders, "virtualbox") {
		if has(b, "ssh_host_port_min") {
			give(b, "ssh_host_port_min", "host_port_min")
		}
		if has(b, "ssh_host_port_max") {
			give(b, "ssh_host_port_max", "host_port_max")
		}
		if is[bool](b, "ssh_skip_nat_mapping") {
			give(b, "ssh_skip_nat_mapping", "skip_nat_mapping")
		}
	}
	return nil
}
