package ssh

import (
	"fmt"
	"net"
	"os"

	xssh "golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"github.com/bakehouse-farm/bakehouse"
	"github.com/bakehouse-farm/bakehouse/communicator"
)

// A login holds the credentials for one machine.
type login struct {
	useAgent bool
	keys     []xssh.Signer
	password string
}

// machineLogin collects what the target offers: the key made for the build,
// the key file with its certificate, the agent's keys, the password.
func machineLogin(t communicator.Target, files bakehouse.Files) (login, error) {
	s := t.Settings
	l := login{useAgent: s.SSHAgentAuth, password: s.SSHPassword}
	if t.PrivateKey != "" {
		key, err := xssh.ParsePrivateKey([]byte(t.PrivateKey))
		if err != nil {
			return l, bakehouse.Errorf(bakehouse.Invalid, "private key of the build: %w", err)
		}
		l.keys = append(l.keys, key)
	}
	if len(s.SSHPrivateKey) > 0 {
		key, err := xssh.ParsePrivateKey(octets(s.SSHPrivateKey))
		if err != nil {
			return l, bakehouse.Errorf(bakehouse.Invalid, "ssh_private_key is invalid: %w", err)
		}
		l.keys = append(l.keys, key)
	}
	if s.SSHPrivateKeyFile != "" {
		key, err := communicator.ReadKey(files.Path(s.SSHPrivateKeyFile), certificate(files, s.SSHCertificateFile))
		if err != nil {
			return l, bakehouse.Errorf(bakehouse.Invalid, "ssh_private_key_file is invalid: %w", err)
		}
		l.keys = append(l.keys, key)
	}
	return l, nil
}

// bastionLogin collects the credentials for the bastion.
func bastionLogin(s communicator.Settings, files bakehouse.Files) (login, error) {
	l := login{useAgent: s.SSHBastionAgentAuth, password: s.SSHBastionPassword}
	file, cert := s.SSHBastionPrivateKeyFile, s.SSHBastionCertificateFile
	if file == "" {
		file = s.SSHPrivateKeyFile
	}
	if file != "" {
		key, err := communicator.ReadKey(files.Path(file), certificate(files, cert))
		if err != nil {
			return l, bakehouse.Errorf(bakehouse.Invalid, "ssh_bastion_private_key_file is invalid: %w", err)
		}
		l.keys = append(l.keys, key)
	}
	return l, nil
}

func certificate(files bakehouse.Files, name string) string {
	if name == "" {
		return ""
	}
	return files.Path(name)
}

func octets(numbers []int) []byte {
	b := make([]byte, len(numbers))
	for i, n := range numbers {
		b[i] = byte(n)
	}
	return b
}

// methods returns the ways to log in. done is called after the handshake.
func (l login) methods() (auth []xssh.AuthMethod, done func(), err error) {
	done = func() {}
	keys := l.keys
	if l.useAgent {
		socket := os.Getenv("SSH_AUTH_SOCK")
		if socket == "" {
			return nil, done, bakehouse.Errorf(bakehouse.Invalid, "SSH Agent Auth needs SSH_AUTH_SOCK in the environment of the Bakehouse agent")
		}
		conn, err := net.Dial("unix", socket)
		if err != nil {
			return nil, done, fmt.Errorf("ssh agent: %w", err)
		}
		done = func() { conn.Close() }
		held, err := agent.NewClient(conn).Signers()
		if err != nil {
			done()
			return nil, func() {}, fmt.Errorf("ssh agent: %w", err)
		}
		keys = append(held, keys...)
	}
	// One method for all keys: a client tries each method once.
	if len(keys) > 0 {
		auth = append(auth, xssh.PublicKeys(keys...))
	}
	if l.password != "" {
		auth = append(auth, xssh.Password(l.password), xssh.KeyboardInteractive(
			func(_, _ string, questions []string, _ []bool) ([]string, error) {
				answers := make([]string, len(questions))
				for i := range answers {
					answers[i] = l.password
				}
				return answers, nil
			}))
	}
	return auth, done, nil
}
