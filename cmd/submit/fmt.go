package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/hashicorp/hcl/v2/hclwrite"
	"github.com/rogpeppe/go-internal/diff"

	"github.com/bakehouse-farm/bakehouse/cmd/submit/ui"
	"github.com/bakehouse-farm/bakehouse/template"
)

var fmtTopic = topic{
	name: "fmt", args: "PATH ...", least: 1, most: math.MaxInt,
	summary: "lay templates out as everybody does",
	text: `
Rewrites templates (*.pkr.hcl) and variable files (*.pkrvars.hcl) in the usual
layout, and prints the name of each file that it changed. PATH is a file, or a
folder whose files are looked at; files and folders in it whose names begin with
a dot, and what editors leave behind, are not. - stands for the standard input,
and is written to the standard output. JSON has no layout of its own: it is left
alone. A file is replaced at once or not at all.`,
	exits: `  0  every file has the usual layout now
  1  a file could not be read, is no HCL, or could not be written
  3  with -check: a file does not have the usual layout
`,
	make: func() command { return new(format) },
}

// unformatted is what fmt -check ends with, as Packer does.
const unformatted exit = 3

type format struct {
	check, diff, write, recursive bool

	c       *console
	u       *ui.UI
	changed bool
	trouble bool
}

func (m *format) flags(f *flag.FlagSet) {
	f.BoolVar(&m.check, "check", false, "change nothing; exit with 3 if there is something to change")
	f.BoolVar(&m.diff, "diff", false, "show what changes")
	f.BoolVar(&m.write, "write", true, "write the files; -check turns it off")
	f.BoolVar(&m.recursive, "recursive", false, "look into the folders below, too")
}

func (m *format) run(_ context.Context, c *console, args []string) error {
	m.c, m.u = c, new(look).ui(c)
	for _, path := range args {
		m.path(path)
	}
	switch {
	case m.trouble:
		return failed
	case m.changed && m.check:
		return unformatted
	}
	return m.u.Err()
}

// path formats what the user named.
func (m *format) path(path string) {
	if path == "-" {
		src, err := io.ReadAll(m.c.in)
		if err != nil {
			m.fail(fmt.Errorf("read the standard input: %w", err))
			return
		}
		m.stream(src)
		return
	}
	info, err := os.Stat(path)
	switch {
	case err != nil:
		m.fail(err)
	case info.IsDir():
		m.folder(path)
	case !formattable(path):
		m.fail(fmt.Errorf("cannot tell whether %s contains HCL2 configuration data: fmt takes *.pkr.hcl and *.pkrvars.hcl", path))
	default:
		m.file(path)
	}
}

func (m *format) folder(path string) {
	entries, err := os.ReadDir(path)
	if err != nil {
		m.fail(err)
		return
	}
	for _, e := range entries {
		name := filepath.Join(path, e.Name())
		switch {
		case ignored(e.Name()):
		case e.IsDir():
			if m.recursive {
				m.folder(name)
			}
		case formattable(name):
			if info, err := os.Stat(name); err == nil && info.IsDir() {
				continue // a link to a folder may lead anywhere, also back here
			}
			m.file(name)
		}
	}
}

func formattable(name string) bool {
	return strings.HasSuffix(name, ".pkr.hcl") || strings.HasSuffix(name, ".pkrvars.hcl")
}

// ignored tells of files that are hidden, or that an editor put there.
func ignored(name string) bool {
	return strings.HasPrefix(name, ".") || strings.HasSuffix(name, "~") ||
		strings.HasPrefix(name, "#") && strings.HasSuffix(name, "#")
}

func (m *format) file(name string) {
	src, err := os.ReadFile(name)
	if err != nil {
		m.fail(err)
		return
	}
	out, ok := m.laidOut(src, name)
	if !ok || bytes.Equal(src, out) {
		return
	}
	m.changed = true
	m.u.Say(name)
	m.show(name, src, out)
	if m.write && !m.check {
		if err := rewrite(name, out, 0o644); err != nil {
			m.fail(err)
		}
	}
}

// stream formats the standard input. It is passed on even when there is nothing
// to change: whoever redirects it wants it whole.
func (m *format) stream(src []byte) {
	out, ok := m.laidOut(src, "<stdin>")
	if !ok {
		return
	}
	m.changed = m.changed || !bytes.Equal(src, out)
	switch {
	case m.diff:
		m.show("<stdin>", src, out)
	case m.write && !m.check:
		if _, err := m.c.out.Write(out); err != nil {
			m.fail(fmt.Errorf("write the standard output: %w", err))
		}
	}
}

func (m *format) laidOut(src []byte, name string) ([]byte, bool) {
	var diags hcl.Diagnostics
	if d := template.TooDeep(src, name); d != nil {
		diags = append(diags, d)
	} else {
		_, diags = hclsyntax.ParseConfig(src, name, hcl.InitialPos)
	}
	if diags.HasErrors() {
		m.c.complain(diags, map[string][]byte{name: src})
		m.trouble = true
		return nil, false
	}
	return hclwrite.Format(src), true
}

func (m *format) show(name string, before, after []byte) {
	if m.diff {
		name = filepath.ToSlash(name)
		m.u.Say(strings.TrimSuffix(string(diff.Diff("old/"+name, before, "new/"+name, after)), "\n"))
	}
}

func (m *format) fail(err error) {
	m.trouble = true
	var pe *os.PathError
	if errors.As(err, &pe) {
		err = fmt.Errorf("%s %s: %w", pe.Op, pe.Path, pe.Err)
	}
	fmt.Fprintf(m.c.err, "Error: %v\n", err)
}
