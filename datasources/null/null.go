// Package null is the data source null, which asks nobody: its output is its
// input. It gives a name to a value, and a place to a value that must not be
// known before the build is planned.
package null

import (
	"context"
	"encoding/json"

	"github.com/bakehouse-farm/bakehouse"
	"github.com/bakehouse-farm/bakehouse/datasources"
)

// DataSource is the data source null.
type DataSource struct{}

var _ datasources.DataSource = DataSource{}

// Settings are the arguments of null.
type Settings struct {
	Input string `json:"input"`
}

// Outputs are the attributes of null.
type Outputs struct {
	Output string `json:"output"`
}

// Settings returns a *Settings.
func (DataSource) Settings() any { return new(Settings) }

// Outputs returns an Outputs.
func (DataSource) Outputs() any { return Outputs{} }

// Check finds a missing or empty input.
func (DataSource) Check(settings json.RawMessage, unknown []string, _ bakehouse.Files) []bakehouse.Finding {
	var s Settings
	if err := json.Unmarshal(settings, &s); err != nil {
		return []bakehouse.Finding{{Message: err.Error()}}
	}
	if s.Input == "" && len(unknown) == 0 {
		return []bakehouse.Finding{{Field: "input", Message: "The `input` must be specified", Hint: "It may not be empty."}}
	}
	return nil
}

// Read answers with the input.
func (DataSource) Read(_ context.Context, settings json.RawMessage, _ bakehouse.Files) (json.RawMessage, error) {
	var s Settings
	if err := json.Unmarshal(settings, &s); err != nil {
		return nil, bakehouse.Errorf(bakehouse.Invalid, "read settings of null: %w", err)
	}
	return json.Marshal(Outputs{Output: s.Input})
}
