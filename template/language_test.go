package template_test

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/bakehouse-farm/bakehouse/template/templatetest"
)

const (
	itemsFile = "../docs/items.txt"
	tableFile = "../docs/packer-language.md"
	// flagsFile tells which commands and flags Debian's packer has.
	flagsFile = "testdata/packer/flags.golden"
	scripts   = "../cmd/submit/testdata"
)

// old is how the table names the Packer that Debian has, and all before it.
const (
	old   = "≤ 1.6.6"
	later = "after 1.6.6"
)

// An item is one block, attribute, function, flag or rule of Packer.
type item struct {
	name, since, differs string
	shown                []string // tests
}

type section struct {
	title string
	items []*item
}

// docs/packer-language.md says of every item of the language and the command
// line since when Packer has it, whether it works here, and which test shows
// that. It is written from docs/items.txt and the tests themselves; an item that
// no test shows fails this one, and so does a table that is not up to date.
func TestLanguageTable(t *testing.T) {
	sections := readItems(t)
	byName := map[string]*item{}
	for _, s := range sections {
		for _, i := range s.items {
			if byName[i.name] != nil {
				t.Errorf("%s is listed twice", i.name)
			}
			byName[i.name] = i
		}
	}
	showTemplates(t, byName)
	showCommands(t, byName)
	for _, s := range sections {
		for _, i := range s.items {
			if len(i.shown) == 0 {
				t.Errorf("no test shows %s", i.name)
			}
			i.since = cmp.Or(i.since, later)
		}
	}
	got := table(sections)
	if updating() {
		if err := os.WriteFile(tableFile, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(tableFile)
	if err != nil {
		t.Fatal(err)
	}
	if diff := gocmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("the table is not up to date (-table +tests; -update writes it)\n%s", diff)
	}
}

func readItems(t *testing.T) []*section {
	t.Helper()
	text, err := os.ReadFile(itemsFile)
	if err != nil {
		t.Fatal(err)
	}
	var all []*section
	for _, line := range lines(string(text)) {
		title, isTitle := strings.CutPrefix(line, "== ")
		switch {
		case line == "" || strings.HasPrefix(line, "#"):
		case isTitle:
			all = append(all, &section{title: title})
		case len(all) == 0:
			t.Fatalf("%s: %q stands before the first section", itemsFile, line)
		default:
			parts := strings.Split(line, " ; ")
			i := &item{name: parts[0]}
			for _, p := range parts[1:] {
				word, rest, _ := strings.Cut(p, " ")
				switch word {
				case "since":
					i.since = rest
				case "differs":
					i.differs = rest
				default:
					t.Fatalf("%s: unknown word %q in %q", itemsFile, word, line)
				}
			}
			s := all[len(all)-1]
			s.items = append(s.items, i)
		}
	}
	return all
}

// showTemplates finds the items that templates show. That Packer 1.6.6 has one is
// said only when it says the same as we of the very template.
func showTemplates(t *testing.T, byName map[string]*item) {
	t.Helper()
	shown, err := templatetest.Written("testdata/coverage/*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	functions, err := functionCases()
	if err != nil {
		t.Fatal(err)
	}
	verdicts := readVerdicts(t)
	for _, c := range append(shown, functions...) {
		theirs, known := verdicts[c.Digest()]
		if !known {
			t.Errorf("%s has no verdict of Packer: run TestSameVerdictAsPacker with -update", c.Name)
		}
		agree := (theirs.code == 0) == (about(c, "want") == "" || strings.HasPrefix(about(c, "want"), "valid"))
		if agree && theirs.code == 0 && about(c, "since") != "" && about(c, "differs") == "" {
			t.Errorf("%s says since %s, but Packer 1.6.6 takes it", c.Name, about(c, "since"))
		}
		test := "TestCoverage/" + c.Name
		if name, isFunction := strings.CutPrefix(c.Name, "function/"); isFunction {
			test = "TestFunctions/" + name
		}
		for _, line := range c.About {
			name, isItem := strings.CutPrefix(line, "item: ")
			if !isItem {
				continue
			}
			i := byName[name]
			if i == nil {
				t.Errorf("%s shows %q, which is not in %s", c.Name, name, itemsFile)
				continue
			}
			i.shown = append(i.shown, test)
			i.differs = cmp.Or(i.differs, about(c, "differs"))
			switch since := about(c, "since"); {
			case since != "":
				i.since = cmp.Or(i.since, since)
			case about(c, "differs") != "" && theirs.code == 0:
				i.since = cmp.Or(i.since, old)
			case agree && i.since == "":
				i.since = old
			}
		}
	}
}

var covers = regexp.MustCompile(`(?m)^(?:#|//) covers: (.+)$`)

// showCommands finds the items that testscripts of the command line show, and
// end-to-end tests where a farm is needed:
//
//	# covers: flag build -only
//	# covers: exit fmt 3
//	# covers: command inspect ; differs REASON
func showCommands(t *testing.T, byName map[string]*item) {
	t.Helper()
	has := packerHas(t, byName)
	look := func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		for _, m := range covers.FindAllStringSubmatch(string(text), -1) {
			what, differs, _ := strings.Cut(m[1], " ; differs ")
			i := byName[strings.TrimSpace(what)]
			if i == nil {
				continue // a flag of our own
			}
			i.differs = cmp.Or(i.differs, strings.TrimSpace(differs))
			test := "TestScripts/" + strings.TrimSuffix(filepath.Base(name), filepath.Ext(name))
			if filepath.Ext(name) == ".go" {
				test = strings.TrimPrefix(filepath.ToSlash(name), "../")
			}
			if !slices.Contains(i.shown, test) {
				i.shown = append(i.shown, test)
			}
			if has[i.name] {
				i.since = cmp.Or(i.since, old)
			}
		}
		return nil
	}
	for _, folder := range []string{scripts, "../e2e"} {
		if err := filepath.WalkDir(folder, look); err != nil {
			t.Fatal(err)
		}
	}
}

// packerHas tells which commands, flags and exit codes Debian's packer has: it is
// asked when the record of that is to be written, or lacks one.
func packerHas(t *testing.T, byName map[string]*item) map[string]bool {
	t.Helper()
	has := map[string]bool{}
	text, err := os.ReadFile(flagsFile)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	for _, line := range lines(string(text)) {
		name, answer, ok := strings.Cut(line, "\t")
		if ok {
			has[name] = answer == "yes"
		}
	}
	packer, missing := exec.LookPath("packer")
	changed := false
	for name := range byName {
		kind, rest, _ := strings.Cut(name, " ")
		_, known := has[name]
		code := name == "exit submit 127" // which is of no command
		if kind != "command" && kind != "flag" && !code || known && !updating() || missing != nil {
			continue
		}
		args := strings.Fields(rest)
		if code {
			args = []string{"no-such-command"}
		} else if kind == "command" {
			args = append(args, "-h")
		} else {
			last := len(args) - 1
			if args[last] != "-machine-readable" { // which is looked for as it is
				args[last] += "=" + cmp.Or(map[string]string{
					"-on-error": "abort", "-parallel-builds": "1", "-config-type": "json", "-var": "a=b", "-var-file": "/nowhere.json",
				}[args[last]], "true")
			}
			args = append(args, "/nowhere.json")
		}
		cmd := exec.CommandContext(t.Context(), packer, args...)
		cmd.Dir = t.TempDir()
		cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + cmd.Dir, "CHECKPOINT_DISABLE=1"}
		said, err := cmd.CombinedOutput()
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			t.Fatal(err)
		}
		has[name] = cmd.ProcessState.ExitCode() != 127 && !bytes.Contains(said, []byte("flag provided but not defined")) && len(said) > 0 &&
			(kind == "command" || !bytes.HasPrefix(said, []byte("Usage:"))) // how some commands answer to a flag they do not know
		if code {
			has[name] = cmd.ProcessState.ExitCode() == 127
		}
		changed = true
	}
	if changed && updating() {
		var out bytes.Buffer
		fmt.Fprintln(&out, "# Which commands and flags packer 1.6.6 of Debian has. Written by TestLanguageTable with -update.")
		for _, name := range slices.Sorted(maps.Keys(has)) {
			fmt.Fprintf(&out, "%s\t%s\n", name, map[bool]string{true: "yes", false: "no"}[has[name]])
		}
		if err := os.WriteFile(flagsFile, out.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for name := range byName { // an exit code is as old as its command
		if fields := strings.Fields(name); fields[0] == "exit" && fields[1] != "submit" {
			has[name] = has["command "+fields[1]]
		}
	}
	return has
}

func table(sections []*section) []byte {
	var out bytes.Buffer
	count, on := 0, 0
	for _, s := range sections {
		count += len(s.items)
		for _, i := range s.items {
			if i.differs != "" {
				on++
			}
		}
	}
	fmt.Fprintf(&out, `# Packer's language and commands, item by item

%d items; %d of them differ on purpose, the others work as in Packer 1.16.
A test writes this page and fails when it is not up to date:
`+"`go test ./template -run TestLanguageTable -update`"+`.

"%s" stands only where Debian's packer says the same as Bakehouse of the very
template that shows the item, or has the flag; a version where it is known since
which one Packer has it. TestCoverage and TestFunctions are in template/,
TestScripts is in cmd/submit.
`, count, on, old)
	for _, s := range sections {
		fmt.Fprintf(&out, "\n## %s\n\n| item | since Packer | here | shown by |\n|---|---|---|---|\n", s.title)
		for _, i := range s.items {
			here := "works"
			if i.differs != "" {
				here = "differs: " + i.differs
			}
			fmt.Fprintf(&out, "| %s | %s | %s | %s |\n", mark(i.name), i.since, mark(here), strings.Join(i.shown, "<br>"))
		}
	}
	fmt.Fprint(&out, "\n## What the differential suite found besides\n\nTestSameVerdictAsPacker holds thousands of templates against Debian's packer.\nWhere the two disagree, it is because of one of these.\n\n| what | why | whose doing |\n|---|---|---|\n")
	for _, d := range differences {
		whose := "ours, on purpose"
		switch {
		case d.newer:
			whose = "newer Packer's"
		case d.name == "crash":
			whose = "Packer's"
		}
		fmt.Fprintf(&out, "| %s | %s | %s |\n", mark(d.name), mark(d.why), whose)
	}
	return out.Bytes()
}

// mark makes text safe for a cell of a table.
func mark(s string) string {
	return strings.NewReplacer("|", "\\|", "<", "&lt;", "{{", "&#123;&#123;", "*", "\\*", "_", "\\_").Replace(s)
}
