// Package manifest is Packer's manifest post-processor: it notes each artifact
// in a JSON file, packer-manifest.json, that other tools read.
//
// Process runs on an agent and makes the entry; Apply runs on the submitter's
// computer and merges it into the file.
package manifest

import (
	"context"
	"encoding/json"
	"path/filepath"
	"strings"

	"github.com/bakehouse-farm/bakehouse"
	"github.com/bakehouse-farm/bakehouse/postprocessors"
)

// OutputKind is the Kind of the Output that Apply is for.
const OutputKind = "manifest"

const defaultOutput = "packer-manifest.json"

// Settings are the arguments of the block.
type Settings struct {
	// Output is the path of the manifest.
	Output string `json:"output"`
	// StripPath leaves of the artifact's files only their names.
	StripPath bool `json:"strip_path"`
	// StripTime leaves the time of the build out, so that the manifest only
	// changes when what was built does.
	StripTime bool `json:"strip_time"`
	// CustomData is put into the entry as it is.
	CustomData map[string]string `json:"custom_data"`
}

// PostProcessor implements postprocessors.PostProcessor. Its zero value is
// ready for use.
type PostProcessor struct{}

var _ postprocessors.PostProcessor = PostProcessor{}

// Settings implements bakehouse.Component.
func (PostProcessor) Settings() any { return &Settings{Output: defaultOutput} }

// Check implements bakehouse.Component.
func (PostProcessor) Check(settings json.RawMessage, unknown []string, _ bakehouse.Files) []bakehouse.Finding {
	s, err := read(settings)
	if err != nil {
		return []bakehouse.Finding{{Message: err.Error()}}
	}
	if strings.HasSuffix(s.Output, "/") {
		return []bakehouse.Finding{{
			Field: "output", Message: "output names a folder, not a file",
			Hint: "write " + filepath.Join(s.Output, defaultOutput),
		}}
	}
	return nil
}

// Writes implements postprocessors.PostProcessor.
func (PostProcessor) Writes(settings json.RawMessage) []string {
	s, err := read(settings)
	if err != nil {
		return nil
	}
	return []string{s.Output}
}

// Process implements postprocessors.PostProcessor. The artifact is passed on
// and kept, whatever the template says, as Packer does.
func (PostProcessor) Process(_ context.Context, w postprocessors.Work) (postprocessors.Result, error) {
	s, err := read(w.Settings)
	if err != nil {
		return postprocessors.Result{}, err
	}
	e := addition{
		entry: entry{
			Name:        w.Build.Source,
			BuilderType: w.Build.Type,
			BuildTime:   w.Time,
			ArtifactID:  w.Artifact.ID,
			RunUUID:     w.Build.RunUUID,
			CustomData:  s.CustomData,
		},
		Force: w.Build.Force,
	}
	if s.StripTime {
		e.BuildTime = 0
	}
	for _, f := range w.Artifact.Files {
		if s.StripPath {
			f.Name = filepath.Base(f.Name)
		}
		e.Files = append(e.Files, f)
	}
	data, err := json.Marshal(e)
	if err != nil {
		return postprocessors.Result{}, err
	}
	return postprocessors.Result{
		Artifact: w.Artifact,
		Keep:     true,
		Outputs:  []postprocessors.Output{{Path: s.Output, Kind: OutputKind, Data: data}},
	}, nil
}

func read(settings json.RawMessage) (Settings, error) {
	s := Settings{Output: defaultOutput}
	if len(settings) > 0 {
		if err := json.Unmarshal(settings, &s); err != nil {
			return s, bakehouse.Errorf(bakehouse.Invalid, "manifest: %w", err)
		}
	}
	if s.Output == "" {
		s.Output = defaultOutput
	}
	return s, nil
}
