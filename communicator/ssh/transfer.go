package ssh

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/pkg/sftp"

	"github.com/bakehouse-farm/bakehouse"
)

// Files travel by sftp, and by cat where the machine has no sftp, whatever
// ssh_file_transfer_method says: both results are the same.

// remote is what a way to move files can do. Paths are the machine's.
type remote interface {
	// put writes r to the new file name.
	put(ctx context.Context, name string, r io.Reader, mode fs.FileMode) error
	// replace renames a file over another.
	replace(ctx context.Context, from, to string) error
	// overwrite writes r into the file name, where it is.
	overwrite(ctx context.Context, name string, r io.Reader, mode fs.FileMode) error
	remove(ctx context.Context, name string) error
	mkdir(ctx context.Context, name string) error // with its parents
	// resolve follows symbolic links and tells what is there: plain is true for
	// a regular file, and when there is nothing.
	resolve(ctx context.Context, name string) (real string, plain bool, err error)
	get(ctx context.Context, name string, w io.Writer) error
	// list returns the folders and the files below a folder, relative to it.
	list(ctx context.Context, name string) (dirs, files []string, err error)
}

// remote returns the best way to move files over this link.
func (l *link) remote() (remote, error) {
	l.files.Lock()
	defer l.files.Unlock()
	if l.plain {
		return catFiles{l}, nil
	}
	if l.sftp != nil {
		return sftpFiles{l.sftp}, nil
	}
	// 16 requests of 32 KiB are enough for 10 MB/s over 50 ms, and a quarter of
	// the memory of the default: an agent may be uploading to fifty machines.
	client, err := sftp.NewClient(l.client, sftp.UseConcurrentReads(true), sftp.MaxConcurrentRequestsPerFile(16))
	if err != nil {
		if !l.aliveAfter(err) {
			return nil, fmt.Errorf("open sftp: %w", err)
		}
		l.log.Info("machine has no sftp, files travel by cat", "error", err)
		l.plain = true
		return catFiles{l}, nil
	}
	l.sftp = client
	return sftpFiles{client}, nil
}

// guarded runs do, which may block on a dead peer, until it, ctx or the link ends.
func (l *link) guarded(ctx context.Context, do func(r remote) error) error {
	done := make(chan error, 1)
	go func() {
		r, err := l.remote()
		if err == nil {
			err = do(r)
		}
		done <- err
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		// What is under way uses the caller's reader or writer: it must end first.
		l.close()
		<-done
		return context.Cause(ctx)
	case <-l.dead:
		<-done
		return errors.New("connection is gone")
	}
}

// upload writes r to dst, whole or not at all, if dst is a plain file or new.
func (l *link) upload(ctx context.Context, dst string, r io.Reader, mode fs.FileMode) error {
	return l.guarded(ctx, func(remote remote) error { return upload(ctx, remote, dst, r, mode) })
}

func upload(ctx context.Context, remote remote, dst string, r io.Reader, mode fs.FileMode) error {
	if mode == 0 {
		mode = 0o644
	}
	// A link stays a link, as with scp: what it points to is replaced.
	real, plain, err := remote.resolve(ctx, dst)
	if err != nil {
		return err
	}
	if !plain {
		return remote.overwrite(ctx, real, r, mode)
	}
	// By its name, so that one that is cut off leaves one file, not many. Two
	// uploads of one file at once make no sense anyway.
	tmp := path.Join(path.Dir(real), "."+path.Base(real)+".bakehouse-part")
	if err := remote.put(ctx, tmp, r, mode); err != nil {
		if errors.Is(err, errNotBegun) {
			// The folder is closed to us, but the file in it may be open.
			return remote.overwrite(ctx, real, r, mode)
		}
		_ = remote.remove(ctx, tmp)
		return err
	}
	if err := remote.replace(ctx, tmp, real); err != nil {
		_ = remote.remove(ctx, tmp)
		return err
	}
	return nil
}

// errNotBegun tells that put has not read anything yet.
var errNotBegun = errors.New("cannot create file")

// Upload implements communicator.Communicator. A symbolic link at dst stays;
// the file that it points to is replaced.
func (c *Conn) Upload(ctx context.Context, dst string, r io.Reader, mode fs.FileMode) error {
	l, err := c.connectedWithin(ctx, absence(c.target.Settings))
	if err != nil {
		return err
	}
	return c.verdict(ctx, l, "upload "+dst, l.upload(ctx, dst, r, mode))
}

// Download implements communicator.Communicator.
func (c *Conn) Download(ctx context.Context, src string, w io.Writer) error {
	l, err := c.connectedWithin(ctx, absence(c.target.Settings))
	if err != nil {
		return err
	}
	return c.verdict(ctx, l, "download "+src, l.guarded(ctx, func(r remote) error { return r.get(ctx, src, &quota{to: w, left: maxDownload}) }))
}

