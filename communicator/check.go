package communicator

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/crypto/ssh"

	"github.com/bakehouse-farm/bakehouse"
)

// CheckSettings says what is wrong with settings, in Packer's words and order.
// Findings about the fields in unknown, whose values are not known yet, are
// left out.
func CheckSettings(s Settings, files bakehouse.Files, unknown ...string) []bakehouse.Finding {
	c := &check{unknown: unknown}
	switch s.Communicator {
	case "", "ssh":
		c.ssh(s, files)
	case "none":
	case "winrm":
		if s.WinRMUsername == "" {
			c.wrong("winrm_username", "winrm_username must be specified.")
		}
		c.cannot("winrm")
	case "docker", "dockerWindowsContainer":
		c.cannot(s.Communicator)
	default:
		c.wrong("communicator", fmt.Sprintf("Communicator type %s is invalid", s.Communicator))
	}
	return c.found
}

type check struct {
	unknown []string
	found   []bakehouse.Finding
}

func (c *check) wrong(field, message string) {
	c.add(bakehouse.Finding{Field: field, Message: message})
}

func (c *check) add(f bakehouse.Finding) {
	if f.Field == "" || !slices.Contains(c.unknown, f.Field) {
		c.found = append(c.found, f)
	}
}

func (c *check) knows(field string) bool { return !slices.Contains(c.unknown, field) }

func (c *check) cannot(kind string) {
	c.add(bakehouse.Finding{
		NotYet: true,
		Field:  "communicator", Message: fmt.Sprintf("Bakehouse cannot use the communicator %q yet", kind),
		Hint: `Use "ssh", or "none" when nothing is done on the machine.`,
	})
}

func (c *check) ssh(s Settings, files bakehouse.Files) {
	if s.SSHCertificateFile != "" && s.SSHPrivateKeyFile == "" && c.knows("ssh_private_key_file") {
		c.wrong("ssh_certificate_file", "ssh_private_key_file must be specified if ssh_certificate_file is specified")
	}
	if s.SSHBastionCertificateFile != "" && s.SSHBastionPrivateKeyFile == "" && c.knows("ssh_bastion_private_key_file") {
		c.wrong("ssh_bastion_certificate_file", "ssh_bastion_private_key_file must be specified if ssh_bastion_certificate_file is specified")
	}
	if s.SSHUsername == "" {
		c.wrong("ssh_username", "An ssh_username must be specified\n  Note: some builders used to default ssh_username to \"root\".")
	}
	if s.SSHPrivateKeyFile != "" {
		c.key("ssh_private_key_file", s.SSHPrivateKeyFile, s.SSHCertificateFile, files)
	}
	if s.SSHBastionHost != "" {
		c.bastion(s, files)
	}
	switch s.SSHFileTransferMethod {
	case "", "scp", "sftp":
	default:
		c.wrong("ssh_file_transfer_method", fmt.Sprintf("ssh_file_transfer_method ('%s') is invalid, valid methods: sftp, scp", s.SSHFileTransferMethod))
	}
	if s.SSHBastionHost != "" && s.SSHProxyHost != "" {
		c.wrong("ssh_proxy_host", "please specify either ssh_bastion_host or ssh_proxy_host, not both")
	}
	c.tunnels("ssh_local_tunnels", s.SSHLocalTunnels)
	c.tunnels("ssh_remote_tunnels", s.SSHRemoteTunnels)
	supported, insecure := ssh.SupportedAlgorithms(), ssh.InsecureAlgorithms()
	c.oneOf("ssh_ciphers", s.SSHCiphers, append(supported.Ciphers, insecure.Ciphers...))
	c.oneOf("ssh_key_exchange_algorithms", s.SSHKEXAlgos, append(supported.KeyExchanges, insecure.KeyExchanges...))
}

