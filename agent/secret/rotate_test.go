package secret_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.temporal.io/sdk/converter"

	"github.com/bakehouse-farm/bakehouse/agent/secret"
)

// made returns a new key file and its keys.
func made(t *testing.T) (path string, k *secret.Keys) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "key")
	k, err := secret.LoadOrCreate(path)
	if err != nil {
		t.Fatal(err)
	}
	return path, k
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func write(t *testing.T, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func load(t *testing.T, path string) *secret.Keys {
	t.Helper()
	k, err := secret.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// opens tells what becomes of sealed data.
func opens(t *testing.T, k *secret.Keys, sealed []byte) error {
	t.Helper()
	got, err := k.Open(t.Context(), sealed, nil)
	if err == nil && string(got) != "x" {
		t.Fatalf("opened %q", got)
	}
	return err
}

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for limit := time.Now().Add(30 * time.Second); time.Now().Before(limit); time.Sleep(20 * time.Millisecond) {
		if is() {
			return
		}
	}
	t.Fatalf("waited in vain: %s", what)
}

// The life of a key, as an agent sees it that is never started again: added,
// made the one that seals, retired.
func TestKeysRotateUnderARunningAgent(t *testing.T) {
	path, agent := made(t)
	first := agent.ID()
	old := seal(t, agent, []byte("x"), nil)
	name := digest(t, agent, "use", []byte("x"))

	added, err := secret.Add(path, "")
	if err != nil || added == first {
		t.Fatal(added, err)
	}
	if agent.ID() != first || load(t, path).ID() != first {
		t.Error("a key that was only added seals")
	}
	// A submitter that has the rotated file already.
	elsewhere := filepath.Join(t.TempDir(), "key")
	write(t, elsewhere, read(t, path))
	if _, err := secret.Rotate(elsewhere, ""); err != nil {
		t.Fatal(err)
	}
	submitter := load(t, elsewhere)
	if submitter.ID() != added {
		t.Fatalf("%s seals, not %s", submitter.ID(), added)
	}
	fresh := seal(t, submitter, []byte("x"), nil)
	if err := opens(t, agent, fresh); err != nil {
		t.Errorf("the added key does not open: %v", err)
	}
	if err := opens(t, submitter, old); err != nil {
		t.Errorf("old data after the rotation: %v", err)
	}
	if err := submitter.Verify(name, "use", []byte("x")); err != nil {
		t.Errorf("old digest after the rotation: %v", err)
	}

	// The agent's own file is rotated: it begins to seal with the new key.
	if got, err := secret.Rotate(path, added); err != nil || got != added {
		t.Fatal(got, err)
	}
	eventually(t, "the agent seals with the new key", func() bool { return agent.ID() == added })

	if err := secret.Retire(path, added); err == nil || !strings.Contains(err.Error(), "seals") {
		t.Errorf("the sealing key was retired: %v", err)
	}
	if err := secret.Retire(path, first); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the agent forgets the retired key", func() bool { return opens(t, agent, old) != nil })
	err = opens(t, agent, old)
	if !errors.Is(err, secret.ErrRetired) || !strings.Contains(err.Error(), first) {
		t.Errorf("data of the retired key: %v", err)
	}
	if bytes.Contains(read(t, path), []byte(first+":"+"A")) || bytes.Count(read(t, path), []byte("bakehouse-key-v1:")) != 1 {
		t.Error("the retired key is still in the file")
	}
	if err := opens(t, agent, fresh); err != nil {
		t.Error(err)
	}
	for name, err := range map[string]error{
		"retire again": secret.Retire(path, first), "retire nothing": secret.Retire(path, "nobody"), "retire all": secret.Retire(path, ""),
	} {
		if err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := secret.Rotate(path, first); err == nil || !strings.Contains(err.Error(), "retired") {
		t.Errorf("rotated to a retired key: %v", err)
	}
	list, err := secret.List(path)
	if err != nil || len(list) != 2 || list[0].ID != added || !list[0].Seals || list[1].ID != first || list[1].Retired == "" {
		t.Errorf("%+v, %v", list, err)
	}
}

// A key that the file got a moment ago is found at once, not a second later:
// the build that was just submitted with it must not fail.
func TestAnUnknownKeyIsLookedForAtOnce(t *testing.T) {
	path, agent := made(t)
	if _, err := secret.Rotate(path, ""); err != nil {
		t.Fatal(err)
	}
	sealed := seal(t, load(t, path), []byte("x"), nil)
	if err := opens(t, agent, sealed); err != nil {
		t.Error(err)
	}
	if p, err := secret.DataConverter(load(t, path)).ToPayload("x"); err != nil {
		t.Error(err)
	} else if err := secret.DataConverter(agent).FromPayload(p, new(string)); err != nil {
		t.Error(err)
	}
	// Of a key that is nowhere, the ID is told.
	stranger := generate(t)
	if err := opens(t, agent, seal(t, stranger, []byte("x"), nil)); !errors.Is(err, secret.ErrUnknownKey) || !strings.Contains(err.Error(), stranger.ID()) {
		t.Error(err)
	}
}

// A file that is broken, for now, does not stop an agent that has its keys.
func TestAFileThatIsBrokenMeanwhile(t *testing.T) {
	path, agent := made(t)
	sealed := seal(t, agent, []byte("x"), nil)
	good := read(t, path)
	for name, harm := range map[string]func(){
		"half": func() { write(t, path, good[:len(good)/2]) },
		"gone": func() { os.Remove(path) },
		"open to all": func() {
			if err := os.Chmod(path, 0o644); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			write(t, path, append(good, '\n')) // another version each time
			harm()
			if err := opens(t, agent, sealed); err != nil {
				t.Error(err)
			}
			stranger := seal(t, generate(t), []byte("x"), nil)
			err := opens(t, agent, stranger)
			if !errors.Is(err, secret.ErrUnknownKey) || !strings.Contains(err.Error(), path) {
				t.Errorf("why the key is not known is not said: %v", err)
			}
			os.Remove(path)
			write(t, path, good)
		})
	}
	// Mended, and rotated.
	if _, err := secret.Rotate(path, ""); err != nil {
		t.Fatal(err)
	}
	if err := opens(t, agent, seal(t, load(t, path), []byte("x"), nil)); err != nil {
		t.Error(err)
	}
}

// Whatever single thing happens to the bytes of a key file, it is noticed, or
// the keys are the same.
func TestADamagedKeyFileIsRefused(t *testing.T) {
	path, _ := made(t)
	if _, err := secret.Add(path, ""); err != nil {
		t.Fatal(err)
	}
	third, err := secret.Rotate(path, "")
	if err != nil {
		t.Fatal(err)
	}
	keys := load(t, path)
	if _, err := secret.Add(path, ""); err != nil {
		t.Fatal(err)
	}
	if err := secret.Retire(path, firstOther(t, path, third)); err != nil {
		t.Fatal(err)
	}
	good := read(t, path)
	sealed := seal(t, keys, []byte("x"), nil)
	same := func(b []byte, what string, at int) {
		write(t, path, b)
		k, err := secret.Load(path)
		if err != nil {
			if !strings.Contains(err.Error(), path) {
				t.Fatalf("%s %d: the file is not named: %v", what, at, err)
			}
			for line := range bytes.Lines(good) {
				if f := bytes.Split(bytes.TrimSpace(line), []byte(":")); len(f) == 3 && len(f[2]) == 44 && strings.Contains(err.Error(), string(f[2][:20])) {
					t.Fatalf("%s %d: the key is in the message: %v", what, at, err)
				}
			}
			return
		}
		if k.ID() != keys.ID() || opens(t, k, sealed) != nil {
			t.Fatalf("%s %d: other keys are believed", what, at)
		}
		list, err := secret.List(path)
		if err != nil || len(list) != 3 {
			t.Fatalf("%s %d: %+v, %v", what, at, list, err)
		}
	}
	for n := range good {
		same(good[:n], "cut to", n)
		for _, bit := range []byte{1, 0x10, 0x80} {
			bad := bytes.Clone(good)
			bad[n] ^= bit
			same(bad, "altered byte", n)
		}
	}
}

// firstOther returns a key of the file that does not seal.
func firstOther(t *testing.T, path, sealing string) string {
	t.Helper()
	list, err := secret.List(path)
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(list, func(k secret.Info) bool { return k.ID != sealing })
	return list[i].ID
}

// A file that a person wrote has no checksum; its keys are checked against
// their IDs.
func TestAHandMadeFileIsChecked(t *testing.T) {
	path, keys := made(t)
	var line string
	for l := range strings.Lines(string(read(t, path))) {
		if strings.HasPrefix(l, "bakehouse-key-v1:") {
			line = l
		}
	}
	write(t, path, []byte("# ours\n\n"+line))
	if load(t, path).ID() != keys.ID() {
		t.Error("it is not read")
	}
	i := strings.LastIndexByte(line, ':') + 5
	write(t, path, []byte(line[:i]+string(line[i]^1)+line[i+1:]))
	if _, err := secret.Load(path); err == nil {
		t.Error("an altered key is believed")
	}
}

// Two who change a file at once do not undo each other.
func TestManyEditAtOnce(t *testing.T) {
	path, _ := made(t)
	var wg sync.WaitGroup
	for range 12 {
		wg.Go(func() {
			if _, err := secret.Add(path, ""); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	list, err := secret.List(path)
	if err != nil || len(list) != 13 {
		t.Errorf("%d keys, %v", len(list), err)
	}
	left, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(left) != 1 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

// Payloads that are altered in any byte are refused.
func TestDamagedPayloadsAreRefused(t *testing.T) {
	keys := generate(t)
	dc := secret.DataConverter(keys)
	p, err := dc.ToPayload("the truth")
	if err != nil {
		t.Fatal(err)
	}
	good := bytes.Clone(p.Data)
	for n := range good {
		var got string
		p.Data = good[:n]
		if err := dc.FromPayload(p, &got); err == nil {
			t.Fatalf("cut to %d bytes: %q", n, got)
		}
		p.Data = bytes.Clone(good)
		p.Data[n] ^= 0x20
		err := dc.FromPayload(p, &got)
		if err == nil || !errors.Is(err, secret.ErrDamaged) && !errors.Is(err, secret.ErrUnknownKey) {
			t.Fatalf("byte %d altered: %q, %v", n, got, err)
		}
	}
	// What is no payload of ours, though it says so.
	p.Data = seal(t, keys, []byte("the truth"), []byte("logs/b/01/00000001"))
	if err := dc.FromPayload(p, new(string)); !errors.Is(err, secret.ErrDamaged) {
		t.Errorf("a log chunk as a payload: %v", err)
	}
	if string(p.Metadata[converter.MetadataEncoding]) != "binary/encrypted" {
		t.Error("the encoding is not that of Temporal's samples")
	}
}
