//go:build e2e

package e2e

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// When the store has lost the end of a log, whoever reads it is told, and gets
// what is left.
func TestLostEndOfALog(t *testing.T) {
	s := newStack(t)
	dir := write(t, map[string]string{"null.pkr.hcl": `
source "null" "n" { communicator = "none" }
build {
  sources = ["source.null.n"]
  post-processor "manifest" {}
}`})
	id := regexp.MustCompile(`null-[a-z2-7]{10}`).FindString(s.must(dir, "null.pkr.hcl"))
	whole, code := s.ask(dir, "logs", id)
	if code != 0 || !strings.Contains(whole, "Running post-processor") || strings.Contains(whole, "Nobody noted") {
		t.Fatalf("whole log: exit %d\n%s", code, whole)
	}
	chunks, _ := filepath.Glob(filepath.Join(s.state, "store", "logs", "n-*", "*", "*"))
	if len(chunks) == 0 {
		t.Fatal("the build has no log")
	}
	slices.Sort(chunks)
	last := chunks[len(chunks)-1]
	if err := os.Remove(last); err != nil {
		t.Fatal(err)
	}
	step := filepath.Base(filepath.Dir(last))
	for _, command := range []string{"logs", "show"} {
		out, code := s.ask(dir, command, id)
		if code != 1 || !strings.Contains(out, step+"/00000001: it is missing") {
			t.Errorf("%s of a log without its end: exit %d\n%s", command, code, out)
		}
	}
	if out, code := s.ask(dir, "logs", "-follow", id); code != 1 || !strings.Contains(out, "it is missing") {
		t.Errorf("logs -follow: exit %d\n%s", code, out)
	}
	out, code := s.ask(dir, "attach", id)
	if code != 0 || !strings.Contains(out, "it is missing") {
		t.Errorf("attach: exit %d\n%s", code, out)
	}
}
