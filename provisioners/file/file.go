// Package file is Packer's file provisioner: it brings files to the machine and
// fetches files from it.
package file

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/bakehouse-farm/bakehouse"
	"github.com/bakehouse-farm/bakehouse/provisioners"
)

// Settings are the arguments of the block.
type Settings struct {
	// Content is what the file holds; or Source and Sources name files and
	// folders. A folder with a trailing slash means its content.
	Content string   `json:"content"`
	Source  string   `json:"source" bake:"file"`
	Sources []string `json:"sources" bake:"file"`
	// Destination is a file, or a folder if it ends with a slash.
	Destination string `json:"destination" bake:"required"`
	// Direction is "upload" or "download".
	Direction string `json:"direction"`
	// Generated tells that the sources need not exist before the build runs.
	Generated bool `json:"generated"`
}

// A Provisioner implements provisioners.Provisioner.
type Provisioner struct{}

var _ provisioners.Provisioner = (*Provisioner)(nil)

// New returns the file provisioner.
func New() *Provisioner { return &Provisioner{} }

// Settings implements bakehouse.Component.
func (*Provisioner) Settings() any { return &Settings{Direction: "upload"} }

func read(settings json.RawMessage) (Settings, error) {
	s := Settings{Direction: "upload"}
	if len(settings) > 0 {
		if err := json.Unmarshal(settings, &s); err != nil {
			return s, bakehouse.Errorf(bakehouse.Invalid, "settings of file: %w", err)
		}
	}
	if s.Direction == "" {
		s.Direction = "upload"
	}
	return s, nil
}

func (s Settings) all() []string {
	if s.Source != "" {
		return append(slices.Clone(s.Sources), s.Source)
	}
	return s.Sources
}

// Check implements bakehouse.Component.
func (*Provisioner) Check(settings json.RawMessage, unknown []string, files bakehouse.Files) []bakehouse.Finding {
	s, err := read(settings)
	if err != nil {
		return []bakehouse.Finding{{Message: err.Error()}}
	}
	var found []bakehouse.Finding
	wrong := func(field, format string, args ...any) {
		found = append(found, bakehouse.Finding{Field: field, Message: fmt.Sprintf(format, args...)})
	}
	maybe := func(field string) bool { return slices.Contains(unknown, field) }
	if s.Direction != "upload" && s.Direction != "download" {
		wrong("direction", "Direction must be one of: download, upload.")
	}
	if s.Direction == "upload" && !s.Generated {
		for _, name := range s.all() {
			field := "sources"
			if name == s.Source {
				field = "source"
			}
			if _, err := os.Stat(files.Path(name)); err != nil {
				wrong(field, "Bad source '%s': %s", name, bare(err, name))
			}
		}
	}
	sources := len(s.all()) > 0 || maybe("source") || maybe("sources")
	content := s.Content != "" || maybe("content")
	switch {
	case !sources && !content:
		wrong("source", "source, sources or content must be specified.")
	case len(s.all()) > 0 && s.Content != "":
		wrong("content", "source(s) conflicts with content.")
	case s.Content != "" && s.Direction == "download":
		wrong("content", "content can only be uploaded, not downloaded.")
	}
	if s.Destination == "" && !maybe("destination") {
		wrong("destination", "Destination must be specified.")
	}
	return found
}

// bare is what went wrong with a file, without the place where the bundle is.
func bare(err error, name string) string {
	if pe, ok := err.(*os.PathError); ok {
		return fmt.Sprintf("%s %s: %s", pe.Op, name, pe.Err)
	}
	return err.Error()
}

