package bundle_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"gocloud.dev/blob"
	"gocloud.dev/blob/memblob"

	"github.com/bakehouse-farm/bakehouse"
	"github.com/bakehouse-farm/bakehouse/agent/bundle"
	"github.com/bakehouse-farm/bakehouse/agent/secret"
	"github.com/bakehouse-farm/bakehouse/agent/secret/secrettest"
)

func loadKeys(t *testing.T, source string) *secret.Keys {
	t.Helper()
	k, err := secret.Load(source)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// blobs lists what is in the bucket, and what it holds.
func blobs(t *testing.T, b *blob.Bucket) map[string][]byte {
	t.Helper()
	out := map[string][]byte{}
	for it := b.List(nil); ; {
		obj, err := it.Next(t.Context())
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		if out[obj.Key], err = b.ReadAll(t.Context(), obj.Key); err != nil {
			t.Fatal(err)
		}
	}
}

// With a key in KMS, which gives another data key to each process, the same
// data has the same name all the same: it travels once.
func TestNamesWithAKeyInKMS(t *testing.T) {
	url := secrettest.KMS(t)
	b := memblob.OpenBucket(nil)
	defer b.Close()
	data := []byte(strings.Repeat("the same file ", 1000))
	first, err := bundle.New(b, loadKeys(t, url)).Put(t.Context(), data)
	if err != nil {
		t.Fatal(err)
	}
	again := bundle.New(b, loadKeys(t, url))
	second, err := again.Put(t.Context(), data)
	if err != nil || first != second {
		t.Fatalf("%s, then %s, %v", first, second, err)
	}
	if n := len(blobs(t, b)); n != 2 { // the blob, and the key for names
		t.Errorf("%d blobs", n)
	}
	if got, err := bundle.New(b, loadKeys(t, url)).Get(t.Context(), first); err != nil || !bytes.Equal(got, data) {
		t.Errorf("read back: %v", err)
	}
	for key, content := range blobs(t, b) {
		if !strings.HasPrefix(key, "names/") {
			continue
		}
		for n := range content {
			bad := bytes.Clone(content)
			bad[n] ^= 4
			if err := b.WriteAll(t.Context(), key, bad, nil); err != nil {
				t.Fatal(err)
			}
			if _, err := bundle.New(b, loadKeys(t, url)).Get(t.Context(), first); err == nil || !strings.Contains(err.Error(), string(first)) {
				t.Fatalf("byte %d of the key for names altered: %v", n, err)
			}
		}
	}
}

// Programs that are the first ones at once each make a key for names; all of
// them are read.
func TestTheFirstNamesAtOnce(t *testing.T) {
	url := secrettest.KMS(t)
	b := memblob.OpenBucket(nil)
	defer b.Close()
	digests := make([]bundle.Digest, 8)
	var wg sync.WaitGroup
	for i := range digests {
		wg.Go(func() {
			var err error
			if digests[i], err = bundle.New(b, loadKeys(t, url)).Put(t.Context(), []byte("x")); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	s := bundle.New(b, loadKeys(t, url))
	for _, d := range digests {
		if got, err := s.Get(t.Context(), d); err != nil || string(got) != "x" {
			t.Errorf("%s: %q, %v", d, got, err)
		}
	}
	one, err := bundle.New(b, loadKeys(t, url)).Put(t.Context(), []byte("y"))
	if err != nil {
		t.Fatal(err)
	}
	if two, err := bundle.New(b, loadKeys(t, url)).Put(t.Context(), []byte("y")); err != nil || one != two {
		t.Errorf("they do not agree afterwards: %s, %s, %v", one, two, err)
	}
}

// A key file that goes from keys of its own to KMS, and one that is rotated:
// what was stored before stays readable; of a retired key, the ID is told.
func TestOldBlobsStayReadable(t *testing.T) {
	url := secrettest.KMS(t)
	path := filepath.Join(t.TempDir(), "key")
	agent, err := secret.LoadOrCreate(path)
	if err != nil {
		t.Fatal(err)
	}
	b := memblob.OpenBucket(nil)
	defer b.Close()
	first := agent.ID()
	running := bundle.New(b, agent)
	stored := map[string]bundle.Digest{}
	put := func(what string) {
		d, err := bundle.New(b, loadKeys(t, path)).Put(t.Context(), []byte(what))
		if err != nil {
			t.Fatal(err)
		}
		stored[what] = d
	}
	put("at first")
	if _, err := secret.Rotate(path, ""); err != nil {
		t.Fatal(err)
	}
	put("rotated")
	if _, err := secret.Add(path, url); err != nil {
		t.Fatal(err)
	}
	if _, err := secret.Rotate(path, url); err != nil {
		t.Fatal(err)
	}
	put("in KMS")
	for what, d := range stored {
		for name, s := range map[string]*bundle.Store{"running": running, "new": bundle.New(b, loadKeys(t, path))} {
			if got, err := s.Get(t.Context(), d); err != nil || string(got) != what {
				t.Errorf("%s agent: %q: %q, %v", name, what, got, err)
			}
		}
	}
	if err := secret.Retire(path, first); err != nil {
		t.Fatal(err)
	}
	_, err = bundle.New(b, loadKeys(t, path)).Get(t.Context(), stored["at first"])
	if bakehouse.KindOf(err) != bakehouse.Failed || !errors.Is(err, secret.ErrRetired) || !strings.Contains(err.Error(), first) {
		t.Errorf("%s, %v", bakehouse.KindOf(err), err)
	}
	other, err := secret.Generate()
	if err != nil {
		t.Fatal(err)
	}
	_, err = bundle.New(b, other).Get(t.Context(), stored["at first"])
	if bakehouse.KindOf(err).Final() || !strings.Contains(err.Error(), first) {
		t.Errorf("an unknown key can be added: %s, %v", bakehouse.KindOf(err), err)
	}
}

// Whatever happens to the bytes of a blob, it is not believed, and named.
func TestEveryByteOfABlobCounts(t *testing.T) {
	keys, err := secret.Generate()
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{"plain": []byte("a small plan"), "compressed": bytes.Repeat([]byte("plan "), 200), "empty": {}} {
		t.Run(name, func(t *testing.T) {
			b := memblob.OpenBucket(nil)
			defer b.Close()
			s := bundle.New(b, keys)
			d, err := s.Put(t.Context(), data)
			if err != nil {
				t.Fatal(err)
			}
			other, err := s.Put(t.Context(), []byte("another"))
			if err != nil {
				t.Fatal(err)
			}
			content := map[string][]byte{}
			var key, otherKey string
			for k, v := range blobs(t, b) {
				content[k] = v
				if strings.HasSuffix(k, string(d[strings.Index(string(d), "-")+1:])) {
					key = k
				} else {
					otherKey = k
				}
			}
			refused := func(what string, n int, bad []byte) {
				t.Helper()
				if err := b.WriteAll(t.Context(), key, bad, nil); err != nil {
					t.Fatal(err)
				}
				got, err := s.Get(t.Context(), d)
				if err == nil || !strings.Contains(err.Error(), string(d)) {
					t.Fatalf("%s %d: %q, %v", what, n, got, err)
				}
				if !errors.Is(err, secret.ErrUnknownKey) && bakehouse.KindOf(err) != bakehouse.Failed {
					t.Fatalf("%s %d is %s: %v", what, n, bakehouse.KindOf(err), err)
				}
			}
			good := content[key]
			for n := range good {
				refused("cut to", n, good[:n])
				bad := bytes.Clone(good)
				bad[n] ^= 1
				refused("altered byte", n, bad)
			}
			refused("longer by", 1, append(bytes.Clone(good), 0))
			refused("swapped", 0, content[otherKey])
			if _, err := s.Get(t.Context(), other); err != nil {
				t.Error(err)
			}
		})
	}
}

// A blob that somebody made huge does not fill an agent's memory.
func TestAHugeBlobIsNotRead(t *testing.T) {
	keys, err := secret.Generate()
	if err != nil {
		t.Fatal(err)
	}
	b, err := bundle.OpenBucket(t.Context(), "file://"+t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	s := bundle.New(b, keys)
	d, err := s.Put(t.Context(), []byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	var key string
	for key = range blobs(t, b) {
	}
	if err := writeZeros(t.Context(), b, key, bundle.MaxBlob+1<<20); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Get(t.Context(), d); bakehouse.KindOf(err) != bakehouse.Failed || !strings.Contains(err.Error(), "limit") {
		t.Errorf("%v", err)
	}
}

func writeZeros(ctx context.Context, b *blob.Bucket, key string, n int) error {
	w, err := b.NewWriter(ctx, key, nil)
	if err != nil {
		return err
	}
	zeros := make([]byte, 1<<20)
	for ; n > 0; n -= len(zeros) {
		if _, err := w.Write(zeros); err != nil {
			return err
		}
	}
	return w.Close()
}
