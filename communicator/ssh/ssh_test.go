package ssh

import (
	"testing"

	"github.com/bakehouse-farm/bakehouse/communicator"
	"github.com/bakehouse-farm/bakehouse/communicator/communicatortest"
)

func dial(t testing.TB, target communicator.Target, change ...func(*Options)) *Conn {
	t.Helper()
	opts := Options{Runner: communicatortest.Runner(t)}
	for _, c := range change {
		c(&opts)
	}
	c, err := Dial(t.Context(), target, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// The promises of communicator.Communicator, with a real OpenSSH server.
func TestCommunicator(t *testing.T) {
	for name, more := range map[string][]string{
		"sftp": nil,
		"cat":  {"Subsystem sftp /nonexistent"},
	} {
		t.Run(name, func(t *testing.T) {
			target := communicatortest.SSHD(t, more...)
			communicatortest.Run(t, func(t *testing.T) communicator.Communicator { return dial(t, target) })
		})
	}
}
