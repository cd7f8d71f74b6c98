package layer

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// A Stack is what overlayfs makes one tree of.
type Stack struct {
	Lower []string // read-only folders, topmost first
	Host  bool     // whether the host's root lies below Lower
	Dir   string   // a folder on the filesystem that Lower and Upper are on
	Upper string   // folder that takes what is written; empty: read-only
	Work  string   // empty folder on Upper's filesystem, used once
}

// Mount mounts the stack at target. scratch is an empty folder on a tmpfs, for
// what is needed on the way. The caller has a mount namespace of its own, whose
// end is the end of the mounts.
//
// Writes are not made durable by fsync: an instance is as lost as the host's
// page cache when the host loses power. Freeze syncs.
func Mount(s Stack, target, scratch string) error {
	lower := append([]string(nil), s.Lower...)
	if s.Host {
		root, err := hostRoot(s.Dir, scratch)
		if err != nil {
			return err
		}
		lower = append(lower, root)
	}
	if s.Upper == "" && len(lower) == 1 {
		// overlayfs wants two where nothing can be written.
		none := filepath.Join(scratch, "none")
		if err := os.MkdirAll(none, 0o755); err != nil {
			return err
		}
		lower = append(lower, none)
	}
	options := [][2]string{{"redirect_dir", "on"}, {"index", "off"}, {"metacopy", "off"}, {"xino", "off"}}
	if s.Upper == "" {
		options = options[1:]
	} else {
		options = append(options, [2]string{"upperdir", s.Upper}, [2]string{"workdir", s.Work}, [2]string{"volatile", ""})
	}
	err := overlay(lower, options, target, unix.MOUNT_ATTR_NODEV)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.EINVAL) && s.Upper != "" && onOverlay(s.Upper):
		return fmt.Errorf("mount root: %s is itself on an overlay, which overlayfs cannot write to: "+
			"choose a state folder on another filesystem (a volume, or a tmpfs)", s.Upper)
	case errors.Is(err, unix.EINVAL) && s.Host:
		return fmt.Errorf("mount root: %w (is the host's root itself an overlay? then put the state folder on another filesystem)", err)
	}
	return fmt.Errorf("mount root: %w", err)
}

// hostRoot returns a folder that shows the host's root. overlayfs refuses
// layers that lie within each other, so where the state folder is on the
// root's own filesystem, the root is shown through an overlay of its own.
func hostRoot(dir, scratch string) (string, error) {
	var root, state unix.Stat_t
	if err := unix.Stat("/", &root); err != nil {
		return "", err
	}
	if err := unix.Stat(dir, &state); err != nil {
		return "", err
	}
	if root.Dev != state.Dev {
		return "/", nil
	}
	none, at := filepath.Join(scratch, "nothing"), filepath.Join(scratch, "host")
	for _, d := range []string{none, at} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return "", err
		}
	}
	if err := overlay([]string{none, "/"}, nil, at, unix.MOUNT_ATTR_NODEV); err != nil {
		return "", fmt.Errorf("mount the host's root: %w", err)
	}
	return at, nil
}

func onOverlay(path string) bool {
	var st unix.Statfs_t
	return unix.Statfs(path, &st) == nil && st.Type == unix.OVERLAYFS_SUPER_MAGIC
}

// overlay mounts by the new calls, which take any number of layers and any
// character in their paths, or by the old one where the kernel lacks lowerdir+
// (before 6.5).
func overlay(lower []string, options [][2]string, target string, attr int) error {
	err := overlayNew(lower, options, target, attr)
	if err == nil || !(errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS)) {
		return err
	}
	if old := overlayOld(lower, options, target); old == nil {
		return nil
	}
	return err
}

func overlayNew(lower []string, options [][2]string, target string, attr int) error {
	fs, err := unix.Fsopen("overlay", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return fmt.Errorf("fsopen overlay: %w", err)
	}
	defer unix.Close(fs)
	for _, l := range lower {
		if err := unix.FsconfigSetString(fs, "lowerdir+", l); err != nil {
			return fmt.Errorf("layer %s: %w", l, err)
		}
	}
	for _, o := range options {
		if o[1] == "" {
			err = unix.FsconfigSetFlag(fs, o[0])
		} else {
			err = unix.FsconfigSetString(fs, o[0], o[1])
		}
		if err != nil {
			return fmt.Errorf("overlay %s=%s: %w", o[0], o[1], err)
		}
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return fmt.Errorf("overlay: %w", err)
	}
	mnt, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, attr)
	if err != nil {
		return fmt.Errorf("fsmount overlay: %w", err)
	}
	defer unix.Close(mnt)
	if err := unix.MoveMount(mnt, "", unix.AT_FDCWD, target, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("move overlay to %s: %w", target, err)
	}
	return nil
}

func overlayOld(lower []string, options [][2]string, target string) error {
	var data []string
	for _, l := range lower {
		if strings.ContainsAny(l, ":,\\") {
			return fmt.Errorf("layer %s: this kernel takes no : , or \\ in the path of a layer", l)
		}
	}
	data = append(data, "lowerdir="+strings.Join(lower, ":"))
	for _, o := range options {
		if o[1] == "" {
			data = append(data, o[0])
		} else {
			data = append(data, o[0]+"="+o[1])
		}
	}
	all := strings.Join(data, ",")
	if len(all) >= os.Getpagesize() {
		return fmt.Errorf("%d layers are too many for this kernel (6.5 and later take more)", len(lower))
	}
	return unix.Mount("overlay", target, "overlay", unix.MS_NODEV, all)
}
