// Package buildlog keeps what builds say and print, exactly once, in a blob
// store. Output never travels through Temporal's history.
//
// The log of a step is a row of chunks, numbered from 1 without a gap. A chunk
// is written if, and only if, none of its number exists. Each says how far the
// output of each command has come; so an attempt that finds its number taken
// reads what the other attempt wrote and goes on behind it. Two attempts may be
// alive at once, and still each line is stored once.
package buildlog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"regexp"
	"strconv"
	"time"

	"gocloud.dev/blob"
	"gocloud.dev/gcerrors"

	"github.com/bakehouse-farm/bakehouse"
	"github.com/bakehouse-farm/bakehouse/agent/secret"
)

// A Store keeps the logs of builds, sealed. It may be used by many goroutines
// at once.
type Store struct {
	bucket *blob.Bucket
	keys   *secret.Keys
}

// New returns a Store in b, which stays the caller's to close. A bucket in a
// folder must have been opened with bundle.OpenBucket, so that its temporary
// files lie beside the blobs.
func New(b *blob.Bucket, keys *secret.Keys) *Store { return &Store{bucket: b, keys: keys} }

// A Kind tells where a line comes from.
type Kind string

// The kinds of lines.
const (
	Say    Kind = "say"    // the step tells what it does
	Error  Kind = "error"  // the step tells what went wrong
	Output Kind = "output" // a command on the machine printed it
)

// A chunk is what one blob holds.
type chunk struct {
	Version int     `json:"v"`
	Entries []entry `json:"e"`
}

const chunkVersion = 1

// An entry is a line that was said, or a piece of output.
type entry struct {
	Kind Kind   `json:"k"`
	Time int64  `json:"t"` // Unix nanoseconds, when the agent got it
	Text string `json:"x"` // masked; output holds its line ends
	// Command and Offset are set for output: the offset behind the piece, in the
	// bytes that the command printed.
	Command string `json:"c,omitempty"`
	Offset  int64  `json:"o,omitempty"`
}

var (
	buildForm = regexp.MustCompile(`^[a-z0-9-]{1,63}$`)
	stepForm  = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$`)
	seqForm   = regexp.MustCompile(`^[0-9]{8}$`)
)

func buildPrefix(b bakehouse.BuildID) (string, error) {
	if !buildForm.MatchString(string(b)) {
		return "", bakehouse.Errorf(bakehouse.Invalid, "log: %q is not the ID of a build", string(b))
	}
	return "logs/" + string(b) + "/", nil
}

func chunkKey(prefix, step string, seq int) string {
	return fmt.Sprintf("%s%s/%08d", prefix, step, seq)
}

// parseKey returns the step and the number of a chunk. Other files that are in
// the bucket's folder, such as temporary ones, are none of ours.
func parseKey(prefix, key string) (step string, seq int, ok bool) {
	if len(key) <= len(prefix) {
		return "", 0, false
	}
	step, name := path.Split(key[len(prefix):])
	if step == "" || !seqForm.MatchString(name) {
		return "", 0, false
	}
	step = step[:len(step)-1]
	seq, err := strconv.Atoi(name)
	return step, seq, err == nil && stepForm.MatchString(step)
}

// behind returns the lowest number of a step's chunks that is at least from; 0
// when there is none.
func (s *Store) behind(ctx context.Context, prefix, step string, from int) (int, error) {
	for it := s.bucket.List(&blob.ListOptions{Prefix: prefix + step + "/"}); ; {
		obj, err := it.Next(ctx)
		if errors.Is(err, io.EOF) {
			return 0, nil
		}
		if err != nil {
			return 0, fmt.Errorf("list log %s%s: %w", prefix, step, err)
		}
		if _, seq, ok := parseKey(prefix, obj.Key); ok && seq >= from {
			return seq, nil // chunks are listed in their order
		}
	}
}

// get reads a chunk. ok is false when there is none of this name.
func (s *Store) get(ctx context.Context, key string) (c chunk, ok bool, err error) {
	sealed, err := s.read(ctx, key)
	if err != nil {
		if errors.Is(err, secret.ErrDamaged) {
			return chunk{}, false, bakehouse.Errorf(bakehouse.Failed, "read log %s: %w", key, err)
		}
		if gcerrors.Code(err) == gcerrors.NotFound {
			return chunk{}, false, nil
		}
		return chunk{}, false, fmt.Errorf("read log %s: %w", key, err)
	}
	plain, err := s.keys.Open(ctx, sealed, []byte(key))
	if err != nil {
		kind := bakehouse.KindOf(err) // what KMS said has a meaning of its own
		if errors.Is(err, secret.ErrDamaged) || errors.Is(err, secret.ErrRetired) {
			kind = bakehouse.Failed
		}
		return chunk{}, false, bakehouse.Errorf(kind, "read log %s: %w", key, err)
	}
	if err := json.Unmarshal(plain, &c); err != nil {
		return chunk{}, false, bakehouse.Errorf(bakehouse.Failed, "read log %s: %w", key, err)
	}
	if c.Version != chunkVersion {
		return chunk{}, false, bakehouse.Errorf(bakehouse.Failed, "read log %s: format %d, this program reads %d", key, c.Version, chunkVersion)
	}
	return c, true, nil
}

// maxSealed is how long a chunk may be when it is sealed: much longer than what
// Step makes.
const maxSealed = 64 << 20

// read returns a blob. One that is longer than any chunk is none, and is not
// taken into memory.
func (s *Store) read(ctx context.Context, key string) ([]byte, error) {
	r, err := s.bucket.NewReader(ctx, key, nil)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	if r.Size() > maxSealed {
		return nil, fmt.Errorf("%w: it is %d bytes long, the limit is %d", secret.ErrDamaged, r.Size(), maxSealed)
	}
	return io.ReadAll(io.LimitReader(r, maxSealed))
}

// put writes a chunk. ok is false when the name is taken.
func (s *Store) put(ctx context.Context, key string, c chunk) (ok bool, err error) {
	c.Version = chunkVersion
	plain, err := json.Marshal(c)
	if err != nil {
		return false, err
	}
	sealed, err := s.keys.Seal(ctx, plain, []byte(key))
	if err != nil {
		return false, bakehouse.Errorf(bakehouse.KindOf(err), "store log %s: %w", key, err)
	}
	ok, err = create(ctx, s.bucket, key, sealed)
	if err != nil {
		return false, fmt.Errorf("store log %s: %w", key, err)
	}
	return ok, nil
}

func now() int64 { return time.Now().UnixNano() }
