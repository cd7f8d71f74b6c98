// Package secret keeps what must not be seen: it seals payloads and blobs with
// keys from a file or from KMS, and masks secret values in text.
package secret

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync"
)

// ErrUnknownKey tells that data was sealed with a key that is not among ours.
// It has no bakehouse.Kind: adding the key to the file mends it, and another
// agent may have it.
var ErrUnknownKey = errors.New("sealed with a key that is not in the key file")

// ErrRetired tells that data was sealed with a key that was taken out of the
// key file on purpose: nobody can read it any more.
var ErrRetired = errors.New("sealed with a key that was retired")

// ErrDamaged tells that sealed data was cut short or altered, or is no sealed
// data at all.
var ErrDamaged = errors.New("sealed data is damaged")

const (
	keySize = 32
	maxID   = 32
	// kmsID begins the IDs of keys in KMS, and of no others.
	kmsID = "kms"
)

// Keys are the keys of a farm. The first seals; all of them open what they
// sealed. Keys that come from a file follow it: a file that has changed is read
// again within a second, and at once when something was sealed with a key that
// is not known yet; so a key can be added, made the first or retired (Edit)
// while agents run. Keys may be used by many goroutines at once.
type Keys struct {
	mu     sync.Mutex
	ring   *ring
	source *source // nil when there is no file to follow
}

// A ring is what a key file holds at a time. It does not change.
type ring struct {
	entries []entry           // the first seals; never empty
	retired map[string]string // when a key was retired, by ID
}

// An entry is one key: either key or kms is set.
type entry struct {
	key key
	kms *kmsKey
}

// A key is one that we have the bytes of.
type key struct {
	id   string
	raw  []byte
	aead cipher.AEAD
	mac  []byte
}

// Generate returns one new random key.
func Generate() (*Keys, error) {
	k, err := generate()
	if err != nil {
		return nil, err
	}
	return &Keys{ring: &ring{entries: []entry{{key: k}}}}, nil
}

func generate() (key, error) {
	raw := make([]byte, keySize)
	rand.Read(raw) // never fails: it ends the program instead
	return newKey(deriveID(raw), raw)
}

// deriveID makes the ID follow from the key, so that two files can only give one
// ID to two keys when a person does so.
func deriveID(raw []byte) string {
	sum := sha256.Sum256(append([]byte("bakehouse key id\x00"), raw...))
	return hex.EncodeToString(sum[:4])
}

func validID(id string) bool {
	if id == "" || len(id) > maxID {
		return false
	}
	return strings.Trim(id, "abcdefghijklmnopqrstuvwxyz0123456789") == ""
}

// newKey derives a key for each use, so that the same bytes never serve two.
func newKey(id string, raw []byte) (key, error) {
	seal, err := hkdf.Key(sha256.New, raw, nil, "bakehouse seal v1", keySize)
	if err != nil {
		return key{}, err
	}
	mac, err := hkdf.Key(sha256.New, raw, nil, "bakehouse name v1", keySize)
	if err != nil {
		return key{}, err
	}
	block, err := aes.NewCipher(seal)
	if err != nil {
		return key{}, err
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return key{}, err
	}
	return key{id: id, raw: raw, aead: aead, mac: mac}, nil
}

// ID returns the ID of the key that seals. Of a key in KMS it is the URL.
func (k *Keys) ID() string {
	e := k.now().entries[0]
	if e.kms != nil {
		return e.kms.url
	}
	return e.key.id
}

// String does not show the keys.
func (k *Keys) String() string { return redacted }

// GoString does not show the keys.
func (k *Keys) GoString() string { return redacted }

func (r *ring) find(id string) (key, bool) {
	for _, e := range r.entries {
		if e.kms == nil && e.key.id == id {
			return e.key, true
		}
	}
	return key{}, false
}

// find returns the key that a file holds under id, or says why there is none.
func (k *Keys) find(id string) (key, error) {
	r := k.now()
	e, ok := r.find(id)
	if ok {
		return e, nil
	}
	// Somebody may have begun to use a key that was added just now.
	r, err := k.again()
	if e, ok := r.find(id); ok {
		return e, nil
	}
	return key{}, r.unknown(id, err)
}

// unknown says why there is no key of this ID. trouble is why the key file could
// not be read again; may be nil.
func (r *ring) unknown(id string, trouble error) error {
	if when, ok := r.retired[id]; ok {
		return fmt.Errorf("%w: key %s, on %s", ErrRetired, id, when)
	}
	if trouble != nil {
		return fmt.Errorf("%w: key %s (reading it again: %w)", ErrUnknownKey, id, trouble)
	}
	return fmt.Errorf("%w: key %s", ErrUnknownKey, id)
}

