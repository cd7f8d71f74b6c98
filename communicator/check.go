package communicator

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/crypto/ssh"

	"github.com/bakehouse-farm/bakehouse"
)

// CheckSettings says what is wrong with the communicator's settings, in
// Packer's words (amazon.md §3.4), and what Bakehouse cannot do yet.
func CheckSettings(s Settings, files bakehouse.Files) []bakehouse.Finding {
	switch s.Communicator {
	case "", "ssh":
		return checkSSH(s, files)
	case "none":
		return nil
	case "winrm":
		return append(checkWinRM(s), cannotYet("communicator", `communicator "winrm"`))
	case "docker", "dockerWindowsContainer":
		return []bakehouse.Finding{cannotYet("communicator", fmt.Sprintf("communicator %q", s.Communicator))}
	}
	return []bakehouse.Finding{{
		Field: "communicator", Message: fmt.Sprintf("Communicator type %s is invalid", s.Communicator),
		Hint: `It can be "ssh" or "none".`,
	}}
}

func cannotYet(field, what string) bakehouse.Finding {
	return bakehouse.Finding{Field: field, Message: "Bakehouse cannot do " + what + " yet"}
}

func checkWinRM(s Settings) []bakehouse.Finding {
	if s.WinRMUsername == "" {
		return []bakehouse.Finding{{Field: "winrm_username", Message: "winrm_username must be specified."}}
	}
	return nil
}

func checkSSH(s Settings, files bakehouse.Files) []bakehouse.Finding {
	var found []bakehouse.Finding
	add := func(field, format string, args ...any) {
		found = append(found, bakehouse.Finding{Field: field, Message: fmt.Sprintf(format, args...)})
	}
	if s.SSHCertificateFile != "" && s.SSHPrivateKeyFile == "" {
		add("ssh_certificate_file", "ssh_private_key_file must be specified if ssh_certificate_file is specified")
	}
	if s.SSHBastionCertificateFile != "" && s.SSHBastionPrivateKeyFile == "" {
		add("ssh_bastion_certificate_file", "ssh_bastion_private_key_file must be specified if ssh_bastion_certificate_file is specified")
	}
	if s.SSHUsername == "" {
		add("ssh_username", "An ssh_username must be specified\n  Note: some builders used to default ssh_username to \"root\".")
	}
	if err := readableKey(s.SSHPrivateKeyFile, files); err != nil {
		add("ssh_private_key_file", "ssh_private_key_file is invalid: %s", err)
	}
	if s.SSHBastionHost != "" {
		if s.SSHBastionPassword == "" && s.SSHBastionPrivateKeyFile == "" && s.SSHPrivateKeyFile == "" && !s.SSHBastionAgentAuth && !s.SSHBastionInteractive {
			add("ssh_bastion_host", "ssh_bastion_password, ssh_bastion_private_key_file or ssh_bastion_agent_auth must be specified")
		}
		if err := readableKey(s.SSHBastionPrivateKeyFile, files); err != nil {
			add("ssh_bastion_private_key_file", "ssh_bastion_private_key_file is invalid: %s", err)
		}
	}
	switch s.SSHFileTransferMethod {
	case "", "scp", "sftp":
	default:
		add("ssh_file_transfer_method", "ssh_file_transfer_method ('%s') is invalid, valid methods: sftp, scp", s.SSHFileTransferMethod)
	}
	if s.SSHBastionHost != "" && s.SSHProxyHost != "" {
		add("ssh_proxy_host", "please specify either ssh_bastion_host or ssh_proxy_host, not both")
	}
	if s.SSHBastionInteractive {
		found = append(found, cannotYet("ssh_bastion_interactive", "ssh_bastion_interactive (nobody sits before an agent)"))
	}
	for _, list := range []struct {
		field   string
		tunnels []string
	}{{"ssh_local_tunnels", s.SSHLocalTunnels}, {"ssh_remote_tunnels", s.SSHRemoteTunnels}} {
		for _, t := range list.tunnels {
			if err := tunnel(t); err != nil {
				add(list.field, "%s ('%s') is invalid: %s", list.field, t, err)
			}
		}
		if len(list.tunnels) > 0 {
			found = append(found, cannotYet(list.field, list.field))
		}
	}
	return found
}

// readableKey checks that the file holds a private key without passphrase. No
// name is no error.
func readableKey(name string, files bakehouse.Files) error {
	if name == "" {
		return nil
	}
	data, err := os.ReadFile(files.Path(name))
	if err != nil {
		return err
	}
	_, err = ssh.ParseRawPrivateKey(data)
	return err
}

// tunnel checks PORT:HOST:PORT.
func tunnel(s string) error {
	parts := strings.Split(s, ":")
	if len(parts) != 3 {
		return fmt.Errorf("must be PORT:HOST:PORT")
	}
	for _, p := range []string{parts[0], parts[2]} {
		if n, err := strconv.Atoi(p); err != nil || n < 1 || n > 65535 {
			return fmt.Errorf("%q is no port", p)
		}
	}
	return nil
}
