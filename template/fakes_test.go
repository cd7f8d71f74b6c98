package template

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"strings"

	"github.com/bakehouse-farm/bakehouse"
	"github.com/bakehouse-farm/bakehouse/communicator"
	"github.com/bakehouse-farm/bakehouse/datasources"
)

// A fake is a component of settings S, which checks them with check.
type fake[S any] struct {
	check func(s S, unknown map[string]bool, files bakehouse.Files) []bakehouse.Finding
}

func (fake[S]) Settings() any { return new(S) }

func (f fake[S]) Check(settings json.RawMessage, unknown []string, files bakehouse.Files) []bakehouse.Finding {
	var s S
	if err := json.Unmarshal(settings, &s); err != nil {
		return []bakehouse.Finding{{Message: "settings are not in the shape of the struct: " + err.Error()}}
	}
	if f.check == nil {
		return nil
	}
	m := map[string]bool{}
	for _, name := range unknown {
		m[name] = true
	}
	return f.check(s, m, files)
}

type filter struct {
	Filters    map[string]string `json:"filters"`
	Owners     []string          `json:"owners"`
	MostRecent bool              `json:"most_recent"`
}

type mapping struct {
	DeviceName string `json:"device_name" bake:"required"`
	VolumeSize int    `json:"volume_size"`
	Encrypted  *bool  `json:"encrypted"`
}

type ebs struct {
	communicator.Settings
	Region       string            `json:"region"`
	InstanceType string            `json:"instance_type"`
	AMIName      string            `json:"ami_name"`
	SourceAMI    string            `json:"source_ami"`
	Filter       filter            `json:"source_ami_filter" bake:"block"`
	Mappings     []mapping         `json:"launch_block_device_mappings" bake:"block"`
	Tags         map[string]string `json:"tags" bake:"late"`
	Regions      []string          `json:"ami_regions"`
	Users        []string          `json:"ami_users"`
	UserDataFile string            `json:"user_data_file" bake:"file"`
	Old          string            `json:"spot_price_auto_product" bake:"deprecated=it is found out, without asking"`
}

func checkEBS(s ebs, unknown map[string]bool, _ bakehouse.Files) []bakehouse.Finding {
	var found []bakehouse.Finding
	if s.AMIName == "" && !unknown["ami_name"] {
		found = append(found, bakehouse.Finding{Field: "ami_name", Message: "ami_name must be specified"})
	}
	if s.Region == "" && !unknown["region"] {
		found = append(found, bakehouse.Finding{Field: "region", Message: "region must be specified"})
	}
	if strings.ContainsAny(s.AMIName, ":") {
		found = append(found, bakehouse.Finding{Field: "ami_name", Message: "AMIName should only contain certain characters", Hint: "Use clean_resource_name."})
	}
	if len(s.Filter.Filters) > 0 && len(s.Filter.Owners) == 0 && !unknown["source_ami_filter.owners"] {
		found = append(found, bakehouse.Finding{Field: "source_ami_filter.owners", Message: "For security reasons, your source AMI filter must declare an owner."})
	}
	return found
}

type null struct{ communicator.Settings }

type shell struct {
	Inline  []string           `json:"inline"`
	Script  string             `json:"script" bake:"file"`
	Scripts []string           `json:"scripts" bake:"file"`
	Vars    []string           `json:"environment_vars"`
	Env     map[string]string  `json:"env"`
	Execute string             `json:"execute_command" bake:"late"`
	Codes   []int              `json:"valid_exit_codes"`
	Pause   bakehouse.Duration `json:"pause_after"`
	Expect  bool               `json:"expect_disconnect"`
	Retry   bakehouse.Duration `json:"start_retry_timeout"`
}

func checkShell(s shell, unknown map[string]bool, files bakehouse.Files) []bakehouse.Finding {
	if len(s.Inline) == 0 && s.Script == "" && len(s.Scripts) == 0 && !unknown["inline"] && !unknown["script"] && !unknown["scripts"] {
		return []bakehouse.Finding{{Message: "Either a script file or inline script must be specified."}}
	}
	for _, name := range append(s.Scripts, s.Script) {
		if name == "" {
			continue
		}
		if _, err := os.Stat(files.Path(name)); err != nil {
			return []bakehouse.Finding{{Field: "script", Message: "Bad script '" + name + "': no such file or directory"}}
		}
	}
	return nil
}

type file struct {
	Source      string   `json:"source" bake:"file"`
	Sources     []string `json:"sources" bake:"file"`
	Content     string   `json:"content"`
	Destination string   `json:"destination" bake:"required"`
	Direction   string   `json:"direction"`
}

func checkFile(s file, unknown map[string]bool, files bakehouse.Files) []bakehouse.Finding {
	if s.Source == "" || s.Direction == "download" {
		return nil
	}
	if _, err := os.Stat(files.Path(s.Source)); err != nil {
		return []bakehouse.Finding{{Field: "source", Message: "Bad source '" + s.Source + "': no such file or directory"}}
	}
	return nil
}

type manifest struct {
	Output string            `json:"output"`
	Strip  bool              `json:"strip_path"`
	Custom map[string]string `json:"custom_data"`
}

// imageSource is a data source that knows one image and never asks twice.
type imageSource struct {
	fake[filter]
	fail error
}

type image struct {
	ID    string            `json:"id"`
	Name  string            `json:"name"`
	Tags  map[string]string `json:"tags"`
	Token string            `json:"token" bake:"secret"`
}

func (imageSource) Outputs() any { return image{} }

func (s imageSource) Read(_ context.Context, settings json.RawMessage, _ bakehouse.Files) (json.RawMessage, error) {
	if s.fail != nil {
		return nil, s.fail
	}
	var f filter
	if err := json.Unmarshal(settings, &f); err != nil {
		return nil, err
	}
	if f.Filters["name"] == "none" {
		return nil, bakehouse.Errorf(bakehouse.NotFound, "No AMI was found matching filters")
	}
	return json.Marshal(image{ID: "ami-" + f.Filters["name"], Name: f.Filters["name"], Tags: map[string]string{"Base": "yes"}, Token: "t0ken-of-image"})
}

var errThrottled = errors.New("throttled")

func catalogue() Catalogue {
	return Catalogue{
		Builders: map[string]bakehouse.Component{
			"amazon-ebs": fake[ebs]{checkEBS},
			"null":       fake[null]{},
		},
		Provisioners: map[string]bakehouse.Component{
			"shell": fake[shell]{checkShell},
			"file":  fake[file]{checkFile},
		},
		PostProcessors: map[string]bakehouse.Component{"manifest": fake[manifest]{}},
		DataSources:    map[string]datasources.DataSource{"amazon-ami": imageSource{}},
	}
}
