package guest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// sudoers are the groups whose members may become anybody, without a password,
// as the users of cloud images may.
var sudoers = []string{"sudo", "wheel", "admin"}

// sudoCall is a command line of sudo, understood.
type sudoCall struct {
	user, group      string
	login, shell     bool // -i, -s
	keepEnv, setHome bool // -E, -H
	keep             []string
	env              []string // VAR=value before the command
	dir              string
	argv             []string
	list, validate   bool
	version, nothing bool
}

// sudo is the small sudo of instances whose image has none.
func sudo(args []string) error {
	c, err := parseSudo(args)
	if err != nil {
		return err
	}
	switch {
	case c.version:
		fmt.Println("Sudo of localcloud")
		return nil
	case os.Geteuid() != 0:
		return errors.New("not setuid root: a nosuid mount?")
	}
	caller, err := callerMayBeRoot()
	if err != nil {
		return err
	}
	if c.validate || c.nothing {
		return nil
	}
	if c.list {
		fmt.Printf("User %s may run the following commands on this instance:\n    (ALL : ALL) NOPASSWD: ALL\n", caller.name)
		return nil
	}
	return c.run(caller)
}

func callerMayBeRoot() (user, error) {
	uid := os.Getuid()
	u, err := lookUser("/", fmt.Sprintf("#%d", uid))
	if err != nil {
		if uid == 0 {
			return user{name: "root"}, nil
		}
		return user{}, fmt.Errorf("unknown uid %d: who are you?", uid)
	}
	if uid == 0 {
		return u, nil
	}
	for _, gid := range u.groups {
		if slices.Contains(sudoers, groupName("/", gid)) {
			return u, nil
		}
	}
	return user{}, fmt.Errorf("%s is not in the group sudo", u.name)
}

func parseSudo(args []string) (sudoCall, error) {
	c := sudoCall{user: "root"}
	long := map[string]string{
		"--preserve-env": "E", "--stdin": "S", "--non-interactive": "n", "--set-home": "H", "--login": "i", "--shell": "s",
		"--background": "b", "--reset-timestamp": "k", "--remove-timestamp": "K", "--validate": "v", "--list": "l", "--version": "V",
		"--user": "u", "--group": "g", "--prompt": "p", "--chdir": "D", "--preserve-groups": "P", "--close-from": "C", "--host": "h", "--askpass": "A",
	}
	for len(args) > 0 {
		a := args[0]
		if a == "--" {
			args = args[1:]
			break
		}
		if !strings.HasPrefix(a, "-") || a == "-" {
			break
		}
		args = args[1:]
		letters, value, hasValue := strings.TrimPrefix(a, "-"), "", false
		if strings.HasPrefix(a, "--") {
			var name string
			name, value, hasValue = strings.Cut(a, "=")
			if name == "--preserve-env" && hasValue {
				c.keep = append(c.keep, strings.Split(value, ",")...)
				continue
			}
			if letters = long[name]; letters == "" {
				return c, fmt.Errorf("unknown option %s", a)
			}
		}
		for i, l := range letters {
			switch l {
			case 'E':
				c.keepEnv = true
			case 'H':
				c.setHome = true
			case 'i':
				c.login = true
			case 's':
				c.shell = true
			case 'v':
				c.validate = true
			case 'l':
				c.list = true
			case 'V':
				c.version = true
			case 'K':
				c.nothing = true
			case 'S', 'n', 'k', 'A', 'P': // there is no password to ask for
			case 'u', 'g', 'p', 'D', 'C', 'h', 'T', 'R':
				if !hasValue {
					value = letters[i+1:]
					if value == "" {
						if len(args) == 0 {
							return c, fmt.Errorf("option -%c needs a value", l)
						}
						value, args = args[0], args[1:]
					}
				}
				switch l {
				case 'u':
					c.user = value
				case 'g':
					c.group = value
				case 'D':
					c.dir = value
				case 'R':
					return c, errors.New("option -R is not supported here")
				}
			default:
				return c, fmt.Errorf("option -%c is not supported here", l)
			}
			if strings.ContainsRune("ugpDChT", l) {
				break
			}
		}
	}
	for len(args) > 0 {
		k, _, ok := strings.Cut(args[0], "=")
		if !ok || k == "" || strings.ContainsAny(k, "/ ") {
			break
		}
		c.env = append(c.env, args[0])
		args = args[1:]
	}
	c.argv = args
	if len(args) == 0 && !c.login && !c.shell && !c.list && !c.validate && !c.version && !c.nothing {
		if slices.Contains(os.Args, "-k") || slices.Contains(os.Args, "--reset-timestamp") {
			c.nothing = true
			return c, nil
		}
		return c, errors.New("which command?")
	}
	return c, nil
}

