package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// What a template takes to be looked at is bounded, whatever is in it. Memory
// is measured from outside, on a process of its own; the deadline stands for
// never, since how fast a machine is says nothing.
const (
	maxResident = 1536 << 20
	never       = 5 * time.Minute
)

// A hostile template, or a huge one.
type hostile struct {
	name string
	// files are its files: the first is the template.
	files []hostileFile
	args  []string
	// want is what the answer says; empty for a template that is right.
	want string
}

type hostileFile struct{ name, text string }

// nothing is a build that every template needs.
const nothing = "\nsource \"null\" \"x\" { communicator = \"none\" }\nbuild { sources = [\"null.x\"] }\n"

// oneLocal is a template with one local value.
func oneLocal(expr string) []hostileFile {
	return []hostileFile{{"t.pkr.hcl", "locals {\n  v = " + expr + "\n}\n" + nothing}}
}

func locals(text string) []hostileFile {
	return []hostileFile{{"t.pkr.hcl", "locals {\n" + text + "\n}\n" + nothing}}
}

func jsonLocal(value string) []hostileFile {
	return []hostileFile{{"t.pkr.json", `{"locals":{"l":{"v":` + value + `}},"source":{"null":{"x":{"communicator":"none"}}},"build":{"sources":["null.x"]}}`}}
}

func legacy(variable string) []hostileFile {
	return []hostileFile{{"t.json", `{"variables":{"v":` + variable + `},"builders":[{"type":"null","communicator":"none"}]}`}}
}

func each(n int, f func(i int) string) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(f(i))
	}
	return b.String()
}

func around(n int, open, middle, end string) string {
	return strings.Repeat(open, n) + middle + strings.Repeat(end, n)
}

