package template_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/hcl/v2"

	"github.com/bakehouse-farm/bakehouse"
	"github.com/bakehouse-farm/bakehouse/cmd/catalogue"
	"github.com/bakehouse-farm/bakehouse/template"
	"github.com/bakehouse-farm/bakehouse/template/templatetest"
)

var (
	show      = flag.String("case", "", "print the cases of the corpus whose names match this expression, with both verdicts")
	mutations = flag.Int("packer-mutations", 4, "how many mutations of one kind each base gets; with more of them, a longer search")
	sample    = flag.Int("packer-sample", 40, "how many recorded verdicts are asked of Packer again; -1: all")
)

// Where Packer's verdicts are recorded.
const golden = "testdata/packer/verdicts.golden"

// A verdict is what Packer says of a case.
type verdict struct {
	code  int
	title string // of the first error
}

// corpus are all cases: written, mutated, and those that show what the language
// is (coverage_test.go).
func corpus() ([]templatetest.Case, error) {
	written, err := templatetest.Written("testdata/packer/written/*.txtar")
	if err != nil {
		return nil, err
	}
	mutated, err := templatetest.Mutated("testdata/packer/bases/*.txtar", *mutations)
	if err != nil {
		return nil, err
	}
	shown, err := templatetest.Written("testdata/coverage/*.txtar")
	if err != nil {
		return nil, err
	}
	functions, err := functionCases()
	return slices.Concat(written, mutated, shown, functions), err
}

// Packer itself, as far as Debian has it, and Bakehouse say the same of more
// than a thousand templates. Debian's Packer is 1.6.6, when HCL was new: where it
// knows less than the Packer we follow, and where we differ on purpose, the
// table of differences says so, and why.
//
// To ask Packer takes a tenth of a second and four processes, so that its
// verdicts are recorded: the digest of a case, Packer's exit code, its first
// error. What is recorded could be wrong, by hand or by accident. So each run
// asks Packer again about some, others every day, and about every case that has
// no record yet.
func TestSameVerdictAsPacker(t *testing.T) {
	cases, err := answers()
	if err != nil {
		t.Fatal(err)
	}
	recorded := readVerdicts(t)
	packer, missing := exec.LookPath("packer")
	var ask []templatetest.Case
	for i, c := range cases {
		_, known := recorded[c.Digest()]
		turn := *sample > 0 && (i+time.Now().YearDay())%max(1, len(cases) / *sample) == 0
		if !known || *sample < 0 || turn {
			ask = append(ask, c.Case)
		}
	}
	if missing == nil {
		for digest, v := range askPacker(t, packer, ask) {
			if old, known := recorded[digest]; known && !(updating() && *sample < 0) && old.code != v.code {
				t.Errorf("%s: recorded is exit code %d, Packer now says %d", digest, old.code, v.code)
			}
			recorded[digest] = v
		}
	} else {
		t.Log("packer is not installed: only recorded verdicts are compared")
	}
	if updating() {
		writeVerdicts(t, cases, recorded)
	}

	used := map[string]int{}
	for _, c := range cases {
		theirs, known := recorded[c.Digest()]
		if !known {
			if missing == nil {
				t.Errorf("%s has no verdict", c.Name)
			}
			continue
		}
		if pick(c.Case) {
			t.Logf("%s\nours:\n%s\nPacker's: %d %s", c, c.text, theirs.code, theirs.title)
		}
		if c.diags.HasErrors() == (theirs.code != 0) {
			continue
		}
		if d := explained(c.Case, c.diags, theirs); d != nil {
			used[d.name]++
			continue
		}
		t.Errorf("%s: Packer says %d %q, we say %q", c.Name, theirs.code, theirs.title, firstOf(c.diags))
	}
	for _, d := range differences {
		if used[d.name] == 0 {
			t.Errorf("the difference %q explains nothing any more", d.name)
		}
	}
	t.Logf("%d templates, %d verdicts asked of Packer in this run, differences: %v", len(cases), len(ask), used)
}

func updating() bool { return flag.Lookup("update").Value.String() == "true" }

func pick(c templatetest.Case) bool {
	return *show != "" && regexp.MustCompile(*show).MatchString(c.Name)
}

// called is what a case is called with, as the evaluation takes it.
func called(c templatetest.Case) (in template.Inputs, sel template.Selection, syntaxOnly bool, err error) {
	in.WarnUndeclared = true
	in.Environ = append([]string{"HOME=/home/me"}, c.Env...)
	for _, arg := range c.Args {
		name, value, _ := strings.Cut(strings.TrimLeft(arg, "-"), "=")
		switch name {
		case "var":
			in.Vars = append(in.Vars, value)
		case "var-file":
			in.VarFiles = append(in.VarFiles, value)
		case "only":
			sel.Only = append(sel.Only, strings.Split(value, ",")...)
		case "except":
			sel.Except = append(sel.Except, strings.Split(value, ",")...)
		case "syntax-only":
			syntaxOnly = true
		default:
			return in, sel, false, fmt.Errorf("unknown flag %q", arg)
		}
	}
	return in, sel, syntaxOnly, nil
}

// An answer is what submit validate says of a case.
type answer struct {
	templatetest.Case
	diags hcl.Diagnostics
	text  string // the diagnostics as they are shown
}

// answers are ours to the whole corpus, worked out once.
var answers = sync.OnceValues(func() ([]answer, error) {
	all, err := corpus()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "corpus")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	cat := catalogue.Template()
	var list []answer
	seen := map[string]bool{}
	for i, c := range all {
		if seen[c.Digest()] {
			continue // two cases may show the same template for two reasons
		}
		seen[c.Digest()] = true
		a, err := ours(c, filepath.Join(dir, strconv.Itoa(i)), cat)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", c.Name, err)
		}
		list = append(list, a)
	}
	return list, nil
})

