// Package bundle carries the files of a submission to the agents: packed once,
// addressed by content, so that only what is missing travels. It also keeps
// plans, scopes and other values that are too big for a payload.
package bundle

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"
	"gocloud.dev/blob"
	"gocloud.dev/gcerrors"

	"github.com/bakehouse-farm/bakehouse"
	"github.com/bakehouse-farm/bakehouse/agent/secret"
)

// A Digest names a blob by its content: the ID of the key it was made with, a
// dash, and 64 hexadecimal digits. It tells nothing to those without the key.
type Digest string

const (
	// MaxBlob is the size in bytes of the biggest blob. Files are cut into parts.
	MaxBlob = 64 << 20

	// MaxBundle is the size in bytes of the files of the biggest bundle: a
	// template must not fill the disk of an agent that others bake on.
	MaxBundle = 32 << 30

	digestUse = "blob" // keeps our digests apart from those of other uses of the keys
	prefix    = "blobs/"
)

// The first byte of what is sealed says how the rest is written.
const (
	plain      = 0
	compressed = 1 // zstd
)

// A Store keeps blobs, sealed. It may be used by many goroutines at once.
type Store struct {
	bucket *blob.Bucket
	keys   *secret.Keys
	enc    *zstd.Encoder
	dec    *zstd.Decoder
	names  names
}

// New returns a Store in b, which stays the caller's to close.
func New(b *blob.Bucket, keys *secret.Keys) *Store {
	// The options are constant and right, so neither can fail.
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1))
	if err != nil {
		panic(err)
	}
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(MaxBlob))
	if err != nil {
		panic(err)
	}
	return &Store{bucket: b, keys: keys, enc: enc, dec: dec}
}

// Put stores data, unless it is there already and new, and returns its name. The same
// data has the same name as long as the first key of the key file is the same.
func (s *Store) Put(ctx context.Context, data []byte) (Digest, error) {
	d, _, err := s.put(ctx, data)
	return d, err
}

// put is Put that also tells how many bytes were sent; 0 when none had to be.
func (s *Store) put(ctx context.Context, data []byte) (Digest, int64, error) {
	if len(data) > MaxBlob {
		return "", 0, bakehouse.Errorf(bakehouse.Invalid, "store a blob of %d bytes: the limit is %d", len(data), MaxBlob)
	}
	d, err := s.name(ctx, data)
	if err != nil {
		return "", 0, fmt.Errorf("name a blob: %w", err)
	}
	key, err := d.key()
	if err != nil {
		return "", 0, err
	}
	there, err := s.bucket.Attributes(ctx, key)
	switch {
	case err == nil && time.Since(there.ModTime) < refreshAfter:
		return d, 0, nil
	case err != nil && gcerrors.Code(err) != gcerrors.NotFound:
		return "", 0, fmt.Errorf("look for blob %s: %w", d, err)
	}
	// It is not there, or so old that Prune may be about to remove it: written
	// again, it is new.
	sealed, err := s.keys.Seal(ctx, s.encode(data), []byte(d))
	if err != nil {
		return "", 0, fmt.Errorf("seal blob %s: %w", d, err)
	}
	// Whoever else writes this name writes the same content.
	if err := s.bucket.WriteAll(ctx, key, sealed, nil); err != nil {
		return "", 0, fmt.Errorf("store blob %s: %w", d, err)
	}
	return d, int64(len(sealed)), nil
}

// Get returns the blob. Data that is not what was put is an error of kind
// bakehouse.Failed, a blob that is not there one of kind bakehouse.NotFound;
// both name the blob.
func (s *Store) Get(ctx context.Context, d Digest) ([]byte, error) {
	key, err := d.key()
	if err != nil {
		return nil, err
	}
	sealed, err := s.read(ctx, key, maxSealed)
	if err != nil {
		if errors.Is(err, secret.ErrDamaged) {
			return nil, broken(d, err)
		}
		if gcerrors.Code(err) == gcerrors.NotFound {
			return nil, bakehouse.Errorf(bakehouse.NotFound, "blob %s is not in the store: do submit and agent use the same one?", d)
		}
		return nil, fmt.Errorf("read blob %s: %w", d, err)
	}
	packed, err := s.keys.Open(ctx, sealed, []byte(d))
	if err != nil {
		return nil, broken(d, err)
	}
	data, err := s.decode(packed)
	if err != nil {
		return nil, broken(d, err)
	}
	if err := s.verify(ctx, d, data); err != nil {
		return nil, broken(d, err)
	}
	return data, nil
}

// maxSealed is how long the biggest blob is when it is sealed.
const maxSealed = MaxBlob + 16<<10

// read returns a blob of the bucket. One that is longer than limit is none that
// we wrote, and is not taken into memory.
func (s *Store) read(ctx context.Context, key string, limit int64) ([]byte, error) {
	r, err := s.bucket.NewReader(ctx, key, nil)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	if r.Size() > limit {
		return nil, fmt.Errorf("%w: it is %d bytes long, the limit is %d", secret.ErrDamaged, r.Size(), limit)
	}
	var buf bytes.Buffer
	buf.Grow(int(r.Size()) + bytes.MinRead)
	n, err := buf.ReadFrom(io.LimitReader(r, limit+1))
	if err == nil && n > limit {
		err = fmt.Errorf("%w: it is longer than %d bytes", secret.ErrDamaged, limit)
	}
	return buf.Bytes(), err
}

// encode compresses what gets notably smaller by it.
func (s *Store) encode(data []byte) []byte {
	if len(data) > 256 {
		if z := s.enc.EncodeAll(data, []byte{compressed}); len(z) < len(data)/10*9 {
			return z
		}
	}
	return append([]byte{plain}, data...)
}

func (s *Store) decode(packed []byte) ([]byte, error) {
	if len(packed) == 0 {
		return nil, secret.ErrDamaged
	}
	switch packed[0] {
	case plain:
		return packed[1:], nil
	case compressed:
		data, err := s.dec.DecodeAll(packed[1:], nil)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", secret.ErrDamaged, err)
		}
		return data, nil
	}
	return nil, fmt.Errorf("%w (format %d)", errNewer, packed[0])
}

// key is the name of the blob in the bucket.
func (d Digest) key() (string, error) {
	id, sum, ok := strings.Cut(string(d), "-")
	if !ok || len(sum) != 64 || strings.Trim(sum, "0123456789abcdef") != "" ||
		id == "" || strings.Trim(id, "abcdefghijklmnopqrstuvwxyz0123456789") != "" {
		return "", bakehouse.Errorf(bakehouse.Invalid, "%q is not the digest of a blob", string(d))
	}
	return prefix + id + "/" + sum[:2] + "/" + sum, nil
}
