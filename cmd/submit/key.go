package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"

	"github.com/bakehouse-farm/bakehouse/agent/secret"
)

var keyTopic = topic{
	name: "key", args: "FILE", least: 1, most: 1,
	summary: "make the key file of a farm, to be copied to agents and submitters",
	text: `
Makes a file with a new key, that only its owner may read. What is submitted is
encrypted with it before it leaves this computer, so agents and submitters need
the same file. One that is there already is left alone.`,
	exits: `  0  the file is there
  1  it could not be made, or what is there is no key file
`,
	make: func() command { return makeKey{} },
}

type makeKey struct{}

func (makeKey) flags(*flag.FlagSet) {}

func (makeKey) run(_ context.Context, c *console, args []string) error {
	_, err := os.Lstat(args[0])
	there := !errors.Is(err, os.ErrNotExist)
	keys, err := secret.LoadOrCreate(args[0])
	if err != nil {
		return err
	}
	if there {
		fmt.Fprintf(c.out, "%s was there already, with key %s.\n", args[0], keys.ID())
		return nil
	}
	fmt.Fprintf(c.out, "Made %s with key %s. Copy it to agents and submitters; who has it can read what is submitted.\n", args[0], keys.ID())
	return nil
}
