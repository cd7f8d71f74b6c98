package known_test

import (
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/bakehouse-farm/bakehouse/template/known"
)

var update = flag.Bool("update", false, "write data/1.6.6 as packer 1.6.6 tells it")

// The arguments in data/1.6.6 are those that Packer 1.6.6 tells, of all
// components that it has.
func TestArgumentsOf1_6_6(t *testing.T) {
	packer := witness(t)
	files := map[string]string{}
	base := specOf(t, packer, known.Ref{Kind: known.Builder, Type: "null"})
	learnt := learn(t, packer, known.Ref{Kind: known.Builder, Type: "null"}, base, nil)
	communicator := describe(base, nil, learnt, "\t")
	files["sets"] = "set communicator\n" + strings.Join(communicator, "")
	for _, ref := range componentsOf(t, packer) {
		c, ok := known.Lookup(ref.Kind, ref.Type)
		if !ok {
			t.Errorf("the index lacks %s %s", ref.Kind, ref.Type)
			continue
		}
		if c.Schema() == nil {
			t.Errorf("the index says that the arguments of %s %s are not known", ref.Kind, ref.Type)
		}
		name := path.Base(c.Plugin)
		if c.Plugin == "" {
			name = "packer"
		}
		spec := specOf(t, packer, ref)
		lines := "\n" + string(ref.Kind) + " " + ref.Type + "\n"
		var less objectSpec
		if covers(spec, base) {
			lines += "\t+ communicator\n"
			less = base
		}
		lines += strings.Join(describe(spec, less, learn(t, packer, ref, spec, less), "\t"), "")
		files[name] += lines
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		file := filepath.Join("data", "1.6.6", name+".txt")
		text := "# As Packer 1.6.6 tells it: see README.md before you change it.\n" + files[name]
		if *update {
			if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		have, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		// What is learnt by experiments takes minutes to find out.
		plain := strings.ReplaceAll(strings.ReplaceAll(string(have), " late\n", "\n"), " duration\n", " string\n")
		if diff := cmp.Diff(strings.Split(text, "\n"), strings.Split(plain, "\n")); diff != "" {
			t.Errorf("%s (- packer, + ours):\n%s", file, diff)
		}
	}
	there, err := filepath.Glob("data/1.6.6/*.txt")
	if err != nil {
		t.Fatal(err)
	}
	if len(there) != len(files) {
		t.Errorf("%d files are there, packer tells of %d plugins", len(there), len(files))
	}
}

// componentsOf lists what packer has inside.
func componentsOf(t *testing.T, packer string) []known.Ref {
	t.Helper()
	_, said := validate(t, packer, "source \"nope\" \"a\" {}\nsource \"null\" \"b\" {\n  communicator = \"none\"\n}\nbuild {\n  sources = [\"source.null.b\", \"source.nope.a\"]\n  provisioner \"nope\" {}\n  post-processor \"nope\" {}\n}\n")
	var list []known.Ref
	for _, kind := range []known.Kind{known.Builder, known.Provisioner, known.PostProcessor} {
		_, after, ok := strings.Cut(said, "known "+string(kind)+"s: [")
		names, _, closed := strings.Cut(after, "]")
		if !ok || !closed {
			t.Fatalf("packer does not list its %ss: %s", kind, said)
		}
		types := strings.Fields(names)
		slices.Sort(types)
		for _, typ := range types {
			list = append(list, known.Ref{Kind: kind, Type: typ})
		}
	}
	if len(list) < 75 {
		t.Fatalf("packer lists %d components: %v", len(list), list)
	}
	return list
}

// validate lets packer look at a template.
func validate(t *testing.T, packer, text string) (ok bool, said string) {
	t.Helper()
	return validateIn(t, packer, t.TempDir(), text)
}

// validateIn lets packer look at a template that names files in a folder.
func validateIn(t *testing.T, packer, folder, text string) (ok bool, said string) {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "a.pkr.hcl")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), packer, "validate", file)
	cmd.Dir = folder
	cmd.Env = append(os.Environ(), "PACKER_CACHE_DIR="+dir, "TMPDIR="+dir, "HOME="+dir, "CHECKPOINT_DISABLE=1", "PACKER_NO_COLOR=1")
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return err == nil, string(out)
}

