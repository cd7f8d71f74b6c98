package fix

func vmwareRename(d *document) error {
	retype(d.builders, "vmware", "vmware-iso")
	return nil
}

// vmwareCompaction tells builders on ESXi not to compact a disk that is not
// thin, which fails. The disk is thick where the template says nothing.
func vmwareCompaction(d *document) error {
	for _, b := range typed(d.builders, "vmware-iso") {
		if b["remote_type"] != "esx5" {
			continue
		}
		if !has(b, "disk_type_id") {
			b["disk_type_id"] = "zeroedthick"
		}
		if kind, ok := b["disk_type_id"].(string); ok && kind != "thin" {
			b["skip_compaction"] = true
		}
	}
	return nil
}

// vsphereNetworkAndDisk moves the one network and the one disk that there could
// be into the lists of them, before what is there.
func vsphereNetworkAndDisk(d *document) error {
	for _, b := range typed(d.builders, "vsphere-iso") {
		gather(b, "network_adapters", "network", "network_card")
		gather(b, "storage", "disk_size", "disk_thin_provisioned", "disk_eagerly_scrub")
	}
	return nil
}

func gather(b object, into string, names ...string) {
	list, ok := b[into].([]any)
	if has(b, into) && !ok {
		return
	}
	one := object{}
	for _, name := range names {
		if v, ok := b[name]; ok {
			one[name] = v
			delete(b, name)
		}
	}
	if len(one) > 0 {
		b[into] = append([]any{one}, list...)
	}
}
