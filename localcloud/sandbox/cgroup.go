package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// defaultPids is how many processes and threads an instance may have.
const defaultPids = 4096

// cgroups are the control groups of one instance: in each hierarchy one for
// PID 1, which no limit may hit, and in it or beside it one for all others.
type cgroups struct {
	Dirs  []string `json:"dirs"`  // all, innermost first
	Init  []string `json:"init"`  // those that PID 1 joins
	Guest []string `json:"guest"` // those that its processes join
}

// hierarchies tells where the controllers are.
type hierarchies struct {
	v1 map[string]string // controller → this process's cgroup there
	v2 string            // where cgroup2 is mounted; empty: nowhere
}

func findHierarchies() (hierarchies, error) {
	h := hierarchies{v1: map[string]string{}}
	own := map[string]string{}
	b, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return h, err
	}
	for line := range strings.Lines(string(b)) {
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(f) < 3 {
			continue
		}
		for c := range strings.SplitSeq(f[1], ",") {
			own[c] = f[2]
		}
	}
	b, err = os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return h, err
	}
	for line := range strings.Lines(string(b)) {
		before, after, ok := strings.Cut(strings.TrimSpace(line), " - ")
		f, g := strings.Fields(before), strings.Fields(after)
		if !ok || len(f) < 5 || len(g) < 3 {
			continue
		}
		root, at := f[3], f[4]
		switch g[0] {
		case "cgroup2":
			h.v2 = at
		case "cgroup":
			for c := range strings.SplitSeq(g[2], ",") {
				if path, ok := own[c]; ok {
					h.v1[c] = filepath.Join(at, strings.TrimPrefix(path, strings.TrimSuffix(root, "/")))
				}
			}
		}
	}
	return h, nil
}

// makeCgroups makes the control groups called name.
func makeCgroups(name string, memory, pids int64) (c cgroups, err error) {
	defer func() {
		if err != nil {
			c.remove()
		}
	}()
	h, err := findHierarchies()
	if err != nil {
		return c, fmt.Errorf("cgroups: %w", err)
	}
	if pids == 0 {
		pids = defaultPids
	}
	limits := []struct {
		controller, v1, v2 string
		value              int64
	}{
		{"pids", "pids.max", "pids.max", pids},
		{"memory", "memory.limit_in_bytes", "memory.max", memory},
	}
	v2 := map[string]int64{} // file → value
	var controllers []string
	for _, l := range limits {
		if l.value == 0 {
			continue
		}
		base, ok := h.v1[l.controller]
		if !ok {
			v2[l.v2] = l.value
			controllers = append(controllers, l.controller)
			continue
		}
		outer := filepath.Join(base, name)
		inner := filepath.Join(outer, "guest")
		c.Dirs = append([]string{inner, outer}, c.Dirs...)
		c.Init = append(c.Init, outer)
		c.Guest = append(c.Guest, inner)
		if err := mkdirs(outer, inner); err != nil {
			return c, fmt.Errorf("limit %s: %w", l.controller, err)
		}
		if err := os.WriteFile(filepath.Join(inner, l.v1), []byte(strconv.FormatInt(l.value, 10)), 0); err != nil {
			return c, fmt.Errorf("limit %s: %w", l.controller, err)
		}
	}
	if len(v2) == 0 {
		return c, nil
	}
	if h.v2 == "" {
		return c, fmt.Errorf("limit %s: no such cgroup controller is mounted below /sys/fs/cgroup", strings.Join(controllers, ", "))
	}
	return c, c.unified(h.v2, name, controllers, v2)
}

// unified makes the groups in the hierarchy of version 2, where a group has
// either processes or limited groups in it: so both of ours are leaves.
func (c *cgroups) unified(mounted, name string, controllers []string, files map[string]int64) error {
	outer := filepath.Join(mounted, name)
	first, guest := filepath.Join(outer, "init"), filepath.Join(outer, "guest")
	c.Dirs = append([]string{guest, first, outer}, c.Dirs...)
	c.Init = append(c.Init, first)
	c.Guest = append(c.Guest, guest)
	enable := "+" + strings.Join(controllers, " +")
	if err := os.WriteFile(filepath.Join(mounted, "cgroup.subtree_control"), []byte(enable), 0); err != nil {
		return fmt.Errorf("enable cgroup controllers %s in %s: %w", strings.Join(controllers, ", "), mounted, err)
	}
	if err := mkdirs(outer); err != nil {
		return fmt.Errorf("cgroup: %w", err)
	}
	if err := os.WriteFile(filepath.Join(outer, "cgroup.subtree_control"), []byte(enable), 0); err != nil {
		return fmt.Errorf("enable cgroup controllers: %w", err)
	}
	if err := mkdirs(first, guest); err != nil {
		return fmt.Errorf("cgroup: %w", err)
	}
	for file, value := range files {
		if err := os.WriteFile(filepath.Join(guest, file), []byte(strconv.FormatInt(value, 10)), 0); err != nil {
			return fmt.Errorf("limit %s: %w", file, err)
		}
	}
	return nil
}

func mkdirs(dirs ...string) error {
	for _, d := range dirs {
		if err := os.Mkdir(d, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return nil
}

// adopt puts PID 1 into its groups.
func (c cgroups) adopt(pid int) error {
	for _, d := range c.Init {
		if err := os.WriteFile(filepath.Join(d, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0); err != nil {
			return fmt.Errorf("join cgroup: %w", err)
		}
	}
	return nil
}

// doors opens the files by which the instance's processes join their groups.
func (c cgroups) doors() ([]*os.File, error) {
	var files []*os.File
	for _, d := range c.Guest {
		f, err := os.OpenFile(filepath.Join(d, "cgroup.procs"), os.O_WRONLY, 0)
		if err != nil {
			for _, f := range files {
				f.Close()
			}
			return nil, fmt.Errorf("open cgroup: %w", err)
		}
		files = append(files, f)
	}
	return files, nil
}

// remove kills whatever is in the groups and removes them. It waits two
// seconds at most for the kernel to let go.
func (c cgroups) remove() {
	for end := time.Now().Add(2 * time.Second); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		left := false
		for _, d := range c.Dirs {
			err := unix.Rmdir(d)
			if err == nil || errors.Is(err, unix.ENOENT) {
				continue
			}
			left = true
			b, err := os.ReadFile(filepath.Join(d, "cgroup.procs"))
			if err != nil {
				continue
			}
			for pid := range strings.FieldsSeq(string(b)) {
				if n, err := strconv.Atoi(pid); err == nil && n > 1 {
					_ = unix.Kill(n, unix.SIGKILL)
				}
			}
		}
		if !left {
			return
		}
	}
}