// verdict says what the failure of a transfer means: what the machine refuses
// it will refuse again, while a lost connection is worth another try.
func (c *Conn) verdict(ctx context.Context, l *link, what string, err error) error {
	var kinded *bakehouse.Error
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.As(err, &kinded) || c.lost(ctx, l, err):
		return fmt.Errorf("%s: %w", what, err)
	case errors.Is(err, fs.ErrNotExist):
		return bakehouse.Errorf(bakehouse.NotFound, "%s: %w", what, err)
	case errors.Is(err, fs.ErrPermission):
		return bakehouse.Errorf(bakehouse.Denied, "%s: %w", what, err)
	}
	return bakehouse.Errorf(bakehouse.Failed, "%s: %w", what, err)
}

// UploadDir implements communicator.Communicator. Symbolic links are followed.
func (c *Conn) UploadDir(ctx context.Context, dst, src string) error {
	if !strings.HasSuffix(src, "/") {
		dst = path.Join(dst, filepath.Base(src))
	}
	l, err := c.connectedWithin(ctx, absence(c.target.Settings))
	if err != nil {
		return err
	}
	err = l.guarded(ctx, func(r remote) error { return uploadTree(ctx, r, dst, filepath.Clean(src), nil) })
	return c.verdict(ctx, l, "upload "+src, err)
}

// uploadTree copies the content of the local folder src into dst. within are
// the folders that it lies in, so that a link cannot lead in circles.
func uploadTree(ctx context.Context, r remote, dst, src string, within []fs.FileInfo) error {
	here, err := os.Stat(src)
	if err != nil {
		return err
	}
	for _, outer := range within {
		if os.SameFile(outer, here) {
			return bakehouse.Errorf(bakehouse.Invalid, "%s is a symbolic link to a folder that it lies in", src)
		}
	}
	if err := r.mkdir(ctx, dst); err != nil {
		return err
	}
	entries, err := os.ReadDir(src)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		local, there := filepath.Join(src, e.Name()), path.Join(dst, e.Name())
		info, err := os.Stat(local)
		if err != nil {
			return err
		}
		switch {
		case info.IsDir():
			err = uploadTree(ctx, r, there, local, append(within[:len(within):len(within)], here))
		case info.Mode().IsRegular():
			err = uploadFile(ctx, r, there, local, info.Mode().Perm())
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func uploadFile(ctx context.Context, r remote, dst, src string, mode fs.FileMode) error {
	f, err := os.Open(src)
	if err != nil {
		return err
	}
	defer f.Close()
	return upload(ctx, r, dst, f, mode)
}

// DownloadDir implements communicator.Communicator.
func (c *Conn) DownloadDir(ctx context.Context, src, dst string) error {
	if !strings.HasSuffix(src, "/") {
		dst = filepath.Join(dst, path.Base(src))
	}
	l, err := c.connectedWithin(ctx, absence(c.target.Settings))
	if err != nil {
		return err
	}
	err = l.guarded(ctx, func(r remote) error { return downloadTree(ctx, r, src, dst, &quota{left: maxDownload}) })
	return c.verdict(ctx, l, "download "+src, err)
}

func downloadTree(ctx context.Context, r remote, src, dst string, room *quota) error {
	dirs, files, err := r.list(ctx, src)
	if err != nil {
		return err
	}
	if n := len(dirs) + len(files); n > maxListed {
		return bakehouse.Errorf(bakehouse.Failed, "machine lists %d files and folders, the limit is %d", n, maxListed)
	}
	for _, name := range append([]string{""}, dirs...) {
		local, err := below(dst, name)
		if err != nil {
			return err
		}
		if err := os.MkdirAll(local, 0o755); err != nil {
			return err
		}
	}
	for _, name := range files {
		local, err := below(dst, name)
		if err != nil {
			return err
		}
		if err := downloadFile(ctx, r, path.Join(src, name), local, room); err != nil {
			return err
		}
	}
	return nil
}

// What one download may bring: a machine may have no end of it, and the agent's
// disk belongs to all its builds.
const (
	maxDownload = 4 << 30
	maxListed   = 100_000
)

// A quota writes to another writer what it has room for.
type quota struct {
	to   io.Writer
	left int64
}

func (q *quota) Write(p []byte) (int, error) {
	if int64(len(p)) > q.left {
		return 0, bakehouse.Errorf(bakehouse.Failed, "machine sends more than %d bytes in one download", int64(maxDownload))
	}
	q.left -= int64(len(p))
	return q.to.Write(p)
}

// below joins what a machine, which need not be honest, calls name with dst.
func below(dst, name string) (string, error) {
	if name != "" && !filepath.IsLocal(name) {
		return "", bakehouse.Errorf(bakehouse.Failed, "machine lists a file %q outside the folder", name)
	}
	return filepath.Join(dst, name), nil
}

func downloadFile(ctx context.Context, r remote, src, dst string, room *quota) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	f, err := os.Create(dst)
	if err != nil {
		return err
	}
	room.to = f
	err = r.get(ctx, src, room)
	if err2 := f.Close(); err == nil {
		err = err2
	}
	return err
}
