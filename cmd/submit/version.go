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
		u.Record("", "version", version)
		return nil
	}
	fmt.Fprintf(c.out, "submit %s, for templates of Packer v%s\n", version, templateVersion)
	return nil
}