// ours is our verdict: what submit validate says.
func ours(c templatetest.Case, dir string, cat template.Catalogue) (answer, error) {
	a := answer{Case: c}
	if err := c.Lay(dir); err != nil {
		return a, err
	}
	in, sel, syntaxOnly, err := called(c)
	if err != nil {
		return a, err
	}
	tpl, diags := template.Load(c.Path, bakehouse.Files{Cwd: dir, Home: dir}, cat)
	if !syntaxOnly {
		values, more := tpl.Variables(in)
		diags = append(diags, more...)
		diags = append(diags, tpl.Check(values, sel, template.Pinned{})...)
	}
	var text strings.Builder
	template.WriteDiagnostics(&text, diags, tpl, false, 0)
	a.text = strings.ReplaceAll(text.String(), dir, "/here")
	for _, d := range diags {
		said := *d
		said.Summary, said.Detail = strings.ReplaceAll(d.Summary, dir, "/here"), strings.ReplaceAll(d.Detail, dir, "/here")
		a.diags = append(a.diags, &said)
	}
	return a, nil
}

func firstOf(diags hcl.Diagnostics) string {
	for _, d := range diags {
		if d.Severity == hcl.DiagError {
			return d.Error()
		}
	}
	return "valid"
}

// askPacker asks Packer about cases, two at a time: each question is several
// processes.
func askPacker(t *testing.T, packer string, cases []templatetest.Case) map[string]verdict {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Minute)
	defer cancel()
	var mu sync.Mutex
	answers := map[string]verdict{}
	queue := make(chan templatetest.Case)
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for c := range queue {
				v, err := validate(ctx, packer, c, t.TempDir())
				if err != nil {
					t.Errorf("%s: %v", c.Name, err)
					continue
				}
				mu.Lock()
				answers[c.Digest()] = v
				mu.Unlock()
			}
		})
	}
	for _, c := range cases {
		queue <- c
	}
	close(queue)
	wg.Wait()
	return answers
}

// validate runs packer validate on a case.
func validate(ctx context.Context, packer string, c templatetest.Case, dir string) (verdict, error) {
	if err := c.Lay(dir); err != nil {
		return verdict{}, err
	}
	cmd := exec.CommandContext(ctx, packer, append(append([]string{"validate"}, c.Args...), c.Path)...)
	cmd.Dir = dir
	// Nothing of this machine's may be found, and nobody on the network asked.
	cmd.Env = append([]string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "TMPDIR=" + os.TempDir(), "CHECKPOINT_DISABLE=1",
		"PACKER_NO_COLOR=1", "AWS_EC2_METADATA_DISABLED=true",
	}, c.Env...)
	said, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return verdict{}, err
	}
	v := verdict{code: cmd.ProcessState.ExitCode()}
	if v.code != 0 {
		v.title = title(strings.ReplaceAll(string(said), dir, ""))
	}
	if bytes.Contains(said, []byte("goroutine 1 [")) || bytes.Contains(said, []byte("panic:")) {
		v = verdict{code: v.code, title: crashed}
	}
	return v, nil
}

// crashed stands for the title of the error when Packer has crashed.
const crashed = "(crashed)"

// title is the line of what Packer said that best tells the error.
func title(said string) string {
	var first string
	for _, line := range lines(said) {
		line = strings.TrimSpace(line)
		if rest, ok := strings.CutPrefix(line, "Error: "); ok && rest != "" && !strings.HasSuffix(rest, "error(s) occurred:") {
			return rest
		}
		if rest, ok := strings.CutPrefix(line, "* "); ok {
			return rest
		}
		if first == "" && line != "" {
			first = line
		}
	}
	return first
}

func lines(s string) []string { return strings.Split(s, "\n") }

func readVerdicts(t *testing.T) map[string]verdict {
	t.Helper()
	file, err := os.Open(golden)
	if errors.Is(err, os.ErrNotExist) {
		return map[string]verdict{}
	}
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	all := map[string]verdict{}
	for s := bufio.NewScanner(file); s.Scan(); {
		fields := strings.SplitN(s.Text(), "\t", 4)
		if strings.HasPrefix(s.Text(), "#") || len(fields) < 4 {
			continue
		}
		code, err := strconv.Atoi(fields[1])
		if err != nil {
			t.Fatalf("%s: %s: %v", golden, s.Text(), err)
		}
		all[fields[0]] = verdict{code, fields[3]}
	}
	return all
}

func writeVerdicts(t *testing.T, cases []answer, all map[string]verdict) {
	t.Helper()
	var out bytes.Buffer
	fmt.Fprintln(&out, "# What packer 1.6.6 of Debian says: digest of the case, exit code, name, first error.")
	fmt.Fprintln(&out, "# Written by: go test ./template -run TestSameVerdictAsPacker -update")
	for _, c := range cases {
		if v, ok := all[c.Digest()]; ok {
			fmt.Fprintf(&out, "%s\t%d\t%s\t%s\n", c.Digest(), v.code, c.Name, v.title)
		}
	}
	if err := os.WriteFile(golden, out.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}

func explained(c templatetest.Case, diags hcl.Diagnostics, theirs verdict) *difference {
	said := theirs.title
	if theirs.code == 0 {
		said = "valid"
	}
	if about(c, "since") != "" || about(c, "differs") != "" {
		return &difference{name: "told by the table of the language"}
	}
	for i, d := range differences {
		if matches(d.theirs, said) && matches(d.ours, firstOf(diags)) && matches(d.cases, c.Name) {
			return &differences[i]
		}
	}
	return nil
}

func matches(expression, s string) bool { return regexp.MustCompile(expression).MatchString(s) }
