package buildlog_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/bakehouse-farm/bakehouse"
	"github.com/bakehouse-farm/bakehouse/agent/buildlog"
	"github.com/bakehouse-farm/bakehouse/agent/secret"
)

// chunks makes a log with n chunks of one line each, and returns where chunk
// number i is.
func chunks(t *testing.T, s *buildlog.Store, dir string, n int) func(i int) string {
	t.Helper()
	for i := range n {
		st := openStep(t, s, "01", nil)
		st.Say(fmt.Sprintf("line %d", i+1))
		closeStep(t, st)
	}
	return func(i int) string {
		return filepath.Join(dir, "logs", string(build), "01", fmt.Sprintf("%08d", i))
	}
}

// both reads a log and follows it, and returns the lines and errors of each.
func both(t *testing.T, s *buildlog.Store) (lines [2][]string, bad [2][]error) {
	t.Helper()
	over, cancel := context.WithCancel(t.Context())
	cancel()
	i := 0
	note := func(l buildlog.Line, err error) {
		if err != nil {
			bad[i] = append(bad[i], err)
			return
		}
		lines[i] = append(lines[i], l.Text)
	}
	for l, err := range s.Read(t.Context(), build) {
		note(l, err)
	}
	i = 1
	for l, err := range s.Follow(over, build, 0) { // looks once
		note(l, err)
	}
	return lines, bad
}

// A chunk that is missing is named, by who reads, who follows, and who would
// write on.
func TestAMissingChunkIsNamed(t *testing.T) {
	for name, tt := range map[string]struct {
		remove []int
		want   string
	}{
		"first":   {[]int{1}, "01/00000001: it is missing"},
		"middle":  {[]int{3}, "01/00000003: it is missing"},
		"several": {[]int{2, 3, 4}, "01/00000002: it and the next 2 are missing"},
	} {
		t.Run(name, func(t *testing.T) {
			s, dir, other := folder(t)
			path := chunks(t, s, dir, 5)
			want := []string{"line 1", "line 2", "line 3", "line 4", "line 5"}
			for _, i := range tt.remove {
				if err := os.Remove(path(i)); err != nil {
					t.Fatal(err)
				}
				want = slices.DeleteFunc(want, func(l string) bool { return l == fmt.Sprintf("line %d", i) })
			}
			lines, bad := both(t, s)
			for i, how := range []string{"read", "follow"} {
				if !slices.Equal(lines[i], want) {
					t.Errorf("%s: %q", how, lines[i])
				}
				if len(bad[i]) != 1 || bakehouse.KindOf(bad[i][0]) != bakehouse.Failed || !strings.Contains(bad[i][0].Error(), tt.want) {
					t.Errorf("%s: %v", how, bad[i])
				}
			}
			_, err := other().Step(t.Context(), build, "01", nil)
			if bakehouse.KindOf(err) != bakehouse.Failed || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("write on: %v", err)
			}
			if _, err := os.Stat(path(tt.remove[0])); err == nil {
				t.Error("the gap was filled")
			}
		})
	}
}

// Whatever happens to the bytes of a chunk, nobody believes it; nor one that
// was put in the place of another.
func TestEveryByteOfAChunkCounts(t *testing.T) {
	s, dir, _ := folder(t)
	path := chunks(t, s, dir, 2)
	good, err := os.ReadFile(path(1))
	if err != nil {
		t.Fatal(err)
	}
	second, err := os.ReadFile(path(2))
	if err != nil {
		t.Fatal(err)
	}
	refused := func(what string, n int, content []byte) {
		t.Helper()
		if err := os.WriteFile(path(1), content, 0o600); err != nil {
			t.Fatal(err)
		}
		var lines []string
		var bad []error
		for l, err := range s.Read(t.Context(), build) {
			if err != nil {
				bad = append(bad, err)
				continue
			}
			lines = append(lines, l.Text)
		}
		if !slices.Equal(lines, []string{"line 2"}) || len(bad) != 1 || !strings.Contains(bad[0].Error(), "01/00000001") {
			t.Fatalf("%s %d: %q, %v", what, n, lines, bad)
		}
		if !errors.Is(bad[0], secret.ErrUnknownKey) && bakehouse.KindOf(bad[0]) != bakehouse.Failed {
			t.Fatalf("%s %d is %s: %v", what, n, bakehouse.KindOf(bad[0]), bad[0])
		}
	}
	for n := range good {
		refused("cut to", n, good[:n])
		bad := bytes.Clone(good)
		bad[n] ^= 2
		refused("altered byte", n, bad)
	}
	refused("swapped", 0, second)
	f, err := os.Create(path(1))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Truncate(1<<40), f.Close()); err != nil { // it has no content
		t.Fatal(err)
	}
	lines, bad := both(t, s)
	if len(bad[0]) != 1 || !strings.Contains(bad[0][0].Error(), "limit") || !slices.Equal(lines[0], []string{"line 2"}) {
		t.Errorf("huge: %q, %v", lines[0], bad[0])
	}
}

