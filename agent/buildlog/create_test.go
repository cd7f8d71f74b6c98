package buildlog

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"gocloud.dev/blob"
	"gocloud.dev/blob/fileblob"
	"gocloud.dev/blob/memblob"
)

// Whoever is told that it made a blob is the only one who is, and what it
// wrote is what stays.
func TestOneOfManyCreates(t *testing.T) {
	dir := t.TempDir()
	mem := memblob.OpenBucket(nil)
	tests := map[string]func() (*blob.Bucket, error){
		"folder": func() (*blob.Bucket, error) {
			return fileblob.OpenBucket(dir, &fileblob.Options{NoTempDir: true, Metadata: fileblob.MetadataDontWrite})
		},
		"memory": func() (*blob.Bucket, error) { return mem, nil },
	}
	for name, open := range tests {
		t.Run(name, func(t *testing.T) {
			const agents, keys = 8, 200
			var won [keys]atomic.Int32
			var winner [keys]atomic.Int32
			var wg sync.WaitGroup
			for agent := range agents {
				b, err := open()
				if err != nil {
					t.Fatal(err)
				}
				wg.Go(func() {
					for i := range keys {
						ok, err := create(t.Context(), b, fmt.Sprintf("x/%d", i), fmt.Append(nil, agent))
						if err != nil {
							t.Error(err)
						}
						if ok {
							won[i].Add(1)
							winner[i].Store(int32(agent))
						}
					}
				})
			}
			wg.Wait()
			b, err := open()
			if err != nil {
				t.Fatal(err)
			}
			for i := range keys {
				got, err := b.ReadAll(t.Context(), fmt.Sprintf("x/%d", i))
				if err != nil {
					t.Fatal(err)
				}
				if won[i].Load() != 1 || string(got) != fmt.Sprint(winner[i].Load()) {
					t.Fatalf("blob %d was made by %d, holds %s, not %d", i, won[i].Load(), got, winner[i].Load())
				}
			}
		})
	}
}
