package known

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"github.com/bakehouse-farm/bakehouse"
)

// checks returns what is looked at in the settings of a component that the
// rules in its file have no words for; nil for most.
func checks(ref Ref) func(*settings) []bakehouse.Finding {
	switch ref {
	case Ref{Provisioner, "powershell"}, Ref{Provisioner, "shell"}, Ref{Provisioner, "windows-shell"}:
		return script
	case Ref{Provisioner, "shell-local"}, Ref{PostProcessor, "shell-local"}:
		return localScript
	case Ref{Provisioner, "file"}:
		return file
	case Ref{Provisioner, "hcp-sbom"}:
		return sbom
	case Ref{PostProcessor, "checksum"}:
		return checksum
	case Ref{Builder, "amazon-ebssurrogate"}:
		return surrogate
	case Ref{Builder, "amazon-ebs"}, Ref{Builder, "amazon-instance"}:
		return func(s *settings) []bakehouse.Finding { return append(instance(s), amiName(s)...) }
	case Ref{Builder, "amazon-ebsvolume"}:
		return instance
	case Ref{Builder, "amazon-chroot"}:
		return func(s *settings) []bakehouse.Finding { return append(amiName(s), mounts(s)...) }
	}
	return nil
}

// script checks what is to be run on the machine.
func script(s *settings) []bakehouse.Finding {
	var found []bakehouse.Finding
	say := func(field, message string) {
		found = append(found, bakehouse.Finding{Field: field, Message: message})
	}
	if !s.open("inline", "script", "scripts") {
		files := s.set("script") || s.set("scripts")
		switch {
		case s.set("script") && s.set("scripts"):
			say("scripts", "Only one of script or scripts can be specified.")
		case files && s.set("inline"):
			say("inline", "Only a script file or an inline script can be specified, not both.")
		case !files && !s.set("inline"):
			say("", "Either a script file or inline script must be specified.")
		}
		found = append(found, s.scripts()...)
	}
	found = append(found, s.variables()...)
	if level := s.text("debug_mode"); level != "" && !s.open("debug_mode") && !slices.Contains([]string{"0", "1", "2"}, level) {
		say("debug_mode", level+" is an invalid Trace level for `debug_mode`; valid values are 0, 1, and 2")
	}
	return found
}

// localScript checks what is to be run next to the build.
func localScript(s *settings) []bakehouse.Finding {
	var found []bakehouse.Finding
	say := func(field, message string) {
		found = append(found, bakehouse.Finding{Field: field, Message: message})
	}
	ways := []string{"command", "inline", "script", "scripts"}
	if !s.open(ways...) {
		set := slices.DeleteFunc(slices.Clone(ways), func(way string) bool { return !s.set(way) })
		switch {
		case len(set) == 0:
			say("", "Command, Inline, Script and Scripts options cannot all be empty.")
		case len(set) > 1:
			say(set[1], "You may only specify one of the following options: Command, Inline, Script or Scripts. Please consolidate these options in your config.")
		}
		found = append(found, s.scripts()...)
		if s.set("use_linux_pathing") && (s.set("command") || s.set("inline")) {
			say("use_linux_pathing", "Packer is unable to use the Command and Inline features with the Windows Linux Subsystem. Please use the Script or Scripts options instead")
		}
	}
	supported := []string{"darwin", "freebsd", "linux", "openbsd", "solaris", "windows"}
	for _, system := range s.texts("only_on") {
		if !slices.Contains(supported, system) && !s.open("only_on") {
			found = append(found, bakehouse.Finding{
				Field: "only_on", Message: "Invalid OS specified in only_on: '" + system + "'",
				Hint: "Supported OS names: " + strings.Join(supported, ", ") + ".",
			})
		}
	}
	return append(found, s.variables()...)
}

// scripts finds script files that are not there.
func (s *settings) scripts() []bakehouse.Finding {
	var found []bakehouse.Finding
	for _, name := range []string{"script", "scripts"} {
		found = append(found, s.exist(name, "")...)
	}
	return found
}

// variables checks the form of environment variables.
func (s *settings) variables() []bakehouse.Finding {
	if s.open("environment_vars") {
		return nil
	}
	var found []bakehouse.Finding
	for _, v := range s.texts("environment_vars") {
		if name, _, ok := strings.Cut(v, "="); !ok || name == "" {
			found = append(found, bakehouse.Finding{Field: "environment_vars", Message: "Environment variable not in format 'key=value': " + v})
		}
	}
	return found
}