// Provision implements provisioners.Provisioner. Files are written whole or not
// at all, so writing them again does no harm.
func (*Provisioner) Provision(ctx context.Context, w provisioners.Work) error {
	s, err := read(w.Settings)
	if err != nil {
		return err
	}
	t := transfer{Work: w, destination: s.Destination}
	switch {
	case s.Direction == "download":
		err = t.each(s.all(), func(src string) error { return t.download(ctx, src) })
	case s.Content != "":
		err = t.content(ctx, s.Content)
	default:
		err = t.each(s.all(), func(src string) error { return t.upload(ctx, src) })
	}
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// A transfer is one call of Provision.
type transfer struct {
	provisioners.Work
	destination string
}

func (transfer) each(sources []string, do func(string) error) error {
	for _, src := range sources {
		if err := do(src); err != nil {
			return err
		}
	}
	return nil
}

// content uploads what the template itself holds. Packer writes it to a
// temporary file first, whose name a destination with a slash would get.
func (t transfer) content(ctx context.Context, content string) error {
	if strings.HasSuffix(t.destination, "/") {
		return bakehouse.Errorf(bakehouse.Invalid, "destination %s is a folder: content needs the name of a file", t.destination)
	}
	bakehouse.LogOf(ctx).Say("Uploading content => " + t.destination)
	return t.Machine.Upload(ctx, t.destination, strings.NewReader(content), 0o644)
}

// upload uploads a file or a folder.
func (t transfer) upload(ctx context.Context, src string) error {
	local := t.Files.Path(src)
	info, err := os.Stat(local)
	if err != nil {
		return bakehouse.Errorf(bakehouse.Invalid, "upload %s: %s", src, bare(err, src))
	}
	bakehouse.LogOf(ctx).Say(fmt.Sprintf("Uploading %s => %s", src, t.destination))
	if info.IsDir() {
		// Path cleans the name; the slash says whose content is meant.
		if strings.HasSuffix(src, "/") {
			local += "/"
		} else if base := filepath.Base(t.Files.Abs(src)); base != filepath.Base(local) {
			return t.Machine.UploadDir(ctx, path.Join(t.destination, base), local+"/")
		}
		return t.Machine.UploadDir(ctx, t.destination, local)
	}
	f, err := os.Open(local)
	if err != nil {
		return fmt.Errorf("upload %s: %w", src, err)
	}
	defer f.Close()
	dst := t.destination
	if strings.HasSuffix(dst, "/") {
		dst = path.Join(dst, path.Base(filepath.ToSlash(src)))
	}
	return t.Machine.Upload(ctx, dst, f, info.Mode().Perm())
}

// download fetches a file, the content of a folder (with a trailing slash), or
// all that a pattern matches.
func (t transfer) download(ctx context.Context, src string) error {
	bakehouse.LogOf(ctx).Say(fmt.Sprintf("Downloading %s => %s", src, t.destination))
	switch {
	case strings.ContainsAny(src, "*?["):
		return t.pattern(ctx, src)
	case strings.HasSuffix(src, "/"):
		return t.folder(ctx, src, t.destination)
	}
	dst := t.destination
	if strings.HasSuffix(dst, "/") {
		dst += path.Base(src)
	}
	return t.file(ctx, src, dst)
}

func (t transfer) file(ctx context.Context, src, dst string) error {
	return t.Download(ctx, dst, func(local string) error {
		f, err := os.Create(local)
		if err != nil {
			return err
		}
		err = t.Machine.Download(ctx, src, f)
		if err2 := f.Close(); err == nil {
			err = err2
		}
		return err
	})
}

// folder fetches the content of the folder src; src ends with a slash.
func (t transfer) folder(ctx context.Context, src, dst string) error {
	return t.Download(ctx, strings.TrimRight(dst, "/"), func(local string) error {
		return t.Machine.DownloadDir(ctx, src, local)
	})
}

// pattern fetches all files and folders that match into the destination.
func (t transfer) pattern(ctx context.Context, src string) error {
	line := `for f in ` + escape(src) + `; do if test -d "$f"; then echo "d$f"; elif test -e "$f"; then echo "f$f"; fi; done`
	r, out, err := t.Machine.Exec(ctx, "/bin/sh -c "+quote(line))
	if err != nil {
		return err
	}
	matches := strings.Split(strings.TrimSpace(string(out)), "\n")
	if r.Exit != 0 || matches[0] == "" {
		return bakehouse.Errorf(bakehouse.NotFound, "download %s: nothing on the machine matches", src)
	}
	for _, m := range matches {
		m = strings.TrimSuffix(m, "\r")
		dst := strings.TrimRight(t.destination, "/") + "/" + path.Base(m[1:])
		if m[0] == 'd' {
			err = t.folder(ctx, m[1:]+"/", dst)
		} else {
			err = t.file(ctx, m[1:], dst)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// escape leaves only what makes a pattern special to the shell.
func escape(pattern string) string {
	var b strings.Builder
	for _, r := range pattern {
		word := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r > 127
		if !word && !strings.ContainsRune("*?[]-!^/._", r) {
			b.WriteByte('\\')
		}
		b.WriteRune(r)
	}
	return b.String()
}

func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'"'"'`) + "'" }
