package layer

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// logins are the users of the usual cloud images, so that a template's
// ssh_username is there whichever image it was written for.
var logins = []string{"ubuntu", "ec2-user", "admin", "debian", "centos", "rocky", "fedora", "packer"}

const firstUID = 1000

// people replaces the host's users: of its own only those of the system stay,
// nobody has a password, and the logins may become root.
func (m mask) people(root string) error {
	passwd, _, err := systemOnly(filepath.Join(root, "etc/passwd"))
	if err != nil {
		return err
	}
	group, groups, err := systemOnly(filepath.Join(root, "etc/group"))
	if err != nil {
		return err
	}
	if !groups["sudo"] {
		group = append(group, "sudo:x:27:")
	}
	shell := "/bin/sh"
	if _, err := os.Stat(filepath.Join(root, "bin/bash")); err == nil {
		shell = "/bin/bash"
	}
	var members []string
	for i, name := range logins {
		id := firstUID + i
		passwd = append(passwd, fmt.Sprintf("%s:x:%d:%d:%s:/home/%s:%s", name, id, id, name, name, shell))
		group = append(group, fmt.Sprintf("%s:x:%d:", name, id))
		members = append(members, name)
		home := "home/" + name
		m[home] = mark{Kind: "empty", Mode: 0o755, UID: id, GID: id}
		if err := m.skel(root, home, id); err != nil {
			return err
		}
	}
	if err := m.skel(root, "root", 0); err != nil {
		return err
	}
	for i, line := range group {
		if f := strings.Split(line, ":"); f[0] == "sudo" || f[0] == "adm" {
			f[3] = strings.Join(members, ",")
			group[i] = strings.Join(f, ":")
		}
	}

	m.file("etc/passwd", 0o644, lines(passwd))
	m.file("etc/group", 0o644, lines(group))
	m.file("etc/shadow", 0o640, locked(passwd, ":*:19000:0:99999:7:::"))
	m.file("etc/gshadow", 0o640, locked(group, ":*::"))
	m.file("etc/subuid", 0o644, nil)
	m.file("etc/subgid", 0o644, nil)
	m.file("etc/hostname", 0o644, []byte("localhost\n"))
	m.file("etc/hosts", 0o644, []byte("127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n"))
	m.file("etc/resolv.conf", 0o644, nil)
	m.file("etc/machine-id", 0o444, nil)
	m.file("etc/environment", 0o644, []byte("PATH=\"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\"\n"))
	m.file("etc/fstab", 0o644, nil)
	m.file("etc/sudoers.d/90-cloud-init-users", 0o440, []byte("root ALL=(ALL:ALL) ALL\n%sudo ALL=(ALL:ALL) NOPASSWD:ALL\n"))
	if _, err := os.Lstat(filepath.Join(root, "etc/sudoers")); err == nil {
		// Only instead of the host's own: dpkg asks what to do about one that was
		// there before the package, and nobody is there to answer.
		m.file("etc/sudoers", 0o440, []byte("Defaults env_reset\nDefaults secure_path=\"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\"\n@includedir /etc/sudoers.d\n"))
	}
	return nil
}

// systemOnly reads a passwd or group file and leaves out the people, and
// whoever has the name of a login.
func systemOnly(path string) (kept []string, names map[string]bool, err error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, nil, err
	}
	names = map[string]bool{}
	for line := range strings.Lines(string(b)) {
		f := strings.Split(strings.TrimSpace(line), ":")
		if len(f) < 4 {
			continue
		}
		id, err := strconv.Atoi(f[2])
		if err != nil || (id >= firstUID && id < 60000) || slices.Contains(logins, f[0]) {
			continue
		}
		f[1] = "x"
		if len(f) == 4 {
			f[3] = systemMembers(f[3])
		}
		names[f[0]] = true
		kept = append(kept, strings.Join(f, ":"))
	}
	return kept, names, nil
}

// systemMembers empties a list of group members: whom it names may be gone.
func systemMembers(string) string { return "" }

func lines(l []string) []byte { return []byte(strings.Join(l, "\n") + "\n") }

// locked makes the shadow of a passwd or group file: nobody has a password.
func locked(of []string, rest string) []byte {
	var b bytes.Buffer
	for _, line := range of {
		name, _, _ := strings.Cut(line, ":")
		b.WriteString(name + rest + "\n")
	}
	return b.Bytes()
}

// skel puts the host's /etc/skel into a home.
func (m mask) skel(root, home string, id int) error {
	from := filepath.Join(root, "etc/skel")
	entries, err := os.ReadDir(from)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !e.Type().IsRegular() {
			continue
		}
		b, err := os.ReadFile(filepath.Join(from, e.Name()))
		if err != nil {
			return err
		}
		m[home+"/"+e.Name()] = mark{Kind: "file", Mode: 0o644, UID: id, GID: id, Data: b}
	}
	return nil
}
