package communicator

import "github.com/bakehouse-farm/bakehouse"

// Settings are the arguments that every builder with a communicator takes:
// Packer's 49 (packer-plugin-sdk, communicator.Config). Builders embed them.
type Settings struct {
	Communicator          string             `json:"communicator"`
	PauseBeforeConnecting bakehouse.Duration `json:"pause_before_connecting"`

	SSHHost                   string             `json:"ssh_host"`
	SSHPort                   int                `json:"ssh_port"`
	SSHUsername               string             `json:"ssh_username"`
	SSHPassword               string             `json:"ssh_password" bake:"secret"`
	SSHKeypairName            string             `json:"ssh_keypair_name"`
	TemporaryKeyPairName      string             `json:"temporary_key_pair_name"`
	TemporaryKeyPairType      string             `json:"temporary_key_pair_type"`
	TemporaryKeyPairBits      int                `json:"temporary_key_pair_bits"`
	SSHCiphers                []string           `json:"ssh_ciphers"`
	SSHClearAuthorizedKeys    bool               `json:"ssh_clear_authorized_keys"`
	SSHKEXAlgos               []string           `json:"ssh_key_exchange_algorithms"`
	SSHPrivateKeyFile         string             `json:"ssh_private_key_file" bake:"file"`
	SSHCertificateFile        string             `json:"ssh_certificate_file" bake:"file"`
	SSHPty                    bool               `json:"ssh_pty"`
	SSHTimeout                bakehouse.Duration `json:"ssh_timeout"`
	SSHWaitTimeout            bakehouse.Duration `json:"ssh_wait_timeout"`
	SSHAgentAuth              bool               `json:"ssh_agent_auth"`
	SSHDisableAgentForwarding bool               `json:"ssh_disable_agent_forwarding"`
	SSHHandshakeAttempts      int                `json:"ssh_handshake_attempts"`
	SSHBastionHost            string             `json:"ssh_bastion_host"`
	SSHBastionPort            int                `json:"ssh_bastion_port"`
	SSHBastionAgentAuth       bool               `json:"ssh_bastion_agent_auth"`
	SSHBastionUsername        string             `json:"ssh_bastion_username"`
	SSHBastionPassword        string             `json:"ssh_bastion_password" bake:"secret"`
	SSHBastionInteractive     bool               `json:"ssh_bastion_interactive"`
	SSHBastionPrivateKeyFile  string             `json:"ssh_bastion_private_key_file" bake:"file"`
	SSHBastionCertificateFile string             `json:"ssh_bastion_certificate_file" bake:"file"`
	SSHFileTransferMethod     string             `json:"ssh_file_transfer_method"`
	SSHProxyHost              string             `json:"ssh_proxy_host"`
	SSHProxyPort              int                `json:"ssh_proxy_port"`
	SSHProxyUsername          string             `json:"ssh_proxy_username"`
	SSHProxyPassword          string             `json:"ssh_proxy_password" bake:"secret"`
	SSHKeepAliveInterval      bakehouse.Duration `json:"ssh_keep_alive_interval"`
	SSHReadWriteTimeout       bakehouse.Duration `json:"ssh_read_write_timeout"`
	SSHRemoteTunnels          []string           `json:"ssh_remote_tunnels"`
	SSHLocalTunnels           []string           `json:"ssh_local_tunnels"`
	SSHPublicKey              []int              `json:"ssh_public_key"`
	SSHPrivateKey             []int              `json:"ssh_private_key" bake:"secret"`

	WinRMUsername string             `json:"winrm_username"`
	WinRMPassword string             `json:"winrm_password" bake:"secret"`
	WinRMHost     string             `json:"winrm_host"`
	WinRMNoProxy  bool               `json:"winrm_no_proxy"`
	WinRMPort     int                `json:"winrm_port"`
	WinRMTimeout  bakehouse.Duration `json:"winrm_timeout"`
	WinRMUseSSL   bool               `json:"winrm_use_ssl"`
	WinRMInsecure bool               `json:"winrm_insecure"`
	WinRMUseNTLM  *bool              `json:"winrm_use_ntlm"`
}
