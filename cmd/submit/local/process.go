package local

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/bakehouse-farm/bakehouse/internal/proc"
)

// A process is one of ours in the background.
type process struct {
	PID int `json:"pid"`
	// Birth tells our process from a later one with the same number: the boot
	// and, within it, the clock tick of its start.
	Birth string `json:"birth"`
	// Started is when, for people.
	Started time.Time `json:"started"`
	// Address is where it listens, UI where its web interface does.
	Address string `json:"address,omitempty"`
	UI      string `json:"ui,omitempty"`
	// Args is how it was called, Program which file it was.
	Args    []string `json:"args"`
	Program string   `json:"program"`
	// Log is the file that it writes to, From where in it this process begins.
	Log  string `json:"log"`
	From int64  `json:"from"`
	// Ready tells that it has said that it is.
	Ready bool `json:"ready"`
}

// alive tells whether the process runs.
func (p *process) alive() bool {
	birth, ok := birthOf(p.PID)
	return ok && birth == p.Birth
}

// signal sends a signal to this process, never to another with its number.
func (p *process) signal(s syscall.Signal) {
	if p.alive() {
		_ = syscall.Kill(p.PID, s) // that it has just ended is what is wanted
	}
}

// end asks the process to end, and makes it after patience.
func (p *process) end(patience time.Duration) {
	p.signal(syscall.SIGTERM)
	if p.gone(patience) {
		return
	}
	p.signal(syscall.SIGKILL)
	p.gone(5 * time.Second)
}

func (p *process) gone(patience time.Duration) bool {
	for deadline := time.Now().Add(patience); p.alive(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			return false
		}
	}
	return true
}

// birthOf says when the process with this number was born, and whether it is
// still there; one that has ended and was not waited for is not.
func birthOf(pid int) (string, bool) {
	p, ok := proc.Read(pid)
	if !ok || p.Ended() {
		return "", false
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", false
	}
	return strings.TrimSpace(string(boot)) + "/" + strconv.FormatUint(p.Start, 10), true
}

// fingerprint tells one file of a program from the one that replaces it when
// the programs are built anew.
func fingerprint(path string) string {
	info, err := os.Stat(path)
	if err != nil {
		return path
	}
	return fmt.Sprintf("%s@%d+%d", path, info.ModTime().UnixNano(), info.Size())
}

// marker is in the environment of our processes. Whoever started one and died
// before noting it down leaves a process that is found by it.
const marker = "BAKEHOUSE_LOCAL_PROCESS="

func (p *process) mark(state, name string) string {
	return marker + strings.Join([]string{name, strconv.FormatInt(p.From, 10), p.Address, p.UI, p.Log, p.Program, state}, "|")
}

// find looks for a process of the set that is not in the record.
func find(state, name, verb string) *process {
	environs, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, path := range environs {
		env, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended, or is not ours
		}
		dir := filepath.Dir(path)
		pid, _ := strconv.Atoi(filepath.Base(dir))
		for _, v := range strings.Split(string(env), "\x00") {
			rest, ok := strings.CutPrefix(v, marker+name+"|")
			if !ok {
				continue
			}
			f := strings.SplitN(rest, "|", 6)
			birth, alive := birthOf(pid)
			args := argsOf(dir)
			// Instances of localcloud are children with the same environment. The
			// program itself stands before its first argument when it is a script.
			first := slices.Index(args, verb)
			if len(f) != 6 || f[5] != state || !alive || first < 0 || first > 1 {
				continue
			}
			from, _ := strconv.ParseInt(f[0], 10, 64)
			return &process{
				PID: pid, Birth: birth, Started: time.Now(), From: from,
				Address: f[1], UI: f[2], Log: f[3], Program: f[4], Args: args[first:],
			}
		}
	}
	return nil
}

// argsOf returns the arguments of a process behind its name.
func argsOf(dir string) []string {
	data, err := os.ReadFile(filepath.Join(dir, "cmdline"))
	if err != nil {
		return nil
	}
	args := strings.Split(strings.TrimSuffix(string(data), "\x00"), "\x00")
	if len(args) < 2 {
		return nil
	}
	return args[1:]
}
