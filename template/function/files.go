package function

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"unicode/utf8"

	"github.com/gobwas/glob"
	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"

	"github.com/bakehouse-farm/bakehouse/template/limit"
)

// name is what a function's argument means to Files.
func (e Env) name(arg string) string {
	if arg == "~" || strings.HasPrefix(arg, "~/") || filepath.IsAbs(arg) {
		return arg
	}
	return filepath.Join(e.Base, arg)
}

func (e Env) reads(name string) {
	if e.Reads != nil {
		e.Reads(name)
	}
}

func (e Env) read(arg string) ([]byte, error) {
	name := e.name(arg)
	b, err := limit.ReadFile(e.Files.Path(name), limit.Text)
	if err != nil {
		if os.IsNotExist(err) {
			return nil, fmt.Errorf("no file exists at %s", name)
		}
		// The path on this computer means nothing to the template's author.
		if pe, ok := err.(*fs.PathError); ok {
			err = pe.Err
		}
		return nil, fmt.Errorf("failed to read file %s: %w", name, err)
	}
	e.reads(name)
	return b, nil
}

func (e Env) files() map[string]function.Function {
	return map[string]function.Function{
		"abspath": stringFunc("path", func(s string) (string, error) {
			if strings.HasPrefix(s, "~") { // only pathexpand knows what ~ is
				return filepath.Join(e.Files.Cwd, s), nil
			}
			return filepath.ToSlash(e.Files.Abs(s)), nil
		}),
		"basename": stringFunc("path", func(s string) (string, error) { return filepath.Base(s), nil }),
		"dirname":  stringFunc("path", func(s string) (string, error) { return filepath.Dir(s), nil }),
		"pathexpand": stringFunc("path", func(s string) (string, error) {
			if s == "~" || strings.HasPrefix(s, "~/") {
				return e.Files.Abs(s), nil
			}
			return s, nil
		}),
		"file": stringFunc("path", func(s string) (string, error) {
			b, err := e.read(s)
			if err == nil && !utf8.Valid(b) {
				err = fmt.Errorf("contents of %s are not valid UTF-8; use filebase64 to read them", s)
			}
			return string(b), err
		}),
		"filebase64": stringFunc("path", func(s string) (string, error) {
			b, err := e.read(s)
			return base64.StdEncoding.EncodeToString(b), err
		}),
		"fileexists": function.New(&function.Spec{
			Params: []function.Parameter{{Name: "path", Type: cty.String}},
			Type:   function.StaticReturnType(cty.Bool),
			Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
				name := e.name(args[0].AsString())
				info, err := os.Stat(e.Files.Path(name))
				switch {
				case os.IsNotExist(err):
					return cty.False, nil
				case err != nil:
					return cty.NilVal, fmt.Errorf("failed to look for %s", name)
				case !info.Mode().IsRegular():
					return cty.NilVal, fmt.Errorf("%s is not a regular file", name)
				}
				e.reads(name)
				return cty.True, nil
			},
		}),
		"fileset": function.New(&function.Spec{
			Params: []function.Parameter{{Name: "path", Type: cty.String}, {Name: "pattern", Type: cty.String}},
			Type:   function.StaticReturnType(cty.Set(cty.String)),
			Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
				return e.fileSet(args[0].AsString(), args[1].AsString())
			},
		}),
	}
}

// fileSet finds the regular files below a folder that a pattern matches: *, ?,
// [a-z], {a,b}, and ** for any number of folders.
func (e Env) fileSet(dir, pattern string) (cty.Value, error) {
	name := e.name(dir)
	g, err := glob.Compiler{Separators: []rune{'/'}, Globstar: true}.Compile(filepath.Clean(pattern))
	if err != nil {
		return cty.NilVal, fmt.Errorf("failed to glob pattern (%s): %w", pattern, err)
	}
	root := e.Files.Path(name)
	var found []cty.Value
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			if path == root && os.IsNotExist(err) {
				return fs.SkipAll
			}
			return fmt.Errorf("failed to list the files of %s", name)
		}
		if info, err := os.Stat(path); err != nil || !info.Mode().IsRegular() {
			return nil
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		if g.Match(rel) {
			found = append(found, cty.StringVal(rel))
			e.reads(filepath.Join(name, rel))
		}
		return nil
	})
	if err != nil {
		return cty.NilVal, err
	}
	if len(found) == 0 {
		return cty.SetValEmpty(cty.String), nil
	}
	return cty.SetVal(found), nil
}

