package buildlog_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/bakehouse-farm/bakehouse"
	"github.com/bakehouse-farm/bakehouse/agent/buildlog"
	"github.com/bakehouse-farm/bakehouse/agent/bundle"
	"github.com/bakehouse-farm/bakehouse/agent/secret"
	"github.com/bakehouse-farm/bakehouse/provisioners"
)

var (
	_ bakehouse.Log       = (*buildlog.Step)(nil)
	_ provisioners.Output = (*buildlog.Step)(nil)
)

const build = bakehouse.BuildID("web-1")

// folder returns a store in a folder, and how to open the same one once more,
// as another agent would.
func folder(t *testing.T) (*buildlog.Store, string, func() *buildlog.Store) {
	t.Helper()
	keys, err := secret.Generate()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	open := func() *buildlog.Store {
		b, err := bundle.OpenBucket(t.Context(), "file://"+dir)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { b.Close() })
		return buildlog.New(b, keys)
	}
	return open(), dir, open
}

func openStep(t *testing.T, s *buildlog.Store, name string, mask func(string) string) *buildlog.Step {
	t.Helper()
	st, err := s.Step(t.Context(), build, name, mask)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close(context.Background()) })
	return st
}

func closeStep(t *testing.T, st *buildlog.Step) {
	t.Helper()
	if err := st.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func sink(t *testing.T, st *buildlog.Step, command, text string, end int64) {
	t.Helper()
	if err := st.Sink(command)([]byte(text), end); err != nil {
		t.Fatal(err)
	}
}

// texts returns what Read returns, one string a line.
func texts(t *testing.T, s *buildlog.Store) []string {
	t.Helper()
	var out []string
	for l, err := range s.Read(t.Context(), build) {
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, fmt.Sprintf("%s %s: %s", l.Step, l.Kind, l.Text))
	}
	return out
}

func check(t *testing.T, s *buildlog.Store, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, texts(t, s)); diff != "" {
		t.Errorf("log (-want +got):\n%s", diff)
	}
}

func TestALogIsReadInOrder(t *testing.T) {
	s, _, other := folder(t)
	second := openStep(t, s, "02-provision-shell", nil)
	second.Say("Provisioning with shell script")
	sink(t, second, "c1", "one\ntwo\nthr", 11)
	sink(t, second, "c1", "ee", 13)
	second.Error("that was no line end")
	closeStep(t, second)
	first := openStep(t, s, "01-launch", nil)
	first.Say("Launching\nan instance")
	closeStep(t, first)
	check(t, other(),
		"01-launch say: Launching",
		"01-launch say: an instance",
		"02-provision-shell say: Provisioning with shell script",
		"02-provision-shell output: one",
		"02-provision-shell output: two",
		"02-provision-shell output: three",
		"02-provision-shell error: that was no line end",
	)
}

func TestWhatALaterAttemptSaysAgainIsNotStoredAgain(t *testing.T) {
	s, _, other := folder(t)
	st := openStep(t, s, "01-launch", nil)
	st.Say("Launching")
	st.Say("Waiting")
	st.Say("Waiting")
	closeStep(t, st)
	st = openStep(t, other(), "01-launch", nil)
	for _, line := range []string{"Launching", "Waiting", "Waiting", "Waiting", "Launched"} {
		st.Say(line)
	}
	closeStep(t, st)
	check(t, s,
		"01-launch say: Launching", "01-launch say: Waiting", "01-launch say: Waiting",
		"01-launch say: Waiting", "01-launch say: Launched")
}

func TestOutputGoesOnWhereItWasStored(t *testing.T) {
	s, _, other := folder(t)
	st := openStep(t, s, "01", nil)
	sink(t, st, "c1", "one\ntwo\nhal", 11)
	closeStep(t, st)
	st = openStep(t, other(), "01", nil)
	if got := st.Offset("c1"); got != 11 {
		t.Fatalf("offset is %d, not 11", got)
	}
	if got := st.Offset("another"); got != 0 {
		t.Fatalf("offset of a command that never ran is %d", got)
	}
	// Whoever follows may begin earlier; what is stored is left out.
	sink(t, st, "c1", "two\nhalf\nthree\n", 19)
	closeStep(t, st)
	check(t, s, "01 output: one", "01 output: two", "01 output: half", "01 output: three")
}

func TestMissingOutputIsAnError(t *testing.T) {
	s, _, _ := folder(t)
	st := openStep(t, s, "01", nil)
	sink(t, st, "c1", "one\n", 4)
	err := st.Sink("c1")([]byte("three\n"), 14)
	if err == nil || !strings.Contains(err.Error(), "bytes 4 to 8") {
		t.Errorf("got %v", err)
	}
}

