package secret_test

import (
	"testing"

	"github.com/bakehouse-farm/bakehouse/agent/secret"
)

// What is opened was sealed: nothing else is, and nothing panics.
func FuzzOpen(f *testing.F) {
	k, err := secret.Parse("bakehouse-key-v1:a:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=")
	if err != nil {
		f.Fatal(err)
	}
	sealed, err := k.Seal(f.Context(), []byte("x"), nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(sealed)
	f.Add([]byte("BKS\x01\x01a"))
	f.Add([]byte("BKS\x02\x01a\x00\x01w"))
	f.Add([]byte("BKS\x02\xff"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if plain, err := k.Open(t.Context(), data, nil); err == nil && string(plain) != "x" {
			t.Fatalf("%q was opened: %q", data, plain)
		}
	})
}

// A key file is read or refused.
func FuzzParse(f *testing.F) {
	f.Add("bakehouse-keys-v2\nbakehouse-key-v1:a:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\nbakehouse-sum-v1:0\n")
	f.Add("awskms://alias/farm?region=x\nbakehouse-retired-v1:a:2026-01-01\n# x")
	f.Fuzz(func(t *testing.T, text string) {
		if k, err := secret.Parse(text); err == nil && k.ID() == "" {
			t.Fatal("keys without an ID")
		}
	})
}
