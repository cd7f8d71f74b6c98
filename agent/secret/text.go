package secret

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"
)

// A key file is text. In a file that we wrote, the first line says so and the
// last is a checksum, so that a file that was cut short or altered is refused
// rather than believed; a file without them is one that a person wrote.
const (
	fileFormat    = "bakehouse-keys-v2"
	keyFormat     = "bakehouse-key-v1"     // :ID:BASE64
	retiredFormat = "bakehouse-retired-v1" // :ID:DATE
	sumFormat     = "bakehouse-sum-v1"     // :HEX
)

// Parse reads the text of a key file: one key a line, the first of which seals,
//
//	bakehouse-key-v1:ID:BASE64          32 bytes of our own
//	awskms://alias/farm?region=REGION   a key in KMS; see Load
//	bakehouse-retired-v1:ID:DATE        one that was taken out
//
// Empty lines and lines that begin with # are skipped. Errors name the line,
// never the key.
func Parse(text string) (*Keys, error) {
	r, err := parseRing(text)
	if err != nil {
		return nil, err
	}
	return &Keys{ring: r}, nil
}

func parseRing(text string) (*ring, error) {
	lines, first, err := unsum(text)
	if err != nil {
		return nil, err
	}
	p := parser{ring: &ring{retired: map[string]string{}}, seen: map[string]bool{}}
	for i, line := range lines {
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if err := p.line(line); err != nil {
			return nil, fmt.Errorf("line %d%w", first+i, err)
		}
	}
	if len(p.ring.entries) == 0 {
		return nil, errors.New("there is no key in it")
	}
	return p.ring, nil
}

// unsum checks and takes away what we put around the lines. first is the number
// of the first line that it returns.
func unsum(text string) (lines []string, first int, err error) {
	lines = strings.Split(strings.TrimRight(text, "\r\n"), "\n")
	for i := range lines {
		lines[i] = strings.TrimSpace(lines[i])
	}
	if lines[0] != fileFormat {
		return lines, 1, nil
	}
	const wayOut = "it was cut short or altered: copy it again from a computer that has it (or, if it was edited by hand, take out its first and its last line)"
	last := len(lines) - 1
	sum, ok := strings.CutPrefix(lines[last], sumFormat+":")
	if !ok {
		return nil, 0, fmt.Errorf("it is damaged, its last line is missing; %s", wayOut)
	}
	if sum != textSum(lines[:last]) {
		return nil, 0, fmt.Errorf("it is damaged, its checksum is wrong; %s", wayOut)
	}
	return lines[1:last], 2, nil
}

func textSum(lines []string) string {
	sum := sha256.Sum256([]byte("bakehouse key file\x00" + strings.Join(lines, "\n")))
	return hex.EncodeToString(sum[:8])
}

type parser struct {
	ring *ring
	seen map[string]bool
}

// line reads one line. Its error continues "line 3".
func (p *parser) line(line string) error {
	if strings.HasPrefix(line, kmsScheme+":") {
		if p.seen[line] {
			return fmt.Errorf(": %s appears twice", line)
		}
		p.seen[line] = true
		k, err := newKMSKey(line)
		if err != nil {
			return fmt.Errorf(": %w", err)
		}
		p.ring.entries = append(p.ring.entries, entry{kms: k})
		return nil
	}
	format, rest, _ := strings.Cut(line, ":")
	id, value, ok := strings.Cut(rest, ":")
	if format != keyFormat && format != retiredFormat || !ok {
		return fmt.Errorf(" is not of the form %s:ID:BASE64", keyFormat)
	}
	if !validID(id) {
		return fmt.Errorf(": the ID must be 1 to %d lower-case letters and digits", maxID)
	}
	if strings.HasPrefix(id, kmsID) {
		return fmt.Errorf(": the ID %s is none for a key in a file: those that begin with %s are of keys in KMS", id, kmsID)
	}
	if p.seen[id] {
		return fmt.Errorf(": key %s appears twice", id)
	}
	p.seen[id] = true
	if format == retiredFormat {
		if _, err := time.Parse(time.DateOnly, value); err != nil {
			return fmt.Errorf(": %q is not a date", value)
		}
		p.ring.retired[id] = value
		return nil
	}
	raw, err := base64.StdEncoding.DecodeString(value)
	if err != nil {
		return fmt.Errorf(": key %s is not base64", id)
	}
	if len(raw) != keySize {
		return fmt.Errorf(": key %s has %d bytes, not %d", id, len(raw), keySize)
	}
	if _, err := hex.DecodeString(id); err == nil && len(id) == 8 && id != deriveID(raw) {
		return fmt.Errorf(": key %s is damaged: its ID does not follow from it", id)
	}
	k, err := newKey(id, raw)
	if err != nil {
		return fmt.Errorf(": %w", err)
	}
	p.ring.entries = append(p.ring.entries, entry{key: k})
	return nil
}

// keyLine is the line of a key.
func keyLine(k key) string {
	return keyFormat + ":" + k.id + ":" + base64.StdEncoding.EncodeToString(k.raw)
}

// fileText is a key file of these lines.
func fileText(lines []string) []byte {
	lines = append([]string{fileFormat}, lines...)
	return []byte(strings.Join(append(lines, sumFormat+":"+textSum(lines)), "\n") + "\n")
}