// Seal encrypts plaintext with AES-256-GCM. Only Open with the same aad, which
// is not part of the result, returns it: so a sealed blob that is moved to
// another name is found out when its name is its aad. With a key from a file it
// never fails; with one in KMS, errors are of kind bakehouse.Denied or NotFound
// where KMS will say no again, and Trouble where it could not be asked.
func (k *Keys) Seal(ctx context.Context, plaintext, aad []byte) ([]byte, error) {
	sealed, _, err := k.seal(ctx, plaintext, aad)
	return sealed, err
}

// seal is Seal that also tells the ID of the key.
func (k *Keys) seal(ctx context.Context, plaintext, aad []byte) ([]byte, string, error) {
	e := k.now().entries[0]
	if e.kms == nil {
		return envelope{id: e.key.id}.seal(e.key.aead, plaintext, aad), e.key.id, nil
	}
	data, err := e.kms.sealing(ctx)
	if err != nil {
		return nil, "", err
	}
	return envelope{id: data.id, wrapped: data.wrapped}.seal(data.aead, plaintext, aad), data.id, nil
}

// Open returns what Seal was given. Its errors are ErrDamaged and, naming the
// key, ErrUnknownKey and ErrRetired, and those of KMS as of Seal; the caller
// names the data.
func (k *Keys) Open(ctx context.Context, sealed, aad []byte) ([]byte, error) {
	e, ok := parseEnvelope(sealed)
	if !ok {
		return nil, ErrDamaged
	}
	var aead cipher.AEAD
	if e.wrapped == nil {
		key, err := k.find(e.id)
		if err != nil {
			return nil, err
		}
		aead = key.aead
	} else {
		data, err := k.unwrap(ctx, e)
		if err != nil {
			return nil, err
		}
		aead = data.aead
	}
	return e.open(aead, aad)
}

// unwrap returns the data key of an envelope.
func (k *Keys) unwrap(ctx context.Context, e envelope) (dataKey, error) {
	r := k.now()
	source, err := r.kms(ctx, e.id)
	if source == nil && err == nil {
		fresh, ferr := k.again()
		if source, err = fresh.kms(ctx, e.id); source == nil && err == nil {
			return dataKey{}, fresh.unknown(e.id, ferr)
		}
	}
	if err != nil {
		return dataKey{}, err
	}
	return source.opening(ctx, e)
}

// kms returns the key in KMS whose ID is id; nil when there is none. An error
// tells that one could not be asked which it is.
func (r *ring) kms(ctx context.Context, id string) (*kmsKey, error) {
	var trouble error
	for _, e := range r.entries {
		if e.kms == nil {
			continue
		}
		got, err := e.kms.identify(ctx)
		if err != nil {
			trouble = err
			continue
		}
		if got == id {
			return e.kms, nil
		}
	}
	return nil, trouble
}

// Digest names data by its content, keyed: who does not have the key learns
// nothing from it, not even whether two farms hold the same data. The result is
// the ID of the sealing key, a dash and 64 hexadecimal digits. purpose keeps
// the digests of different uses apart. ok is false when the sealing key is in
// KMS, which gives a new data key each time: then a Name gives names.
func (k *Keys) Digest(purpose string, data []byte) (digest string, ok bool) {
	e := k.now().entries[0]
	if e.kms != nil {
		return "", false
	}
	return e.key.digest(purpose, data), true
}

// Verify tells whether digest is what Digest returned for data, with any of
// the keys. The error is ErrUnknownKey or ErrRetired, naming the key, or
// ErrDamaged.
func (k *Keys) Verify(digest, purpose string, data []byte) error {
	id, _, ok := strings.Cut(digest, "-")
	if !ok {
		return ErrDamaged
	}
	e, err := k.find(id)
	if err != nil {
		return err
	}
	return e.verify(digest, purpose, data)
}

func (e key) verify(digest, purpose string, data []byte) error {
	if !hmac.Equal([]byte(digest), []byte(e.digest(purpose, data))) {
		return ErrDamaged
	}
	return nil
}

func (e key) digest(purpose string, data []byte) string {
	h := hmac.New(sha256.New, e.mac)
	h.Write([]byte(purpose))
	h.Write([]byte{0})
	h.Write(data)
	return e.id + "-" + hex.EncodeToString(h.Sum(nil))
}
