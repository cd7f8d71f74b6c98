// Package shell is the provisioner shell: it runs scripts on the machine, each
// of them once, whatever happens to whoever watches.
package shell

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/bakehouse-farm/bakehouse"
	"github.com/bakehouse-farm/bakehouse/communicator"
	"github.com/bakehouse-farm/bakehouse/provisioners"
	"github.com/bakehouse-farm/bakehouse/template/interpolate"
)

// Shell is the provisioner.
type Shell struct{}

var _ provisioners.Provisioner = Shell{}

// New returns the provisioner.
func New() Shell { return Shell{} }

// Settings returns new settings.
func (Shell) Settings() any { return new(Settings) }

// Provision runs the scripts in their order.
func (Shell) Provision(ctx context.Context, w provisioners.Work) error {
	var s Settings
	if err := json.Unmarshal(w.Settings, &s); err != nil {
		return bakehouse.Errorf(bakehouse.Invalid, "settings of shell: %w", err)
	}
	r := &run{Work: w, salt: salt(w)}
	r.Settings = s.withDefaults(r.salt)
	scripts, err := r.scripts()
	if err != nil {
		return err
	}
	for i, script := range scripts {
		if err := r.script(ctx, fmt.Sprintf("%s.%d", w.ID, i+1), script); err != nil {
			return err
		}
	}
	return r.sleep(ctx, time.Duration(r.PauseAfter))
}

// salt tells the files of this call apart from those of others on the machine.
// Packer takes a random number below 9999; ours must be the same each time.
func salt(w provisioners.Work) string {
	sum := sha256.Sum256([]byte(string(w.Build.ID) + "|" + w.ID))
	return fmt.Sprint(binary.BigEndian.Uint64(sum[:8]) % 1e9)
}

// A run is one call of Provision.
type run struct {
	provisioners.Work
	Settings
	salt string
}

// A script is what to upload, and what to call it.
type script struct {
	name string
	data []byte
}

// scripts reads the scripts that the settings name.
func (r *run) scripts() ([]script, error) {
	if len(r.Inline) > 0 {
		return []script{{name: "/tmp/packer-shell" + r.salt, data: r.inline()}}, nil
	}
	names := r.Settings.Scripts
	if r.Script != "" {
		names = []string{r.Script}
	}
	var out []script
	for _, name := range names {
		data, err := os.ReadFile(r.Files.Path(name))
		if err != nil {
			return nil, bakehouse.Errorf(bakehouse.Invalid, "Bad script '%s': %s", name, reason(err))
		}
		if !r.Binary {
			data = bytes.ReplaceAll(data, []byte("\r\n"), []byte("\n"))
		}
		out = append(out, script{name, data})
	}
	return out, nil
}

// inline makes a script of the lines. A shebang that they bring along wins over
// the default.
func (r *run) inline() []byte {
	var b strings.Builder
	shebang := r.InlineShebang
	if shebang == "" && !strings.HasPrefix(r.Inline[0], "#!") {
		shebang = "/bin/sh -e"
	}
	if shebang != "" {
		b.WriteString("#!" + shebang + "\n")
	}
	for _, line := range r.Inline {
		b.WriteString(line + "\n")
	}
	return []byte(b.String())
}

// script runs one script, or follows it where it is.
func (r *run) script(ctx context.Context, id string, s script) error {
	bakehouse.LogOf(ctx).Say("Provisioning with shell script: " + s.name)
	line, err := r.line()
	if err != nil {
		return err
	}
	// A script that has begun must not be written to again: its shell may be
	// reading it.
	if err := r.patiently(ctx, func() error { return r.upload(ctx, id, s) }); err != nil {
		return err
	}
	result, err := r.Machine.Run(ctx, communicator.Command{
		ID: id, Line: line, Env: r.Work.Env, ExpectDisconnect: r.mayDisconnect(),
	}, r.Output.Offset(id), r.Output.Sink(id))
	if err != nil {
		if bakehouse.KindOf(err) == bakehouse.Lost {
			return bakehouse.Errorf(bakehouse.Lost, "Script disconnected unexpectedly. If you expected your script to disconnect, i.e. from a restart, you can try adding `\"expect_disconnect\": true` or `\"valid_exit_codes\": [0, 2300218]` to the shell provisioner parameters. (%w)", err)
		}
		return err
	}
	exit := result.Exit
	if result.Disconnected {
		exit = disconnected
	}
	if !slices.Contains(r.ValidExitCodes, exit) && !(result.Disconnected && r.ExpectDisconnect) {
		return bakehouse.Errorf(bakehouse.Script, "Script exited with non-zero exit status: %d. Allowed exit codes are: %v", exit, r.ValidExitCodes)
	}
	if r.SkipClean {
		return nil
	}
	return r.patiently(ctx, func() error { return r.clean(ctx) })
}

