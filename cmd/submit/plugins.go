package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"path"
	"slices"

	goversion "github.com/hashicorp/go-version"

	"github.com/bakehouse-farm/bakehouse/cmd/catalogue"
	"github.com/bakehouse-farm/bakehouse/template"
	"github.com/bakehouse-farm/bakehouse/template/known"
)

var pluginsTopic = topic{
	name: "plugins", args: "installed|install|remove|required ...", least: 0, most: -1,
	summary: "say what is built in instead of plugins",
	text: `
There are no plugins to look after: components are built in. These commands are
for scripts that call Packer's.

  plugins installed            list the components that are built in, each with
                               the plugin that it stands in for
  plugins required PATH        list what a template requires
  plugins install SOURCE [VERSION]
                               say what stands in for a plugin
  plugins remove SOURCE [VERSION]
                               refuse: what is built in cannot be removed`,
	exits: `  0  done
  1  it could not be done, or it was not said what to do
`,
	make: func() command { return plugins{} },
}

// pluginTopics are the commands of plugins.
func pluginTopics() []topic {
	return []topic{
		{
			name: "plugins installed", summary: "list the components that are built in",
			text:  "Lists the components that are built in, each with the plugin that it stands in\nfor; \"packer\" is Packer itself.",
			exits: "  0  always\n",
			make:  func() command { return new(pluginsInstalled) },
		},
		{
			name: "plugins required", args: "PATH", least: 1, most: 1,
			summary: "list the plugins that a template requires",
			text:    "Lists the entries of required_plugins: name, source and version.",
			exits:   "  0  done, also when there are none\n  1  the template cannot be read, or is not HCL\n",
			make:    func() command { return new(pluginsRequired) },
		},
		{
			name: "plugins install", args: "SOURCE [VERSION]", least: 1, most: 2,
			summary: "say what stands in for a plugin",
			text:    "Says what stands in for a plugin, such as github.com/hashicorp/amazon. Nothing is\ninstalled: components are built in.",
			exits:   "  0  its components are built in, or at least known\n  1  nobody provides it, or not in that version\n",
			make:    func() command { return new(pluginsInstall) },
		},
		{
			name: "plugins remove", args: "SOURCE [VERSION]", least: 1, most: 2,
			summary: "refuse to remove a plugin",
			text:    "Refuses: components are built in and cannot be removed.",
			exits:   "  1  always\n",
			make:    func() command { return pluginsRemove{} },
		},
	}
}

type plugins struct{}

func (plugins) flags(*flag.FlagSet) {}

func (plugins) run(ctx context.Context, c *console, args []string) error {
	if len(args) == 0 {
		pluginsTopic.usage(c.err, pluginsTopic.flagSet(plugins{}))
		return failed
	}
	for _, t := range pluginTopics() {
		if t.name == "plugins "+args[0] {
			return t.call(ctx, c, args[1:])
		}
	}
	return fmt.Errorf("plugins has no command %q: installed, install, remove or required", args[0])
}

type pluginsInstalled struct{ look }

func (p *pluginsInstalled) flags(f *flag.FlagSet) { p.look.flags(f) }

func (p *pluginsInstalled) run(_ context.Context, c *console, _ []string) error {
	u := p.look.ui(c)
	cat := catalogue.Template()
	list := func(kind known.Kind, types []string) {
		slices.Sort(types)
		for _, typ := range types {
			plugin := "packer"
			if k, ok := known.Lookup(kind, typ); ok {
				plugin = cmp.Or(k.Plugin, plugin)
			}
			u.Record("", "component", string(kind), typ, plugin)
			u.Say(fmt.Sprintf("%-15s %-22s %s", kind, typ, plugin))
		}
	}
	list(known.Builder, slices.Collect(maps.Keys(cat.Builders)))
	list(known.Provisioner, slices.Collect(maps.Keys(cat.Provisioners)))
	list(known.PostProcessor, slices.Collect(maps.Keys(cat.PostProcessors)))
	list(known.DataSource, slices.Collect(maps.Keys(cat.DataSources)))
	return nil
}

type pluginsRequired struct{ look }

func (p *pluginsRequired) flags(f *flag.FlagSet) { p.look.flags(f) }

func (p *pluginsRequired) run(_ context.Context, c *console, args []string) error {
	u := p.look.ui(c)
	list, _, err := required(c, u, args[0], p.look.colored(c))
	if err != nil {
		return err
	}
	for _, r := range list {
		want := ""
		if r.Version != "" {
			v, err := goversion.NewConstraint(r.Version)
			if err != nil {
				return err // loading the template has refused it already
			}
			want = v.String()
		}
		u.Say(fmt.Sprintf("%s %s %q", r.Name, r.Source, want))
	}
	return nil
}

type pluginsInstall struct {
	look
	binary string
	force  bool
}

func (p *pluginsInstall) flags(f *flag.FlagSet) {
	p.look.flags(f)
	f.StringVar(&p.binary, "path", "", "refused: the `binary` of a plugin cannot be run here")
	f.BoolVar(&p.force, "force", false, "accepted for Packer's sake: there is nothing to install again")
}

func (p *pluginsInstall) run(_ context.Context, c *console, args []string) error {
	if p.binary != "" {
		return errors.New("-path is not supported: components are built in, and binaries of plugins are not run")
	}
	want := template.RequiredPlugin{Name: path.Base(args[0]), Source: args[0]}
	if len(args) > 1 {
		want.Version = args[1]
	}
	u := p.look.ui(c)
	what, diags := catalogue.Template().Provide(want)
	if (&report{u: u, colored: p.look.colored(c)}).show(diags) {
		return failed
	}
	u.Say("Nothing is installed: components are built in.\n" + provisionText(want, what))
	return nil
}

type pluginsRemove struct{}

func (pluginsRemove) flags(*flag.FlagSet) {}

func (pluginsRemove) run(_ context.Context, _ *console, args []string) error {
	return fmt.Errorf("%s cannot be removed: components are built in, there are no plugins", args[0])
}
