package amazon

import (
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/crypto/ssh"
)

// communicator are the rules for how the machine is reached.
func (c *check) communicator() {
	s := &c.s.Settings
	types := []string{"ssh", "winrm", "docker", "dockerWindowsContainer", "none"}
	if c.fail(!slices.Contains(types, s.Communicator), "communicator", "Communicator type %s is invalid", s.Communicator) {
		return
	}
	switch s.Communicator {
	case "ssh":
		c.ssh()
	case "winrm":
		c.fail(s.WinRMUsername == "", "winrm_username", "winrm_username must be specified.")
	}
}

func (c *check) ssh() {
	s := &c.s.Settings
	c.fail(s.SSHCertificateFile != "" && s.SSHPrivateKeyFile == "", "ssh_private_key_file ssh_certificate_file",
		"ssh_private_key_file must be specified if ssh_certificate_file is specified")
	c.fail(s.SSHBastionCertificateFile != "" && s.SSHBastionPrivateKeyFile == "", "ssh_bastion_private_key_file ssh_bastion_certificate_file",
		"ssh_bastion_private_key_file must be specified if ssh_bastion_certificate_file is specified")
	c.fail(s.SSHUsername == "", "ssh_username",
		"An ssh_username must be specified\n  Note: some builders used to default ssh_username to \"root\".")
	c.keyFile("ssh_private_key_file", s.SSHPrivateKeyFile)
	if s.SSHBastionHost != "" {
		c.fail(!s.SSHBastionAgentAuth && s.SSHBastionPassword == "" && s.SSHBastionPrivateKeyFile == "" && s.SSHPrivateKeyFile == "",
			"ssh_bastion_host ssh_bastion_password ssh_bastion_private_key_file ssh_bastion_agent_auth ssh_private_key_file",
			"ssh_bastion_password, ssh_bastion_private_key_file or ssh_bastion_agent_auth must be specified")
		c.keyFile("ssh_bastion_private_key_file", s.SSHBastionPrivateKeyFile)
	}
	c.fail(!slices.Contains([]string{"", "scp", "sftp"}, s.SSHFileTransferMethod), "ssh_file_transfer_method",
		"ssh_file_transfer_method ('%s') is invalid, valid methods: sftp, scp", s.SSHFileTransferMethod)
	c.fail(s.SSHBastionHost != "" && s.SSHProxyHost != "", "ssh_bastion_host ssh_proxy_host",
		"please specify either ssh_bastion_host or ssh_proxy_host, not both")
	c.tunnels("ssh_local_tunnels", s.SSHLocalTunnels)
	c.tunnels("ssh_remote_tunnels", s.SSHRemoteTunnels)
}

// keyFile is the rule for a private key, which is read as long as it is here.
func (c *check) keyFile(field, name string) {
	if name == "" || !c.known(field) {
		return
	}
	raw, err := os.ReadFile(c.files.Path(name))
	if err == nil {
		_, err = ssh.ParseRawPrivateKey(raw)
	}
	var locked *ssh.PassphraseMissingError
	if errors.As(err, &locked) {
		err = errors.New("it is encrypted with a passphrase; use a key without, or an SSH agent")
	}
	c.fail(err != nil, field, "%s is invalid: %s", field, err)
}

func (c *check) tunnels(field string, list []string) {
	for _, t := range list {
		err := isTunnel(t)
		c.fail(err != nil, field, "%s ('%s') is invalid: %s", field, t, err)
	}
}

// isTunnel says whether a tunnel has the form PORT:HOST:PORT.
func isTunnel(t string) error {
	port, to, ok := strings.Cut(t, ":")
	if !ok {
		return fmt.Errorf("want PORT:HOST:PORT")
	}
	if n, err := strconv.Atoi(port); err != nil || n < 0 || n > 65535 {
		return fmt.Errorf("%q is no port", port)
	}
	_, port, err := net.SplitHostPort(to)
	if err != nil {
		return err
	}
	if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
		return fmt.Errorf("%q is no port", port)
	}
	return nil
}
