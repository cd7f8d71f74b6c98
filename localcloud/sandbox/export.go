package sandbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/bakehouse-farm/bakehouse/localcloud/sandbox/layer"
)

// ImportLayer makes a layer from a root filesystem as tarball: plain, gzip, xz
// or zstd. Owners, modes, times, links, file capabilities and user attributes
// are kept; devices are skipped, with a note in the log. A tarball that is
// broken, or leads out of its tree, is an error of kind Invalid, and nothing
// is left of it. A layer of that id that was imported before stays as it is.
func (h *Host) ImportLayer(ctx context.Context, id string, tarball io.Reader) error {
	if err := checkID("layer", id); err != nil {
		return err
	}
	return h.layers.Import(ctx, id, tarball, h.log)
}

// exportName is how the executable knows that it is to write a tarball.
const exportName = "localcloud-export"

type export struct {
	Lower []string
	Host  bool
	Dir   string
	At    string // an empty folder to mount at
}

// Export writes what a stack of layers amounts to, topmost first, as a PAX
// tarball, with owners as numbers. Devices and sockets are left out. What was
// written before an error is worth nothing.
func (h *Host) Export(ctx context.Context, layers []string, w io.Writer) error {
	lower, host, err := h.layers.Lower(layers)
	if err != nil {
		return fmt.Errorf("export: %w", err)
	}
	at, err := os.MkdirTemp(h.dir, ".export-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(at)
	arg, err := json.Marshal(export{Lower: lower, Host: host, Dir: h.dir, At: at})
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, h.init)
	cmd.Args = []string{exportName, string(arg)}
	var said strings.Builder
	cmd.Stdout, cmd.Stderr = w, &said
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS, Pdeathsig: unix.SIGKILL}
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return fmt.Errorf("export: %s (%w)", strings.TrimSpace(said.String()), err)
	}
	return nil
}

func exportMain(arg string) error {
	var e export
	if err := json.Unmarshal([]byte(arg), &e); err != nil {
		return err
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := unix.Mount("tmpfs", e.At, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=700"); err != nil {
		return fmt.Errorf("mount tmpfs: %w", err)
	}
	root := filepath.Join(e.At, "root")
	if err := mkdirs(root); err != nil {
		return err
	}
	if len(e.Lower) == 0 {
		return errors.New("no layers")
	}
	if err := layer.Mount(layer.Stack{Lower: e.Lower, Host: e.Host, Dir: e.Dir}, root, e.At); err != nil {
		return err
	}
	return layer.Write(context.Background(), root, os.Stdout)
}
