// Package templatetest holds a corpus of small templates, right and wrong ones,
// for holding one reader of Packer's language against another.
//
// Some of its cases are written by hand, because a rule deserves it; the others
// are mutations of whole templates: an argument dropped, renamed or of another
// type, a block moved, a reference broken, a comma lost. The corpus is the same
// each time it is made.
package templatetest

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash/fnv"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/tools/txtar"
)

// A Case is one template with what it is called with.
type Case struct {
	// Name says where the case comes from: the archive and folder of one that is
	// written, the base and the mutation of one that is made.
	Name string
	// Files are the template and what it needs, by relative path.
	Files []txtar.File
	// Path is what is validated: a file, or a folder.
	Path string
	// Args are flags of validate, Env additions to the environment.
	Args, Env []string
	// About are the lines of the file "about" of a case that is written.
	About []string
}

// Digest names the case by all that a verdict may depend on, but not by its
// name: a case that is renamed keeps its verdict.
func (c Case) Digest() string {
	h := sha256.New()
	fmt.Fprintf(h, "%q %q %q\n", c.Path, c.Args, c.Env)
	for _, f := range c.Files {
		fmt.Fprintf(h, "%q %q\n", f.Name, f.Data)
	}
	return hex.EncodeToString(h.Sum(nil))[:16]
}

// Lay writes the files of the case below a folder.
func (c Case) Lay(dir string) error {
	for _, f := range c.Files {
		name := filepath.Join(dir, filepath.FromSlash(f.Name))
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(name, f.Data, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// String shows the case as a txtar archive, for whoever wants to try it.
func (c Case) String() string {
	head := fmt.Sprintf("%s: validate %s %s %s\n", c.Name, strings.Join(c.Env, " "), strings.Join(c.Args, " "), c.Path)
	return string(txtar.Format(&txtar.Archive{Comment: []byte(head), Files: c.Files}))
}

// Written reads the cases that stand in the txtar archives of a folder. A file
// of an archive is a case of its own, and a folder is one as a whole; a folder
// may hold a file "args" with one flag of validate, one KEY=VALUE for the
// environment, or "path PATH" a line. Files below "all/" are there in each case.
func Written(pattern string) ([]Case, error) {
	archives, err := filepath.Glob(pattern)
	if err != nil || len(archives) == 0 {
		return nil, fmt.Errorf("%s: no archives: %w", pattern, os.ErrNotExist)
	}
	var cases []Case
	for _, archive := range archives {
		a, err := txtar.ParseFile(archive)
		if err != nil {
			return nil, err
		}
		of := strings.TrimSuffix(filepath.Base(archive), filepath.Ext(archive))
		var shared []txtar.File
		byName := map[string]*Case{}
		var order []*Case
		for _, f := range a.Files {
			name, rest, inFolder := strings.Cut(f.Name, "/")
			if inFolder && name == "all" {
				shared = append(shared, txtar.File{Name: rest, Data: f.Data})
				continue
			}
			c := byName[name]
			if c == nil {
				c = &Case{Name: of + "/" + name, Path: "."}
				byName[name] = c
				order = append(order, c)
			}
			switch {
			case !inFolder:
				c.Path = f.Name
				c.Files = append(c.Files, f)
			case rest == "args":
				if err := c.called(string(f.Data)); err != nil {
					return nil, fmt.Errorf("%s: %s: %w", archive, f.Name, err)
				}
			case rest == "about":
				c.About = lines(string(f.Data))
			default:
				c.Files = append(c.Files, txtar.File{Name: rest, Data: f.Data})
			}
		}
		for _, c := range order {
			c.Files = append(c.Files, shared...)
			cases = append(cases, *c)
		}
	}
	return cases, nil
}

func (c *Case) called(args string) error {
	for _, line := range lines(args) {
		switch path, isPath := strings.CutPrefix(line, "path "); {
		case isPath:
			c.Path = path
		case strings.HasPrefix(line, "-"):
			c.Args = append(c.Args, line)
		case strings.Contains(line, "="):
			c.Env = append(c.Env, line)
		default:
			return fmt.Errorf("%q is neither a flag nor KEY=VALUE nor path PATH", line)
		}
	}
	return nil
}

func lines(s string) []string {
	var list []string
	for _, line := range strings.Split(s, "\n") {
		if line = strings.TrimSpace(line); line != "" {
			list = append(list, line)
		}
	}
	return list
}

// Mutated makes mutations of the templates that Written reads: at most each of
// every kind of mutation of every template, chosen evenly and always the same.
func Mutated(pattern string, each int) ([]Case, error) {
	bases, err := Written(pattern)
	if err != nil {
		return nil, err
	}
	var cases []Case
	seen := map[string]bool{}
	for _, base := range bases {
		cases = append(cases, base)
		seen[base.Digest()] = true
		at := slices.IndexFunc(base.Files, func(f txtar.File) bool { return f.Name == base.Path })
		if at < 0 {
			return nil, fmt.Errorf("%s: only a template of one file can be mutated", base.Name)
		}
		mutate := mutateNative
		if strings.HasSuffix(base.Path, ".json") {
			mutate = mutateJSON
		}
		edits, err := mutate(base.Files[at].Data)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", base.Name, err)
		}
		for _, e := range choose(edits, each) {
			c := base
			c.Name = base.Name + ": " + e.name()
			c.Files = slices.Clone(base.Files)
			c.Files[at].Data = e.apply(base.Files[at].Data)
			// Two ways to break a template may lead to the same one.
			if digest := c.Digest(); !seen[digest] {
				seen[digest] = true
				cases = append(cases, c)
			}
		}
	}
	return cases, nil
}

// An edit replaces a stretch of a file.
type edit struct {
	kind, what string
	from, to   int
	with       string
}

func (e edit) name() string { return e.kind + " " + e.what }

func (e edit) apply(src []byte) []byte {
	out := append([]byte(nil), src[:e.from]...)
	out = append(out, e.with...)
	return append(out, src[e.to:]...)
}

// choose leaves at most n edits of each kind. Which ones depends on their names
// only, so that a change in one place of a template leaves most of the rest.
func choose(edits []edit, n int) []edit {
	weight := func(e edit) uint64 {
		h := fnv.New64a()
		_, _ = h.Write([]byte(e.name())) // a hash takes everything
		return h.Sum64()
	}
	byKind := map[string][]edit{}
	var kinds []string
	for _, e := range edits {
		if byKind[e.kind] == nil {
			kinds = append(kinds, e.kind)
		}
		byKind[e.kind] = append(byKind[e.kind], e)
	}
	var left []edit
	for _, kind := range kinds {
		list := byKind[kind]
		slices.SortStableFunc(list, func(a, b edit) int { return cmp.Compare(weight(a), weight(b)) })
		list = list[:min(n, len(list))]
		slices.SortStableFunc(list, func(a, b edit) int { return cmp.Compare(a.from, b.from) })
		left = append(left, list...)
	}
	return left
}
