package communicator_test

import (
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/bakehouse-farm/bakehouse"
	"github.com/bakehouse-farm/bakehouse/communicator"
)

func TestCheckSettings(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "bad"), []byte("no key"), 0o600); err != nil {
		t.Fatal(err)
	}
	files := bakehouse.Files{Cwd: dir}
	ok := communicator.Settings{SSHUsername: "admin"}
	with := func(change func(*communicator.Settings)) communicator.Settings {
		s := ok
		change(&s)
		return s
	}
	type S = *communicator.Settings
	for _, tt := range []struct {
		name    string
		s       communicator.Settings
		unknown []string
		want    []string
	}{
		{"fine", ok, nil, nil},
		{"none needs nothing", communicator.Settings{Communicator: "none"}, nil, nil},
		{"no user", communicator.Settings{}, nil, []string{"An ssh_username must be specified\n  Note: some builders used to default ssh_username to \"root\"."}},
		{"user to come", communicator.Settings{}, []string{"ssh_username"}, nil},
		{"type", communicator.Settings{Communicator: "telnet"}, nil, []string{"Communicator type telnet is invalid"}},
		{"winrm", communicator.Settings{Communicator: "winrm"}, nil, []string{"winrm_username must be specified.", `Bakehouse cannot use the communicator "winrm" yet`}},
		{"docker", communicator.Settings{Communicator: "docker"}, nil, []string{`Bakehouse cannot use the communicator "docker" yet`}},
		{"certificates", with(func(s S) { s.SSHCertificateFile, s.SSHBastionCertificateFile = "c", "c" }), nil, []string{
			"ssh_private_key_file must be specified if ssh_certificate_file is specified",
			"ssh_bastion_private_key_file must be specified if ssh_bastion_certificate_file is specified",
		}},
		{"key", with(func(s S) { s.SSHPrivateKeyFile = "bad" }), nil, []string{"ssh_private_key_file is invalid: ssh: no key found"}},
		{"bastion", with(func(s S) { s.SSHBastionHost, s.SSHProxyHost = "b", "p" }), nil, []string{
			"ssh_bastion_password, ssh_bastion_private_key_file or ssh_bastion_agent_auth must be specified",
			"please specify either ssh_bastion_host or ssh_proxy_host, not both",
		}},
		{"method", with(func(s S) { s.SSHFileTransferMethod = "ftp" }), nil, []string{"ssh_file_transfer_method ('ftp') is invalid, valid methods: sftp, scp"}},
		{"tunnels", with(func(s S) { s.SSHLocalTunnels, s.SSHRemoteTunnels = []string{"1:h:2", "x"}, []string{"0:h:2"} }), nil, []string{
			"ssh_local_tunnels ('x') is invalid: expected PORT:HOST:PORT", `ssh_remote_tunnels ('0:h:2') is invalid: "0" is no port`,
		}},
		{"cipher", with(func(s S) { s.SSHCiphers = []string{"aes128-ctr", "rot13"} }), nil, []string{`ssh_ciphers: "rot13" is not known here`}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var got []string
			for _, f := range communicator.CheckSettings(tt.s, files, tt.unknown...) {
				got = append(got, f.Message)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// Packer has 49 arguments here (packer-plugin-sdk, communicator.Config).
func TestSettingsAreComplete(t *testing.T) {
	if n := reflect.TypeFor[communicator.Settings]().NumField(); n != 49 {
		t.Errorf("%d settings", n)
	}
}