func (c *check) bastion(s Settings, files bakehouse.Files) {
	known := c.knows("ssh_bastion_password") && c.knows("ssh_bastion_private_key_file") &&
		c.knows("ssh_private_key_file") && c.knows("ssh_bastion_agent_auth")
	switch {
	case s.SSHBastionInteractive:
		c.add(bakehouse.Finding{
			NotYet: true,
			Field:  "ssh_bastion_interactive", Message: "Bakehouse cannot ask for the bastion's password: builds run where nobody sits",
			Hint: "Use ssh_bastion_password, ssh_bastion_private_key_file or ssh_bastion_agent_auth.",
		})
	case s.SSHBastionPassword == "" && s.SSHBastionPrivateKeyFile == "" && s.SSHPrivateKeyFile == "" && !s.SSHBastionAgentAuth && known:
		c.wrong("ssh_bastion_host", "ssh_bastion_password, ssh_bastion_private_key_file or ssh_bastion_agent_auth must be specified")
	case s.SSHBastionPrivateKeyFile != "":
		c.key("ssh_bastion_private_key_file", s.SSHBastionPrivateKeyFile, s.SSHBastionCertificateFile, files)
	}
}

func (c *check) key(field, file, certificate string, files bakehouse.Files) {
	if !c.knows(field) {
		return
	}
	if certificate != "" {
		certificate = files.Path(certificate)
	}
	if _, err := ReadKey(files.Path(file), certificate); err != nil {
		c.wrong(field, fmt.Sprintf("%s is invalid: %s", field, err))
	}
}

func (c *check) tunnels(field string, specs []string) {
	for _, spec := range specs {
		if _, err := ParseTunnel(spec); err != nil {
			c.wrong(field, fmt.Sprintf("%s ('%s') is invalid: %s", field, spec, err))
		}
	}
}

func (c *check) oneOf(field string, names, known []string) {
	for _, name := range names {
		if !slices.Contains(known, name) {
			c.add(bakehouse.Finding{
				Field: field, Message: fmt.Sprintf("%s: %q is not known here", field, name),
				Hint: "Known are " + strings.Join(known, ", ") + ".",
			})
		}
	}
}

// ReadKey reads a private key without passphrase and, unless its name is empty,
// the certificate that belongs to it.
func ReadKey(file, certificate string) (ssh.Signer, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	key, err := ssh.ParsePrivateKey(data)
	var locked *ssh.PassphraseMissingError
	if errors.As(err, &locked) {
		return nil, fmt.Errorf("key %s needs a passphrase: remove it (ssh-keygen -p), or use ssh_agent_auth", file)
	}
	if err != nil || certificate == "" {
		return key, err
	}
	data, err = os.ReadFile(certificate)
	if err != nil {
		return nil, err
	}
	public, _, _, _, err := ssh.ParseAuthorizedKey(bytes.TrimSpace(data))
	if err != nil {
		return nil, fmt.Errorf("certificate %s: %w", certificate, err)
	}
	cert, ok := public.(*ssh.Certificate)
	if !ok {
		return nil, fmt.Errorf("certificate %s holds a plain key", certificate)
	}
	return ssh.NewCertSigner(cert, key)
}

// A Tunnel leads from a port of one side to an address of the other.
type Tunnel struct {
	Listen int
	Dial   string // host:port
}

// ParseTunnel reads PORT:HOST:PORT.
func ParseTunnel(spec string) (Tunnel, error) {
	var t Tunnel
	first, rest, ok := strings.Cut(spec, ":")
	i := strings.LastIndexByte(rest, ':')
	if !ok || i <= 0 {
		return t, errors.New("expected PORT:HOST:PORT")
	}
	listen, err := strconv.ParseUint(first, 10, 16)
	if err != nil || listen == 0 {
		return t, fmt.Errorf("%q is no port", first)
	}
	if port, err := strconv.ParseUint(rest[i+1:], 10, 16); err != nil || port == 0 {
		return t, fmt.Errorf("%q is no port", rest[i+1:])
	}
	return Tunnel{Listen: int(listen), Dial: rest}, nil
}
