package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/bakehouse-farm/bakehouse"
	"github.com/bakehouse-farm/bakehouse/agent/bundle"
	"github.com/bakehouse-farm/bakehouse/postprocessors/manifest"
)

// apply puts what the builds made for the submitter's computer where the
// template says. All of it is tried; doing it again changes nothing.
func (w *watch) apply(ctx context.Context, results bakehouse.Results) error {
	if !w.outputs {
		return nil
	}
	files := bakehouse.Files{Cwd: w.submission.Cwd, Home: w.submission.Home}
	var errs []error
	said := map[string]bool{}
	for _, r := range results.Builds {
		for _, out := range r.Outputs {
			path := files.Abs(out.Path)
			if err := w.put(ctx, path, out, r.Build.RunUUID); err != nil {
				errs = append(errs, fmt.Errorf("write %s for build %s: %w", out.Path, r.Build.Name, err))
				continue
			}
			if !said[path] {
				said[path] = true
				w.ui.Record(r.Build.Name, "output", out.Kind, path)
				w.ui.Say("==> Wrote " + path)
			}
		}
	}
	return errors.Join(errs...)
}

func (w *watch) put(ctx context.Context, path string, out bakehouse.Output, run string) error {
	switch out.Kind {
	case manifest.OutputKind:
		return manifest.Apply(path, out.Data, run)
	case "file":
		store, err := w.farm.Bundles(ctx)
		if err != nil {
			return err
		}
		data, err := store.Get(ctx, bundle.Digest(out.Blob))
		if err != nil {
			return err
		}
		return replace(path, data)
	}
	return fmt.Errorf("this submit does not know outputs of kind %q: it is older than the agent", out.Kind)
}

// replace writes a file whole, or leaves the old one.
func replace(path string, data []byte) (err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	temp, err := os.CreateTemp(filepath.Dir(path), ".submit-")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(temp.Name())
		}
	}()
	_, err = temp.Write(data)
	if cerr := temp.Chmod(0o644); err == nil {
		err = cerr
	}
	if cerr := temp.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	return os.Rename(temp.Name(), path)
}
