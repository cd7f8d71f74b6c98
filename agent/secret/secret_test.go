package secret_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

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
		"none":               {nil, "a secret", "a secret"},
		"every occurrence":   {[]string{"horse"}, "horse horse-horse", "<sensitive> <sensitive>-<sensitive>"},
		"longest first":      {[]string{"horse", "horse-battery"}, "horse-battery horse", "<sensitive> <sensitive>"},
		"overlap":            {[]string{"abcdef", "cdefgh"}, "xabcdefghx", "x<sensitive>x"},
		"overlap of three":   {[]string{"abcdef", "efghij", "bcdefghi"}, "-abcdefghij-", "-<sensitive>-"},
		"overlap of itself":  {[]string{"abab"}, "abababx", "<sensitive>x"},
		"one within":         {[]string{"bcde", "abcdefgh"}, "abcdefgh abcdef", "<sensitive> a<sensitive>f"},
		"next to each other": {[]string{"horse", "battery"}, "horsebattery", "<sensitive>"},
		"begun only":         {[]string{"abcdefgh", "cdex"}, "abcdefg abcdex", "abcdefg ab<sensitive>"},
		"not of letters":     {[]string{"\x00\xff\xfe\x01"}, "a\x00\xff\xfe\x01b", "a<sensitive>b"},
		"very long":          {[]string{strings.Repeat("0123456789", 1000)}, "<" + strings.Repeat("0123456789", 1000) + ">", "<<sensitive>>"},
		"a bit long":         {[]string{long[:1500]}, "<" + long[:1500] + ">", "<<sensitive>>"},
		"a piece":            {[]string{long}, "<" + long[1024:2048] + ">", "<<sensitive>>"},
		"short ones stay":    {[]string{"", "a", "22", "yes"}, "yes, a 22", "yes, a 22"},
		"white space stays":  {[]string{"     "}, "a      b", "a      b"},
		"each line":          {[]string{"-----BEGIN KEY\nMIIabc\n-----END KEY\n"}, "x: MIIabc", "x: <sensitive>"},
		"CR in text only":    {[]string{"first\nsecond"}, "first\r\nsecond\r\n", "<sensitive>\r\n<sensitive>\r\n"},
		"CR in secret only":  {[]string{"first\r\nsecond\r\n"}, "first\nsecond\n", "<sensitive>"},
		"lines with CR":      {[]string{"first\r\nsecond\r\n"}, "first then second", "<sensitive> then <sensitive>"},
		"whole, other ends":  {[]string{"ab\r\ncd"}, "[ab\ncd]", "[<sensitive>]"},
		"indented":           {[]string{"key: |\n    MIIabc"}, "MIIabc", "<sensitive>"},
		"value of a mask":    {[]string{"sensitive", "horse"}, "horse", "<sensitive>"},
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
	tests := []struct {
		secrets []string
		want    map[string]int
	}{
		{[]string{"abcabd", "abcdef"}, map[string]int{
			"": 0, "xyz": 0, "a": 1, "xa": 1, "xab": 2, "xabcab": 5, "abcabc": 3, "xabcabd": 0, "abcde": 5, "abcdex": 0,
		}},
		// The first is there whole, and must not be cut for the second.
		{[]string{"abcdef", "cdefgh"}, map[string]int{"xabcdef": 6, "xabcdefg": 7, "abcdefgh": 0, "cdefg": 5}},
		{[]string{"abab"}, map[string]int{"abab": 4, "ababx": 0, "ababab": 6}},
		{[]string{"horse", "horse-battery"}, map[string]int{"horse": 5, "horse-": 6, "horse!": 0}},
		{[]string{long}, map[string]int{long[:500]: 500, "x" + long[:1023]: 1023}},
	}
	for _, tt := range tests {
		m := secret.NewMasker(tt.secrets)
		for text, want := range tt.want {
			if got := m.Pending(text); got != want {
				t.Errorf("Pending(%q) with %q = %d, not %d", text, tt.secrets, got, want)
			}
		}
	}
}

// long is without repetition.
var long = func() string {
	var b strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&b, "%d,", i)
	}
	return b.String()[:3000]
}()

// However text is cut on its way, it is masked as if it were whole.
func TestMaskInPieces(t *testing.T) {
	secrets := []string{"abab", "babc", "abcabc", "cccc", "bcca"}
	m := secret.NewMasker(secrets)
	rng := rand.New(rand.NewPCG(1, 2))
	for range 3000 {
		text := make([]byte, 1+rng.IntN(40))
		for i := range text {
			text[i] = "abc-"[rng.IntN(4)]
		}
		hidden := make([]bool, len(text)) // by trying every secret at every place
		for _, s := range secrets {
			for i := range text {
				if strings.HasPrefix(string(text[i:]), s) {
					for j := range s {
						hidden[i+j] = true
					}
				}
			}
		}
		var want strings.Builder
		for i, h := range hidden {
			switch {
			case !h:
				want.WriteByte(text[i])
			case i == 0 || !hidden[i-1]:
				want.WriteString("*")
			}
		}
		shown := func(s string) string { return strings.ReplaceAll(s, secret.Sensitive, "*") }
		if got := shown(m.Mask(string(text))); got != want.String() {
			t.Fatalf("%s becomes %s, want %s", text, got, &want)
		}
		var got strings.Builder
		held := ""
		for rest := string(text); rest != ""; {
			n := 1 + rng.IntN(len(rest))
			held, rest = held+rest[:n], rest[n:]
			if rest == "" {
				got.WriteString(m.Mask(held))
				break
			}
			keep := m.Pending(held)
			got.WriteString(m.Mask(held[:len(held)-keep]))
			held = held[len(held)-keep:]
		}
		// Secrets that touch are one mask, or two when they came apart.
		once := regexp.MustCompile(`\*+`)
		if got := once.ReplaceAllString(shown(got.String()), "*"); got != want.String() {
			t.Fatalf("%s in pieces becomes %s, want %s", text, got, &want)
		}
	}
}

// Secrets and text that are made to be slow are not.
func TestMaskHostile(t *testing.T) {
	start := time.Now()
	same := strings.Repeat("a", 1<<20)
	m := secret.NewMasker([]string{same + "b", same + "c", strings.Repeat("a\n", 1<<20), strings.Repeat("xy", 8<<20)})
	for _, line := range []string{strings.Repeat("a", 64<<10), strings.Repeat("a", 64<<10-1) + "d", strings.Repeat("xyx", 20<<10)} {
		for range 20 {
			m.Mask(line)
			m.Pending(line)
		}
	}
	if d := time.Since(start); d > time.Minute { // a naive search takes hours
		t.Errorf("took %s", d)
	}
}

func BenchmarkMask(b *testing.B) {
	var secrets []string
	for i := range 100 {
		secrets = append(secrets, fmt.Sprintf("secret-%d-of-many", i*i))
	}
	secrets = append(secrets, long, strings.Repeat(long, 300))
	m := secret.NewMasker(secrets)
	line := strings.Repeat("Get:1 http://deb.debian.org/debian bookworm/main amd64 secret- Packages [8,786 kB]\n", 100)
	b.Run("mask", func(b *testing.B) {
		b.SetBytes(int64(len(line)))
		for b.Loop() {
			m.Mask(line)
		}
	})
	b.Run("pending", func(b *testing.B) {
		b.SetBytes(int64(len(line)))
		for b.Loop() {
			m.Pending(line)
		}
	})
	b.Run("new", func(b *testing.B) {
		for b.Loop() {
			secret.NewMasker(secrets)
		}
	})
}
