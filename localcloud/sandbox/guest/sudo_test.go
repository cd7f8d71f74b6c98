package guest

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// sudo understands the command lines of templates.
func TestParseSudo(t *testing.T) {
	tests := map[string]sudoCall{
		"apt-get -y install x":    {user: "root", argv: []string{"apt-get", "-y", "install", "x"}},
		"-E -S sh /tmp/s.sh":      {user: "root", keepEnv: true, argv: []string{"sh", "/tmp/s.sh"}},
		"-ES A=1 B=2 env":         {user: "root", keepEnv: true, env: []string{"A=1", "B=2"}, argv: []string{"env"}},
		"-u bob -H -- ls -l":      {user: "bob", setHome: true, argv: []string{"ls", "-l"}},
		"-ubob id":                {user: "bob", argv: []string{"id"}},
		"--user=bob --login":      {user: "bob", login: true, argv: []string{}},
		"-n -i -u bob echo a":     {user: "bob", login: true, argv: []string{"echo", "a"}},
		"--preserve-env=A,B true": {user: "root", keep: []string{"A", "B"}, argv: []string{"true"}},
		"-g adm --chdir /tmp pwd": {user: "root", group: "adm", dir: "/tmp", argv: []string{"pwd"}},
		"-p prompt: -k whoami":    {user: "root", argv: []string{"whoami"}},
	}
	for line, want := range tests {
		got, err := parseSudo(strings.Fields(line))
		if err != nil {
			t.Errorf("%s: %v", line, err)
		}
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(sudoCall{})); diff != "" {
			t.Errorf("%s (-want +got):\n%s", line, diff)
		}
	}
	for _, line := range []string{"", "-u", "-Z x", "--nonsense x", "-R /tmp ls"} {
		if got, err := parseSudo(strings.Fields(line)); err == nil {
			t.Errorf("%q: %+v", line, got)
		}
	}
}

// What sudo -i gives to the shell comes apart into the same words.
func TestQuoteWords(t *testing.T) {
	if got, want := quoteWords([]string{"echo", "a b", "it's", "$HOME"}), `echo a\ b it\'s $HOME`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}