func hostiles() []hostile {
	const deep, wide = 10_000, 100_000
	tooDeep := "nests too deep"
	list := []hostile{
		// Deep.
		{name: "parentheses", files: oneLocal(around(deep, "(", "1", ")")), want: tooDeep},
		{name: "brackets", files: oneLocal(around(deep, "[", "1", "]")), want: tooDeep},
		{name: "objects", files: oneLocal(around(deep, "{ a = ", "1", "}")), want: tooDeep},
		{name: "blocks", files: []hostileFile{{"t.pkr.hcl", around(deep, "a {\n", "", "}\n")}}, want: tooDeep},
		{name: "templates", files: oneLocal(around(deep, `"${`, "1", `}"`)), want: tooDeep},
		{name: "calls", files: oneLocal(around(deep, "abs(", "1", ")")), want: tooDeep},
		{name: "not", files: oneLocal(around(50*deep, "!", "true", "")), want: tooDeep},
		{name: "minus", files: oneLocal(around(50*deep, "-", "1", "")), want: tooDeep},
		{name: "conditions", files: oneLocal(around(2*deep, "true ? 1 : ", "1", "")), want: tooDeep},
		{name: "plus", files: oneLocal(around(20*wide, "1+", "1", "")), want: "File has too much in it"},
		{name: "or", files: oneLocal(around(wide, "true||", "true", "")), want: tooDeep},
		{name: "steps", files: oneLocal("path" + strings.Repeat(".a", wide)), want: tooDeep},
		{name: "indices", files: oneLocal("path" + strings.Repeat(`["a"]`, wide)), want: tooDeep},
		{name: "splats", files: oneLocal("path" + strings.Repeat("[*]", wide)), want: tooDeep},
		{name: "attribute splats", files: oneLocal("path" + strings.Repeat(".*", wide)), want: tooDeep},
		{name: "heredocs", files: oneLocal(around(deep, "<<A\n${", "1", "}\nA\n")), want: tooDeep},
		{name: "template ifs", files: oneLocal(`"` + around(deep, "%{if true}", "1", "%{endif}") + `"`), want: tooDeep},
		{name: "template fors", files: oneLocal(`"` + around(deep, "%{for x in [1]}", "1", "%{endfor}") + `"`), want: tooDeep},
		{name: "fors", files: oneLocal(around(deep, "[for x in [1] : ", "1", "]")), want: tooDeep},
		{name: "never closed", files: oneLocal(strings.Repeat("[", 50*wide)), want: "File has too much in it"},
		{name: "types", files: []hostileFile{{"t.pkr.hcl", "variable \"v\" {\n type = " + around(deep, "list(", "string", ")") + "\n default = []\n}\n" + nothing}}, want: tooDeep},
		{name: "json brackets", files: jsonLocal(around(deep, "[", "1", "]")), want: tooDeep},
		{name: "json strings", files: jsonLocal(`"${` + around(deep, "(", "1", ")") + `}"`), want: tooDeep},
		{name: "legacy brackets", files: legacy(around(deep, "[", "1", "]")), want: tooDeep},
		{name: "legacy ifs", files: legacy(`"` + around(deep, "{{if true}}", "1", "{{end}}") + `"`), want: "may have 10000 {{ }}"},
		{name: "legacy parentheses", files: legacy(`"{{` + around(deep, "(", "1", ")") + `}}"`), want: "parentheses"},
		{name: "variable given", files: []hostileFile{{"t.pkr.hcl", "variable \"v\" {\n type = any\n}\n" + nothing}}, args: []string{"-var", "v=" + around(deep, "[", "", "]")}, want: tooDeep},
		{name: "variable file", files: []hostileFile{
			{"t.pkr.hcl", "variable \"v\" {\n type = any\n}\n" + nothing}, {"v.pkrvars.hcl", "v = " + around(deep, "[", "", "]")},
		}, args: []string{"-var-file", "v.pkrvars.hcl"}, want: tooDeep},
		{name: "deep yaml", files: oneLocal(`length(yamldecode("` + around(deep, "[", "", "]") + `"))`), want: "nest"},
		{name: "deep json value", files: oneLocal(`length(jsondecode("` + around(deep, "[", "", "]") + `"))`), want: "nest"},

		// What multiplies.
		{name: "loops", files: locals("a = range(1000)\nb = [for x in local.a : [for y in local.a : [for z in local.a : 1]]]"), want: "more work"},
		{name: "loops of one expression", files: oneLocal("length([for a in [[0,0,0,0,0,0,0,0,0,0]] : [for b in [[a,a,a,a,a,a,a,a,a,a]] : [for c in [[b,b,b,b,b,b,b,b,b,b]] : [for d in [[c,c,c,c,c,c,c,c,c,c]] : [for e in [[d,d,d,d,d,d,d,d,d,d]] : [for f in [[e,e,e,e,e,e,e,e,e,e]] : [for g in [[f,f,f,f,f,f,f,f,f,f]] : g]]]]]]])"), want: "1000000 elements"},
		{name: "template loops", files: locals("a = range(1000)\nb = \"%{for x in local.a}%{for y in local.a}%{for z in local.a}x%{endfor}%{endfor}%{endfor}\""), want: "more work"},
		{name: "loops without context", files: []hostileFile{{"t.pkr.hcl", "variable \"v\" {\n default = [for a in [" + strings.Repeat("1,", 3000) + "] : [for b in [" + strings.Repeat("1,", 3000) + "] : b]]\n}\n" + nothing}}, want: "more work"},
		{name: "json loops", files: []hostileFile{{"t.pkr.json", `{"locals":{"a":"${range(1000)}","b":"${[for x in local.a : [for y in local.a : [for z in local.a : 1]]]}"},"source":{"null":{"x":{"communicator":"none"}}},"build":{"sources":["null.x"]}}`}}, want: "more work"},
		{name: "laughs", files: locals("l0 = \"ha\"\n" + each(12, func(i int) string {
			return fmt.Sprintf("l%d = [%s]\n", i+1, strings.Repeat(fmt.Sprintf("local.l%d,", i), 10))
		})), want: "1000000 elements"},
		{name: "laughing strings", files: locals("l0 = \"ha\"\n" + each(12, func(i int) string {
			return fmt.Sprintf("l%d = \"%s\"\n", i+1, strings.Repeat(fmt.Sprintf("${local.l%d}", i), 10))
		})), want: "goes beyond a limit"},
		{name: "laughing yaml", files: oneLocal("length(yamldecode(<<A\na0: &a0 [1,1,1,1,1,1,1,1,1,1]\n" + each(12, func(i int) string {
			return fmt.Sprintf("a%d: &a%d [%s]\n", i+1, i+1, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*a%d,", i), 10), ","))
		}) + "A\n))"), want: "1000000 elements"},
		{name: "setproduct", files: locals("a = range(1000)\nb = setproduct(local.a, local.a, local.a)"), want: "1000000 elements"},
		{name: "range", files: oneLocal("range(1e9)"), want: "1024"},
		{name: "format", files: oneLocal(`format("%1000000000d", 1)`), want: "bytes that a text may have"},
		{name: "format again", files: oneLocal(`format("` + strings.Repeat("%[1]s", 1000) + `", join("", [for x in range(1000) : "` + strings.Repeat("x", 1000) + `"]))`), want: "bytes that a text may have"},
		{name: "indent", files: oneLocal(`indent(1000000000, "a\nb")`), want: "bytes that a text may have"},
		{name: "join", files: locals("a = join(\"" + strings.Repeat("x", 1000) + "\", range(1000))\nb = join(local.a, range(1000))"), want: "bytes that a text may have"},
		{name: "replace", files: locals("a = join(\"" + strings.Repeat("x", 1000) + "\", range(1000))\nb = replace(local.a, \"\", local.a)"), want: "bytes that a text may have"},
		{name: "regex_replace", files: locals("a = join(\"" + strings.Repeat("x", 1000) + "\", range(1000))\nb = regex_replace(local.a, \"x\", local.a)"), want: "bytes that a text may have"},
		{name: "regexall", files: locals("a = join(\"" + strings.Repeat("x", 1000) + "\", range(1000))\nb = regexall(\"" + strings.Repeat("()", 400) + "x\", local.a)"), want: "elements"},
		{name: "bcrypt", files: oneLocal(`bcrypt("x", 31)`), want: "takes too long"},
		{name: "pow", files: oneLocal("pow(2, 1e9)"), want: ""},
		{name: "long number", files: oneLocal(`"${1e99999999}"`), want: "about 3010 digits"},
		{name: "short long number", files: oneLocal(`"${1e-99999999}"`), want: "about 3010 digits"},
		{name: "number by words", files: oneLocal(`"${abs("1e999999999")}"`), want: "about 3,000 digits"},
		{name: "number by multiplication", files: locals("n0 = 1e300\n" + each(30, func(i int) string { return fmt.Sprintf("n%d = local.n%d * local.n%d\n", i+1, i, i) }) + "s = \"${local.n30}\""), want: "about 3010 digits"},
		{name: "number by addition of words", files: oneLocal(`"${"1e999999999" + 0}"`), want: "digits"},
		{name: "number by jsondecode", files: oneLocal(`"${jsondecode("1e999999999")}"`), want: "about 3,000 digits"},
		{name: "digits", files: oneLocal(strings.Repeat("9", 5_000_000)), want: "digits"},
		{name: "digits by words", files: oneLocal(`abs("` + strings.Repeat("9", 5_000_000) + `")`), want: "digits"},
		{name: "json number", files: jsonLocal("1e999999999"), want: "Number is too long"},
		{name: "legacy number", files: legacy("1e999999999"), want: "Number is too long"},
		{name: "number given", files: []hostileFile{{"t.pkr.hcl", "variable \"v\" {\n type = number\n}\nlocals {\n s = \"${var.v}\"\n}\n" + nothing}}, args: []string{"-var", "v=1e999999999"}, want: "about 3,000 digits"},
		{name: "number of an argument", files: []hostileFile{{"t.pkr.hcl", "source \"null\" \"x\" {\n communicator = \"ssh\"\n ssh_host = \"h\"\n ssh_username = \"u\"\n ssh_password = \"p\"\n ssh_port = \"1e999999999\"\n}\nbuild { sources = [\"null.x\"] }"}}, want: "about 3,000 digits"},
		{name: "unlike elements", files: oneLocal("convert([" + strings.Repeat("1,", wide) + strings.Repeat("[],", wide) + "], list(any))"), want: "elements of different types"},
		{name: "arguments", files: oneLocal("max(" + strings.Repeat("1,", wide) + "1)"), want: "at most 10000 arguments"},
		{name: "dynamic blocks", files: []hostileFile{{"t.pkr.hcl", `locals { n = range(1000) }
source "null" "x" { communicator = "none" }
build {
  sources = ["null.x"]
  dynamic "post-processors" {
    for_each = local.n
    content {
      dynamic "post-processor" {
        for_each = local.n
        labels = ["manifest"]
        content {}
      }
    }
  }
}`}}, want: "may make 20000 blocks"},
		{name: "dynamic sources", files: []hostileFile{{"t.pkr.hcl", `locals { n = range(1000) }
source "null" "x" { communicator = "none" }
build {
  dynamic "source" {
    for_each = flatten([for a in local.n : [for b in range(20) : b]])
    labels = ["null.x"]
    content { name = "n${source.key}" }
  }
}`}}, want: "may have 10000 builds"},
		{name: "templatefile", files: []hostileFile{{"t.pkr.hcl", "locals {\n v = templatefile(\"t.tpl\", { n = range(1000) })\n}\n" + nothing}, {"t.tpl", "%{for a in n}%{for b in n}%{for c in n}x%{endfor}%{endfor}%{endfor}"}}, want: "more work"},
		{name: "templatefile of itself", files: []hostileFile{{"t.pkr.hcl", "locals {\n v = templatefile(\"t.tpl\", {})\n}\n" + nothing}, {"t.tpl", "${templatefile(\"t.tpl\", {})}"}}, want: "recursively"},
		{name: "legacy range", files: legacy(`"{{range 1000000000}}{{range 1000000000}}x{{end}}{{end}}"`), want: "turns"},
		{name: "legacy silent range", files: legacy(`"{{range 1000000000}}{{end}}"`), want: "turns"},
		{name: "legacy printf", files: legacy(`"{{printf \"%999999d%999999d%999999d%999999d\" 1 2 3 4 | printf \"%[1]s%[1]s%[1]s%[1]s%[1]s%[1]s%[1]s%[1]s%[1]s%[1]s\" | printf \"%[1]s%[1]s%[1]s%[1]s%[1]s%[1]s%[1]s%[1]s%[1]s%[1]s\"}}"`), want: "bytes"},
		{name: "legacy definitions", files: legacy(`"` + each(40, func(i int) string {
			return fmt.Sprintf(`{{define \"d%d\"}}{{template \"d%d\"}}{{template \"d%d\"}}{{end}}`, i, i+1, i+1)
		}) + `{{define \"d40\"}}{{end}}{{template \"d0\"}}"`), want: "turns"},
		{name: "legacy replace_all", files: legacy(`"{{replace_all \"\" \"` + strings.Repeat("x", 1000) + `\" \"` + strings.Repeat("x", 1000) + `\" | replace_all \"\" \"` + strings.Repeat("x", 1000) + `\"}}"`), want: "bytes"},

		// Huge, and right.
		{name: "5 MB", files: oneLocal(`"` + strings.Repeat("x", 5<<20) + `"`)},
		{name: "5 MB of elements", files: oneLocal("length([" + strings.Repeat("1,\n", 5<<20/3/2) + "])")},
		{name: "5 MB of blocks", files: []hostileFile{{"t.pkr.hcl", nothing + each(40_000, func(i int) string {
			return fmt.Sprintf("source \"null\" \"s%d\" {\n  communicator = \"none\"\n  ssh_host = \"%s\"\n}\n", i, strings.Repeat("h", 50))
		})}}},
		{name: "5 MB of variables", files: []hostileFile{{"t.pkr.hcl", "variable \"v\" {\n type = string\n}\n" + nothing}, {"v.pkrvars.hcl", "v = \"" + strings.Repeat("x", 5<<20) + "\"\n"}}, args: []string{"-var-file", "v.pkrvars.hcl"}},
		{name: "5 MB of json variables", files: []hostileFile{{"t.pkr.hcl", "variable \"v\" {\n type = list(string)\n}\n" + nothing}, {"v.json", `{"v":[` + strings.Repeat(`"x",`, 5<<20/8) + `"x"]}`}}, args: []string{"-var-file", "v.json"}},
		{name: "a list of 100,000 for functions", files: oneLocal("length(join(\",\", concat([" + strings.Repeat("\"x\",", wide) + "])))")},
		{name: "10,000 variables", files: []hostileFile{{"t.pkr.hcl", each(10_000, func(i int) string {
			return fmt.Sprintf("variable \"v%d\" {\n  type = string\n  default = \"%d\"\n}\nlocals {\n  l%d = \"${var.v%d}!\"\n}\n", i, i, i, i)
		}) + nothing}}},
		{name: "10,000 locals in a row", files: locals("l0 = 1\n" + each(10_000, func(i int) string { return fmt.Sprintf("l%d = local.l%d\n", i+1, i) }))},
		{name: "10,000 legacy variables", files: []hostileFile{{"t.json", `{"variables":{` + each(10_000, func(i int) string { return fmt.Sprintf(`"v%d":"{{user `+"`v%d`"+`}}",`, i, i+1) }) + `"v10000":"x"},"builders":[{"type":"null","communicator":"none"}]}`}}},
		{name: "1,000 sources", files: []hostileFile{{"t.pkr.hcl", each(1000, func(i int) string {
			return fmt.Sprintf("source \"amazon-ebs\" \"s%d\" {\n  region = \"us-east-1\"\n  source_ami = \"ami-1\"\n  instance_type = \"t3.micro\"\n  ami_name = \"s%d-${local.x}\"\n  ssh_username = \"u\"\n  tags = { Name = \"n\" }\n}\n", i, i)
		}) + "locals {\n x = 1\n}\nbuild {\n  sources = [" + each(1000, func(i int) string { return fmt.Sprintf("\"amazon-ebs.s%d\",", i) }) + "]\n" +
			strings.Repeat("  provisioner \"shell\" {\n    inline = [\"echo ${source.name} ${build.ID} ${upper(local.x)}\"]\n  }\n", 20) + "}\n"}}},

		// Huge, and wrong.
		{name: "10,000 unknown names", files: locals(each(10_000, func(i int) string { return fmt.Sprintf("l%d = var.nothing%d\n", i, i) })), want: "more; correct these first"},
		{name: "10,000 duplicates", files: []hostileFile{{"t.pkr.hcl", strings.Repeat("variable \"v\" {\n}\n", 10_000) + nothing}}, want: "more; correct these first"},
		{name: "10,000 unset variables", files: []hostileFile{{"t.pkr.hcl", each(10_000, func(i int) string { return fmt.Sprintf("variable \"v%d\" {\n}\n", i) }) + nothing}}, want: "more; correct these first"},
		{name: "a circle of 10,000", files: locals("l0 = local.l10000\n" + each(10_000, func(i int) string { return fmt.Sprintf("l%d = local.l%d\n", i+1, i) })), want: "circle"},
		{name: "2 MB of rubbish", files: []hostileFile{{"t.pkr.hcl", strings.Repeat("=\n", 1_000_000)}}, want: "Argument or block definition required"},
		{name: "2 MB of brackets", files: []hostileFile{{"t.pkr.hcl", strings.Repeat("}\n", 1_000_000)}}, want: "Argument or block definition required"},
		{name: "2 MB of names", files: []hostileFile{{"t.pkr.hcl", strings.Repeat("a\n", 1_000_000)}}, want: "more; correct these first"},
		{name: "5 MB of zeros", files: []hostileFile{{"t.pkr.hcl", strings.Repeat("\x00", 5<<20)}}, want: "Error"},
		{name: "5 MB of json rubbish", files: []hostileFile{{"t.pkr.json", strings.Repeat("}", 5<<20)}}, want: "Error"},
		{name: "5 MB of json commas", files: []hostileFile{{"t.pkr.json", "{" + strings.Repeat(`"a",`, 5<<20/4)}}, want: "Error"},
		{name: "a long name", files: []hostileFile{{"t.pkr.hcl", strings.Repeat("a", 5<<20) + " {\n}\n"}}, want: "Name is too long"},
		{name: "a long unknown function", files: oneLocal(strings.Repeat("f", 5<<20) + "()"), want: "Name is too long"},
		{name: "20 MB", files: oneLocal(`"` + strings.Repeat("x", 20<<20) + `"`), want: "may have"},
		{name: "dynamic in one line", files: []hostileFile{{"t.pkr.json", `{"x":"` + strings.Repeat("x", 5<<20) + `","build":{"sources":["null.x"]}}`}}, want: "Error"},
	}
	return list
}

// Whatever a template holds, the answer comes, within bounds, and is right.
func TestHostile(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a minute")
	}
	for _, h := range hostiles() {
		t.Run(h.name, func(t *testing.T) {
			dir := t.TempDir()
			for _, f := range h.files {
				if err := os.WriteFile(filepath.Join(dir, f.name), []byte(f.text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			ctx, cancel := context.WithTimeout(context.Background(), never)
			defer cancel()
			args := append([]string{"validate"}, h.args...)
			// The shell's limit protects this machine from what the test is about.
			cmd := exec.CommandContext(ctx, "sh", append([]string{"-c", `ulimit -v 8000000; exec submit "$@"`, "sh"}, append(args, h.files[0].name)...)...)
			cmd.Dir = dir
			var out bytes.Buffer
			cmd.Stdout, cmd.Stderr = &out, &out
			cmd.Env = append(os.Environ(), "HOME="+dir, "XDG_CONFIG_HOME="+dir)
			start := time.Now()
			err := cmd.Run()
			said := out.String()
			if len(said) > 1000 {
				said = said[:600] + " [...] " + said[len(said)-300:]
			}
			resident := cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss << 10
			t.Logf("%d MiB, %s", resident>>20, time.Since(start).Round(time.Millisecond))
			if ctx.Err() != nil {
				t.Fatal("no answer")
			}
			if resident > maxResident {
				t.Errorf("took %d MiB", resident>>20)
			}
			var exit *exec.ExitError
			switch {
			case h.want == "" && err != nil:
				t.Errorf("%v\n%s", err, said)
			case h.want != "" && (!errors.As(err, &exit) || exit.ExitCode() != 1):
				t.Errorf("ended with %v, want exit status 1\n%s", err, said)
			case !strings.Contains(strings.Join(strings.Fields(out.String()), " "), h.want):
				t.Errorf("does not say %q:\n%s", h.want, said)
			}
			if out.Len() > 1<<20 {
				t.Errorf("said %d bytes", out.Len())
			}
		})
	}
}
