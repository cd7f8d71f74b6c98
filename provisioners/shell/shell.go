// Package shell is Packer's shell provisioner: it runs scripts on the machine.
package shell

import (
	"bytes"
	"context"
	"fmt"
	"hash/fnv"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/bakehouse-farm/bakehouse"
	"github.com/bakehouse-farm/bakehouse/communicator"
	"github.com/bakehouse-farm/bakehouse/provisioners"
	"github.com/bakehouse-farm/bakehouse/template/interpolate"
)

// A Provisioner implements provisioners.Provisioner.
type Provisioner struct{}

var _ provisioners.Provisioner = (*Provisioner)(nil)

// New returns the shell provisioner.
func New() *Provisioner { return &Provisioner{} }

// Settings implements bakehouse.Component.
func (*Provisioner) Settings() any {
	return &Settings{StartRetryTimeout: bakehouse.Duration(5 * time.Minute)}
}

// A script is one of those that a block runs.
type script struct {
	name    string // as the user sees it
	content []byte
}

// Provision implements provisioners.Provisioner. The scripts run one after the
// other, each of them once: whether one has been started is asked of the
// machine before anything is sent to it.
func (*Provisioner) Provision(ctx context.Context, w provisioners.Work) error {
	s, err := read(w.Settings)
	if err != nil {
		return err
	}
	scripts, err := s.load(w)
	if err != nil {
		return err
	}
	r := run{Work: w, settings: s, path: s.remotePath(w)}
	for i, sc := range scripts {
		bakehouse.LogOf(ctx).Say("Provisioning with shell script: " + sc.name)
		if err := r.script(ctx, i, sc); err != nil {
			return err
		}
	}
	if pause := time.Duration(s.PauseAfter); pause > 0 {
		bakehouse.LogOf(ctx).Say(fmt.Sprintf("Pausing %s after this provisioner...", pause))
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

// load reads the scripts.
func (s Settings) load(w provisioners.Work) ([]script, error) {
	if len(s.Inline) > 0 {
		// Packer shows the temporary file that it makes of them.
		return []script{{name: "/tmp/packer-shell" + number(w), content: s.inline()}}, nil
	}
	var all []script
	for _, name := range s.files() {
		content, err := os.ReadFile(w.Files.Path(name))
		if err != nil {
			return nil, bakehouse.Errorf(bakehouse.Invalid, "Bad script '%s': %s", name, bare(err, name))
		}
		if !s.Binary {
			content = bytes.ReplaceAll(content, []byte("\r\n"), []byte("\n"))
		}
		all = append(all, script{name: name, content: content})
	}
	if len(all) == 0 {
		return nil, bakehouse.Errorf(bakehouse.Invalid, "Either a script file or inline script must be specified.")
	}
	return all, nil
}

func (s Settings) inline() []byte {
	var b bytes.Buffer
	switch {
	case s.InlineShebang != nil:
		b.WriteString("#!" + *s.InlineShebang + "\n")
	case !strings.HasPrefix(s.Inline[0], "#!"):
		b.WriteString("#!/bin/sh -e\n")
	}
	for _, line := range s.Inline {
		b.WriteString(line + "\n")
	}
	if s.Binary {
		return b.Bytes()
	}
	return bytes.ReplaceAll(b.Bytes(), []byte("\r\n"), []byte("\n"))
}

// number stands where Packer draws one at random: the same for each call of
// the same step, as another agent must find what this one left.
func number(w provisioners.Work) string {
	h := fnv.New32a()
	fmt.Fprintf(h, "%s\x00%s", w.Build.ID, w.ID)
	return strconv.FormatUint(uint64(h.Sum32()), 10)
}

func (s Settings) remotePath(w provisioners.Work) string {
	if s.RemotePath != "" {
		return s.RemotePath
	}
	name := s.RemoteFile
	if name == "" {
		name = "script_" + number(w) + ".sh"
	}
	return path.Join(s.RemoteFolder, name)
}

// A run is one call of Provision.
type run struct {
	provisioners.Work
	settings Settings
	path     string // of the script on the machine
}

// script runs one script, or follows it where it is.
func (r run) script(ctx context.Context, i int, sc script) error {
	id := r.ID + "." + strconv.Itoa(i)
	known, err := r.Machine.Probe(ctx, id)
	if err != nil {
		return ended(ctx, fmt.Errorf("look for script %s on the machine: %w", sc.name, err))
	}
	vars := r.vars()
	if known == communicator.None {
		if err := r.bring(ctx, sc, vars); err != nil {
			return ended(ctx, err)
		}
	}
	line, err := r.line(vars)
	if err != nil {
		return err
	}
	codes := r.settings.ValidExitCodes
	expect := r.settings.ExpectDisconnect || slices.Contains(codes, disconnected)
	result, err := r.Machine.Run(ctx, communicator.Command{ID: id, Line: line, Env: r.Env, ExpectDisconnect: expect},
		r.Output.Offset(id), r.Output.Sink(id))
	switch {
	case err == nil:
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case bakehouse.KindOf(err) == bakehouse.Lost:
		return bakehouse.Errorf(bakehouse.Lost, "Script disconnected unexpectedly. "+
			"If it is meant to, for example to reboot the machine, set expect_disconnect = true "+
			"or valid_exit_codes = [0, %d] in the shell provisioner: %w", disconnected, err)
	default:
		return fmt.Errorf("run %s: %w", sc.name, err)
	}
	if !result.Disconnected && !slices.Contains(codes, result.Exit) {
		return bakehouse.Errorf(bakehouse.Script, "Script exited with non-zero exit status: %d. Allowed exit codes are: %v", result.Exit, codes)
	}
	if r.settings.SkipClean {
		return nil
	}
	return ended(ctx, r.clean(ctx))
}

// ended lets the end of the context speak for itself.
func ended(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// bring brings the script, and the file of variables, to the machine, which
// may be rebooting. Nothing has been started yet, so all of it may be repeated.
func (r run) bring(ctx context.Context, sc script, vars string) error {
	limit := time.Now().Add(time.Duration(r.settings.StartRetryTimeout))
	for {
		err := r.upload(ctx, sc, vars)
		if err == nil || bakehouse.KindOf(err).Final() || ctx.Err() != nil {
			return err
		}
		if time.Now().After(limit) {
			return bakehouse.Errorf(bakehouse.Timeout, "upload script within start_retry_timeout (%s): %w", time.Duration(r.settings.StartRetryTimeout), err)
		}
		select {
		case <-time.After(2 * time.Second):
		case <-ctx.Done():
		}
	}
}

func (r run) upload(ctx context.Context, sc script, vars string) error {
	if r.settings.UseEnvVarFile {
		if err := r.Machine.Upload(ctx, r.varFile(), strings.NewReader(vars), 0o600); err != nil {
			return fmt.Errorf("upload of the environment variables: %w", err)
		}
	}
	if err := r.Machine.Upload(ctx, r.path, bytes.NewReader(sc.content), 0o755); err != nil {
		return fmt.Errorf("upload script: %w", err)
	}
	return nil
}

func (r run) varFile() string {
	return path.Join(r.settings.RemoteFolder, "varfile_"+number(r.Work)+".sh")
}

// clean removes what bring brought.
func (r run) clean(ctx context.Context) error {
	names := []string{r.path}
	if r.settings.UseEnvVarFile {
		names = append(names, r.varFile())
	}
	for _, name := range names {
		result, out, err := r.Machine.Exec(ctx, "rm -f "+name)
		if err == nil && result.Exit != 0 {
			err = bakehouse.Errorf(bakehouse.Script, "exit status %d: %s", result.Exit, bytes.TrimSpace(out))
		}
		if err != nil {
			return fmt.Errorf("remove temporary script at %s: %w", name, err)
		}
	}
	return nil
}

// vars makes the assignments of all variables, in the order of their names.
func (r run) vars() string {
	all := map[string]string{"PACKER_BUILD_NAME": r.Build.Source, "PACKER_BUILDER_TYPE": r.Build.Type}
	for _, kv := range r.settings.EnvironmentVars {
		name, value, _ := strings.Cut(kv, "=")
		all[name] = value
	}
	for name, value := range r.settings.Env {
		all[name] = value
	}
	names := make([]string, 0, len(all))
	for name := range all {
		names = append(names, name)
	}
	slices.Sort(names)
	var b strings.Builder
	for _, name := range names {
		fmt.Fprintf(&b, r.settings.EnvVarFormat, name, strings.ReplaceAll(all[name], "'", `'"'"'`))
	}
	return b.String()
}

// line renders execute_command.
func (r run) line(vars string) (string, error) {
	data := map[string]any{"Path": r.path, "Vars": vars, "EnvVarFile": ""}
	if r.settings.UseEnvVarFile {
		// The file holds them; the command line, which ps shows, does not.
		data["Vars"], data["EnvVarFile"] = "", r.varFile()
	}
	line, err := interpolate.Render(r.settings.ExecuteCommand, interpolate.Context{
		Time: r.Build.Started, Seed: string(r.Build.ID) + r.ID,
		BuildName: r.Build.Source, BuildType: r.Build.Type, Data: data,
	})
	if err != nil {
		return "", bakehouse.Errorf(bakehouse.Invalid, "Error processing command: %w", err)
	}
	return line, nil
}
