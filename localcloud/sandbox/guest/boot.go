package guest

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Boot makes the world of the instance and becomes Init. It never returns.
func Boot() {
	runtime.LockOSThread() // rights are a thread's: this one will execute Init
	err := boot()
	report(err)
	os.Exit(ExitFailed)
}

func report(err error) {
	fmt.Fprintf(os.NewFile(ReportFD, "report"), "%v\n", err)
}

func boot() error {
	c, err := readConfig()
	if err != nil {
		return err
	}
	unix.Umask(0)
	if err := unix.Sethostname([]byte(c.Hostname)); err != nil {
		return fmt.Errorf("set hostname: %w", err)
	}
	if err := enter(c); err != nil {
		return err
	}
	if err := mounts(c); err != nil {
		return err
	}
	unix.Umask(0o022)
	// Init finds its config at the same descriptor; the others stay as they are.
	if err := passConfig(c); err != nil {
		return fmt.Errorf("pass config: %w", err)
	}
	for fd := ReportFD; fd < FirstCgroup+c.Cgroups; fd++ {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, 0); err != nil {
			return fmt.Errorf("keep descriptor %d: %w", fd, err)
		}
	}
	if err := confine(); err != nil {
		return fmt.Errorf("give up rights: %w", err)
	}
	err = unix.Exec(initPath, []string{InitName}, []string{"PATH=" + pathEnv, "HOME=/root", "LANG=C.UTF-8", "GOMAXPROCS=2"})
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("the executable of localcloud needs libraries that this image lacks: build it with CGO_ENABLED=0")
	}
	return fmt.Errorf("execute init: %w", err)
}

// enter makes the instance's root the root, and drops the host's.
func enter(c Config) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	// Held open across the change: paths of the host end there, and paths of the
	// image must not be followed before it.
	var trees [2]int
	for i := range trees {
		fd, err := unix.OpenTree(unix.AT_FDCWD, c.Init, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
		if err != nil {
			return fmt.Errorf("open %s: %w", c.Init, err)
		}
		defer unix.Close(fd)
		trees[i] = fd
	}
	if err := unix.Chdir(c.Root); err != nil {
		return fmt.Errorf("enter root: %w", err)
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("pivot root: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("let go of the host's root: %w", err)
	}
	if err := unix.Chdir("/"); err != nil {
		return err
	}

	if err := mount("tmpfs", "/run", "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=755,size=20%"); err != nil {
		return err
	}
	if err := os.MkdirAll(runDir+"/bin", 0o755); err != nil {
		return err
	}
	for i, at := range []string{initPath, rootPath} {
		if err := os.WriteFile(at, nil, 0o755); err != nil {
			return err
		}
		if err := unix.MoveMount(trees[i], "", unix.AT_FDCWD, at, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
			return fmt.Errorf("mount %s: %w", at, err)
		}
		flags := uintptr(unix.MS_BIND | unix.MS_REMOUNT | unix.MS_RDONLY | unix.MS_NODEV)
		if at == initPath {
			flags |= unix.MS_NOSUID
		}
		if err := unix.Mount("", at, "", flags, ""); err != nil {
			return fmt.Errorf("protect %s: %w", at, err)
		}
	}
	return nil
}

// mounts makes /proc, /sys and /dev, shows of them what cannot touch the host,
// and puts this instance's own facts in place.
func mounts(c Config) error {
	quiet := uintptr(unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC)
	for _, m := range []struct {
		what, at string
		flags    uintptr
		options  string
	}{
		{"proc", "/proc", quiet, ""},
		{"sysfs", "/sys", quiet | unix.MS_RDONLY, ""},
		{"tmpfs", "/dev", unix.MS_NOSUID | unix.MS_NOEXEC, "mode=755,size=64k"},
		{"devpts", "/dev/pts", unix.MS_NOSUID | unix.MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620,gid=5"},
		{"tmpfs", "/dev/shm", unix.MS_NOSUID | unix.MS_NODEV, "mode=1777,size=50%"},
		{"mqueue", "/dev/mqueue", quiet, ""},
	} {
		err := mount(m.what, m.at, m.what, m.flags, m.options)
		if m.what == "mqueue" && err != nil {
			continue // not every kernel has it, and hardly anybody wants it
		}
		if err != nil {
			return err
		}
	}
	if err := devices(); err != nil {
		return err
	}
	if err := facts(c); err != nil {
		return err
	}
	for _, p := range []string{"/proc/sys", "/proc/sysrq-trigger", "/proc/bus", "/proc/fs", "/proc/irq"} {
		if err := readOnly(p); err != nil {
			return err
		}
	}
	for _, p := range []string{
		"/proc/kcore", "/proc/keys", "/proc/key-users", "/proc/timer_list", "/proc/sched_debug", "/proc/latency_stats",
		"/proc/acpi", "/proc/scsi", "/proc/asound", "/proc/kmsg", "/proc/kallsyms", "/proc/kpagecount", "/proc/kpageflags",
		"/proc/kpagecgroup", "/proc/pagetypeinfo", "/proc/slabinfo", "/proc/vmallocinfo", "/proc/mtrr", "/proc/driver",
		"/sys/firmware", "/sys/fs/cgroup", "/sys/fs/bpf", "/sys/kernel/debug", "/sys/kernel/tracing", "/sys/kernel/security", "/sys/devices/virtual/powercap",
	} {
		if err := cover(p); err != nil {
			return err
		}
	}
	// After /proc/sys became read-only, for this lies on top of it.
	return bind(bootIDPath, "/proc/sys/kernel/random/boot_id")
}

func devices() error {
	for name, dev := range map[string]uint64{
		"null": unix.Mkdev(1, 3), "zero": unix.Mkdev(1, 5), "full": unix.Mkdev(1, 7),
		"random": unix.Mkdev(1, 8), "urandom": unix.Mkdev(1, 9), "tty": unix.Mkdev(5, 0),
	} {
		if err := unix.Mknod("/dev/"+name, unix.S_IFCHR|0o666, int(dev)); err != nil {
			return fmt.Errorf("make /dev/%s: %w", name, err)
		}
	}
	for name, to := range map[string]string{
		"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2",
		"ptmx": "pts/ptmx", "core": "/dev/null",
	} {
		if err := os.Symlink(to, "/dev/"+name); err != nil {
			return err
		}
	}
	return nil
}

// facts writes what this boot of this instance is about.
func facts(c Config) error {
	var resolv strings.Builder
	for _, r := range c.Resolvers {
		fmt.Fprintf(&resolv, "nameserver %s\n", r)
	}
	files := map[string]string{
		bootIDPath:                c.BootID + "\n",
		runDir + "/resolv.conf":   resolv.String(),
		runDir + "/metadata.json": jsonText(c.Metadata),
	}
	for path, text := range files {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			return err
		}
	}
	for _, d := range []string{"/run/lock", "/run/user", "/run/sshd"} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return err
		}
	}
	if err := os.Chmod("/run/lock", 0o1777|fs.ModeSticky); err != nil {
		return err
	}
	for _, d := range []string{"/tmp", "/root", "/var/log", "/var/tmp", "/home"} {
		if _, err := os.Stat(d); err == nil {
			continue
		}
		mode := map[string]fs.FileMode{"/tmp": 0o777 | fs.ModeSticky, "/var/tmp": 0o777 | fs.ModeSticky, "/root": 0o700}[d]
		if mode == 0 {
			mode = 0o755
		}
		if err := os.MkdirAll(d, mode); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	if err := resolver(); err != nil {
		return err
	}
	return ownName(c.Hostname)
}

