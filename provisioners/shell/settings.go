package shell

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"

	"github.com/bakehouse-farm/bakehouse"
)

// Settings are the arguments of the provisioner block (packer.md §5.2).
type Settings struct {
	Inline         []string          `json:"inline"`
	Script         string            `json:"script" bake:"file"`
	Scripts        []string          `json:"scripts" bake:"file"`
	ValidExitCodes []int             `json:"valid_exit_codes"`
	Environment    []string          `json:"environment_vars"`
	Env            map[string]string `json:"env"`
	EnvVarFormat   string            `json:"env_var_format"`
	Binary         bool              `json:"binary"`
	RemotePath     string            `json:"remote_path"`
	// ExecuteCommand sees .Path, .Vars and .EnvVarFile.
	ExecuteCommand    string             `json:"execute_command" bake:"late"`
	StartRetryTimeout bakehouse.Duration `json:"start_retry_timeout"`

	InlineShebang    string             `json:"inline_shebang"`
	PauseAfter       bakehouse.Duration `json:"pause_after"`
	UseEnvVarFile    bool               `json:"use_env_var_file"`
	RemoteFolder     string             `json:"remote_folder"`
	RemoteFile       string             `json:"remote_file"`
	SkipClean        bool               `json:"skip_clean"`
	ExpectDisconnect bool               `json:"expect_disconnect"`
}

// disconnected is the exit status that templates use in valid_exit_codes for a
// machine that went away under the script.
const disconnected = 2300218

// Check applies Packer's rules.
func (Shell) Check(raw json.RawMessage, unknown []string, files bakehouse.Files) []bakehouse.Finding {
	var s Settings
	if err := json.Unmarshal(raw, &s); err != nil {
		return []bakehouse.Finding{{Message: err.Error()}}
	}
	open := map[string]bool{}
	for _, name := range unknown {
		open[name] = true
	}
	var found []bakehouse.Finding
	add := func(field, message, hint string) {
		found = append(found, bakehouse.Finding{Field: field, Message: message, Hint: hint})
	}
	inline := len(s.Inline) > 0 || open["inline"]
	script := s.Script != "" || open["script"]
	scripts := len(s.Scripts) > 0 || open["scripts"]
	switch {
	case script && scripts:
		add("scripts", "Only one of script or scripts can be specified.", "")
	case !inline && !script && !scripts:
		add("", "Either a script file or inline script must be specified.", `Set one of inline = ["…"], script = "…" or scripts = ["…"].`)
	case inline && (script || scripts):
		add("inline", "Only a script file or an inline script can be specified, not both.", "")
	}
	for _, name := range append(s.Scripts, s.Script) {
		if name == "" {
			continue
		}
		field := "scripts"
		if name == s.Script {
			field = "script"
		}
		if info, err := os.Stat(files.Path(name)); err != nil {
			add(field, fmt.Sprintf("Bad script '%s': %s", name, reason(err)), "The path starts from the folder that submit is run in; ${path.root} is that of the template.")
		} else if info.IsDir() {
			add(field, fmt.Sprintf("Bad script '%s': it is a folder", name), "")
		}
	}
	for _, kv := range s.Environment {
		if k, _, ok := strings.Cut(kv, "="); !ok || k == "" {
			add("environment_vars", fmt.Sprintf("Environment variable not in format 'key=value': %s", kv), "")
		}
	}
	return found
}

// reason is what an error of the file system says, without the path of this
// computer.
func reason(err error) string {
	if os.IsNotExist(err) {
		return "no such file"
	}
	if os.IsPermission(err) {
		return "permission denied"
	}
	return err.Error()
}

// withDefaults fills in what Packer assumes.
func (s Settings) withDefaults(salt string) Settings {
	if len(s.ValidExitCodes) == 0 {
		s.ValidExitCodes = []int{0}
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
	if s.RemoteFolder == "" {
		s.RemoteFolder = "/tmp"
	}
	if s.RemoteFile == "" {
		s.RemoteFile = "script_" + salt + ".sh"
	}
	if s.RemotePath == "" {
		s.RemotePath = s.RemoteFolder + "/" + s.RemoteFile
	}
	return s
}