func (c sudoCall) run(caller user) error {
	target, err := lookUser("/", c.user)
	if err != nil {
		return err
	}
	gid, groups := target.gid, target.groups
	if c.group != "" {
		g, err := lookGroup("/", c.group)
		if err != nil {
			return err
		}
		gid = g
	}
	path, argv := "", c.argv
	switch {
	case c.login || c.shell:
		sh := target.shell
		if s := os.Getenv("SHELL"); c.shell && s != "" {
			sh = s
		}
		path = sh
		name := sh[strings.LastIndex(sh, "/")+1:]
		if c.login {
			name = "-" + name
		}
		argv = []string{name}
		if len(c.argv) > 0 {
			argv = append(argv, "-c", quoteWords(c.argv))
		}
	default:
		os.Setenv("PATH", pathEnv)
		if path, err = exec.LookPath(argv[0]); err != nil {
			return fmt.Errorf("%s: command not found", argv[0])
		}
	}
	env := c.environment(caller, target)
	if err := become(target.uid, gid, groups); err != nil {
		return err
	}
	dir := c.dir
	if c.login && dir == "" {
		dir = target.home
	}
	if dir != "" {
		if err := os.Chdir(dir); err != nil {
			return err
		}
	}
	return fmt.Errorf("%s: %w", path, unix.Exec(path, argv, env))
}

// environment is a clean one, or with -E the caller's without what changes how
// programs are loaded.
func (c sudoCall) environment(caller, target user) []string {
	env := map[string]string{}
	for _, kv := range os.Environ() {
		k, v, _ := strings.Cut(kv, "=")
		switch {
		case strings.HasPrefix(k, "LD_"), k == "BASH_ENV", k == "ENV", k == "IFS":
		case c.keepEnv && !c.login, slices.Contains(c.keep, k):
			env[k] = v
		case k == "TERM", k == "LANG", strings.HasPrefix(k, "LC_"), k == "DISPLAY", k == "COLORTERM":
			env[k] = v
		}
	}
	for _, kv := range systemEnv() {
		k, v, _ := strings.Cut(kv, "=")
		if _, set := env[k]; !set {
			env[k] = v
		}
	}
	if !c.keepEnv || c.setHome || c.login || env["HOME"] == "" {
		env["HOME"] = target.home
	}
	env["PATH"] = pathEnv
	env["USER"], env["LOGNAME"], env["MAIL"] = target.name, target.name, "/var/mail/"+target.name
	if !c.keepEnv || env["SHELL"] == "" {
		env["SHELL"] = target.shell
	}
	env["SUDO_USER"], env["SUDO_COMMAND"] = caller.name, strings.Join(c.argv, " ")
	env["SUDO_UID"], env["SUDO_GID"] = fmt.Sprint(os.Getuid()), fmt.Sprint(os.Getgid())
	for _, kv := range c.env {
		k, v, _ := strings.Cut(kv, "=")
		env[k] = v
	}
	list := make([]string, 0, len(env))
	for k, v := range env {
		list = append(list, k+"="+v)
	}
	slices.Sort(list)
	return list
}

// quoteWords makes one line for a shell that comes apart into the words again.
// As with sudo, a $ stays what it is.
func quoteWords(words []string) string {
	var b strings.Builder
	for i, w := range words {
		if i > 0 {
			b.WriteByte(' ')
		}
		for _, r := range w {
			plain := r == '_' || r == '-' || r == '$' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r > 127
			if !plain {
				b.WriteByte('\\')
			}
			b.WriteRune(r)
		}
	}
	return b.String()
}

func lookGroup(root, name string) (int, error) {
	b, err := os.ReadFile(root + "/etc/group")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		f := strings.Split(line, ":")
		if len(f) >= 3 && (f[0] == name || "#"+f[2] == name) {
			return atoi(f[2]), nil
		}
	}
	return 0, fmt.Errorf("unknown group %s", name)
}
