package main

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/base32"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"os/user"
	"path/filepath"
	"strings"

	"github.com/bakehouse-farm/bakehouse"
	"github.com/bakehouse-farm/bakehouse/agent/bundle"
	"github.com/bakehouse-farm/bakehouse/cmd/catalogue"
)

// pack stores what the agents need: the template with its files, and the
// variables. keep names folders of ours that are never part of a template.
func (d *dish) pack(ctx context.Context, store *bundle.Store, keep []string) (files, values bundle.Digest, stats bundle.Stats, err error) {
	named := d.template.LocalFiles(d.values, d.selection, d.pinned)
	paths := named
	if d.source == nil {
		paths = append([]string{d.path}, named...)
	}
	files, stats, err = store.Pack(ctx, d.files, paths, d.skip(named, keep))
	if err == nil && d.source != nil {
		// The agent finds it as a file of that name in the current folder.
		files, err = store.Add(ctx, files, d.files, d.path, d.source)
	}
	if err != nil {
		return "", "", stats, fmt.Errorf("pack the template's files: %w", err)
	}
	data, err := json.Marshal(d.values)
	if err != nil {
		return "", "", stats, fmt.Errorf("pack variables: %w", err)
	}
	values, err = store.Put(ctx, data)
	if err != nil {
		return "", "", stats, fmt.Errorf("store variables: %w", err)
	}
	return files, values, stats, nil
}

// skip tells what in the template's folder is no part of it: what its
// post-processors write, logs, and what submit keeps there itself. Otherwise
// the same submission would not look the same when it is sent again. What the
// template names is always taken.
func (d *dish) skip(named, keep []string) func(abs string) bool {
	ours := map[string]bool{}
	postProcessors := catalogue.PostProcessors()
	for _, name := range d.template.Writes(d.values, d.pinned, func(typ string, settings json.RawMessage) []string {
		if p, ok := postProcessors[typ]; ok {
			return p.Writes(settings)
		}
		return nil
	}) {
		ours[d.files.Abs(name)] = true
		ours[d.files.Abs(name)+".lock"] = true
	}
	for _, k := range keep {
		ours[k] = true
	}
	var wanted []string
	for _, n := range named {
		wanted = append(wanted, d.files.Abs(n))
	}
	return func(abs string) bool {
		if ours[abs] {
			return true
		}
		for _, w := range wanted {
			if abs == w || strings.HasPrefix(abs, w+string(filepath.Separator)) {
				return false
			}
		}
		switch base := filepath.Base(abs); {
		case strings.HasSuffix(base, ".log"), base == "nohup.out", base == "packer_cache":
			return true
		}
		return isOutput(abs)
	}
}

// isOutput tells whether a file is where our own output goes.
func isOutput(abs string) bool {
	info, err := os.Stat(abs)
	if err != nil || !info.Mode().IsRegular() {
		return false
	}
	for _, f := range []*os.File{os.Stdout, os.Stderr} {
		if out, err := f.Stat(); err == nil && os.SameFile(info, out) {
			return true
		}
	}
	return false
}

// folderOf returns the folder of a file:// URL, or nothing.
func folderOf(store string) []string {
	u, err := url.Parse(store)
	if err != nil || u.Scheme != "file" {
		return nil
	}
	return []string{filepath.Clean(u.Path)}
}

// submissionID names a submission by everything that makes it what it is, so
// that the same one sent again is the same.
func submissionID(s bakehouse.Submission, values json.RawMessage, extra string) string {
	seed, err := json.Marshal(struct {
		Bundle, Template, Pool, Extra string
		Values                        json.RawMessage
		Only, Except                  []string
		Force                         bool
		Policy                        bakehouse.Policy
	}{s.Bundle, s.Template, s.Pool, extra, values, s.Only, s.Except, s.Force, s.Policy})
	if err != nil {
		panic(err) // strings, and JSON that was just made
	}
	sum := sha256.Sum256(seed)
	return s.Title + "-" + strings.ToLower(base32.StdEncoding.EncodeToString(sum[:])[:10])
}

// title is the short name of a template: of its folder or its file.
func (d *dish) title() string {
	base := filepath.Base(d.files.Abs(d.path))
	for _, suffix := range []string{".pkr.hcl", ".pkr.json", ".json"} {
		base = strings.TrimSuffix(base, suffix)
	}
	var b strings.Builder
	for _, r := range strings.ToLower(base) {
		if (r >= 'a' && r <= 'z') || (r >= '0' && r <= '9') {
			b.WriteRune(r)
		} else if s := b.String(); s != "" && !strings.HasSuffix(s, "-") {
			b.WriteByte('-')
		}
	}
	s := b.String()
	if len(s) > 30 {
		s = s[:30]
	}
	return cmp.Or(strings.Trim(s, "-"), "template")
}

// userName is who submits, as far as this computer knows.
func userName(c *console) string {
	if s := c.getenv("SUDO_USER"); s != "" {
		return s
	}
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return ""
}