func file(s *settings) []bakehouse.Finding {
	var found []bakehouse.Finding
	if s.open("source", "sources", "content", "direction", "generated") {
		return nil
	}
	sources := s.set("source") || s.set("sources")
	switch {
	case sources && s.set("content"):
		found = append(found, bakehouse.Finding{Field: "content", Message: "source(s) conflicts with content."})
	case !sources && !s.set("content"):
		found = append(found, bakehouse.Finding{Message: "Source must be specified."})
	}
	if s.text("direction") != "download" && !s.set("generated") {
		found = append(found, s.exist("source", "")...)
		found = append(found, s.exist("sources", "")...)
	}
	return found
}

func sbom(s *settings) []bakehouse.Finding {
	name := s.text("sbom_name")
	if name == "" || s.open("sbom_name") || regexp.MustCompile(`^[A-Za-z0-9_-]{3,36}$`).MatchString(name) {
		return nil
	}
	return []bakehouse.Finding{{
		Field: "sbom_name", Message: fmt.Sprintf("%q is not a valid sbom_name", name),
		Hint: "It has 3 to 36 letters, digits, dashes and underscores.",
	}}
}

func checksum(s *settings) []bakehouse.Finding {
	var found []bakehouse.Finding
	for _, typ := range s.texts("checksum_types") {
		if !slices.Contains([]string{"md5", "sha1", "sha224", "sha256", "sha384", "sha512"}, typ) {
			found = append(found, bakehouse.Finding{Field: "checksum_types", Message: "Unrecognized checksum type: " + typ})
		}
	}
	return found
}

func amiName(s *settings) []bakehouse.Finding {
	name := s.text("ami_name")
	if name == "" || s.open("ami_name") {
		return nil // that it must be set, a rule says
	}
	var found []bakehouse.Finding
	if len(name) < 3 || len(name) > 128 {
		found = append(found, bakehouse.Finding{Field: "ami_name", Message: "ami_name must be between 3 and 128 characters long"})
	}
	if !regexp.MustCompile(`^[A-Za-z0-9()\[\] ./\-'@_]*$`).MatchString(name) {
		found = append(found, bakehouse.Finding{
			Field: "ami_name", Message: "AMIName should only contain alphanumeric characters, parentheses (()), square brackets ([]), spaces ( ), periods (.), slashes (/), dashes (-), single quotes ('), at-signs (@), or underscores(_).",
			Hint: "The function clean_resource_name makes a name fit.",
		})
	}
	return found
}

// instance checks the instance that an image is made on.
func instance(s *settings) []bakehouse.Finding {
	var found []bakehouse.Finding
	if int(s.number("block_duration_minutes", "0"))%60 != 0 {
		found = append(found, bakehouse.Finding{Field: "block_duration_minutes", Message: "block_duration_minutes must be multiple of 60"})
	}
	const cidrs = "temporary_security_group_source_cidrs"
	for _, c := range s.texts(cidrs) {
		if _, err := netip.ParsePrefix(c); err != nil && !s.open(cidrs) {
			found = append(found, bakehouse.Finding{Field: cidrs, Message: "Error parsing CIDR in temporary_security_group_source_cidrs: " + c})
		}
	}
	return found
}

func mounts(s *settings) []bakehouse.Finding {
	list, _ := s.value("chroot_mounts").([]any)
	for _, one := range list {
		if m, ok := one.([]any); ok && len(m) != 3 {
			return []bakehouse.Finding{{Field: "chroot_mounts", Message: "Each chroot_mounts entry should be three elements."}}
		}
	}
	return nil
}

func surrogate(s *settings) []bakehouse.Finding {
	found := append(instance(s), amiName(s)...)
	root := s.text("ami_root_device.source_device_name")
	if root == "" || s.open("ami_root_device", "launch_block_device_mappings") {
		return found
	}
	devices, _ := s.value("launch_block_device_mappings").([]any)
	for _, d := range devices {
		if m, ok := d.(map[string]any); ok && m["device_name"] == root {
			return found
		}
	}
	return append(found, bakehouse.Finding{Field: "ami_root_device.source_device_name", Message: "no volume with name '" + root + "' is found"})
}