// resolver lays this instance's resolv.conf over the image's, without changing
// the image. Where the image's is a link into /run, what it leads to is made.
func resolver() error {
	const conf = "/etc/resolv.conf"
	if err := os.MkdirAll("/etc", 0o755); err != nil {
		return err
	}
	at, err := filepath.EvalSymlinks(conf)
	if errors.Is(err, fs.ErrNotExist) {
		to, err := os.Readlink(conf)
		switch {
		case err != nil:
			at = conf
		case filepath.IsAbs(to):
			at = to
		default:
			at = filepath.Join("/etc", to)
		}
		if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(at, nil, 0o644); err != nil {
			return err
		}
	} else if err != nil {
		return fmt.Errorf("%s: %w", conf, err)
	}
	return bind(runDir+"/resolv.conf", at)
}

const nameMark = "# this instance, by localcloud"

// ownName gives the instance its name in its files, as cloud-init does; an
// image that was baked here brings the name of the instance it was made of.
func ownName(name string) error {
	if err := replaceIfOther("/etc/hostname", name+"\n"); err != nil {
		return err
	}
	old, err := os.ReadFile("/etc/hosts")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	var hosts strings.Builder
	if len(old) == 0 {
		hosts.WriteString("127.0.0.1 localhost\n::1 localhost\n")
	}
	for line := range strings.Lines(string(old)) {
		if !strings.Contains(line, nameMark) {
			hosts.WriteString(strings.TrimRight(line, "\n") + "\n")
		}
	}
	fmt.Fprintf(&hosts, "127.0.1.1 %s %s\n", name, nameMark)
	return replaceIfOther("/etc/hosts", hosts.String())
}

func replaceIfOther(path, text string) error {
	old, err := os.ReadFile(path)
	if err == nil && string(old) == text {
		return nil
	}
	return os.WriteFile(path, []byte(text), 0o644)
}

// mount mounts at a folder of the image, which is made when missing.
func mount(what, at, kind string, flags uintptr, options string) error {
	if err := os.MkdirAll(at, 0o755); err != nil {
		return fmt.Errorf("mount point %s: %w", at, err)
	}
	if err := unix.Mount(what, at, kind, flags, options); err != nil {
		return fmt.Errorf("mount %s: %w", at, err)
	}
	return nil
}

func readOnly(path string) error {
	if _, err := os.Lstat(path); err != nil {
		return nil // this kernel has no such file
	}
	if err := unix.Mount(path, path, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("protect %s: %w", path, err)
	}
	flags := uintptr(unix.MS_BIND | unix.MS_REMOUNT | unix.MS_RDONLY | unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC)
	if err := unix.Mount("", path, "", flags, ""); err != nil {
		return fmt.Errorf("protect %s: %w", path, err)
	}
	return nil
}

// cover hides a file or folder of /proc or /sys.
func cover(path string) error {
	info, err := os.Lstat(path)
	if err != nil {
		return nil // this kernel has no such file
	}
	if info.IsDir() {
		err = unix.Mount("tmpfs", path, "tmpfs", unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "size=0")
	} else {
		err = unix.Mount("/dev/null", path, "", unix.MS_BIND, "")
	}
	if err != nil {
		return fmt.Errorf("hide %s: %w", path, err)
	}
	return nil
}

func bind(file, over string) error {
	if err := unix.Mount(file, over, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("mount %s: %w", over, err)
	}
	return unix.Mount("", over, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, "")
}

// joinCgroups moves this process into the cgroups that limit the instance.
func joinCgroups(fds []int) error {
	for _, fd := range fds {
		if _, err := unix.Write(fd, []byte("0")); err != nil {
			return fmt.Errorf("join cgroup: %w", err)
		}
	}
	return nil
}

func atoi(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		return -1
	}
	return n
}
