// Package catalogue lists what this Bakehouse can build with. It is the only
// place that names concrete builders, provisioners, post-processors and data
// sources: a new one is written in its own package and added here.
package catalogue

import (
	"github.com/bakehouse-farm/bakehouse"
	"github.com/bakehouse-farm/bakehouse/builders"
	"github.com/bakehouse-farm/bakehouse/builders/amazon"
	"github.com/bakehouse-farm/bakehouse/builders/null"
	"github.com/bakehouse-farm/bakehouse/datasources"
	"github.com/bakehouse-farm/bakehouse/datasources/http"
	"github.com/bakehouse-farm/bakehouse/datasources/lookup"
	nothing "github.com/bakehouse-farm/bakehouse/datasources/null"
	"github.com/bakehouse-farm/bakehouse/postprocessors"
	"github.com/bakehouse-farm/bakehouse/postprocessors/manifest"
	"github.com/bakehouse-farm/bakehouse/provisioners"
	"github.com/bakehouse-farm/bakehouse/provisioners/breakpoint"
	"github.com/bakehouse-farm/bakehouse/provisioners/file"
	"github.com/bakehouse-farm/bakehouse/provisioners/shell"
	"github.com/bakehouse-farm/bakehouse/template"
)

// Builders returns the builders by the type that templates call them.
func Builders() map[string]builders.Builder {
	return map[string]builders.Builder{
		"amazon-ebs": amazon.NewEBS(amazon.Config{}),
		"null":       null.New(),
	}
}

// Provisioners returns the provisioners by type.
func Provisioners() map[string]provisioners.Provisioner {
	return map[string]provisioners.Provisioner{
		"breakpoint": breakpoint.New(),
		"file":       file.New(),
		"shell":      shell.New(),
	}
}

// PostProcessors returns the post-processors by type.
func PostProcessors() map[string]postprocessors.PostProcessor {
	return map[string]postprocessors.PostProcessor{
		"manifest": manifest.PostProcessor{},
	}
}

// DataSources returns the data sources by type.
func DataSources() map[string]datasources.DataSource {
	return map[string]datasources.DataSource{
		"amazon-ami": amazon.NewAMI(amazon.Config{}),
		"http":       http.New(),
		"null":       nothing.DataSource{},
	}
}

// Template returns all of them as a template sees them.
func Template() template.Catalogue {
	return template.Catalogue{
		Builders:       components(Builders()),
		Provisioners:   components(Provisioners()),
		PostProcessors: components(PostProcessors()),
		DataSources:    DataSources(),
		Lookup:         lookup.New(),
	}
}

func components[C bakehouse.Component](in map[string]C) map[string]bakehouse.Component {
	out := make(map[string]bakehouse.Component, len(in))
	for name, c := range in {
		out[name] = c
	}
	return out
}
