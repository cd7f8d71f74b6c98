package secret_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/temporal"
	"google.golang.org/protobuf/proto"

	"github.com/bakehouse-farm/bakehouse/agent/secret"
)

func generate(t *testing.T) *secret.Keys {
	t.Helper()
	k, err := secret.Generate()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func seal(t *testing.T, k *secret.Keys, plain, aad []byte) []byte {
	t.Helper()
	sealed, err := k.Seal(t.Context(), plain, aad)
	if err != nil {
		t.Fatal(err)
	}
	return sealed
}

func digest(t *testing.T, k *secret.Keys, purpose string, data []byte) string {
	t.Helper()
	d, ok := k.Digest(purpose, data)
	if !ok {
		t.Fatal("a key in a file gives no digest")
	}
	return d
}

func TestSealedDataIsOpenedOrRefused(t *testing.T) {
	k := generate(t)
	plain := []byte("the plan of a build")
	sealed := seal(t, k, plain, []byte("name"))
	if bytes.Contains(sealed, plain) {
		t.Fatal("the plaintext is in it")
	}
	if bytes.Equal(sealed, seal(t, k, plain, []byte("name"))) {
		t.Error("sealing twice gives the same: the nonce is not random")
	}
	got, err := k.Open(t.Context(), sealed, []byte("name"))
	if err != nil || !bytes.Equal(got, plain) {
		t.Fatalf("opened %q, %v", got, err)
	}
	if _, err := k.Open(t.Context(), sealed, []byte("other name")); !errors.Is(err, secret.ErrDamaged) {
		t.Errorf("under another name: %v", err)
	}
	for n := range len(sealed) {
		if _, err := k.Open(t.Context(), sealed[:n], []byte("name")); !errors.Is(err, secret.ErrDamaged) {
			t.Errorf("cut to %d bytes: %v", n, err)
		}
		bad := bytes.Clone(sealed)
		bad[n] ^= 1
		if _, err := k.Open(t.Context(), bad, []byte("name")); !errors.Is(err, secret.ErrDamaged) && !errors.Is(err, secret.ErrUnknownKey) {
			t.Errorf("byte %d altered: %v", n, err)
		}
	}
	if _, err := generate(t).Open(t.Context(), sealed, []byte("name")); !errors.Is(err, secret.ErrUnknownKey) || !strings.Contains(err.Error(), k.ID()) {
		t.Errorf("with another key: %v", err)
	}
}

func TestDigests(t *testing.T) {
	k := generate(t)
	d := digest(t, k, "use", []byte("x"))
	if d != digest(t, k, "use", []byte("x")) {
		t.Error("not the same for the same data")
	}
	for _, other := range []string{
		digest(t, k, "use", []byte("y")), digest(t, k, "use2", []byte("x")), digest(t, generate(t), "use", []byte("x")),
	} {
		if d == other {
			t.Errorf("%s stands for two things", d)
		}
	}
	if err := k.Verify(d, "use", []byte("y")); !errors.Is(err, secret.ErrDamaged) {
		t.Errorf("other data: %v", err)
	}
	if err := k.Verify("nonsense", "use", []byte("y")); !errors.Is(err, secret.ErrDamaged) {
		t.Errorf("no digest: %v", err)
	}
}

func TestKeyFiles(t *testing.T) {
	const b64 = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
	tests := map[string]struct{ text, want string }{
		"empty":       {"", "no key"},
		"comment":     {"# nothing\n", "no key"},
		"other":       {"-----BEGIN", "line 1 is not of the form"},
		"version":     {"bakehouse-key-v2:a:" + b64, "line 1 is not of the form"},
		"ID":          {"bakehouse-key-v1:A/b:" + b64, "line 1: the ID"},
		"base64":      {"bakehouse-key-v1:a:geheim!", "key a is not base64"},
		"short":       {"bakehouse-key-v1:a:AAAA", "has 3 bytes"},
		"second line": {"bakehouse-key-v1:a:" + b64 + "\nx", "line 2"},
		"twice":       {"bakehouse-key-v1:a:" + b64 + "\nbakehouse-key-v1:a:" + b64, "twice"},
		"good":        {"bakehouse-key-v1:a:" + b64 + "\r\n", ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "key")
			if err := os.WriteFile(path, []byte(tt.text), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := secret.Load(path)
			switch {
			case tt.want == "" && err != nil:
				t.Error(err)
			case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), path)):
				t.Errorf("got %v, want %q and the path", err, tt.want)
			case err != nil && (strings.Contains(err.Error(), "AAAA") || strings.Contains(err.Error(), "geheim")):
				t.Errorf("the key is in the message: %v", err)
			}
		})
	}
}

func TestAKeyFileThatOthersMayReadIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	if _, err := secret.Load(path); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("absent: %v", err)
	}
	if _, err := secret.LoadOrCreate(path); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("made with mode %v, %v", info.Mode(), err)
	}
	for _, mode := range []os.FileMode{0o640, 0o604, 0o620} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		if _, err := secret.LoadOrCreate(path); err == nil || !strings.Contains(err.Error(), "chmod 600") {
			t.Errorf("mode %o: %v", mode, err)
		}
	}
}

