package secret

import (
	"bytes"
	"crypto/cipher"
	"encoding/binary"
)

// What sealed data begins with; the last byte is the version. The second form
// carries the data key, wrapped by KMS, so that nothing else need be kept to
// open it.
var (
	plainMagic   = []byte{'B', 'K', 'S', 1} // + length and ID of the key
	wrappedMagic = []byte{'B', 'K', 'S', 2} // + the same, + length and wrapped data key
)

// maxWrapped is more than KMS makes of 32 bytes.
const maxWrapped = 6 << 10

// An envelope is sealed data, or, without body, what is to go before it.
type envelope struct {
	id      string
	wrapped []byte // nil when the key is our own
	head    []byte // all before body
	body    []byte
}

func (e envelope) header() []byte {
	magic := plainMagic
	if e.wrapped != nil {
		magic = wrappedMagic
	}
	head := append(bytes.Clone(magic), byte(len(e.id)))
	head = append(head, e.id...)
	if e.wrapped != nil {
		head = binary.BigEndian.AppendUint16(head, uint16(len(e.wrapped)))
		head = append(head, e.wrapped...)
	}
	return head
}

func (e envelope) seal(aead cipher.AEAD, plaintext, aad []byte) []byte {
	head := e.header()
	out := make([]byte, len(head), len(head)+len(plaintext)+aead.Overhead())
	copy(out, head)
	return aead.Seal(out, nil, plaintext, append(head, aad...))
}

// open authenticates the head, too.
func (e envelope) open(aead cipher.AEAD, aad []byte) ([]byte, error) {
	plain, err := aead.Open(nil, nil, e.body, append(bytes.Clone(e.head), aad...))
	if err != nil {
		return nil, ErrDamaged
	}
	return plain, nil
}

func parseEnvelope(sealed []byte) (e envelope, ok bool) {
	rest, hasKMS := bytes.CutPrefix(sealed, wrappedMagic)
	if !hasKMS {
		if rest, ok = bytes.CutPrefix(sealed, plainMagic); !ok {
			return e, false
		}
	}
	if len(rest) == 0 || len(rest) < 1+int(rest[0]) {
		return e, false
	}
	e.id, rest = string(rest[1:1+int(rest[0])]), rest[1+int(rest[0]):]
	if !validID(e.id) {
		return e, false
	}
	if hasKMS {
		if len(rest) < 2 {
			return e, false
		}
		n := int(binary.BigEndian.Uint16(rest))
		if n == 0 || n > maxWrapped || len(rest) < 2+n {
			return e, false
		}
		e.wrapped, rest = rest[2:2+n], rest[2+n:]
	}
	e.head, e.body = sealed[:len(sealed)-len(rest)], rest
	return e, true
}
