package fix

// isoMD5 says of a checksum in "iso_md5" that it is one of MD5; isoChecksum puts
// both together.
func isoMD5(d *document) error {
	for _, b := range d.builders {
		if is[string](b, "iso_md5") {
			move(b, "iso_md5", "iso_checksum")
			b["iso_checksum_type"] = "md5"
		}
	}
	return nil
}

// isoChecksum writes checksum, type and address as one: "sha256:0123",
// "file:http://...", "none".
func isoChecksum(d *document) error {
	for _, b := range d.builders {
		kind, _ := b["iso_checksum_type"].(string)
		address, _ := b["iso_checksum_url"].(string)
		delete(b, "iso_checksum_type")
		delete(b, "iso_checksum_url")
		sum, isText := b["iso_checksum"].(string)
		switch {
		case address != "":
			b["iso_checksum"] = "file:" + address
		case kind == "none" && (isText || !has(b, "iso_checksum")):
			// Packer forgets the word when no checksum is there, and writes "none:"
			// before one that is.
			b["iso_checksum"] = "none"
		case kind != "" && sum != "":
			b["iso_checksum"] = kind + ":" + sum
		}
	}
	return nil
}