// templateFile renders a file as an HCL template whose variables are the
// members of its second argument. inside are the functions it may call: all but
// itself, so that no file includes itself for ever.
func (e Env) templateFile(all map[string]function.Function) function.Function {
	inside := func() map[string]function.Function {
		m := make(map[string]function.Function, len(all))
		for name, fn := range all {
			m[name] = fn
		}
		m["templatefile"] = failing(errors.New("cannot recursively call templatefile from inside templatefile call"))
		return m
	}
	render := func(args []cty.Value) (cty.Value, error) {
		src, err := e.read(args[0].AsString())
		if err != nil {
			return cty.NilVal, function.NewArgError(0, err)
		}
		if d := limit.Template(src, e.name(args[0].AsString())); d != nil {
			return cty.NilVal, function.NewArgError(0, d)
		}
		if err := e.Budget.Spend(len(src)); err != nil {
			return cty.NilVal, err
		}
		expr, diags := hclsyntax.ParseTemplate(src, e.name(args[0].AsString()), hcl.InitialPos)
		if !diags.HasErrors() {
			diags = append(diags, limit.Instrument(expr, e.Budget)...)
		}
		if diags.HasErrors() {
			return cty.NilVal, function.NewArgError(0, diags)
		}
		ty := args[1].Type()
		if !ty.IsObjectType() && !ty.IsMapType() {
			return cty.NilVal, function.NewArgErrorf(1, "invalid vars value: must be a map")
		}
		vars := args[1].AsValueMap()
		for name := range vars {
			if !hclsyntax.ValidIdentifier(name) {
				return cty.NilVal, function.NewArgErrorf(1, "invalid template variable name %q: must start with a letter, followed by zero or more letters, digits, and underscores", name)
			}
		}
		for _, t := range expr.Variables() {
			if _, ok := vars[t.RootName()]; !ok {
				return cty.NilVal, function.NewArgErrorf(1, "vars map does not contain key %q, referenced at %s", t.RootName(), t[0].SourceRange())
			}
		}
		v, diags := expr.Value(&hcl.EvalContext{Variables: vars, Functions: inside()})
		if diags.HasErrors() {
			return cty.NilVal, diags
		}
		return v, nil
	}
	return function.New(&function.Spec{
		Params: []function.Parameter{
			{Name: "path", Type: cty.String},
			{Name: "vars", Type: cty.DynamicPseudoType},
		},
		Type: func(args []cty.Value) (cty.Type, error) {
			if !args[0].IsKnown() || !args[1].IsWhollyKnown() {
				return cty.DynamicPseudoType, nil
			}
			// A template that is nothing but one ${ } keeps the type of it.
			p, _ := args[0].Unmark()
			vars, _ := args[1].UnmarkDeep()
			v, err := render([]cty.Value{p, vars})
			if err != nil {
				return cty.NilType, err
			}
			return v.Type(), nil
		},
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) { return render(args) },
	})
}

func stringFunc(param string, f func(string) (string, error)) function.Function {
	return function.New(&function.Spec{
		Params: []function.Parameter{{Name: param, Type: cty.String}},
		Type:   function.StaticReturnType(cty.String),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			s, err := f(args[0].AsString())
			if err != nil {
				return cty.NilVal, function.NewArgError(0, err)
			}
			return cty.StringVal(s), nil
		},
	})
}

// failing takes any arguments and fails.
func failing(err error) function.Function {
	return function.New(&function.Spec{
		VarParam: &function.Parameter{Name: "arguments", Type: cty.DynamicPseudoType, AllowNull: true, AllowDynamicType: true, AllowUnknown: true},
		Type:     function.StaticReturnType(cty.String),
		Impl: func([]cty.Value, cty.Type) (cty.Value, error) {
			return cty.NilVal, err
		},
	})
}
