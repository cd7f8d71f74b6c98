package template

import (
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	hcljson "github.com/hashicorp/hcl/v2/json"

	"github.com/bakehouse-farm/bakehouse"
	"github.com/bakehouse-farm/bakehouse/template/limit"
)

// Suffixes of the files that are templates and variable files.
const (
	nativeSuffix     = ".pkr.hcl"
	jsonSuffix       = ".pkr.json"
	autoNativeSuffix = ".auto.pkrvars.hcl"
	autoJSONSuffix   = ".auto.pkrvars.json"
)

// Load parses the template at path: a folder, whose *.pkr.hcl and *.pkr.json
// files are one template, or one file. A file of any other name is taken for a
// legacy JSON template, as Packer does. The result is never nil: it holds what
// could be read, also when there are errors.
func Load(path string, files bakehouse.Files, cat Catalogue) (*Template, hcl.Diagnostics) {
	t, diags := load(path, files, cat)
	t.faulty = diags.HasErrors()
	return t, t.told(diags)
}

// LoadJSON reads a JSON template of the older kind that is in no file. name
// stands for it in diagnostics; names of files that are in it start from the
// current folder.
func LoadJSON(name string, src []byte, files bakehouse.Files, cat Catalogue) (*Template, hcl.Diagnostics) {
	t := Empty(files, cat, true)
	t.path, t.base, t.source = name, ".", src
	if len(src) > limit.File {
		t.faulty = true
		return t, hcl.Diagnostics{failure("Cannot read the template", "It has more than the %d bytes that it may have.", limit.File)}
	}
	diags := t.loadLegacy(name)
	t.faulty = diags.HasErrors()
	return t, ordered(diags)
}

func load(path string, files bakehouse.Files, cat Catalogue) (*Template, hcl.Diagnostics) {
	t := &Template{cat: cat, files: files, path: path, parsed: map[string]*hcl.File{}, named: map[string]any{}, budget: limit.New()}
	info, err := os.Stat(files.Path(path))
	if err != nil {
		t.base = filepath.Dir(path)
		return t, hcl.Diagnostics{failure("Cannot read the template", "%s: %s.", path, reason(err))}
	}
	if !info.IsDir() {
		t.base = filepath.Dir(path)
		if !strings.HasSuffix(path, nativeSuffix) && !strings.HasSuffix(path, jsonSuffix) {
			t.legacy = true
			return t, t.loadLegacy(path)
		}
		t.first = path
		body, diags := t.parse(path)
		return t, append(diags, t.read([]hcl.Body{body})...)
	}
	t.folder = true
	t.base = filepath.Clean(path)
	names, diags := t.list(nativeSuffix, jsonSuffix)
	if diags.HasErrors() {
		return t, diags
	}
	if len(names) == 0 {
		return t, append(diags, failure("Could not find any config file in "+path,
			"A config file must be suffixed with %s or %s. A folder can be referenced.", nativeSuffix, jsonSuffix))
	}
	t.first = names[0]
	var bodies []hcl.Body
	for _, name := range names {
		body, more := t.parse(name)
		diags = append(diags, more...)
		bodies = append(bodies, body)
	}
	return t, append(diags, t.read(bodies)...)
}

// list returns the files of the template's folder that have one of the
// suffixes, in the order of the suffixes and then of the names.
func (t *Template) list(suffixes ...string) ([]string, hcl.Diagnostics) {
	entries, err := os.ReadDir(t.files.Path(t.path))
	if err != nil {
		return nil, hcl.Diagnostics{failure("Cannot read the template's folder", "%s: %s.", t.path, reason(err))}
	}
	var names []string
	for _, suffix := range suffixes {
		var some []string
		for _, e := range entries {
			if !e.IsDir() && strings.HasSuffix(e.Name(), suffix) {
				some = append(some, filepath.Join(t.path, e.Name()))
			}
		}
		sort.Strings(some)
		names = append(names, some...)
	}
	return names, nil
}

// parse reads one file in HCL or in HCL's JSON form. The body is never nil.
func (t *Template) parse(name string) (hcl.Body, hcl.Diagnostics) {
	src, err := t.readFile(name)
	if err != nil {
		return hcl.EmptyBody(), hcl.Diagnostics{failure("Cannot read a file", "%s: %s.", name, reason(err))}
	}
	return t.parseSource(src, name)
}

func (t *Template) parseSource(src []byte, name string) (hcl.Body, hcl.Diagnostics) {
	isJSON := strings.HasSuffix(name, ".json")
	look := limit.Source
	if isJSON {
		look = func(src []byte, name string) *hcl.Diagnostic { return limit.JSON(src, name, true) }
	}
	if d := look(src, name); d != nil {
		t.parsed[name] = &hcl.File{Bytes: src, Body: hcl.EmptyBody()}
		return hcl.EmptyBody(), hcl.Diagnostics{d}
	}
	var file *hcl.File
	var diags hcl.Diagnostics
	if isJSON {
		file, diags = hcljson.Parse(src, name)
	} else {
		file, diags = hclsyntax.ParseConfig(src, name, hcl.InitialPos)
	}
	if file == nil || file.Body == nil {
		t.parsed[name] = &hcl.File{Bytes: src, Body: hcl.EmptyBody()}
		return hcl.EmptyBody(), diags
	}
	t.parsed[name] = file
	if native, ok := file.Body.(*hclsyntax.Body); ok {
		return native, append(diags, limit.Instrument(native, t.budget)...)
	}
	return jsonTemplate{file.Body, t.budget}, diags
}

// readFile reads a file of the template, within the limits of its files.
func (t *Template) readFile(name string) ([]byte, error) {
	src, err := limit.ReadFile(t.files.Path(name), limit.File)
	if t.size += len(src); err == nil && t.size > limit.Files {
		err = fmt.Errorf("the files of a template may have %d bytes together; with it, they have more", limit.Files)
	}
	return src, err
}

// tooDeep says where a file in HCL goes beyond the limits of files.
func tooDeep(src []byte, name string) *hcl.Diagnostic { return limit.Source(src, name) }

func failure(summary, detail string, args ...any) *hcl.Diagnostic {
	return &hcl.Diagnostic{Severity: hcl.DiagError, Summary: summary, Detail: fmt.Sprintf(detail, args...)}
}

func failureAt(at hcl.Range, summary, detail string, args ...any) *hcl.Diagnostic {
	d := failure(summary, detail, args...)
	d.Subject = at.Ptr()
	return d
}

// reason is what the system says of a file, without its path, which on an
// agent is not the one that the user knows.
func reason(err error) string {
	if pe, ok := err.(*os.PathError); ok {
		return pe.Err.Error()
	}
	return err.Error()
}