// Two attempts may be alive at once; both follow the same command, from
// different places and in different pieces, and both say the same.
func TestTwoAttemptsAtOnceStoreEachByteOnce(t *testing.T) {
	var raw strings.Builder
	var want []string
	for i := range 3000 {
		line := fmt.Sprintf("line %d of the output, with a ü in it", i)
		want = append(want, "01 output: "+line)
		raw.WriteString(line + "\n")
	}
	output := raw.String()
	s, dir, other := folder(t)
	stores := []*buildlog.Store{s, other(), other()}
	var attempts []*buildlog.Step
	for _, s := range stores {
		attempts = append(attempts, openStep(t, s, "01", nil))
	}
	var wg sync.WaitGroup
	errs := make([]error, len(attempts))
	for i, st := range attempts {
		rnd := rand.New(rand.NewPCG(1, uint64(i)))
		wg.Go(func() {
			defer func() { errs[i] = errors.Join(errs[i], st.Close(context.Background())) }()
			st.Say("Running")
			put := st.Sink("c1")
			for at := 0; at < len(output); {
				n := min(1+rnd.IntN(3000), len(output)-at)
				if err := put([]byte(output[at:at+n]), int64(at+n)); err != nil {
					errs[i] = err
					return
				}
				at += n
				time.Sleep(time.Duration(rnd.IntN(15)) * time.Millisecond)
			}
			st.Say("Done")
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	var output1, said []string
	for _, l := range texts(t, s) {
		if strings.Contains(l, " say: ") {
			said = append(said, l)
		} else {
			output1 = append(output1, l)
		}
	}
	if diff := cmp.Diff(want, output1); diff != "" {
		t.Errorf("output (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"01 say: Running", "01 say: Done"}, said); diff != "" {
		t.Errorf("said (-want +got):\n%s", diff)
	}
	chunks, err := os.ReadDir(filepath.Join(dir, "logs", string(build), "01"))
	if err != nil {
		t.Fatal(err)
	}
	if len(chunks) < 3 {
		t.Errorf("%d chunks: the attempts never met, the test shows nothing", len(chunks))
	}
}

func TestSecretsAreMaskedHoweverTheyArrive(t *testing.T) {
	const password = "correct-horse-ü-battery"
	m := secret.NewMasker([]string{password})
	output := "a " + password + " b\n\x1b[31mc\x1b[0m " + password[:9] + "\x1b[K" + password[9:] + "\nlast " + password
	for size := 1; size <= len(output); size++ {
		s, _, _ := folder(t)
		st := openStep(t, s, "01", m.Mask)
		st.HoldBack(m.Pending)
		for at := 0; at < len(output); at += size {
			end := min(at+size, len(output))
			sink(t, st, "c1", output[at:end], int64(end))
		}
		st.Say("it is " + password)
		closeStep(t, st)
		check(t, s, "01 output: a <sensitive> b", "01 output: \x1b[31mc\x1b[0m <sensitive>",
			"01 output: last <sensitive>", "01 say: it is <sensitive>")
	}
}

// An attempt that ends in the middle of a secret shows neither half, and the
// attempt that goes on gets the secret whole.
func TestASecretCutInTwoByALostAgent(t *testing.T) {
	const password = "correct-horse-battery"
	m := secret.NewMasker([]string{password})
	output := "it is " + password + "\n"
	for cut := 1; cut < len(output); cut++ {
		s, _, other := folder(t)
		st := openStep(t, s, "01", m.Mask)
		st.HoldBack(m.Pending)
		sink(t, st, "c1", output[:cut], int64(cut))
		closeStep(t, st)
		st = openStep(t, other(), "01", m.Mask)
		st.HoldBack(m.Pending)
		from := st.Offset("c1")
		if from > int64(cut) {
			t.Fatalf("cut at %d: offset %d", cut, from)
		}
		sink(t, st, "c1", output[from:], int64(len(output)))
		closeStep(t, st)
		got := strings.Join(texts(t, s), "\n")
		if strings.Contains(got, password[4:]) || strings.Contains(got, password[:4]) || !strings.Contains(got, "<sensitive>") {
			t.Errorf("cut at %d: %q", cut, got)
		}
	}
}

func TestAPromptIsStoredBeforeItsLineEnds(t *testing.T) {
	s, _, other := folder(t)
	m := secret.NewMasker([]string{"hunter22"})
	st := openStep(t, s, "01", m.Mask)
	st.HoldBack(m.Pending)
	sink(t, st, "c1", "Password (hint hun", 18)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for l, err := range other().Follow(ctx, build, 0) {
		if err != nil {
			t.Fatal(err)
		}
		if l.Text != "Password (hint " || !l.Partial {
			t.Errorf("got %+v", l)
		}
		break
	}
	if ctx.Err() != nil {
		t.Fatal("never came")
	}
	sink(t, st, "c1", "ter22): ok\n", 29)
	closeStep(t, st)
	check(t, s, "01 output: Password (hint <sensitive>): ok")
}

func TestALineWithoutEndDoesNotGrowForEver(t *testing.T) {
	s, _, _ := folder(t)
	st := openStep(t, s, "01", func(s string) string { return s })
	long := strings.Repeat("ü", 200<<10)
	for at := 0; at < len(long); at += 1001 {
		end := min(at+1001, len(long))
		sink(t, st, "c1", long[at:end], int64(end))
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for range s.Follow(ctx, build, 0) {
		break // there is something although the line has not ended
	}
	if ctx.Err() != nil {
		t.Error("nothing came while the line had no end")
	}
	closeStep(t, st)
	got := texts(t, s)
	if len(got) != 1 || got[0] != "01 output: "+long {
		t.Errorf("%d lines, the first of %d bytes", len(got), len(got[0]))
	}
}

func TestOutputCannotDriveTheTerminal(t *testing.T) {
	tests := map[string]struct{ raw, want string }{
		"colours stay":         {"\x1b[1;31mred\x1b[0m", "\x1b[1;31mred\x1b[0m"},
		"cursor":               {"a\x1b[2Jb\x1b[10;10Hc", "abc"},
		"title":                {"a\x1b]0;owned\x07b", "ab"},
		"title, other end":     {"a\x1b]0;owned\x1b\\b", "ab"},
		"two characters":       {"a\x1bcb\x1b(Bc", "abc"},
		"lone escape":          {"a\x1b", "a"},
		"bell, backspace, NUL": {"a\x07b\x08c\x00d\x7f", "abcd"},
		"C1":                   {"a\u009b2Jb", "a2Jb"},
		"other line ends":      {"a\u2028b\u0085c\vd", "abcd"},
		"right to left":        {"a\u202eb", "ab"},
		"tab stays":            {"a\tb", "a\tb"},
		"progress":             {"10%\r50%\r100%\r", "100%"},
		"DOS line end":         {"a\r", "a"},
		"not UTF-8":            {"a\xffb", "a\ufffdb"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s, _, _ := folder(t)
			st := openStep(t, s, "01", nil)
			sink(t, st, "c1", tt.raw+"\n", int64(len(tt.raw)+1))
			closeStep(t, st)
			check(t, s, "01 output: "+tt.want)
		})
	}
}

func TestFollowGivesEachLineOnceAndTheLastOnes(t *testing.T) {
	s, _, other := folder(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	got := map[string][]string{}
	begun := make(chan struct{})
	done := make(chan error)
	go func() {
		var once sync.Once
		for l, err := range other().Follow(ctx, build, 300*time.Millisecond) {
			if err != nil {
				done <- err
				return
			}
			once.Do(func() { close(begun) })
			got[l.Step] = append(got[l.Step], l.Text)
		}
		done <- nil
	}()
	want := map[string][]string{}
	var wg sync.WaitGroup
	for _, name := range []string{"01-copy-a", "02-copy-b"} {
		st := openStep(t, s, name, nil)
		var lines []string
		for i := range 50 {
			lines = append(lines, fmt.Sprintf("%s %d", name, i))
		}
		want[name] = lines
		wg.Go(func() {
			for i, line := range lines {
				st.Say(line)
				if i%10 == 0 {
					time.Sleep(100 * time.Millisecond)
				}
			}
			<-begun
			if err := st.Close(context.Background()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	cancel() // at once: the last lines have only just been stored
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("lines (-want +got):\n%s", diff)
	}
}

func TestADamagedChunkIsNamedAndTheRestIsRead(t *testing.T) {
	s, dir, _ := folder(t)
	for _, text := range []string{"one", "two", "three"} {
		st := openStep(t, s, "01", nil)
		st.Say(text)
		closeStep(t, st)
	}
	path := filepath.Join(dir, "logs", string(build), "01", "00000002")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)-1] ^= 1
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	var got []string
	var bad []error
	for l, err := range s.Read(t.Context(), build) {
		if err != nil {
			bad = append(bad, err)
			continue
		}
		got = append(got, l.Text)
	}
	if !slices.Equal(got, []string{"one", "three"}) {
		t.Errorf("got %q", got)
	}
	if len(bad) != 1 || !strings.Contains(bad[0].Error(), "01/00000002") || !errors.Is(bad[0], secret.ErrDamaged) {
		t.Errorf("got %v", bad)
	}
}

func TestWhatCannotBeStoredFailsTheStep(t *testing.T) {
	s, dir, _ := folder(t)
	st := openStep(t, s, "01", nil)
	// A file where the step's folder must be stops root as well.
	logs := filepath.Join(dir, "logs")
	if err := os.WriteFile(logs, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	st.Say("one")
	if err := st.Close(t.Context()); err == nil {
		t.Fatal("no error although nothing was stored")
	}
	// A trouble that passes loses nothing.
	if err := os.Remove(logs); err != nil {
		t.Fatal(err)
	}
	closeStep(t, st)
	check(t, s, "01 say: one")
}

func TestNamesThatLeaveTheLogAreRefused(t *testing.T) {
	s, _, _ := folder(t)
	for _, name := range []string{"", ".", "..", "a/b", "../x", "a\x00"} {
		if _, err := s.Step(t.Context(), build, name, nil); bakehouse.KindOf(err) != bakehouse.Invalid {
			t.Errorf("step %q: %v", name, err)
		}
		if _, err := s.Step(t.Context(), bakehouse.BuildID(name), "01", nil); bakehouse.KindOf(err) != bakehouse.Invalid {
			t.Errorf("build %q: %v", name, err)
		}
	}
}
