package guest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// A user is a line of /etc/passwd, and the groups that /etc/group adds.
type user struct {
	name, home, shell string
	uid, gid          int
	groups            []int
}

// lookUser finds a user by name, or by number.
func lookUser(root, name string) (user, error) {
	b, err := os.ReadFile(filepath.Join(root, "etc/passwd"))
	if err != nil {
		return user{}, err
	}
	for line := range strings.Lines(string(b)) {
		f := strings.Split(strings.TrimRight(line, "\n"), ":")
		if len(f) < 7 || (f[0] != name && "#"+f[2] != name) {
			continue
		}
		u := user{name: f[0], uid: atoi(f[2]), gid: atoi(f[3]), home: f[5], shell: f[6]}
		if u.uid < 0 || u.gid < 0 {
			continue
		}
		if u.shell == "" {
			u.shell = "/bin/sh"
		}
		u.groups = groupsOf(root, u)
		return u, nil
	}
	return user{}, fmt.Errorf("unknown user %s", name)
}

func groupsOf(root string, u user) []int {
	groups := []int{u.gid}
	b, err := os.ReadFile(filepath.Join(root, "etc/group"))
	if err != nil {
		return groups
	}
	for line := range strings.Lines(string(b)) {
		f := strings.Split(strings.TrimRight(line, "\n"), ":")
		if len(f) < 4 {
			continue
		}
		for m := range strings.SplitSeq(f[3], ",") {
			if gid := atoi(f[2]); m == u.name && gid >= 0 && gid != u.gid {
				groups = append(groups, gid)
			}
		}
	}
	return groups
}

func groupName(root string, gid int) string {
	b, err := os.ReadFile(filepath.Join(root, "etc/group"))
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Split(line, ":"); len(f) >= 3 && atoi(f[2]) == gid {
			return f[0]
		}
	}
	return ""
}

// env is what a login starts with.
func (u user) env() []string {
	env := []string{
		"HOME=" + u.home, "USER=" + u.name, "LOGNAME=" + u.name, "SHELL=" + u.shell, "PATH=" + pathEnv,
		"MAIL=/var/mail/" + u.name,
	}
	return append(env, systemEnv()...)
}

// systemEnv is /etc/environment, as pam_env reads it, without PATH.
func systemEnv() []string {
	var env []string
	b, err := os.ReadFile("/etc/environment")
	if err != nil {
		return nil
	}
	for line := range strings.Lines(string(b)) {
		line = strings.TrimPrefix(strings.TrimSpace(line), "export ")
		k, v, ok := strings.Cut(line, "=")
		if !ok || k == "" || k[0] == '#' || k == "PATH" {
			continue
		}
		env = append(env, k+"="+strings.Trim(v, `"'`))
	}
	return env
}
