package buildlog

import (
	"testing"

	"gocloud.dev/blob/memblob"

	"github.com/bakehouse-farm/bakehouse/agent/secret"
)

// Output that comes while a chunk is on its way to the store must not be
// counted as part of it.
func TestOutputThatComesWhileAChunkIsStored(t *testing.T) {
	keys, err := secret.Generate()
	if err != nil {
		t.Fatal(err)
	}
	s := New(memblob.OpenBucket(nil), keys)
	st, err := s.Step(t.Context(), "b", "01", nil)
	if err != nil {
		t.Fatal(err)
	}
	put := st.Sink("c")
	st.flushing.Lock() // nobody else stores
	if err := put([]byte("a\n"), 2); err != nil {
		t.Fatal(err)
	}
	st.mu.Lock()
	c, n := st.compose()
	st.mu.Unlock()
	if err := put([]byte("b\n"), 4); err != nil {
		t.Fatal(err)
	}
	if err := st.storeChunk(t.Context(), chunkKey(st.prefix, st.name, st.next), c, n); err != nil {
		t.Fatal(err)
	}
	st.flushing.Unlock()
	if err := st.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := st.Offset("c"); got != 4 {
		t.Errorf("offset is %d, not 4", got)
	}
	var got string
	for l, err := range s.Read(t.Context(), "b") {
		if err != nil {
			t.Fatal(err)
		}
		got += l.Text
	}
	if got != "ab" {
		t.Errorf("log is %q", got)
	}
}