func nested(v any) objectSpec {
	if o, ok := v.(vendored); ok {
		return objectSpec(o)
	}
	return v.(objectSpec)
}

// covers tells whether all of part is in whole.
func covers(whole, part objectSpec) bool {
	for name, v := range part {
		if !cmp.Equal(whole[name], v) {
			return false
		}
	}
	return true
}

// describe writes the lines of our files for a spec, but for what is in less.
func describe(spec, less objectSpec, how learnt, indent string) []string {
	var lines []string
	for _, name := range slices.Sorted(maps.Keys(spec)) {
		if _, ok := less[name]; ok || strings.HasPrefix(name, "packer_") {
			continue
		}
		switch s := spec[name].(type) {
		case *attrSpec:
			typ := s.Type
			if how.duration[name] {
				typ = "duration"
			}
			lines = append(lines, indent+name+" "+string(typ)+when(s.Required, " required")+when(how.late[name], " late")+"\n")
		case *blockSpec:
			lines = append(lines, indent+name+" block"+when(s.Required, " required")+"\n")
			lines = append(lines, describe(nested(s.Nested), nil, learnt{}, indent+"\t")...)
		case *blockListSpec:
			lines = append(lines, indent+name+" blocks"+when(s.MinItems > 0, " required")+"\n")
			lines = append(lines, describe(nested(s.Nested), nil, learnt{}, indent+"\t")...)
		default:
			lines = append(lines, fmt.Sprintf("%s%s %T\n", indent, name, s))
		}
	}
	return lines
}

func when(is bool, word string) string {
	if is {
		return word
	}
	return ""
}

// learnt is what packer does not tell, but shows.
type learnt struct {
	// duration are the strings that must be durations.
	duration map[string]bool
	// late are the arguments whose {{ }} is not rendered before they are used.
	late map[string]bool
}

var noDuration = regexp.MustCompile(`error decoding '(\w+)': time: invalid\s+duration`)

// learn finds out about the arguments of a component, but for those in less. It
// takes minutes, and so is done for -update only.
func learn(t *testing.T, packer string, ref known.Ref, spec, less objectSpec) learnt {
	t.Helper()
	l := learnt{map[string]bool{}, map[string]bool{}}
	if !*update {
		return l
	}
	// Strings that are no durations, all at once.
	var body strings.Builder
	for name, s := range spec {
		if a, ok := s.(*attrSpec); ok && a.Type == "string" && name != "packer_on_error" {
			fmt.Fprintf(&body, "%s = \"never\"\n", name)
		}
	}
	_, said := validate(t, packer, using(ref, body.String()))
	for _, m := range noDuration.FindAllStringSubmatch(said, -1) {
		l.duration[m[1]] = true
	}
	// A function that does not exist, one by one: packer stops at the first.
	const bad = `"{{ nosuch }}"`
	values := map[ctyType]string{
		"string": bad, "list(string)": "[" + bad + "]", "map(string)": "{ a = " + bad + " }",
		"list(list(string))": "[[" + bad + "]]",
	}
	for name, s := range spec {
		a, ok := s.(*attrSpec)
		if _, skip := less[name]; !ok || skip || values[a.Type] == "" || strings.HasPrefix(name, "packer_") {
			continue
		}
		_, said := validate(t, packer, using(ref, name+" = "+values[a.Type]+"\n"))
		l.late[name] = !strings.Contains(said, `"nosuch" not defined`)
	}
	return l
}

// using is a template with a component that has these arguments.
func using(ref known.Ref, arguments string) string {
	if ref.Kind == known.Builder {
		return fmt.Sprintf("source %q \"a\" {\n%s}\nbuild {\n  sources = [\"source.%s.a\"]\n}\n", ref.Type, arguments, ref.Type)
	}
	return fmt.Sprintf("source \"null\" \"a\" {\n  communicator = \"none\"\n}\nbuild {\n  sources = [\"source.null.a\"]\n  %s %q {\n%s}\n}\n", ref.Kind, ref.Type, arguments)
}
