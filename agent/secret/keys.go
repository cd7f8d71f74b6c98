// Package secret keeps what must not be seen: it seals payloads and blobs with
// keys from a file, and masks secret values in text.
package secret

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// ErrUnknownKey tells that data was sealed with a key that is not among ours.
// It has no bakehouse.Kind: adding the key to the file mends it, and another
// agent may have it.
var ErrUnknownKey = errors.New("sealed with a key that is not in the key file")

// ErrDamaged tells that sealed data was cut short or altered, or is no sealed
// data at all.
var ErrDamaged = errors.New("sealed data is damaged")

const (
	keyFormat = "bakehouse-key-v1" // first field of each line of a key file
	keySize   = 32
	maxID     = 32
)

// sealMagic begins all sealed data; its last byte is the version.
var sealMagic = []byte{'B', 'K', 'S', 1}

// Keys are the keys of a farm. The first seals; all of them open what they
// sealed. To rotate, put a new line before the others; drop an old line when
// nothing that was sealed with it is needed any more. Keys may be used by many
// goroutines at once.
type Keys struct {
	keys []key // never empty
}

type key struct {
	id   string
	raw  []byte
	aead cipher.AEAD
	mac  []byte
}

// Generate returns one new random key.
func Generate() (*Keys, error) {
	raw := make([]byte, keySize)
	rand.Read(raw) // never fails: it ends the program instead
	// The ID follows from the key, so that two files can only give one ID to
	// two keys when a person does so.
	sum := sha256.Sum256(append([]byte("bakehouse key id\x00"), raw...))
	k, err := newKey(hex.EncodeToString(sum[:4]), raw)
	if err != nil {
		return nil, err
	}
	return &Keys{keys: []key{k}}, nil
}

// Parse reads the text of a key file: one key a line, as
// bakehouse-key-v1:ID:BASE64 where BASE64 stands for 32 bytes. Empty lines and
// lines that begin with # are skipped. Errors name the line, never the key.
func Parse(text string) (*Keys, error) {
	ks := &Keys{}
	seen := map[string]bool{}
	for i, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		format, rest, _ := strings.Cut(line, ":")
		id, b64, ok := strings.Cut(rest, ":")
		if format != keyFormat || !ok {
			return nil, fmt.Errorf("line %d is not of the form %s:ID:BASE64", i+1, keyFormat)
		}
		if !validID(id) {
			return nil, fmt.Errorf("line %d: the ID must be 1 to %d lower-case letters and digits", i+1, maxID)
		}
		if seen[id] {
			return nil, fmt.Errorf("line %d: key %s appears twice", i+1, id)
		}
		seen[id] = true
		raw, err := base64.StdEncoding.DecodeString(b64)
		if err != nil {
			return nil, fmt.Errorf("line %d: key %s is not base64", i+1, id)
		}
		if len(raw) != keySize {
			return nil, fmt.Errorf("line %d: key %s has %d bytes, not %d", i+1, id, len(raw), keySize)
		}
		k, err := newKey(id, raw)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", i+1, err)
		}
		ks.keys = append(ks.keys, k)
	}
	if len(ks.keys) == 0 {
		return nil, errors.New("there is no key in it")
	}
	return ks, nil
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

// text is the key file that holds k.
func (k *Keys) text() []byte {
	var b bytes.Buffer
	for _, e := range k.keys {
		fmt.Fprintf(&b, "%s:%s:%s\n", keyFormat, e.id, base64.StdEncoding.EncodeToString(e.raw))
	}
	return b.Bytes()
}

// ID returns the ID of the key that seals.
func (k *Keys) ID() string { return k.keys[0].id }

// String does not show the keys.
func (k *Keys) String() string { return redacted }

// GoString does not show the keys.
func (k *Keys) GoString() string { return redacted }

func (k *Keys) find(id string) (key, bool) {
	for _, e := range k.keys {
		if e.id == id {
			return e, true
		}
	}
	return key{}, false
}

// Seal encrypts plaintext with AES-256-GCM. Only Open with the same aad, which
// is not part of the result, returns it: so a sealed blob that is moved to
// another name is found out when its name is its aad.
func (k *Keys) Seal(plaintext, aad []byte) []byte {
	e := k.keys[0]
	head := append(append([]byte(nil), sealMagic...), byte(len(e.id)))
	head = append(head, e.id...)
	out := make([]byte, len(head), len(head)+len(plaintext)+e.aead.Overhead())
	copy(out, head)
	return e.aead.Seal(out, nil, plaintext, append(head, aad...))
}

// Open returns what Seal was given. Its errors are ErrDamaged and, naming the
// key, ErrUnknownKey; the caller names the data.
func (k *Keys) Open(sealed, aad []byte) ([]byte, error) {
	rest, ok := bytes.CutPrefix(sealed, sealMagic)
	if !ok || len(rest) == 0 || len(rest) < 1+int(rest[0]) {
		return nil, ErrDamaged
	}
	n := 1 + int(rest[0])
	id := string(rest[1:n])
	if !validID(id) {
		return nil, ErrDamaged
	}
	e, ok := k.find(id)
	if !ok {
		return nil, fmt.Errorf("%w: key %s", ErrUnknownKey, id)
	}
	head := sealed[: len(sealMagic)+n : len(sealMagic)+n]
	plain, err := e.aead.Open(nil, nil, rest[n:], append(head, aad...))
	if err != nil {
		return nil, ErrDamaged
	}
	return plain, nil
}

// Digest names data by its content, keyed: who does not have the key learns
// nothing from it, not even whether two farms hold the same data. The result is
// the ID of the sealing key, a dash and 64 hexadecimal digits. purpose keeps
// the digests of different uses apart.
func (k *Keys) Digest(purpose string, data []byte) string {
	return k.keys[0].digest(purpose, data)
}

// Verify tells whether digest is what Digest returned for data, with any of
// the keys. The error is ErrUnknownKey, naming the key, or ErrDamaged.
func (k *Keys) Verify(digest, purpose string, data []byte) error {
	id, _, ok := strings.Cut(digest, "-")
	if !ok {
		return ErrDamaged
	}
	e, ok := k.find(id)
	if !ok {
		return fmt.Errorf("%w: key %s", ErrUnknownKey, id)
	}
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
