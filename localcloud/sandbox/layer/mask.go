package layer

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// A mark is what the mask puts at one path of the host's root.
type mark struct {
	Kind string      `json:"kind"` // hide, empty, file
	Mode os.FileMode `json:"mode,omitempty"`
	UID  int         `json:"uid,omitempty"`
	GID  int         `json:"gid,omitempty"`
	Data []byte      `json:"data,omitempty"`
}

// A mask is what lies over the host's root, by clean path without leading
// slash. Folders on the way are made as the host has them.
type mask map[string]mark

func (m mask) hide(path string)                    { m[path] = mark{Kind: "hide"} }
func (m mask) empty(path string, mode os.FileMode) { m[path] = mark{Kind: "empty", Mode: mode} }
func (m mask) file(path string, mode os.FileMode, data []byte) {
	m[path] = mark{Kind: "file", Mode: mode, Data: data}
}

// What the host's root may show is a list of what is known to be harmless and
// needed, where that is possible: of an unknown folder we cannot know.
var (
	shownTop = set("bin", "sbin", "lib", "lib32", "lib64", "libx32", "usr", "etc", "var", "opt")
	shownVar = set("lib")
	// shownVarLib is what package tools need to go on from where the host is.
	shownVarLib = set("dpkg", "apt", "ucf", "pam", "python", "misc", "vim", "man-db", "xml-core", "sgml-base",
		"ca-certificates-java", "rpm", "dnf", "alternatives", "selinux", "locales", "emacsen-common", "aspell",
		"dictionaries-common", "texmf", "binfmts", "ghostscript", "swcatalog", "polkit-1", "initramfs-tools", "aptitude",
		"shells.state", "zypp", "pacman", "portage", "rpm-state")
	// hiddenEtc holds what may be readable to all on a careless host, and what
	// belongs to the host and not to a machine of this kind.
	hiddenEtc = []string{
		"hostname", "hosts", "machine-id", "fstab", "environment", "mtab", "shadow", "shadow-", "gshadow", "gshadow-",
		"passwd-", "group-", "subuid-", "subgid-", "crypttab", "exports", "krb5.keytab", "sudoers.d", "netplan", "network/interfaces.d",
		"NetworkManager/system-connections", "wpa_supplicant", "wireguard", "openvpn", "ipsec.d", "ipsec.secrets", "ppp",
		"kubernetes", "rancher", "docker", "containerd", "containers/auth.json", "cni", "letsencrypt", "ssl/private", "pki/tls/private",
		"vault.d", "consul.d", "nomad.d", "boundary.d", "puppet", "puppetlabs", "chef", "salt", "ansible", "cloud", "aws",
		"gitlab-runner", "gitlab", "buildkite-agent", "bakehouse", "temporal", "localcloud", "postfix/sasl_passwd", "msmtprc", "samba",
		"mysql/debian.cnf", "grafana", "prometheus", "alertmanager", "apt/auth.conf", "apt/auth.conf.d", "pip.conf", "npmrc",
		"gitconfig", "crontab", "default/grub.d", "cups", "freeipa", "sssd", "ipa", "duo", "tailscale", "cloudflared",
	}
)

func set(names ...string) map[string]bool {
	m := make(map[string]bool, len(names))
	for _, n := range names {
		m[n] = true
	}
	return m
}

