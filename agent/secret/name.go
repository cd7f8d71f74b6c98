package secret

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"strings"
)

// A Name gives names to data, as Keys.Digest does, where the sealing key is in
// KMS: data keys come and go there, but the same data is to have the same name
// tomorrow. So one key for names is kept, sealed, where the data is.
type Name struct{ key key }

// NamePrefix returns what the IDs of all names begin with that were made while
// the present key sealed. ok is false when that is a key in a file, which needs
// no Name.
func (k *Keys) NamePrefix(ctx context.Context) (prefix string, ok bool, err error) {
	e := k.now().entries[0]
	if e.kms == nil {
		return "", false, nil
	}
	prefix, err = e.kms.identify(ctx)
	return prefix, err == nil, err
}

// NewName makes a key for names, and how it is to be kept.
func (k *Keys) NewName(ctx context.Context) (n *Name, sealed []byte, err error) {
	prefix, ok, err := k.NamePrefix(ctx)
	if err != nil {
		return nil, nil, err
	}
	if !ok {
		return nil, nil, fmt.Errorf("the key %s needs no key for names", k.ID())
	}
	raw := make([]byte, keySize)
	rand.Read(raw)
	tail := make([]byte, 6)
	rand.Read(tail)
	made, err := newKey(prefix+hex.EncodeToString(tail), raw)
	if err != nil {
		return nil, nil, err
	}
	sealed, err = k.Seal(ctx, raw, nameAAD(made.id))
	return &Name{made}, sealed, err
}

// OpenName is the opposite of NewName. Its errors are those of Open.
func (k *Keys) OpenName(ctx context.Context, id string, sealed []byte) (*Name, error) {
	raw, err := k.Open(ctx, sealed, nameAAD(id))
	if err != nil {
		return nil, err
	}
	if !IsName(id) || len(raw) != keySize {
		return nil, ErrDamaged
	}
	made, err := newKey(id, raw)
	return &Name{made}, err
}

// IsName tells whether id, the part of a digest before the dash, is that of a
// Name.
func IsName(id string) bool { return validID(id) && strings.HasPrefix(id, kmsID) }

func nameAAD(id string) []byte { return []byte("name " + id) }

// ID returns the ID of the key for names: the part of its digests before the
// dash.
func (n *Name) ID() string { return n.key.id }

// Digest is Keys.Digest.
func (n *Name) Digest(purpose string, data []byte) string { return n.key.digest(purpose, data) }

// Verify tells whether digest is what Digest returned for data; else the error
// is ErrDamaged.
func (n *Name) Verify(digest, purpose string, data []byte) error {
	return n.key.verify(digest, purpose, data)
}

// String does not show the key.
func (n *Name) String() string { return redacted }

// GoString does not show the key.
func (n *Name) GoString() string { return redacted }
