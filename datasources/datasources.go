// Package datasources says how a template asks the world a question while it is
// evaluated. The data sources of Packer's core are packages below this one;
// those of a cloud live with its builders.
package datasources

import (
	"context"
	"encoding/json"

	"github.com/bakehouse-farm/bakehouse"
)

// A DataSource answers a question. It only reads.
type DataSource interface {
	bakehouse.Component

	// Outputs returns a zero value of the struct whose json-tagged fields are the
	// attributes that the template may refer to.
	Outputs() any
	// Read answers: a JSON object in the shape of Outputs.
	Read(ctx context.Context, settings json.RawMessage, files bakehouse.Files) (json.RawMessage, error)
}
