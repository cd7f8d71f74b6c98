package shell

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/bakehouse-farm/bakehouse"
)

// Settings are the arguments of the block, with Packer's defaults.
type Settings struct {
	// Inline are commands, joined to one script. Script and Scripts are files.
	// Exactly one of the three is set.
	Inline  []string `json:"inline"`
	Script  string   `json:"script" bake:"file"`
	Scripts []string `json:"scripts" bake:"file"`
	// InlineShebang begins the script of Inline: "/bin/sh -e" when nil, unless
	// its first line is one.
	InlineShebang *string `json:"inline_shebang"`

	// EnvironmentVars are K=V; Env is the same as a map.
	EnvironmentVars []string          `json:"environment_vars"`
	Env             map[string]string `json:"env"`
	// EnvVarFormat makes an assignment of a key and a value that is quoted for
	// single quotes.
	EnvVarFormat string `json:"env_var_format"`
	// UseEnvVarFile puts the variables into a file instead of the command line.
	UseEnvVarFile bool `json:"use_env_var_file"`

	// ExecuteCommand runs the script: {{.Path}}, {{.Vars}}, {{.EnvVarFile}}.
	ExecuteCommand string `json:"execute_command" bake:"late"`
	// RemotePath is where the script lies on the machine: RemoteFolder and
	// RemoteFile when empty.
	RemotePath   string `json:"remote_path"`
	RemoteFolder string `json:"remote_folder"`
	RemoteFile   string `json:"remote_file"`
	// Binary leaves the line ends of scripts as they are.
	Binary bool `json:"binary"`
	// SkipClean leaves the script on the machine.
	SkipClean bool `json:"skip_clean"`

	// ValidExitCodes are those that mean success; none means 0.
	ValidExitCodes []int `json:"valid_exit_codes"`
	// ExpectDisconnect tells that a script may reboot the machine.
	ExpectDisconnect bool `json:"expect_disconnect"`
	// StartRetryTimeout bounds how long it is tried to bring a script to a
	// machine that does not answer.
	StartRetryTimeout bakehouse.Duration `json:"start_retry_timeout"`
	// PauseAfter is waited for after the last script.
	PauseAfter bakehouse.Duration `json:"pause_after"`
}

// disconnected is the exit status that Packer gives to a lost connection.
const disconnected = 2300218

func read(settings json.RawMessage) (Settings, error) {
	var s Settings
	if len(settings) > 0 {
		if err := json.Unmarshal(settings, &s); err != nil {
			return s, bakehouse.Errorf(bakehouse.Invalid, "settings of shell: %w", err)
		}
	}
	if s.ExecuteCommand == "" {
		s.ExecuteCommand = "chmod +x {{.Path}}; {{.Vars}} {{.Path}}"
		if s.UseEnvVarFile {
			s.ExecuteCommand = "chmod +x {{.Path}}; . {{.EnvVarFile}} && {{.Path}}"
		}
	}
	if s.EnvVarFormat == "" {
		s.EnvVarFormat = "%s='%s' "
		if s.UseEnvVarFile {
			s.EnvVarFormat = "export %s='%s'\n"
		}
	}
	if len(s.ValidExitCodes) == 0 {
		s.ValidExitCodes = []int{0}
	}
	if s.RemoteFolder == "" {
		s.RemoteFolder = "/tmp"
	}
	if s.StartRetryTimeout == 0 {
		s.StartRetryTimeout = bakehouse.Duration(5 * time.Minute)
	}
	return s, nil
}

// Check implements bakehouse.Component.
func (*Provisioner) Check(settings json.RawMessage, unknown []string, files bakehouse.Files) []bakehouse.Finding {
	s, err := read(settings)
	if err != nil {
		return []bakehouse.Finding{{Message: err.Error()}}
	}
	var found []bakehouse.Finding
	wrong := func(field, format string, args ...any) {
		found = append(found, bakehouse.Finding{Field: field, Message: fmt.Sprintf(format, args...)})
	}
	maybe := func(field string) bool { return slices.Contains(unknown, field) }
	script, scripts, inline := s.Script != "" || maybe("script"), len(s.Scripts) > 0 || maybe("scripts"), len(s.Inline) > 0 || maybe("inline")
	if script && scripts {
		wrong("script", "Only one of script or scripts can be specified.")
	}
	switch {
	case !script && !scripts && !inline:
		wrong("", "Either a script file or inline script must be specified.")
	case (script || scripts) && inline:
		wrong("inline", "Only a script file or an inline script can be specified, not both.")
	}
	for _, name := range s.files() {
		field := "scripts"
		if s.Script == name {
			field = "script"
		}
		if info, err := os.Stat(files.Path(name)); err != nil {
			wrong(field, "Bad script '%s': %s", name, bare(err, name))
		} else if info.IsDir() {
			wrong(field, "Bad script '%s': it is a folder", name)
		}
	}
	for _, kv := range s.EnvironmentVars {
		if name, _, ok := strings.Cut(kv, "="); !ok || name == "" {
			wrong("environment_vars", "Environment variable not in format 'key=value': %s", kv)
		}
	}
	if strings.Count(strings.ReplaceAll(s.EnvVarFormat, "%%", ""), "%s") != 2 {
		found = append(found, bakehouse.Finding{
			Field: "env_var_format", Warning: true,
			Message: fmt.Sprintf("env_var_format %q does not hold %%s twice, for the name and the value", s.EnvVarFormat),
		})
	}
	return found
}

// bare is what went wrong with a file, without the place where the bundle is.
func bare(err error, name string) string {
	if pe, ok := err.(*os.PathError); ok {
		return fmt.Sprintf("%s %s: %s", pe.Op, name, pe.Err)
	}
	return err.Error()
}

func (s Settings) files() []string {
	if s.Script != "" {
		return append([]string{s.Script}, s.Scripts...)
	}
	return s.Scripts
}