func TestProgramsThatStartTogetherMakeOneKey(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "farm", "key")
	ids := make([]string, 16)
	var wg sync.WaitGroup
	for i := range ids {
		wg.Go(func() {
			k, err := secret.LoadOrCreate(path)
			if err != nil {
				t.Error(err)
				return
			}
			ids[i] = k.ID()
		})
	}
	wg.Wait()
	for _, id := range ids {
		if id != ids[0] || id == "" {
			t.Fatalf("keys differ: %q", ids)
		}
	}
	left, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(left) != 1 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestPayloadsAreEncryptedWhole(t *testing.T) {
	k := generate(t)
	dc := secret.DataConverter(k)
	type login struct{ Password string }
	in := login{"correct-horse"}
	p, err := dc.ToPayload(in)
	if err != nil {
		t.Fatal(err)
	}
	wire, err := proto.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(wire, []byte("correct-horse")) || bytes.Contains(wire, []byte("json")) {
		t.Errorf("it can be read: %s", wire)
	}
	var out login
	if err := dc.FromPayload(p, &out); err != nil || out != in {
		t.Errorf("got %+v, %v", out, err)
	}
	if err := secret.DataConverter(generate(t)).FromPayload(p, &out); err == nil || !strings.Contains(err.Error(), k.ID()) {
		t.Errorf("with another key: %v", err)
	}
	old, err := converter.GetDefaultDataConverter().ToPayload("from before")
	if err != nil {
		t.Fatal(err)
	}
	var s string
	if err := dc.FromPayload(old, &s); err != nil || s != "from before" {
		t.Errorf("a payload that is not encrypted: %q, %v", s, err)
	}
	got, err := secret.NewCodec(k).Decode([]*commonpb.Payload{old})
	if err != nil || !proto.Equal(got[0], old) {
		t.Errorf("it does not pass through: %v, %v", got, err)
	}
}

func TestFailuresAreEncrypted(t *testing.T) {
	fc := secret.FailureConverter(generate(t))
	f := fc.ErrorToFailure(temporal.NewApplicationError("password correct-horse is wrong", "script"))
	wire, err := proto.Marshal(f)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(wire, []byte("correct-horse")) {
		t.Errorf("it can be read: %s", wire)
	}
	if got := fc.FailureToError(f); !strings.Contains(got.Error(), "password correct-horse is wrong") {
		t.Errorf("got %v", got)
	}
}

func TestAStringDoesNotPrint(t *testing.T) {
	s := secret.New("correct-horse")
	type deep struct {
		S secret.String
		s secret.String
		p *secret.String
		m map[string]secret.String
	}
	d := deep{s, s, &s, map[string]secret.String{"a": s}}
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "s", s, "d", d)
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "s", s, "d", d)
	out := log.String()
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%p"} {
		out += fmt.Sprintf(verb, s) + fmt.Sprintf(verb, d) + fmt.Sprintf(verb, &s)
	}
	out += fmt.Sprint(s, &d, fmt.Errorf("wrong: %v", s))
	for _, leak := range []string{"correct-horse", "636f7272", "636F7272", "99 111 114"} {
		if strings.Contains(out, leak) {
			t.Errorf("%q is in %s", leak, out)
		}
	}
	if fmt.Sprint(s) != "**redacted**" {
		t.Errorf("prints as %s", s)
	}
	if b, err := json.Marshal(map[string]any{"s": s}); err == nil {
		t.Errorf("writes itself as JSON: %s", b)
	}
	if s.Reveal() != "correct-horse" || (secret.String{}).Reveal() != "" {
		t.Error("does not hold its value")
	}
	if !s.Equal(secret.New("correct-horse")) || s.Equal(secret.New("x")) || !(secret.String{}).Equal(secret.New("")) {
		t.Error("Equal is wrong")
	}
}

func TestMask(t *testing.T) {
	tests := map[string]struct {
		secrets    []string
		text, want string
	}{
		"none":              {nil, "a secret", "a secret"},
		"every occurrence":  {[]string{"horse"}, "horse horse-horse", "<sensitive> <sensitive>-<sensitive>"},
		"longest first":     {[]string{"horse", "horse-battery"}, "horse-battery horse", "<sensitive> <sensitive>"},
		"overlap":           {[]string{"abcdef", "cdefgh"}, "abcdefgh", "<sensitive>gh"},
		"short ones stay":   {[]string{"", "a", "22", "yes"}, "yes, a 22", "yes, a 22"},
		"white space stays": {[]string{"     "}, "a      b", "a      b"},
		"each line":         {[]string{"-----BEGIN KEY\nMIIabc\n-----END KEY\n"}, "x: MIIabc", "x: <sensitive>"},
		"lines with CR":     {[]string{"first\r\nsecond\r\n"}, "first then second", "<sensitive> then <sensitive>"},
		"whole, other ends": {[]string{"ab\r\ncd"}, "[ab\ncd]", "[<sensitive>]"},
		"indented":          {[]string{"key: |\n    MIIabc"}, "MIIabc", "<sensitive>"},
		"value of a mask":   {[]string{"sensitive", "horse"}, "horse", "<sensitive>"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, secret.NewMasker(tt.secrets).Mask(tt.text)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
	var none *secret.Masker
	if none.Mask("x") != "x" || none.Pending("x") != 0 {
		t.Error("a nil masker changes text")
	}
}

func TestPending(t *testing.T) {
	m := secret.NewMasker([]string{"abcabd", "abcdef"})
	tests := map[string]int{
		"": 0, "xyz": 0, "a": 1, "xa": 1, "xab": 2, "xabcab": 5, "abcabc": 3, "xabcabd": 0, "abcde": 5, "abcdex": 0,
	}
	for text, want := range tests {
		if got := m.Pending(text); got != want {
			t.Errorf("Pending(%q) = %d, not %d", text, got, want)
		}
	}
}
