package main

// withheld says why a command or a flag of Packer is not there. It is empty for
// what Packer does not have, either.
func withheld(word string) string {
	switch word {
	case "execute":
		return "it starts one component as the process of a plugin, and there are no plugins here: components are built in"
	case "sbom-generate":
		return "it serves the provisioner hcp-sbom, which this farm cannot run yet"
	case "verify-attestation":
		return "the post-processor provenance, whose attestations it verifies, is not one that this farm can run yet"
	case "-autocomplete-install", "--autocomplete-install", "-autocomplete-uninstall", "--autocomplete-uninstall":
		return "submit changes no files of your shell"
	}
	return ""
}
