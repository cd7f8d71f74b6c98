package buildlog

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"gocloud.dev/blob"
	"gocloud.dev/gcerrors"
	"golang.org/x/sys/unix"
)

// create writes a blob unless one of its name exists, which it tells by ok.
//
// S3 decides that itself. gocloud.dev's blobs in a folder do not: they look and
// then rename, and two processes may both see nothing. There, the folder is
// locked from before they look until after they have renamed; the kernel gives
// the lock back when its holder dies.
func create(ctx context.Context, b *blob.Bucket, key string, data []byte) (ok bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // a writer whose context has ended writes nothing
	var dir *os.File
	defer func() {
		if dir != nil {
			dir.Close()
		}
	}()
	w, err := b.NewWriter(ctx, key, &blob.WriterOptions{
		IfNotExist:  true,
		ContentType: "application/octet-stream",
		BeforeWrite: func(as func(any) bool) (err error) {
			var f *os.File
			if as(&f) {
				dir, err = lockFolder(ctx, filepath.Dir(f.Name()))
			}
			return err
		},
	})
	if err != nil {
		return false, err
	}
	if _, err := w.Write(data); err != nil {
		cancel()
		return false, errors.Join(err, ignoreCancelled(w.Close()))
	}
	err = w.Close()
	if gcerrors.Code(err) == gcerrors.FailedPrecondition {
		return false, nil
	}
	return err == nil, err
}

func ignoreCancelled(err error) error {
	if errors.Is(err, context.Canceled) || gcerrors.Code(err) == gcerrors.Canceled {
		return nil
	}
	return err
}

// lockFolder waits for the lock until ctx ends. It does not block in the
// kernel, since a holder that is stopped (SIGSTOP) would hold us for ever.
func lockFolder(ctx context.Context, path string) (*os.File, error) {
	dir, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	for {
		err := unix.Flock(int(dir.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return dir, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			dir.Close()
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		select {
		case <-ctx.Done():
			dir.Close()
			return nil, fmt.Errorf("lock %s: %w", path, context.Cause(ctx))
		case <-time.After(2 * time.Millisecond):
		}
	}
}
