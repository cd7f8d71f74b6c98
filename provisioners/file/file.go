// Package file is the provisioner file: it brings files to the machine, and
// from it to the computer of whoever submitted.
package file

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/bakehouse-farm/bakehouse"
	"github.com/bakehouse-farm/bakehouse/provisioners"
)

// File is the provisioner. All it does can be done again.
type File struct{}

var _ provisioners.Provisioner = File{}

// New returns the provisioner.
func New() File { return File{} }

// Settings are the arguments of the provisioner block (packer.md §5.2).
type Settings struct {
	Content     string   `json:"content"`
	Source      string   `json:"source" bake:"file"`
	Sources     []string `json:"sources" bake:"file"`
	Destination string   `json:"destination"`
	Direction   string   `json:"direction"`
	Generated   bool     `json:"generated"`
}

// Settings returns new settings.
func (File) Settings() any { return new(Settings) }

func (s Settings) download() bool { return s.Direction == "download" }

func (s Settings) all() []string {
	if s.Source == "" {
		return s.Sources
	}
	return append([]string{s.Source}, s.Sources...)
}

// Check applies Packer's rules.
func (File) Check(raw json.RawMessage, unknown []string, files bakehouse.Files) []bakehouse.Finding {
	var s Settings
	if err := json.Unmarshal(raw, &s); err != nil {
		return []bakehouse.Finding{{Message: err.Error()}}
	}
	open := map[string]bool{}
	for _, name := range unknown {
		open[name] = true
	}
	var found []bakehouse.Finding
	add := func(field, format string, args ...any) {
		found = append(found, bakehouse.Finding{Field: field, Message: fmt.Sprintf(format, args...)})
	}
	if s.Direction != "" && s.Direction != "upload" && s.Direction != "download" {
		add("direction", "Direction must be one of: download, upload.")
	}
	sources := len(s.all()) > 0 || open["source"] || open["sources"]
	content := s.Content != "" || open["content"]
	switch {
	case sources && content:
		add("content", "source(s) conflicts with content.")
	case !sources && !content:
		add("", "source, sources or content must be specified.")
	case content && s.download():
		add("content", "content cannot be downloaded.")
	}
	if !s.download() && !s.Generated {
		for _, name := range s.all() {
			if _, err := os.Stat(files.Path(name)); err != nil {
				field := "sources"
				if name == s.Source {
					field = "source"
				}
				why := err.Error()
				if os.IsNotExist(err) {
					why = "no such file or folder"
				}
				found = append(found, bakehouse.Finding{
					Field: field, Message: fmt.Sprintf("Bad source '%s': %s", name, why),
					Hint: "The path starts from the folder that submit is run in; ${path.root} is that of the template.",
				})
			}
		}
	}
	if s.Destination == "" && !open["destination"] {
		add("destination", "Destination must be specified.")
	}
	return found
}

// Provision brings the files.
func (File) Provision(ctx context.Context, w provisioners.Work) error {
	var s Settings
	if err := json.Unmarshal(w.Settings, &s); err != nil {
		return bakehouse.Errorf(bakehouse.Invalid, "settings of file: %w", err)
	}
	if s.Content != "" {
		bakehouse.LogOf(ctx).Say(fmt.Sprintf("Uploading content => %s", s.Destination))
		if err := w.Machine.Upload(ctx, s.Destination, strings.NewReader(s.Content), 0); err != nil {
			return fmt.Errorf("upload content to %s: %w", s.Destination, err)
		}
		return nil
	}
	for _, source := range s.all() {
		move := upload
		if s.download() {
			move = download
		}
		if err := move(ctx, w, source, s.Destination); err != nil {
			return err
		}
	}
	return nil
}

// upload brings one file or folder to the machine. A destination that ends with
// a slash is a folder.
func upload(ctx context.Context, w provisioners.Work, source, destination string) error {
	bakehouse.LogOf(ctx).Say(fmt.Sprintf("Uploading %s => %s", source, destination))
	local := w.Files.Path(source)
	info, err := os.Stat(local)
	if err != nil {
		return bakehouse.Errorf(bakehouse.Invalid, "Bad source '%s': %w", source, err)
	}
	if info.IsDir() {
		if strings.HasSuffix(source, "/") {
			local += "/" // the content of the folder, not the folder
		}
		if err := w.Machine.UploadDir(ctx, destination, local); err != nil {
			return fmt.Errorf("upload %s to %s: %w", source, destination, err)
		}
		return nil
	}
	if strings.HasSuffix(destination, "/") {
		destination = path.Join(destination, filepath.Base(local))
	}
	f, err := os.Open(local)
	if err != nil {
		return bakehouse.Errorf(bakehouse.Invalid, "Bad source '%s': %w", source, err)
	}
	defer f.Close()
	if err := w.Machine.Upload(ctx, destination, f, info.Mode().Perm()); err != nil {
		return fmt.Errorf("upload %s to %s: %w", source, destination, err)
	}
	return nil
}

// download brings one file, or a folder when source ends with a slash, from
// the machine.
func download(ctx context.Context, w provisioners.Work, source, destination string) error {
	bakehouse.LogOf(ctx).Say(fmt.Sprintf("Downloading %s => %s", source, destination))
	if strings.HasSuffix(source, "/") {
		return w.Download(ctx, strings.TrimSuffix(destination, "/"), func(local string) error {
			if err := os.MkdirAll(local, 0o700); err != nil {
				return err
			}
			if err := w.Machine.DownloadDir(ctx, source, local); err != nil {
				return fmt.Errorf("download %s: %w", source, err)
			}
			return nil
		})
	}
	if strings.HasSuffix(destination, "/") {
		destination = filepath.Join(destination, path.Base(source))
	}
	return w.Download(ctx, destination, func(local string) (err error) {
		f, err := os.Create(local)
		if err != nil {
			return err
		}
		defer func() {
			if cerr := f.Close(); err == nil {
				err = cerr
			}
		}()
		if err := w.Machine.Download(ctx, source, f); err != nil {
			return fmt.Errorf("download %s: %w", source, err)
		}
		return nil
	})
}
