package known_test

import (
	"testing"

	"github.com/bakehouse-farm/bakehouse/template/known"
)

// What validate pays for each type that the farm lacks.
func BenchmarkLookup(b *testing.B) {
	for _, typ := range []string{"qemu", "amazon-ebssurrogate"} {
		b.Run(typ, func(b *testing.B) {
			for b.Loop() {
				c, ok := known.Lookup(known.Builder, typ)
				if !ok || c.Schema() == nil {
					b.Fatal("not found")
				}
			}
		})
	}
}