// makeMask writes the mask for the root below dir, unless the same mask is
// there already, and returns its folder. A mask that instances may stand on is
// never changed: another one gets another name.
func makeMask(dir, root, state string) (string, error) {
	m, err := planMask(root, state)
	if err != nil {
		return "", err
	}
	b, err := json.Marshal(m)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(append([]byte("1\n"), b...))
	final := filepath.Join(dir, ".mask-"+hex.EncodeToString(sum[:8]))
	if _, err := os.Stat(final); err == nil {
		return final, nil
	}
	half, err := os.MkdirTemp(dir, ".import-mask-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(half)
	if err := m.write(half, root); err != nil {
		return "", err
	}
	if err := os.Rename(half, final); err != nil {
		return "", err
	}
	return final, nil
}

func planMask(root, state string) (mask, error) {
	m := mask{}
	for name, mode := range map[string]os.FileMode{
		"dev": 0o755, "proc": 0o555, "sys": 0o555, "run": 0o755, "mnt": 0o755, "media": 0o755, "srv": 0o755,
		"boot": 0o755, "root": 0o700, "home": 0o755, "tmp": 0o777 | os.ModeSticky,
		"var/cache": 0o755, "var/cache/apt": 0o755, "var/cache/apt/archives": 0o755, "var/cache/apt/archives/partial": 0o700,
		"var/cache/debconf": 0o755, "var/cache/ldconfig": 0o700,
		"var/log": 0o755, "var/log/apt": 0o755, "var/tmp": 0o777 | os.ModeSticky, "var/spool": 0o755, "var/spool/cron": 0o755,
		"var/mail": 0o775, "var/backups": 0o755, "var/opt": 0o755, "var/local": 0o755,
		"etc/sudoers.d": 0o755, "etc/ssl/private": 0o710,
		"var/lib/systemd": 0o755, "var/lib/dbus": 0o755, "var/lib/private": 0o700,
	} {
		m.empty(name, mode)
	}
	for dir, shown := range map[string]map[string]bool{".": shownTop, "var": shownVar, "var/lib": shownVarLib} {
		if err := m.hideOthers(root, dir, shown); err != nil {
			return nil, err
		}
	}
	if err := m.keepLinks(root, "var/run", "var/lock"); err != nil {
		return nil, err
	}
	for _, name := range hiddenEtc {
		m.hideIfThere(root, filepath.Join("etc", name))
	}
	keys, err := filepath.Glob(filepath.Join(root, "etc/ssh/ssh_host_*"))
	if err != nil {
		return nil, err
	}
	for _, k := range keys {
		m.hide("etc/ssh/" + filepath.Base(k))
	}
	for dir, depth := range map[string]int{"etc": 8, "opt": 2, "usr/local/etc": 4} {
		if err := m.hidePrivate(root, dir, depth); err != nil {
			return nil, err
		}
	}
	if rel, err := filepath.Rel(root, state); err == nil && !strings.HasPrefix(rel, "..") {
		m.hideIfThere(root, rel)
	}
	return m, m.people(root)
}

// hideOthers hides what is in dir and neither shown nor marked yet.
func (m mask) hideOthers(root, dir string, shown map[string]bool) error {
	entries, err := os.ReadDir(filepath.Join(root, dir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		if _, marked := m[path]; !marked && !shown[e.Name()] {
			m.hide(path)
		}
	}
	return nil
}

// keepLinks shows what is a symbolic link again: /var/run must lead to /run.
func (m mask) keepLinks(root string, paths ...string) error {
	for _, p := range paths {
		info, err := os.Lstat(filepath.Join(root, p))
		if err == nil && info.Mode()&fs.ModeSymlink != 0 {
			delete(m, p)
		}
	}
	return nil
}

func (m mask) hideIfThere(root, path string) {
	if _, err := os.Lstat(filepath.Join(root, path)); err != nil {
		return
	}
	for up := path; up != "."; up = filepath.Dir(up) {
		if _, marked := m[up]; marked {
			return // hidden already, with all below it
		}
	}
	m.hide(path)
}

// hidePrivate hides whatever not everybody on the host may read: that is how a
// host says what is secret.
func (m mask) hidePrivate(root, dir string, depth int) error {
	top := filepath.Join(root, dir)
	return filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		if marked, ok := m[rel]; ok && d.IsDir() && marked.Kind != "file" {
			return fs.SkipDir
		}
		info, err := d.Info()
		if err != nil {
			return nil // gone meanwhile
		}
		private := false
		switch {
		case d.IsDir():
			private = info.Mode().Perm()&0o005 != 0o005
		case info.Mode().IsRegular():
			private = info.Mode().Perm()&0o004 == 0
		}
		switch {
		case private && d.IsDir():
			m[rel] = mark{Kind: "empty", Mode: info.Mode(), UID: int(info.Sys().(*syscall.Stat_t).Uid), GID: int(info.Sys().(*syscall.Stat_t).Gid)}
			return fs.SkipDir
		case private:
			if _, marked := m[rel]; !marked {
				m.hide(rel)
			}
		case d.IsDir() && strings.Count(rel, "/")-strings.Count(dir, "/") >= depth:
			return fs.SkipDir
		}
		return nil
	})
}

// write makes the mask's folder. Parents come before children by the order of
// the paths.
func (m mask) write(dir, root string) error {
	if err := os.Chmod(dir, 0o755); err != nil {
		return err
	}
	paths := make([]string, 0, len(m))
	for p := range m {
		paths = append(paths, p)
	}
	sort.Strings(paths)
	for _, p := range paths {
		if err := parents(dir, root, filepath.Dir(p)); err != nil {
			return err
		}
		if err := m[p].write(filepath.Join(dir, p)); err != nil {
			return fmt.Errorf("mask /%s: %w", p, err)
		}
	}
	return nil
}

// parents makes the folders that lead to a mark, with the host's modes and
// owners: a folder in the mask gives the merged one its own.
func parents(dir, root, rel string) error {
	if rel == "." {
		return nil
	}
	at := filepath.Join(dir, rel)
	if _, err := os.Lstat(at); err == nil {
		return nil
	}
	if err := parents(dir, root, filepath.Dir(rel)); err != nil {
		return err
	}
	mode, uid, gid := os.FileMode(0o755), 0, 0
	if info, err := os.Lstat(filepath.Join(root, rel)); err == nil && info.IsDir() {
		st := info.Sys().(*syscall.Stat_t)
		mode, uid, gid = info.Mode(), int(st.Uid), int(st.Gid)
	}
	if err := os.Mkdir(at, 0o700); err != nil {
		return err
	}
	if err := os.Lchown(at, uid, gid); err != nil {
		return err
	}
	return os.Chmod(at, mode)
}

func (k mark) write(path string) error {
	switch k.Kind {
	case "hide":
		// Below a folder that is hidden or emptied there is nothing to hide, and
		// a whiteout where the lower tree has nothing does no harm.
		return unix.Mknod(path, unix.S_IFCHR|0o600, 0)
	case "empty":
		if err := os.Mkdir(path, 0o700); err != nil {
			return err
		}
		if err := unix.Setxattr(path, "trusted.overlay.opaque", []byte("y"), 0); err != nil {
			return fmt.Errorf("set trusted.overlay.opaque (does the filesystem have extended attributes?): %w", err)
		}
	case "file":
		if err := os.WriteFile(path, k.Data, 0o600); err != nil {
			return err
		}
	}
	if err := os.Lchown(path, k.UID, k.GID); err != nil {
		return err
	}
	return os.Chmod(path, k.Mode)
}
