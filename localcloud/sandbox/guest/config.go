// Package guest is what runs inside an instance: PID 1 with its SSH server,
// the processes of logins, and the tools that speak to PID 1.
//
// PID 1 comes to be in two steps. Boot, in new namespaces but still with the
// host's files and all rights, makes the root filesystem and gives the rights
// up for ever. Then it executes itself again, as Init, from within the
// instance: nothing of the host is left in its memory, open files or rights.
package guest

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// Config is what the shim tells Boot, and Boot tells Init.
type Config struct {
	Root      string            // the mounted root, as the shim sees it
	Init      string            // this executable, as the shim sees it
	Hostname  string            //
	Addr      string            // IPv4 address of the instance
	Keys      []string          // authorized_keys lines good for every login
	HostKeys  []string          // private host keys, PEM
	UserData  []byte            // to be run at this boot; empty: nothing
	Metadata  map[string]string //
	BootID    string            // a UUID, new for each boot
	Resolvers []string          // addresses of name servers
	Cgroups   int               // how many descriptors from FirstCgroup on are cgroup.procs files
}

// Descriptors that the shim opens for Boot, which leaves them to Init.
const (
	ConfigFD    = 3 // a Config as JSON
	ReportFD    = 4 // Init says here that it is ready, or what is wrong
	LifelineFD  = 5 // a byte: stop in peace; its end: the shim is dead
	FirstCgroup = 6 // cgroup.procs of the cgroups of the instance's processes
)

// How Init exits: the shim reads the instance's fate from it.
const (
	ExitStopped  = 0
	ExitFailed   = 1
	ExitReboot   = 10
	ExitPowerOff = 11
)

// Ready is what Init writes to ReportFD when SSH listens. Anything else is an
// error message.
const Ready = "ready\n"

// Names under which the executable knows what to be: argv[0].
const (
	BootName    = "localcloud-boot"
	InitName    = "localcloud-init"
	SessionName = "localcloud-session"
)

// Paths inside.
const (
	runDir     = "/run/bakehouse"
	initPath   = runDir + "/bin/init" // without setuid
	rootPath   = runDir + "/bin/root" // the same file, setuid counts: sudo
	powerSock  = runDir + "/power.sock"
	pathEnv    = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	bootIDPath = runDir + "/boot_id"
)

// ToolPath and SudoPath are where the links of the tools lead to.
const (
	ToolPath = initPath
	SudoPath = rootPath
)

func readConfig() (Config, error) {
	var c Config
	f := os.NewFile(ConfigFD, "config")
	defer f.Close()
	b, err := io.ReadAll(f)
	if err != nil {
		return c, fmt.Errorf("read config: %w", err)
	}
	if len(b) == 0 {
		return c, errors.New("read config: the shim has given up")
	}
	return c, json.Unmarshal(b, &c)
}

// passConfig leaves the config at ConfigFD for what is executed next.
func passConfig(c Config) error {
	b, err := json.Marshal(c)
	if err != nil {
		return err
	}
	fd, err := unix.MemfdCreate("config", 0)
	if err != nil {
		return err
	}
	if _, err := unix.Pwrite(fd, b, 0); err != nil {
		return err
	}
	if fd == ConfigFD {
		return nil
	}
	return unix.Dup3(fd, ConfigFD, 0)
}

// Main runs whatever the process was started as, by its name, and does not
// return then. For any other name it returns.
func Main() {
	switch name := baseName(os.Args[0]); name {
	case BootName:
		Boot()
	case InitName:
		Init()
	case SessionName:
		Session()
	default:
		if inInstance() {
			tool(name)
		}
	}
	if os.Geteuid() != os.Getuid() {
		// The setuid file under a name that has no business with it.
		fmt.Fprintln(os.Stderr, "not allowed")
		os.Exit(126)
	}
}