func (r *run) mayDisconnect() bool {
	return r.ExpectDisconnect || slices.Contains(r.ValidExitCodes, disconnected)
}

// upload puts the script on the machine, unless it has begun there.
func (r *run) upload(ctx context.Context, id string, s script) error {
	state, err := r.Machine.Probe(ctx, id)
	if err != nil || state != communicator.None {
		return err
	}
	if r.UseEnvVarFile {
		if err := r.Machine.Upload(ctx, r.envFile(), strings.NewReader(r.vars()), 0o600); err != nil {
			return fmt.Errorf("upload environment: %w", err)
		}
	}
	if err := r.Machine.Upload(ctx, r.RemotePath, bytes.NewReader(s.data), 0o755); err != nil {
		return fmt.Errorf("upload script to %s: %w", r.RemotePath, err)
	}
	return nil
}

// clean removes what upload put there.
func (r *run) clean(ctx context.Context) error {
	names := []string{r.RemotePath}
	if r.UseEnvVarFile {
		names = append(names, r.envFile())
	}
	for _, name := range names {
		result, out, err := r.Machine.Exec(ctx, "rm -f "+quote(name))
		if err != nil {
			return fmt.Errorf("remove %s: %w", name, err)
		}
		if result.Exit != 0 {
			// As in Packer, what cannot be removed does not fail the build.
			bakehouse.LogOf(ctx).Error(fmt.Sprintf("Error removing %s: exit status %d: %s", name, result.Exit, bytes.TrimSpace(out)))
		}
	}
	return nil
}

// patiently repeats what fails because the machine cannot be reached, until
// start_retry_timeout has passed: it may be rebooting after an earlier script.
func (r *run) patiently(ctx context.Context, do func() error) error {
	deadline := time.Now().Add(r.StartRetryTimeout.Or(5 * time.Minute))
	for {
		err := do()
		if err == nil || ctx.Err() != nil && errors.Is(err, context.Cause(ctx)) {
			return err
		}
		if bakehouse.KindOf(err).Final() || time.Now().After(deadline) {
			return err
		}
		if err := r.sleep(ctx, 2*time.Second); err != nil {
			return err
		}
	}
}

func (r *run) sleep(ctx context.Context, d time.Duration) error {
	if d == 0 {
		return nil
	}
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}

func (r *run) envFile() string { return r.RemoteFolder + "/varfile_" + r.salt }

// line is the command that runs the script.
func (r *run) line() (string, error) {
	data := map[string]any{"Path": r.RemotePath, "Vars": r.vars(), "EnvVarFile": ""}
	if r.UseEnvVarFile {
		data["Vars"], data["EnvVarFile"] = "", r.envFile()
	}
	line, err := interpolate.Render(r.ExecuteCommand, interpolate.Context{
		Time: r.Build.Started, Seed: string(r.Build.ID) + r.ID,
		BuildName: r.Build.Source, BuildType: r.Build.Type, Data: data,
	})
	if err != nil {
		return "", bakehouse.Errorf(bakehouse.Invalid, "execute_command: %w", err)
	}
	return line, nil
}

// vars is the environment as the format writes it, in the order of the names.
func (r *run) vars() string {
	env := map[string]string{
		"PACKER_BUILD_NAME":   r.Build.Source,
		"PACKER_BUILDER_TYPE": r.Build.Type,
	}
	for k, v := range r.Settings.Env {
		env[k] = v
	}
	for _, kv := range r.Environment {
		k, v, _ := strings.Cut(kv, "=")
		env[k] = v
	}
	var b strings.Builder
	for _, k := range slices.Sorted(maps.Keys(env)) {
		// Within single quotes, only a single quote needs help.
		fmt.Fprintf(&b, r.EnvVarFormat, k, strings.ReplaceAll(env[k], "'", `'"'"'`))
	}
	return b.String()
}

// quote makes one word of s for a POSIX shell.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'"'"'`) + "'" }
