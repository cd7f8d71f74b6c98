//go:build linux

package main

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// A machine that nobody follows switches itself off; one that is followed, or
// whose build has cleaned up, does not.
func TestExpire(t *testing.T) {
	tests := []struct {
		name      string
		meanwhile func(t *testing.T, base string)
		off       bool
	}{
		{"nobody follows", func(*testing.T, string) {}, true},
		{"somebody calls", func(t *testing.T, base string) {
			for end := time.Now().Add(3 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
				if _, problem := call(t, nil, "probe", "-base", base, "-build", "b", "-id", "x"); problem != "" {
					t.Fatal(problem)
				}
			}
		}, false},
		{"clean", func(t *testing.T, base string) {
			if _, problem := call(t, nil, "clean", "-base", base, "-build", "b"); problem != "" {
				t.Fatal(problem)
			}
			time.Sleep(3 * time.Second)
		}, false},
		{"another limit", func(t *testing.T, base string) {
			if _, problem := call(t, nil, "expire", "-base", base, "-build", "b", "-limit", "1h"); problem != "" {
				t.Fatal(problem)
			}
			time.Sleep(3 * time.Second)
		}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			base := filepath.Join(t.TempDir(), "base")
			if err := os.Mkdir(base, 0o700); err != nil {
				t.Fatal(err)
			}
			off := filepath.Join(t.TempDir(), "off")
			if _, problem := call(t, nil, "expire", "-base", base, "-build", "b", "-limit", "2s", "-off", "touch "+off); problem != "" {
				t.Fatal(problem)
			}
			t.Cleanup(func() { _ = os.RemoveAll(base) }) // ends what waits
			tt.meanwhile(t, base)
			if !tt.off {
				if _, err := os.Stat(off); err == nil {
					t.Error("the machine was switched off")
				}
				return
			}
			for end := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
				if _, err := os.Stat(off); err == nil {
					break
				}
				if time.Now().After(end) {
					t.Fatal("the machine was not switched off")
				}
			}
		})
	}
}
