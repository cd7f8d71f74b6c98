package bundle

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"gocloud.dev/blob"
	"gocloud.dev/blob/fileblob"
	"gocloud.dev/blob/memblob"
	"gocloud.dev/blob/s3blob"

	"github.com/bakehouse-farm/bakehouse"
)

// OpenBucket opens the blob store that url names:
//
//	file:///var/lib/bakehouse/blobs   a folder, made if absent; it must be writable
//	s3://bucket?region=eu-central-1   with the parameters of gocloud.dev/blob/s3blob,
//	                                  and prefix=farm/ for a part of the bucket
//	mem://                            nothing but this process; each call is a new store
//
// A folder that cannot be written, or whose disk is full, is an error here and
// not in the middle of a build. S3 is first spoken to when it is used.
func OpenBucket(ctx context.Context, rawURL string) (*blob.Bucket, error) {
	u, err := url.Parse(rawURL)
	if err != nil {
		return nil, bakehouse.Errorf(bakehouse.Invalid, "blob store: %w", err)
	}
	switch u.Scheme {
	case fileblob.Scheme:
		return openFolder(u)
	case s3blob.Scheme:
		mux := new(blob.URLMux)
		mux.RegisterBucket(s3blob.Scheme, &s3blob.URLOpener{})
		b, err := mux.OpenBucketURL(ctx, u)
		if err != nil {
			return nil, bakehouse.Errorf(bakehouse.Invalid, "blob store %s: %w", u.Redacted(), err)
		}
		return b, nil
	case memblob.Scheme:
		return memblob.OpenBucket(nil), nil
	case "":
		return nil, bakehouse.Errorf(bakehouse.Invalid, "blob store %q is not a URL: write file:///absolute/folder or s3://bucket", rawURL)
	}
	return nil, bakehouse.Errorf(bakehouse.Invalid, "blob store %s: scheme %q is not known: use file, s3 or mem", u.Redacted(), u.Scheme)
}

func openFolder(u *url.URL) (*blob.Bucket, error) {
	if u.Host != "" || !filepath.IsAbs(u.Path) {
		return nil, bakehouse.Errorf(bakehouse.Invalid, "blob store %s: the folder must be absolute: file:///folder, with three slashes", u)
	}
	if u.RawQuery != "" {
		return nil, bakehouse.Errorf(bakehouse.Invalid, "blob store %s: a folder takes no parameters", u)
	}
	dir := filepath.Clean(u.Path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, bakehouse.Errorf(bakehouse.Invalid, "blob store %s: create the folder: %w", u, err)
	}
	if err := probe(dir); err != nil {
		switch {
		case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
			return nil, fmt.Errorf("blob store %s: the disk is full: %w", u, err)
		case errors.Is(err, syscall.EIO), errors.Is(err, syscall.ESTALE), errors.Is(err, syscall.ETIMEDOUT):
			return nil, fmt.Errorf("blob store %s: the disk does not answer: %w", u, err) // it may be far away
		default:
			return nil, bakehouse.Errorf(bakehouse.Invalid, "blob store %s: the folder cannot be written: %w", u, err)
		}
	}
	b, err := fileblob.OpenBucket(dir, &fileblob.Options{
		// Temporary files elsewhere may be on another file system, from which
		// a file cannot be renamed to its place.
		NoTempDir: true,
		// All that we need to know of a blob is in it.
		Metadata:    fileblob.MetadataDontWrite,
		DirFileMode: 0o700,
	})
	if err != nil {
		return nil, bakehouse.Errorf(bakehouse.Invalid, "blob store %s: %w", u, err)
	}
	return b, nil
}

// probe finds out whether a file of some size can be written.
func probe(dir string) error {
	f, err := os.CreateTemp(dir, ".probe-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.WriteString(strings.Repeat("bakehouse\n", 1<<12))
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}
