package template

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// What is shown of a file is what hcl shows, wherever it is and however it ends.
func TestShownAsHclShows(t *testing.T) {
	for _, end := range []string{"\n", "\r\n"} {
		src := []byte(strings.ReplaceAll("# one\n\nblock \"a\" {\n  b = 1\n\n  c = [\n    2,\n  ]\n}\n"+strings.Repeat("#\n", 990)+"last {\n  d = \"äöü\"\n}", "\n", end))
		file, diags := hclsyntax.ParseConfig(src, "t.pkr.hcl", hcl.InitialPos)
		if diags.HasErrors() {
			t.Fatal(diags)
		}
		files := map[string]*hcl.File{"t.pkr.hcl": file}
		var ranges []hcl.Range
		_ = hclsyntax.VisitAll(file.Body.(*hclsyntax.Body), func(n hclsyntax.Node) hcl.Diagnostics {
			ranges = append(ranges, n.Range())
			return nil
		})
		for line := hcl.InitialPos; line.Byte < 60; { // every place, empty
			ranges = append(ranges, hcl.Range{Filename: "t.pkr.hcl", Start: line, End: line})
			if src[line.Byte] == '\n' {
				line.Line, line.Column = line.Line+1, 0
			}
			line.Byte++
			line.Column++
		}
		eof := hcl.Pos{Line: 1002, Column: 2, Byte: len(src)}
		ranges = append(ranges, hcl.Range{Filename: "t.pkr.hcl", Start: eof, End: eof}, hcl.Range{Filename: "other.pkr.hcl"})
		for _, subject := range ranges {
			for _, context := range []*hcl.Range{nil, &subject, &ranges[1]} {
				if context != nil && context.Filename != subject.Filename {
					continue
				}
				for _, color := range []bool{false, true} {
					d := &hcl.Diagnostic{Severity: hcl.DiagError, Summary: "It is", Detail: "  1: no", Subject: &subject, Context: context}
					var want bytes.Buffer
					if err := hcl.NewDiagnosticTextWriter(&want, files, 40, color).WriteDiagnostic(d); err != nil {
						t.Fatal(err)
					}
					if diff := cmp.Diff(want.String(), string(shown(d, files, color, 40))); diff != "" {
						t.Fatalf("%s in %v (-hcl +ours)\n%s", subject, context, diff)
					}
				}
			}
		}
	}
}

// Showing a hundred errors of a huge file does not mean reading it a hundred times.
func TestShownSoon(t *testing.T) {
	src := []byte(strings.Repeat("a\n", 2_000_000))
	files := map[string]*hcl.File{"t.pkr.hcl": {Bytes: src}}
	start := time.Now()
	for i := range 1000 {
		at := hcl.Pos{Line: 1_000_001 + i, Column: 1, Byte: 2_000_000 + 2*i}
		text := shown(&hcl.Diagnostic{Subject: &hcl.Range{Filename: "t.pkr.hcl", Start: at, End: at}}, files, false, 0)
		if !bytes.Contains(text, fmt.Appendf(nil, "%d: a\n", at.Line)) {
			t.Fatalf("shows %s", text)
		}
	}
	if d := time.Since(start); d > 2*time.Minute { // reading it each time takes many minutes
		t.Errorf("took %s", d)
	}
}
