package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"golang.org/x/term"

	"github.com/bakehouse-farm/bakehouse/cmd/submit/ui"
)

// A command is one thing that submit does. Its fields are its options.
type command interface {
	// flags binds the options to flags.
	flags(f *flag.FlagSet)
	// run does it. An error that is not an exit is printed and ends submit with
	// status 1.
	run(ctx context.Context, c *console, args []string) error
}

// A topic is what help says about a command.
type topic struct {
	name    string
	args    string // as usage shows them: "ID"
	least   int    // number of arguments that must be there
	most    int    // and that may be; -1 for any number
	summary string
	text    string
	exits   string // what its exit codes mean
	make    func() command
}

// topics lists the commands in the order in which help shows them.
func topics() []topic {
	return []topic{
		buildTopic, attachTopic, validateTopic,
		inspectTopic, consoleTopic, initTopic, pluginsTopic,
		listTopic, showTopic, logsTopic, timelineTopic, cancelTopic,
		resolveTopic, pauseTopic, resumeTopic, retryTopic, execTopic, sshTopic, sweepTopic, pruneTopic,
		fmtTopic, fixTopic, upgradeTopic,
		localTopic, keyTopic, codecTopic, versionTopic,
	}
}

// An exit ends submit with a code. Whatever the user should read was said.
type exit int

func (e exit) Error() string { return fmt.Sprintf("exit code %d", int(e)) }

// The exit codes, as Packer has them.
const (
	failed  exit = 1
	unknown exit = 127
)

// A console is where submit was called.
type console struct {
	in      io.Reader
	out     io.Writer
	err     io.Writer
	environ []string
	// machine tells that -machine-readable stood anywhere in the arguments.
	machine bool
}

// getenv returns a variable of the environment, or an empty string.
func (c *console) getenv(name string) string {
	for _, v := range slices.Backward(c.environ) {
		if value, ok := strings.CutPrefix(v, name+"="); ok {
			return value
		}
	}
	return ""
}

// terminal tells whether the output is a terminal, and how big it is.
func (c *console) terminal() (size func() (int, int), ok bool) {
	f, isFile := c.out.(*os.File)
	if !isFile || !term.IsTerminal(int(f.Fd())) || c.getenv("TERM") == "dumb" {
		return nil, false
	}
	return func() (int, int) {
		columns, rows, err := term.GetSize(int(f.Fd()))
		if err != nil {
			return 0, 0
		}
		return columns, rows
	}, true
}

// run is submit; it returns the exit code.
func run(ctx context.Context, c *console, args []string) int {
	args, c.machine = machineReadable(args)
	if len(args) == 0 {
		help(c.err)
		return int(unknown)
	}
	switch args[0] {
	case "-h", "-help", "--help":
		help(c.out)
		return 0
	case "help":
		if len(args) == 1 {
			help(c.out)
			return 0
		}
		args = []string{args[1], "-h"}
	case "-v", "-version", "--version":
		args = []string{"version"}
	case "plugin": // as Packer, which does not say so
		args[0] = "plugins"
	}
	if why := withheld(args[0]); why != "" {
		fmt.Fprintf(c.err, "Error: %s is not supported: %s\n", args[0], why)
		return int(failed)
	}
	i := slices.IndexFunc(topics(), func(t topic) bool { return t.name == args[0] })
	if i < 0 {
		fmt.Fprintf(c.err, "submit: there is no command %q\n\n", args[0])
		help(c.err)
		return int(unknown)
	}
	err := topics()[i].call(ctx, c, args[1:])
	var code exit
	switch {
	case err == nil:
		return 0
	case errors.As(err, &code):
		return int(code)
	}
	fmt.Fprintf(ui.Plain(c.err), "Error: %v\n", err)
	return int(failed)
}

