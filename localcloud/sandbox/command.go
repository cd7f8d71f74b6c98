package sandbox

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/bakehouse-farm/bakehouse"
	"github.com/bakehouse-farm/bakehouse/localcloud/sandbox/guest"
)

// enterName is how the executable knows that it is to run a command inside an
// instance.
const enterName = "localcloud-enter"

// Command prepares argv to run as root inside a running instance, under its
// limits. The caller sets standard input, output and error and runs it; its
// exit code is the command's. Empty argv means root's login shell.
func (h *Host) Command(ctx context.Context, id string, argv []string) (*exec.Cmd, error) {
	if err := checkID("instance", id); err != nil {
		return nil, err
	}
	in := h.instance(id)
	pid, err := in.shim()
	if err != nil {
		return nil, err
	}
	if pid == 0 {
		return nil, bakehouse.Errorf(bakehouse.Conflict, "command in instance %s: it does not run", id)
	}
	st, err := in.state()
	if err != nil {
		return nil, err
	}
	e := guest.Entry{Init: st.Init, Shim: pid, Argv: argv, Term: os.Getenv("TERM")}
	for _, d := range st.Cgroups.Guest {
		e.Cgroups = append(e.Cgroups, filepath.Join(d, "cgroup.procs"))
	}
	arg, err := json.Marshal(e)
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, h.init)
	cmd.Args = []string{enterName, string(arg)}
	return cmd, nil
}

func enterMain(arg string) error {
	var e guest.Entry
	if err := json.NewDecoder(strings.NewReader(arg)).Decode(&e); err != nil {
		return fmt.Errorf("enter: %w", err)
	}
	code, err := guest.Enter(e)
	if err != nil {
		return fmt.Errorf("enter instance: %w", err)
	}
	os.Exit(code)
	return nil
}
