package state

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"strings"
)

// NewID returns an id as EC2 makes them: the prefix, 0 and 16 random hex digits.
func NewID(prefix string) string {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	return prefix + "-0" + hex.EncodeToString(b[:])
}

// FixedID returns an id of the same form that is the same for the same parts.
func FixedID(prefix string, parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	return prefix + "-0" + hex.EncodeToString(sum[:8])
}