// A gigabyte without a line end passes through, in time and in little memory.
func TestAGigabyteWithoutALineEnd(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	const total, piece = 1 << 30, 32 << 10
	s, dir, _ := folder(t)
	m := secret.NewMasker([]string{"correct-horse-battery-staple"})
	st := openStep(t, s, "01", m.Mask)
	st.HoldBack(m.Pending)
	st.SetMaxOutput(64 << 20)
	p := bytes.Repeat([]byte("correct-horse-batter\x00"), piece/21+1)[:piece]
	before, most := heap(), int64(0)
	for end := int64(piece); end <= total; end += piece {
		if err := st.Sink("c1")(p, end); err != nil {
			t.Fatal(err)
		}
		if end%(64<<20) == 0 {
			most = max(most, heap()-before)
		}
	}
	closeStep(t, st)
	if most > 100<<20 {
		t.Errorf("it took %d MiB of memory", most>>20)
	}
	// A later attempt goes on behind what is kept, and says nothing twice.
	st = openStep(t, s, "01", m.Mask)
	st.HoldBack(m.Pending)
	st.SetMaxOutput(64 << 20)
	if from := st.Offset("c1"); from > 64<<20 || from < 63<<20 {
		t.Errorf("goes on at %d", from)
	} else if err := st.Sink("c1")(make([]byte, 128<<20), from+128<<20); err != nil {
		t.Error(err)
	}
	closeStep(t, st)
	var size int64
	_ = filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if info, err := d.Info(); err == nil && !d.IsDir() {
			size += info.Size()
		}
		return err
	})
	if size > 200<<20 {
		t.Errorf("the log takes %d MiB", size>>20)
	}
	said, longest := 0, 0
	for l, err := range s.Read(t.Context(), build) {
		if err != nil {
			t.Fatal(err)
		}
		longest = max(longest, len(l.Text))
		if l.Kind == buildlog.Error {
			said++
			if !strings.Contains(l.Text, "Only the first 67108864 bytes") {
				t.Errorf("%q", l.Text)
			}
		}
		if !utf8.ValidString(l.Text) || strings.ContainsAny(l.Text, "\x00\x1b") {
			t.Fatal("a line that is not clean")
		}
	}
	if said != 1 || longest > 2<<20 {
		t.Errorf("said %d times, the longest line has %d bytes", said, longest)
	}
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// Output that is made to be slow to clean is not: what might begin a secret
// stands before a heap of what vanishes.
func TestOutputThatIsHardToClean(t *testing.T) {
	m := secret.NewMasker([]string{"correct-horse"})
	for name, filler := range map[string]string{
		"NUL": "\x00", "escape": "\x1b", "begun escape": "\x1b[", "digits": "\x1b[1;2;3;4;5;6;7;8;9", "invalid": "\xff", "half runes": "\xf0\x9f", "title": "\x1b]0;",
	} {
		t.Run(name, func(t *testing.T) {
			s, _, _ := folder(t)
			st := openStep(t, s, "01", m.Mask)
			st.HoldBack(m.Pending)
			text := strings.Repeat("correct-hors"+strings.Repeat(filler, 60_000/len(filler)), 40)
			began := time.Now()
			for at := 0; at < len(text); at += 32 << 10 {
				end := min(at+32<<10, len(text))
				sink(t, st, "c1", text[at:end], int64(end))
			}
			closeStep(t, st)
			if took := time.Since(began); took > time.Minute {
				t.Errorf("%d bytes took %s", len(text), took)
			}
			for _, l := range texts(t, s) {
				if strings.ContainsAny(l, "\x00\x1b") || !utf8.ValidString(l) {
					t.Fatalf("not clean: %.200q", l)
				}
			}
		})
	}
}

var colour = regexp.MustCompile("\x1b\\[[0-9;:]*m")

// Whatever a machine prints, and however it is cut, nothing that drives a
// terminal is left, and no secret.
func TestRandomOutputIsClean(t *testing.T) {
	const password = "correct-horse"
	m := secret.NewMasker([]string{password})
	bits := []string{"\x1b", "[", "]", "0", ";", "m", "2J", "\x07", "\\", "\n", "\r", "\x9b", "\u009b", "\xff", "ü", "\u202e", password, password[:6], password[6:], "x", " "}
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 1))
	for range 150 {
		s, _, _ := folder(t)
		st := openStep(t, s, "01", m.Mask)
		st.HoldBack(m.Pending)
		var end int64
		for range 1 + r.IntN(60) {
			p := bits[r.IntN(len(bits))]
			end += int64(len(p))
			sink(t, st, "c1", p, end)
			if r.IntN(10) == 0 {
				st.Say(p)
			}
		}
		closeStep(t, st)
		for _, l := range texts(t, s) {
			plain := colour.ReplaceAllString(l, "")
			if strings.ContainsAny(plain, "\x1b\x07\n\r\u202e\u009b") || !utf8.ValidString(l) || strings.Contains(plain, password) {
				t.Fatalf("seed %d: %q", seed, l)
			}
		}
	}
}
