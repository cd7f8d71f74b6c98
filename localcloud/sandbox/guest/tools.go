package guest

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// PowerTools are the commands that end or restart an instance, by the names
// that images know them.
var PowerTools = []string{"reboot", "poweroff", "halt", "shutdown", "init", "telinit"}

// SystemctlTool is in front of the image's own systemctl, for what concerns
// the power.
const SystemctlTool = "systemctl"

// SpareTools are there for images that have none of their own.
var SpareTools = []string{"sudo", "scp"}

func inInstance() bool {
	_, err := os.Stat(powerSock)
	return err == nil
}

func baseName(path string) string { return filepath.Base(path) }

// tool runs the process as the tool of that name and does not return; for any
// other name it returns.
func tool(name string) {
	var err error
	switch {
	case name == "sudo":
		err = sudo(os.Args[1:])
	case syscall.Geteuid() != syscall.Getuid():
		// The setuid file, under a name that has no business with it.
		err = errors.New("not allowed")
	case slices.Contains(PowerTools, name):
		err = powerTool(name, os.Args[1:])
	case name == SystemctlTool:
		err = systemctl(os.Args[1:])
	case name == "scp":
		err = scp(os.Args[1:])
	default:
		return
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func powerTool(name string, args []string) error {
	request := map[string]string{"reboot": "reboot", "poweroff": "poweroff", "halt": "poweroff"}[name]
	switch name {
	case "init", "telinit":
		if len(args) != 1 {
			return errors.New("which runlevel? 0 powers off, 6 reboots")
		}
		switch args[0] {
		case "0":
			request = "poweroff"
		case "6":
			request = "reboot"
		default:
			return fmt.Errorf("runlevel %s: instances of localcloud only have 0 (power off) and 6 (reboot)", args[0])
		}
	case "shutdown":
		return shutdown(args)
	default:
		for _, a := range args {
			switch a {
			case "--reboot":
				request = "reboot"
			case "-p", "--poweroff", "--halt":
				request = "poweroff"
			case "-f", "--force", "-ff", "-n", "--no-sync", "-w", "--wtmp-only", "-d", "--no-wtmp", "--no-wall":
			default:
				return fmt.Errorf("unknown argument %s", a)
			}
		}
		if slices.Contains(args, "-w") || slices.Contains(args, "--wtmp-only") {
			return nil
		}
	}
	return askPower(request)
}

// shutdown understands [-r|-P|-h|-H|-c] [now|+MINUTES|hh:mm] [message …]. What
// is not now waits in the background, as with systemd.
func shutdown(args []string) error {
	request, when := "poweroff", "+1"
	given := false
	for _, a := range args {
		switch {
		case a == "-r" || a == "--reboot":
			request = "reboot"
		case a == "-P" || a == "-h" || a == "-H" || a == "--poweroff" || a == "--halt" || a == "-hP" || a == "-Ph":
			request = "poweroff"
		case a == "-f" || a == "--no-wall":
		case a == "-c":
			return errors.New("a shutdown cannot be called off here")
		case a == "-k":
			return nil // only the warning, for users who are not there
		case strings.HasPrefix(a, "-"):
			return fmt.Errorf("unknown argument %s", a)
		case !given:
			when, given = a, true
		}
	}
	var wait time.Duration
	switch {
	case when == "now":
	case strings.HasPrefix(when, "+") && atoi(when[1:]) >= 0:
		wait = time.Duration(atoi(when[1:])) * time.Minute
	case atoi(when) >= 0:
		wait = time.Duration(atoi(when)) * time.Minute
	default:
		at, err := time.ParseInLocation("15:04", when, time.Local)
		if err != nil {
			return fmt.Errorf("time %q: now, +MINUTES or hh:mm", when)
		}
		now := time.Now()
		wait = time.Date(now.Year(), now.Month(), now.Day(), at.Hour(), at.Minute(), 0, 0, time.Local).Sub(now)
		if wait < 0 {
			wait += 24 * time.Hour
		}
	}
	if wait == 0 {
		return askPower(request)
	}
	if os.Geteuid() != 0 {
		return errors.New("must be root")
	}
	fmt.Fprintf(os.Stderr, "Shutdown scheduled for %s.\n", time.Now().Add(wait).Format(time.RFC1123))
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	_, err = os.StartProcess("/bin/sh", []string{"sh", "-c", fmt.Sprintf("sleep %d; exec /usr/local/sbin/%s", int(wait.Seconds()), request)},
		&os.ProcAttr{Dir: "/", Env: []string{"PATH=" + pathEnv}, Files: []*os.File{null, null, null}, Sys: &syscall.SysProcAttr{Setsid: true}})
	return err
}

// askPower tells PID 1 what is wanted and returns when it agreed.
func askPower(request string) error {
	if os.Geteuid() != 0 {
		return errors.New("must be root")
	}
	c, err := net.DialTimeout("unix", powerSock, 5*time.Second)
	if err != nil {
		return err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := fmt.Fprintln(c, request); err != nil {
		return err
	}
	answer, err := bufio.NewReader(c).ReadString('\n')
	if err != nil {
		return err
	}
	if answer != "ok\n" {
		return errors.New(strings.TrimSpace(answer))
	}
	return nil
}

// systemctl answers what concerns the power, and leaves the rest to the
// image's own.
func systemctl(args []string) error {
	for _, a := range args {
		if strings.HasPrefix(a, "-") {
			continue
		}
		switch a {
		case "reboot", "kexec", "soft-reboot":
			return askPower("reboot")
		case "poweroff", "halt":
			return askPower("poweroff")
		}
		break
	}
	for _, real := range []string{"/usr/bin/systemctl", "/bin/systemctl"} {
		err := unix.Exec(real, append([]string{"systemctl"}, args...), os.Environ())
		if !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%s: %w", real, err)
		}
	}
	return errors.New("this image has no systemd")
}
