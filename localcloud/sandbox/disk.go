package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"github.com/bakehouse-farm/bakehouse"
)

// A disk of limited size is a tmpfs at disk/ in the instance's folder, with the
// folders upper and work in it. It is mounted where the Host lives, so that it
// outlives shims and Hosts; only Remove takes it away.

// smallestDisk has room for what an instance writes as it boots.
const smallestDisk = 1 << 20

// upper is where what the instance writes is.
func (i instanceDir) upper() string {
	if i.limited() {
		return i.path("disk", "upper")
	}
	return i.path("upper")
}

// work is overlayfs's own folder, on the same filesystem.
func (i instanceDir) work() string {
	if i.limited() {
		return i.path("disk", "work")
	}
	return i.path("work")
}

// limited tells whether the instance has a disk of limited size.
func (i instanceDir) limited() bool {
	_, err := os.Stat(i.path("disk"))
	return err == nil
}

// mounted tells whether its limited disk is there.
func (i instanceDir) mounted() (bool, error) {
	var outer, inner unix.Stat_t
	if err := unix.Stat(i.dir, &outer); err != nil {
		return false, err
	}
	err := unix.Stat(i.path("disk"), &inner)
	if errors.Is(err, unix.ENOENT) {
		return false, nil
	}
	return inner.Dev != outer.Dev, err
}

// attach gives the instance its limited disk, unless it has it.
func (i instanceDir) attach(size int64) error {
	if size < smallestDisk {
		return bakehouse.Errorf(bakehouse.Invalid, "a disk has at least %d bytes, not %d", smallestDisk, size)
	}
	ok, err := i.mounted()
	if err != nil || ok {
		return err
	}
	if _, err := os.Stat(i.path("booted")); err == nil {
		return bakehouse.Errorf(bakehouse.NotFound, "its disk was in memory, and is gone since this machine was restarted")
	}
	if err := mkdirs(i.path("disk")); err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", i.path("disk"), "tmpfs", unix.MS_NODEV|unix.MS_NOSUID, fmt.Sprintf("mode=700,size=%d", size)); err != nil {
		return fmt.Errorf("mount disk: %w", err)
	}
	return nil
}

// detach takes the limited disk away, with all that is on it.
func (i instanceDir) detach() error {
	ok, err := i.mounted()
	if errors.Is(err, unix.ENOENT) || err == nil && !ok {
		return nil
	}
	if err != nil {
		return err
	}
	if err := unix.Unmount(i.path("disk"), unix.MNT_DETACH); err != nil {
		return fmt.Errorf("unmount disk: %w", err)
	}
	return nil
}

// resize makes the limited disk as large as size says.
func (i instanceDir) resize(size int64) error {
	return unix.Mount("tmpfs", i.path("disk"), "tmpfs", unix.MS_REMOUNT|unix.MS_NODEV|unix.MS_NOSUID, fmt.Sprintf("size=%d", size))
}

// Fill leaves no room on the disk of a running instance: whatever writes more
// than there is gets ENOSPC, as if a file had taken the rest. Only a disk of
// limited size (Spec.Disk) can be filled; another is shared with this machine,
// and that is an error of kind Invalid. A restart leaves the disk full.
func (h *Host) Fill(id string) error {
	in, _, err := h.running("fill disk of", id)
	if err != nil {
		return err
	}
	if ok, err := in.mounted(); err != nil {
		return fmt.Errorf("fill disk of instance %s: %w", id, err)
	} else if !ok {
		return bakehouse.Errorf(bakehouse.Invalid, "fill disk of instance %s: it shares the disk of this machine: serve with -disk SIZE to give instances disks of their own", id)
	}
	// It writes while we look: until there is nothing left.
	for range 100 {
		var st unix.Statfs_t
		if err := unix.Statfs(in.path("disk"), &st); err != nil {
			return fmt.Errorf("fill disk of instance %s: %w", id, err)
		}
		if st.Bavail == 0 {
			return nil
		}
		used := max(int64(st.Blocks-st.Bfree), 1) * st.Bsize // size=0 would mean no limit
		if err := in.resize(used); err != nil && !errors.Is(err, unix.EINVAL) {
			return fmt.Errorf("fill disk of instance %s: %w", id, err)
		}
		if st.Blocks == 1 {
			return nil
		}
	}
	return fmt.Errorf("fill disk of instance %s: it gives room back as fast as we take it", id)
}

// Free takes Fill back.
func (h *Host) Free(id string) error {
	if err := checkID("instance", id); err != nil {
		return err
	}
	in := h.instance(id)
	ok, err := in.mounted()
	if err != nil || !ok {
		return bakehouse.Errorf(bakehouse.Conflict, "free disk of instance %s: it has none of its own", id)
	}
	spec, err := in.spec()
	if err == nil {
		err = in.resize(spec.Disk)
	}
	if err != nil {
		return fmt.Errorf("free disk of instance %s: %w", id, err)
	}
	return nil
}

// freezeDisk makes what is on a limited disk a layer: by a copy, for layers
// live on the filesystem of the state folder.
func (h *Host) freezeDisk(ctx context.Context, in instanceDir, layer string) error {
	half := in.path("frozen")
	if !h.layers.Has(layer) {
		if err := os.RemoveAll(half); err != nil {
			return err
		}
		if err := copyTree(ctx, in.upper(), half); err != nil {
			return fmt.Errorf("copy disk: %w", err)
		}
	}
	if err := h.layers.Adopt(layer, in.id, half); err != nil {
		return err
	}
	return os.RemoveAll(half)
}

// clear empties a limited disk whose content has become a layer.
func (i instanceDir) clear() error {
	if !i.limited() {
		return nil
	}
	err := os.RemoveAll(i.upper())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
