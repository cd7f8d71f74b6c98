package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/bakehouse-farm/bakehouse/agent/secret"
)

var keyTopic = topic{
	name: "key", args: "FILE | list FILE | add FILE [URL] | rotate FILE [ID] | retire FILE ID", least: 1, most: 3,
	summary: "make the key file of a farm, and change its keys",
	text: `
What is submitted is encrypted before it leaves this computer, so agents and
submitters need the same key file, which only its owner may read.

  key FILE              makes a file with a new key; one that is there already is
                        left alone
  key list FILE         tells which keys it holds, but not the keys
  key add FILE [URL]    adds a key that reads but does not encrypt yet: a new one,
                        or the one in AWS KMS that URL names,
                        awskms://alias/NAME?region=REGION
  key rotate FILE [ID]  encrypts with key ID from now on (else with the one that
                        was added last, or with a new one); older ones still read
  key retire FILE ID    takes a key out for good: what was encrypted with it can
                        not be read any more

To rotate while builds run: add, copy the file to all agents and submitters,
rotate, copy it again. Agents read a changed file without being started again.
A file called list, add, rotate or retire is written ./list.

-key and BAKEHOUSE_KEY take a URL, too, where one key in KMS is all that is
needed. Who uses it needs kms:DescribeKey, kms:GenerateDataKey and kms:Decrypt.`,
	exits: `  0  done, or the file was there already
  1  it could not be done, or what is there is no key file
`,
	make: func() command { return keyFile{} },
}

type keyFile struct{}

func (keyFile) flags(*flag.FlagSet) {}

func (keyFile) run(_ context.Context, c *console, args []string) error {
	verbs := map[string]struct {
		do          func(*console, []string) error
		least, most int
	}{
		"list": {listKeys, 1, 1}, "add": {addKey, 1, 2}, "rotate": {rotateKeys, 1, 2}, "retire": {retireKey, 2, 2},
	}
	verb, ok := verbs[args[0]]
	if !ok {
		if len(args) > 1 {
			return keyTopic.wrong(c, fmt.Sprintf("%q is neither list, add, rotate nor retire", args[0]))
		}
		return makeKey(c, args[0])
	}
	rest := args[1:]
	if len(rest) < verb.least || len(rest) > verb.most {
		return keyTopic.wrong(c, fmt.Sprintf("key %s does not take %d arguments", args[0], len(rest)))
	}
	return verb.do(c, rest)
}

func makeKey(c *console, path string) error {
	if strings.Contains(path, "://") {
		return fmt.Errorf("%s is no file: a key in KMS is made by AWS, and used by naming its URL with -key or BAKEHOUSE_KEY", path)
	}
	_, err := os.Lstat(path)
	there := !errors.Is(err, os.ErrNotExist)
	keys, err := secret.LoadOrCreate(path)
	if err != nil {
		return err
	}
	if there {
		fmt.Fprintf(c.out, "%s was there already, with key %s.\n", path, keys.ID())
		return nil
	}
	fmt.Fprintf(c.out, "Made %s with key %s. Copy it to agents and submitters; who has it can read what is submitted.\n", path, keys.ID())
	return nil
}

func listKeys(c *console, args []string) error {
	keys, err := secret.List(args[0])
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(c.out, 0, 0, 2, ' ', 0)
	for _, k := range keys {
		use := "reads what it encrypted"
		switch {
		case k.Seals:
			use = "encrypts"
		case k.Retired != "":
			use = "retired on " + k.Retired
		}
		fmt.Fprintf(w, "%s\t%s\n", k.ID, use)
	}
	return w.Flush()
}

func addKey(c *console, args []string) error {
	url := ""
	if len(args) > 1 {
		url = args[1]
	}
	id, err := secret.Add(args[0], url)
	if err != nil {
		return err
	}
	fmt.Fprintf(c.out, "Added key %s, which does not encrypt yet. Copy %s to agents and submitters, then: submit key rotate %s\n", id, args[0], args[0])
	return nil
}

func rotateKeys(c *console, args []string) error {
	id := ""
	if len(args) > 1 {
		id = args[1]
	}
	id, err := secret.Rotate(args[0], id)
	if err != nil {
		return err
	}
	fmt.Fprintf(c.out, "Key %s encrypts from now on; older keys still read. Copy %s to agents and submitters.\n", id, args[0])
	return nil
}

func retireKey(c *console, args []string) error {
	if err := secret.Retire(args[0], args[1]); err != nil {
		return err
	}
	fmt.Fprintf(c.out, "Key %s is retired: what was encrypted with it cannot be read any more. Copy %s to agents and submitters.\n", args[1], args[0])
	return nil
}
