package main

import (
	"context"
	"flag"
	"fmt"
)

var versionTopic = topic{
	name: "version", args: "", least: 0, most: 0,
	summary: "say what this is",
	text:    `Prints the version of submit, and of Packer whose templates it takes.`,
	exits:   "  0  always\n",
	make:    func() command { return showVersion{} },
}

type showVersion struct{}

func (showVersion) flags(*flag.FlagSet) {}

func (showVersion) run(_ context.Context, c *console, _ []string) error {
	if c.machine {
		u := new(look).ui(c)
		// As Packer spells them. Nobody has a commit or a prerelease of it here.
		u.Record("", "version", version)
		u.Record("", "version-prelease", "")
		u.Record("", "version-commit", "")
		u.Record("", "packer-version", templateVersion)
		u.Say(versionText())
		return nil
	}
	fmt.Fprintln(c.out, versionText())
	return nil
}

func versionText() string {
	return fmt.Sprintf("submit %s, for templates of Packer v%s", version, templateVersion)
}
