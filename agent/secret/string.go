package secret

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
)

const redacted = "**redacted**"

// String holds a secret that will not print: fmt, in all its verbs, and slog
// show **redacted** for it, also deep inside another value. Writing it as JSON
// or text fails, because a placeholder that quietly took the secret's place
// would be used as the secret somewhere far away. The zero value is the empty
// string.
type String struct {
	// A pointer, since fmt does not call the methods of unexported fields: it
	// then shows an address, not the value.
	value *string
}

// New returns a String that holds s.
func New(s string) String { return String{value: &s} }

// Reveal returns the secret.
func (s String) Reveal() string {
	if s.value == nil {
		return ""
	}
	return *s.value
}

// Equal tells whether both hold the same secret.
func (s String) Equal(t String) bool { return s.Reveal() == t.Reveal() }

// String returns **redacted**.
func (s String) String() string { return redacted }

// Format writes **redacted**, whatever the verb.
func (s String) Format(w fmt.State, _ rune) { _, _ = io.WriteString(w, redacted) }

// LogValue returns **redacted**.
func (s String) LogValue() slog.Value { return slog.StringValue(redacted) }

var errReveal = errors.New("a secret does not write itself out: use Reveal where it must travel, encrypted")

// MarshalJSON fails.
func (s String) MarshalJSON() ([]byte, error) { return nil, errReveal }

// MarshalText fails.
func (s String) MarshalText() ([]byte, error) { return nil, errReveal }
