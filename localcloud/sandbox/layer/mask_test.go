package layer

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// fakeRoot writes files ("path" or "path!" for one that only root may read) of
// a host; a trailing slash makes a folder.
func fakeRoot(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		mode := fs.FileMode(0o644)
		if strings.HasSuffix(name, "!") {
			name, mode = strings.TrimSuffix(name, "!"), 0o600
		}
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// The mask hides what is secret on a host, wherever it lies, and what is
// unknown at the top; it leaves what programs need.
func TestMask(t *testing.T) {
	root := fakeRoot(t, map[string]string{
		"etc/passwd":                 "root:x:0:0:root:/root:/bin/bash\nalice:x:1001:1001::/home/alice:/bin/sh\nwww:x:33:33::/var/www:/bin/false\nadmin:x:999:999::/opt/admin:/bin/sh\n",
		"etc/group":                  "root:x:0:\nalice:x:1001:\nsudo:x:27:alice\nwww:x:33:alice\n",
		"etc/shadow!":                "root:$6$secret:1::::::\n",
		"etc/app/key.pem!":           "secret",
		"etc/app/app.conf":           "harmless",
		"etc/ssh/ssh_host_rsa_key":   "secret, and badly kept",
		"etc/ssh/ssh_config":         "harmless",
		"etc/kubernetes/admin.conf":  "secret, and badly kept",
		"etc/sudoers!":               "alice ALL=(ALL) ALL",
		"var/lib/dpkg/status":        "needed",
		"var/lib/vault/data":         "unknown",
		"var/lib/state/instances/i1": "ours",
		"srv/data":                   "unknown",
		"company/plans":              "unknown",
		"usr/bin/true":               "needed",
		"opt/tool/bin":               "needed",
	})
	m, err := planMask(root, filepath.Join(root, "opt/tool"))
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, p := range []string{
		"etc/app/key.pem", "etc/app/app.conf", "etc/ssh/ssh_host_rsa_key", "etc/ssh/ssh_config", "etc/kubernetes",
		"var/lib/dpkg", "var/lib/vault", "var/lib/state", "srv", "company", "usr", "root", "home", "tmp", "opt/tool", "etc/shadow", "etc/sudoers",
	} {
		got[p] = m[p].Kind
	}
	want := map[string]string{
		"etc/app/key.pem": "hide", "etc/app/app.conf": "", "etc/ssh/ssh_host_rsa_key": "hide", "etc/ssh/ssh_config": "", "etc/kubernetes": "hide",
		"var/lib/dpkg": "", "var/lib/vault": "hide", "var/lib/state": "hide", "srv": "empty", "company": "hide", "usr": "", "root": "empty", "home": "empty",
		"tmp": "empty", "opt/tool": "hide", "etc/shadow": "file", "etc/sudoers": "file",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for path, mark := range m {
		if strings.Contains(string(mark.Data), "secret") || strings.Contains(string(mark.Data), "alice") {
			t.Errorf("%s shows the host's: %s", path, mark.Data)
		}
	}
	passwd := string(m["etc/passwd"].Data)
	if strings.Count(passwd, "\nadmin:x:1002:") != 1 || strings.Contains(passwd, "/opt/admin") || !strings.Contains(passwd, "ubuntu:x:1000:1000:ubuntu:/home/ubuntu:/bin/sh\n") {
		t.Errorf("passwd:\n%s", passwd)
	}
	if shadow := string(m["etc/shadow"].Data); !strings.Contains(shadow, "root:*:") {
		t.Errorf("shadow:\n%s", shadow)
	}

	if os.Geteuid() != 0 {
		t.Skip("whiteouts need root")
	}
	dir := t.TempDir()
	a, err := makeMask(dir, root, "/nowhere")
	if err != nil {
		t.Fatal(err)
	}
	b, err := makeMask(dir, root, "/nowhere")
	if err != nil || a != b {
		t.Errorf("the same mask twice: %s and %s, %v", a, b, err)
	}
	for path, shown := range map[string]bool{"etc/app/key.pem": false, "etc/app/app.conf": true, "company": false, "company/plans": false, "srv": true, "srv/data": false, "usr/bin/true": true} {
		info, err := Find([]string{a, root}, path)
		if err != nil || (info != nil) != shown {
			t.Errorf("%s: shown %v, %v", path, info != nil, err)
		}
	}
	info, err := os.Lstat(filepath.Join(a, "company"))
	if err != nil || info.Sys().(*syscall.Stat_t).Rdev != 0 || info.Mode()&fs.ModeCharDevice == 0 {
		t.Errorf("no whiteout: %v, %v", info, err)
	}
	if err := os.WriteFile(filepath.Join(root, "etc/app/new!"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if c, err := makeMask(dir, root, "/nowhere"); err != nil || c == a {
		t.Errorf("a new secret makes no new mask: %s, %v", c, err)
	}
}
