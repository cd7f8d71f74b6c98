package fix

func sshKeyPath(d *document) error {
	for _, b := range d.builders {
		if is[string](b, "ssh_key_path") {
			give(b, "ssh_key_path", "ssh_private_key_file")
		}
	}
	return nil
}

func sshDisableAgent(d *document) error {
	for _, b := range d.builders {
		if is[bool](b, "ssh_disable_agent") {
			give(b, "ssh_disable_agent", "ssh_disable_agent_forwarding")
		}
	}
	return nil
}

func sshWaitTimeout(d *document) error {
	for _, b := range d.builders {
		if is[string](b, "ssh_wait_timeout") {
			give(b, "ssh_wait_timeout", "ssh_timeout")
		}
	}
	return nil
}
