package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"strings"

	"github.com/bakehouse-farm/bakehouse/cmd/catalogue"
	"github.com/bakehouse-farm/bakehouse/cmd/submit/ui"
	"github.com/bakehouse-farm/bakehouse/template"
	"github.com/bakehouse-farm/bakehouse/template/known"
)

var initTopic = topic{
	name: "init", args: "PATH", least: 1, most: 1,
	summary: "say what stands in for the plugins that a template requires",
	text: `
Says for each entry of required_plugins what stands in for it here. There are no
plugins to install: components are built in. The version that a template asks for
is held against the version of the plugin whose language is spoken, where that is
known.`,
	exits: `  0  all required plugins are known, also when this farm cannot run all of their
     components yet; or none is required
  1  nobody provides one of them, or not in that version, or the template is not HCL
`,
	make: func() command { return new(initialize) },
}

type initialize struct {
	look
	upgrade, force bool // flags of Packer that change nothing here
}

func (i *initialize) flags(f *flag.FlagSet) {
	i.look.flags(f)
	f.BoolVar(&i.upgrade, "upgrade", false, "accepted for Packer's sake: there is nothing to upgrade")
	f.BoolVar(&i.force, "force", false, "accepted for Packer's sake: there is nothing to install again")
}

func (i *initialize) run(_ context.Context, c *console, args []string) error {
	u := i.look.ui(c)
	list, p, err := required(c, u, args[0], i.look.colored(c))
	if err != nil {
		return err
	}
	cat := catalogue.Template()
	faulty := false
	for _, plugin := range list {
		what, diags := cat.Provide(plugin)
		if p.show(diags) {
			faulty = true
			continue
		}
		u.Say(provisionText(plugin, what))
	}
	if faulty {
		return failed
	}
	return nil
}

// required reads what plugins a template requires. It says so when there are
// none.
func required(c *console, u *ui.UI, path string, colored bool) ([]template.RequiredPlugin, *report, error) {
	d, p, err := new(recipe).load(c, u, path, colored)
	if err != nil {
		return nil, nil, err
	}
	if d.template.Legacy() {
		return nil, nil, errors.New("a JSON template of the older kind requires no plugins: only HCL templates have required_plugins (submit hcl2_upgrade makes one of it)")
	}
	list := d.template.RequiredPlugins()
	if len(list) == 0 {
		u.Say("No plugins requirement found: the template has no block required_plugins.")
	}
	return list, p, nil
}

// provisionText says what stands in for a plugin.
func provisionText(p template.RequiredPlugin, what template.Provision) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s (%s): ", p.Name, p.Source)
	switch {
	case len(what.Built) == 0:
		b.WriteString("this farm cannot run any of its components yet")
	case what.Version != nil:
		fmt.Fprintf(&b, "built in, as of version %s", what.Version)
	default:
		b.WriteString("built in")
	}
	if what.Version == nil && p.Version != "" {
		fmt.Fprintf(&b, "; the version %q could not be held against any", p.Version)
	}
	if len(what.Built) > 0 {
		b.WriteString("\n  " + refs(what.Built))
	}
	if len(what.Lacking) > 0 {
		b.WriteString("\n  not yet: " + refs(what.Lacking))
	}
	return b.String()
}

func refs(list []known.Ref) string {
	var words []string
	for _, r := range list {
		words = append(words, string(r.Kind)+" "+r.Type)
	}
	return strings.Join(words, ", ")
}