// call parses the arguments and runs the command. Flags may stand behind
// arguments, too.
func (t topic) call(ctx context.Context, c *console, args []string) error {
	cmd := t.make()
	f := t.flagSet(cmd)
	var rest []string
	for {
		err := f.Parse(args)
		if errors.Is(err, flag.ErrHelp) {
			t.usage(c.out, f)
			return nil
		}
		if err != nil {
			return t.wrong(c, err.Error())
		}
		n := len(args) - f.NArg()
		ended := n > 0 && args[n-1] == "--"
		args = f.Args()
		if len(args) == 0 {
			break
		}
		if ended {
			rest = append(rest, args...)
			break
		}
		rest, args = append(rest, args[0]), args[1:]
		if t.most < 0 {
			// What follows belongs to another program.
			rest = append(rest, args...)
			break
		}
	}
	switch {
	case len(rest) < t.least:
		return t.wrong(c, "an argument is missing: "+t.args)
	case t.most >= 0 && len(rest) > t.most:
		return t.wrong(c, fmt.Sprintf("too many arguments: %s", strings.Join(rest[t.most:], " ")))
	}
	return cmd.run(ctx, c, rest)
}

func (t topic) flagSet(cmd command) *flag.FlagSet {
	f := flag.NewFlagSet("submit "+t.name, flag.ContinueOnError)
	f.SetOutput(io.Discard)
	f.Usage = func() {}
	cmd.flags(f)
	return f
}

func (t topic) wrong(c *console, what string) error {
	fmt.Fprintf(c.err, "submit %s: %s\nUsage: %s\n%q lists the flags.\n", t.name, what, t.line(), "submit "+t.name+" -h")
	return failed
}

func (t topic) line() string { return strings.TrimSpace("submit " + t.name + " [flags] " + t.args) }

// usage is the help of one command.
func (t topic) usage(w io.Writer, f *flag.FlagSet) {
	fmt.Fprintf(w, "Usage: %s\n\n%s\n", t.line(), strings.TrimSpace(t.text))
	first := true
	f.VisitAll(func(fl *flag.Flag) {
		if first {
			fmt.Fprint(w, "\nFlags:\n")
			first = false
		}
		name, text := flag.UnquoteUsage(fl)
		if b, ok := fl.Value.(interface{ IsBoolFlag() bool }); ok && b.IsBoolFlag() {
			name = ""
		}
		head := "  -" + fl.Name
		if name != "" {
			head += " " + name
		}
		if len(head) > 25 {
			head += "\n" + strings.Repeat(" ", 26)
		}
		fmt.Fprintf(w, "%-26s%s\n", head, text)
	})
	fmt.Fprintf(w, "\nExit codes:\n%s\n", strings.TrimRight(t.exits, "\n"))
}

func help(w io.Writer) {
	fmt.Fprint(w, "Usage: submit COMMAND [flags] [arguments]\n\nsubmit bakes machine images from Packer templates on a durable farm.\n\nCommands:\n")
	for _, t := range topics() {
		fmt.Fprintf(w, "  %-14s%s\n", t.name, t.summary)
	}
	fmt.Fprint(w, `
"submit COMMAND -h" tells more. -machine-readable anywhere prints records instead
of lines. A farm is named by -address or TEMPORAL_ADDRESS, -store or
BAKEHOUSE_STORE, -key or BAKEHOUSE_KEY, and -pool or BAKEHOUSE_POOL; -local is
the one on this machine.

Exit codes: 0 done, 1 something failed, 127 no such command.
`)
}

// machineReadable takes -machine-readable from wherever it stands, as Packer
// does.
func machineReadable(args []string) (rest []string, on bool) {
	for i, a := range args {
		switch a {
		case "--":
			return append(rest, args[i:]...), on
		case "-machine-readable", "--machine-readable", "-machine-readable=true", "--machine-readable=true":
			on = true
		case "-machine-readable=false", "--machine-readable=false":
			on = false
		default:
			rest = append(rest, a)
		}
	}
	return rest, on
}

// many is a flag that may be given several times.
type many []string

func (m *many) String() string { return strings.Join(*m, " ") }

// Set implements flag.Value.
func (m *many) Set(s string) error {
	*m = append(*m, s)
	return nil
}

// list is a flag with values joined by commas, which may be given several times.
type list []string

func (l *list) String() string { return strings.Join(*l, ",") }

// Set implements flag.Value. A comma within braces belongs to a pattern; empty
// patterns are dropped.
func (l *list) Set(s string) error {
	add := func(pattern string) {
		if pattern != "" {
			*l = append(*l, pattern)
		}
	}
	depth, from := 0, 0
	for i, r := range s {
		switch {
		case r == '{':
			depth++
		case r == '}' && depth > 0:
			depth--
		case r == ',' && depth == 0:
			add(s[from:i])
			from = i + 1
		}
	}
	add(s[from:])
	return nil
}
