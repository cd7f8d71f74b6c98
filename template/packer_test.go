package template

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/tools/txtar"
)

// Packer itself, as far as Debian has it, gives the same verdict. It is older
// (1.6.6, when HCL was new), so that what came later is not in the archive.
// Each file in it is one template; its name says what is expected of both.
func TestSameVerdictAsPacker(t *testing.T) {
	packer, err := exec.LookPath("packer")
	if err != nil {
		t.Skip("packer is not installed")
	}
	a, err := txtar.ParseFile("testdata/packer/verdicts.txt")
	if err != nil {
		t.Fatal(err)
	}
	home := t.TempDir()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	for _, f := range a.Files {
		t.Run(f.Name, func(t *testing.T) {
			s := unpack(t, &txtar.Archive{Files: []txtar.File{{Name: f.Name, Data: f.Data}, {Name: "here.sh", Data: []byte("true\n")}}})
			s.path = f.Name
			dir := filepath.Dir(s.files.Path(f.Name))
			cmd := exec.CommandContext(ctx, packer, "validate", f.Name)
			cmd.Dir = dir
			cmd.Env = append(os.Environ(), "HOME="+home, "CHECKPOINT_DISABLE=1", "PACKER_NO_COLOR=1")
			said, err := cmd.CombinedOutput()
			var exit *exec.ExitError
			if err != nil && !errors.As(err, &exit) {
				t.Fatal(err)
			}
			theirs := err == nil
			tpl, diags := Load(s.path, s.files, catalogue())
			values, more := tpl.Variables(s.in)
			diags = append(diags, more...)
			diags = append(diags, tpl.Check(values, s.sel, pinned)...)
			ours := !diags.HasErrors()
			want := strings.HasPrefix(f.Name, "good")
			if ours != want || theirs != want {
				t.Errorf("valid: ours %v, Packer's %v, expected %v\n%s\nPacker: %s", ours, theirs, want, diags, said)
			}
		})
	}
}
