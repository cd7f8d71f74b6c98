package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/google/uuid"
	"golang.org/x/term"

	"github.com/bakehouse-farm/bakehouse/cmd/submit/ui"
	"github.com/bakehouse-farm/bakehouse/template"
)

var consoleTopic = topic{
	name: "console", args: "[PATH]", least: 0, most: 1,
	summary: "try expressions, with the values of a template",
	text: `
Evaluates what is typed, line by line: expressions of HCL, which see var, local,
path, packer and all functions, or, for a JSON template of the older kind, texts
with {{ }} in them. Without PATH there are no variables, and -config-type says
which of the two it is. Data sources are not read; variables need no value.

The words help, variables and exit are commands. When the input is no terminal,
each line is evaluated and the result of the last is printed. PATH may be -, for
a JSON template on the standard input; nothing is left to be evaluated then.`,
	exits: `  0  done
  1  the template cannot be read, or, when the input is no terminal, an
     expression was wrong (in a {{ }} that is no failure, as in Packer)
`,
	make: func() command { return new(repl) },
}

type repl struct {
	recipe
	look
}

func (r *repl) flags(f *flag.FlagSet) {
	r.recipe.flags(f)
	r.look.flags(f)
}

func (r *repl) run(ctx context.Context, c *console, args []string) error {
	u := r.look.ui(c)
	path := ""
	if len(args) > 0 {
		path = args[0]
	}
	d, p, err := r.recipe.load(c, u, path, r.look.colored(c))
	if err != nil {
		return err
	}
	if err := r.recipe.evaluate(c, d, p, template.Inputs{AllowUnset: true}); err != nil {
		return err
	}
	con, _ := d.template.Console(d.values, d.pinned)
	s := &session{console: con, legacy: d.template.Legacy(), report: p, pinned: d.pinned}
	if in, ok := c.in.(*os.File); ok && term.IsTerminal(int(in.Fd())) {
		return s.interactive(ctx, c, in)
	}
	return s.piped(c.in)
}

// A session is a console in use.
type session struct {
	console *template.Console
	legacy  bool
	report  *report
	pinned  template.Pinned
}

// answer does what a line says. The result is empty when the line was wrong,
// which it has said then.
func (s *session) answer(line string) (result string, exit, wrong bool) {
	switch line = strings.TrimSpace(line); line {
	case "":
		return "", false, false
	case "exit":
		return "", true, false
	case "help":
		return s.help(), false, false
	case "variables":
		return s.variables(), false, false
	}
	pin := s.pinned
	pin.Time, pin.Seed = time.Now().UTC(), uuid.NewString()
	result, diags := s.console.Evaluate(line, pin)
	wrong = s.report.show(diags)
	return result, false, wrong
}

func (s *session) variables() string {
	variables, locals := s.console.Variables()
	if !s.legacy {
		return variablesText(variables, locals)
	}
	var b strings.Builder
	b.WriteByte('\n')
	for _, v := range variables {
		fmt.Fprintf(&b, "%s: %s,\n", v.Name, v.Value)
	}
	return b.String()
}

func (s *session) help() string {
	what, note := "an expression, such as upper(var.name)", `The {{ }} of JSON templates is not known here.`
	if s.legacy {
		what, note = "a text, such as {{timestamp}} or {{user `name`}}", "For HCL, name an HCL template, or say -config-type=hcl2 without any."
	}
	return fmt.Sprintf(`Type %s
and press Enter: its value is printed.

  variables   lists the variables and their values
  exit        leaves, as Ctrl-C does

%s`, what, note)
}

// piped evaluates every line and prints the result of the last, as Packer does.
// A line "exit" ends nothing: what follows it counts.
func (s *session) piped(in io.Reader) error {
	r := bufio.NewReader(in)
	last, faulty := "", false
	for {
		line, err := r.ReadString('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return fmt.Errorf("read the standard input: %w", err)
		}
		if line != "" {
			result, _, wrong := s.answer(line)
			last, faulty = result, faulty || wrong
		}
		if err != nil {
			break
		}
	}
	s.report.u.Say(last)
	// Packer takes what is wrong in {{ }} for a result.
	if faulty && !s.legacy {
		return failed
	}
	return nil
}

// interactive reads lines with editing and a history. The terminal is left as it
// was found, also when submit is told to end.
func (s *session) interactive(ctx context.Context, c *console, in *os.File) error {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	before, err := term.MakeRaw(int(in.Fd()))
	if err != nil {
		return fmt.Errorf("terminal: %w", err)
	}
	defer term.Restore(int(in.Fd()), before) //nolint:errcheck // there is nothing to be done about it

	t := term.NewTerminal(struct {
		io.Reader
		io.Writer
	}{in, c.out}, "> ")
	if size, ok := c.terminal(); ok {
		if columns, rows := size(); columns > 0 {
			_ = t.SetSize(columns, rows)
		}
	}
	s.report.u = ui.New(t, ui.Options{Machine: c.machine})
	lines := make(chan string)
	ended := make(chan error, 1)
	next := make(chan struct{})
	go func() {
		for {
			line, err := t.ReadLine()
			if err != nil && !errors.Is(err, term.ErrPasteIndicator) {
				ended <- err
				return
			}
			select {
			case lines <- line:
			case <-ctx.Done():
				return
			}
			<-next // what was typed ahead is read when this is answered
		}
	}()
	for {
		select {
		case <-ctx.Done():
			return failed
		case err := <-ended:
			if errors.Is(err, io.EOF) { // Ctrl-C or Ctrl-D
				return nil
			}
			return fmt.Errorf("read the terminal: %w", err)
		case line := <-lines:
			result, exit, wrong := s.answer(line)
			if exit {
				return nil
			}
			if !wrong && strings.TrimSpace(line) != "" {
				s.report.u.Say(result)
			}
			next <- struct{}{}
		}
	}
}
