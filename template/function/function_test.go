package function

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	ctyjson "github.com/zclconf/go-cty/cty/json"

	"github.com/bakehouse-farm/bakehouse"
)

// world is an Env over a folder of its own.
func world(t *testing.T) (Env, *[]string) {
	t.Helper()
	root := t.TempDir()
	for name, content := range map[string]string{
		"home/me/t/a.txt":       "alpha\n",
		"home/me/t/sub/b.txt":   "beta",
		"home/me/t/sub/c.conf":  "gamma",
		"home/me/t/bin":         "\xff\xfe",
		"home/me/t/list.tpl":    "%{ for x in xs ~}\n${upper(x)}\n%{ endfor ~}\n",
		"home/me/t/again.tpl":   "${templatefile(\"a.txt\", {})}",
		"home/me/t/missing.tpl": "${nope}",
		"home/me/secret":        "s",
		"etc/x":                 "absolute",
	} {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	var read []string
	return Env{
		Files: bakehouse.Files{Root: root, Cwd: "/home/me", Home: "/home/me"}, Base: "t",
		Time: time.Date(2024, 2, 29, 12, 5, 6, 0, time.UTC), Seed: "seed",
		Reads: func(name string) { read = append(read, name) },
		Ask:   echo,
	}, &read
}

// echo answers with the question.
func echo(name string, args []cty.Value) (cty.Value, error) {
	for _, a := range args {
		switch {
		case !a.IsKnown():
			return cty.UnknownVal(cty.String), nil
		case a.IsNull():
			name += " nothing"
		default:
			name += " " + a.AsString()
		}
	}
	return cty.StringVal(name), nil
}

func eval(t *testing.T, e Env, src string) (cty.Value, error) {
	t.Helper()
	x, diags := hclsyntax.ParseExpression([]byte(src), "test", hcl.InitialPos)
	if diags.HasErrors() {
		t.Fatalf("%s: %v", src, diags)
	}
	v, diags := x.Value(&hcl.EvalContext{
		Functions: All(e),
		Variables: map[string]cty.Value{
			"secret":  cty.StringVal("hush").Mark("sensitive"),
			"unknown": cty.UnknownVal(cty.String),
		},
	})
	if diags.HasErrors() {
		return v, diags
	}
	return v, nil
}

var cases = []struct{ src, want string }{
	{`abs(-3)`, `3`},
	{`abspath("x/../y")`, `"/home/me/y"`},
	{`alltrue([true, "true"])`, `true`},
	{`alltrue([true, false])`, `false`},
	{`alltrue([])`, `true`},
	{`anytrue([false, true])`, `true`},
	{`anytrue([])`, `false`},
	{`base64decode("aGk=")`, `"hi"`},
	{`base64encode("hi")`, `"aGk="`},
	{`substr(base64gzip("hi"), 0, 4)`, `"H4sI"`},
	{`basename("a/b.txt")`, `"b.txt"`},
	{`substr(bcrypt("x"), 0, 4)`, `"$2a$"`},
	{`can(regex("a", "b"))`, `false`},
	{`ceil(1.2)`, `2`},
	{`chomp("a\n\n")`, `"a"`},
	{`chunklist([1, 2, 3], 2)`, `[[1,2],[3]]`},
	{`cidrhost("10.12.112.0/20", 16)`, `"10.12.112.16"`},
	{`cidrhost("10.0.0.0/24", -1)`, `"10.0.0.255"`},
	{`cidrhost("fd00:fd12:3456:7890:00a2::/72", 34)`, `"fd00:fd12:3456:7890::22"`},
	{`cidrhost("10.0.0.0/30", 4)`, `error: does not accommodate a host numbered 4`},
	{`cidrhost("10.0.0.0", 4)`, `error: invalid CIDR expression`},
	{`cidrnetmask("172.16.0.0/12")`, `"255.240.0.0"`},
	{`cidrsubnet("172.16.0.0/12", 4, 2)`, `"172.18.0.0/16"`},
	{`cidrsubnet("10.1.2.0/24", 4, 15)`, `"10.1.2.240/28"`},
	{`cidrsubnet("fd00:fd12:3456:7890::/56", 16, 162)`, `"fd00:fd12:3456:7800:a200::/72"`},
	{`cidrsubnet("10.0.0.0/24", 4, 16)`, `error: does not accommodate a subnet numbered 16`},
	{`cidrsubnet("10.0.0.0/24", 9, 0)`, `error: too long`},
	{`cidrsubnets("10.1.0.0/16", 4, 4, 8, 4)`, `["10.1.0.0/20","10.1.16.0/20","10.1.32.0/24","10.1.48.0/20"]`},
	{`cidrsubnets("10.0.0.0/24", 1, 1, 1)`, `error: not enough remaining address space`},
	{`coalesce("", null, "x")`, `"x"`},
	{`coalescelist([], ["a"])`, `["a"]`},
	{`compact(["a", "", "b"])`, `["a","b"]`},
	{`concat(["a"], ["b"])`, `["a","b"]`},
	{`contains(["a"], "a")`, `true`},
	{`convert("3", number)`, `3`},
	{`csvdecode("a,b\n1,2")`, `[{"a":"1","b":"2"}]`},
	{`dirname("a/b.txt")`, `"a"`},
	{`distinct(["a", "a"])`, `["a"]`},
	{`element(["a", "b"], 3)`, `"b"`},
	{`endswith("abc", "bc")`, `true`},
	{`file("a.txt")`, `"alpha\n"`},
	{`file("/etc/x")`, `"absolute"`},
	{`file("~/secret")`, `"s"`},
	{`file("nope")`, `error: no file exists at t/nope`},
	{`file("bin")`, `error: not valid UTF-8`},
	{`filebase64("bin")`, `"//4="`},
	{`fileexists("a.txt")`, `true`},
	{`fileexists("b.txt")`, `false`},
	{`fileset(".", "**/*.txt")`, `["a.txt","sub/b.txt"]`},
	{`fileset(".", "*.txt")`, `["a.txt"]`},
	{`fileset(".", "sub/{b,c}.*")`, `["sub/b.txt","sub/c.conf"]`},
	{`fileset("nowhere", "*")`, `[]`},
	{`flatten([["a"], [["b"]]])`, `["a","b"]`},
	{`floor(1.8)`, `1`},
	{`format("%s-%03d", "a", 7)`, `"a-007"`},
	{`formatdate("DD MMM YYYY hh:mm", "2024-02-29T12:05:06Z")`, `"29 Feb 2024 12:05"`},
	{`formatlist("%s!", ["a", "b"])`, `["a!","b!"]`},
	{`indent(2, "a\nb")`, `"a\n  b"`},
	{`index(["a", "b"], "b")`, `1`},
	{`index(["a"], "x")`, `error: item not found`},
	{`join("-", ["a", "b"])`, `"a-b"`},
	{`jsondecode("{\"a\":[1]}")`, `{"a":[1]}`},
	{`jsonencode({ a = [1] })`, `"{\"a\":[1]}"`},
	{`keys({ b = 1, a = 2 })`, `["a","b"]`},
	{`legacy_isotime()`, `"2024-02-29T12:05:06Z"`},
	{`legacy_isotime("20060102")`, `"20240229"`},
	{`legacy_isotime("a", "b")`, `error: too many arguments`},
	{`legacy_strftime("%Y-%j")`, `"2024-060"`},
	{`length("añb")`, `3`},
	{`length([1, "a"])`, `2`},
	{`length({ a = 1 })`, `1`},
	{`length(5)`, `error: must be a string, a collection`},
	{`log(16, 2)`, `4`},
	{`lookup({ a = "x" }, "b", "d")`, `"d"`},
	{`lower("AB")`, `"ab"`},
	{`max(1, 3)`, `3`},
	{`md5("hello")`, `"5d41402abc4b2a76b9719d911017c592"`},
	{`merge({ a = 1 }, { b = 2 })`, `{"a":1,"b":2}`},
	{`min(1, 3)`, `1`},
	{`parseint("ff", 16)`, `255`},
	{`pathexpand("~/x")`, `"/home/me/x"`},
	{`pow(2, 3)`, `8`},
	{`range(1, 4)`, `[1,2,3]`},
	{`regex("[a-z]+", "12ab")`, `"ab"`},
	{`regex_replace("a1b2", "[0-9]", "-")`, `"a-b-"`},
	{`regexall("[0-9]", "a1b2")`, `["1","2"]`},
	{`replace("a.b", ".", "-")`, `"a-b"`},
	{`reverse(["a", "b"])`, `["b","a"]`},
	{`rfc3339_parse("2024-02-29T12:05:06Z").weekday_name`, `"Thursday"`},
	{`rfc3339_parse("yesterday")`, `error: not a valid RFC 3339 timestamp`},
	{`rsadecrypt("x", "y")`, `error: failed to decode input`},
	{`setintersection(["a", "b"], ["b"])`, `["b"]`},
	{`setproduct(["a"], ["x", "y"])`, `[["a","x"],["a","y"]]`},
	{`setunion(["a"], ["b"])`, `["a","b"]`},
	{`sha1("hello")`, `"aaf4c61ddcc5e8a2dabede0f3b482cd9aea9434d"`},
	{`substr(sha256("hello"), 0, 8)`, `"2cf24dba"`},
	{`substr(sha512("hello"), 0, 8)`, `"9b71d224"`},
	{`signum(-5)`, `-1`},
	{`slice(["a", "b", "c"], 1, 3)`, `["b","c"]`},
	{`sort(["b", "a"])`, `["a","b"]`},
	{`split(",", "a,b")`, `["a","b"]`},
	{`startswith("abc", "ab")`, `true`},
	{`strcontains("abc", "x")`, `false`},
	{`strrev("abc")`, `"cba"`},
	{`substr("hello", 1, 3)`, `"ell"`},
	{`sum([1, 2.5])`, `3.5`},
	{`sum([])`, `error: cannot sum an empty list`},
	{`sum(["a"])`, `error: of number values`},
	{`templatefile("list.tpl", { xs = ["a", "b"] })`, `"A\nB\n"`},
	{`templatefile("again.tpl", {})`, `error: cannot recursively call templatefile`},
	{`templatefile("missing.tpl", { other = 1 })`, `error: does not contain key "nope"`},
	{`templatefile("a.txt", "x")`, `error: must be a map`},
	{`textdecodebase64("aABpAA==", "UTF-16LE")`, `"hi"`},
	{`textencodebase64("hi", "UTF-16LE")`, `"aABpAA=="`},
	{`textencodebase64("hi", "klingon")`, `error: not a supported IANA encoding name`},
	{`timeadd("2024-02-29T12:05:06Z", "1h")`, `"2024-02-29T13:05:06Z"`},
	{`timestamp()`, `"2024-02-29T12:05:06Z"`},
	{`title("hello world")`, `"Hello World"`},
	{`trim("?!hello?!", "!?")`, `"hello"`},
	{`trimprefix("helloworld", "hello")`, `"world"`},
	{`trimspace("  a ")`, `"a"`},
	{`trimsuffix("helloworld", "world")`, `"hello"`},
	{`try(nope, "x")`, `"x"`},
	{`unix_timestamp_parse(1709208306).rfc3339`, `"2024-02-29T12:05:06Z"`},
	{`unix_timestamp_parse(1.5)`, `error: whole number of seconds`},
	{`upper("ab")`, `"AB"`},
	{`urlencode("a b&c")`, `"a+b%26c"`},
	{`length(uuidv4())`, `36`},
	{`uuidv5("dns", "www.terraform.io")`, `"a5008fae-b28c-5ba5-96cd-82b4c53552d6"`},
	{`values({ b = 1, a = 2 })`, `[2,1]`},
	{`yamldecode("a: [1]")`, `{"a":[1]}`},
	{`yamlencode({ a = 1 })`, `"\"a\": 1\n"`},
	{`zipmap(["a"], [1])`, `{"a":1}`},
	{`vault("a", "b")`, `"vault a b"`},
	{`vault("a")`, `error: Not enough function arguments`},
	{`vault("a", null)`, `error: argument must not be null`},
	{`vault(null, "b")`, `error: argument must not be null`},
	{`consul_key("a")`, `"consul_key a"`},
	{`consul_key(1)`, `"consul_key 1"`},
	{`consul_key(["a"])`, `error: string required`},
	{`aws_secretsmanager("a", null)`, `"aws_secretsmanager a nothing"`},
	{`aws_secretsmanager("a", "b")`, `"aws_secretsmanager a b"`},
	{`aws_secretsmanager("a")`, `error: Not enough function arguments`},
	{`aws_secretsmanager_raw("a")`, `"aws_secretsmanager_raw a"`},
	{`env("HOME")`, `error: no function named "env"`},
}

func TestFunctions(t *testing.T) {
	e, _ := world(t)
	for _, tt := range cases {
		v, err := eval(t, e, tt.src)
		if want, fails := strings.CutPrefix(tt.want, "error: "); fails {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: error %v, want %q", tt.src, err, want)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", tt.src, err)
			continue
		}
		got, err := ctyjson.SimpleJSONValue{Value: v}.MarshalJSON()
		if err != nil || string(got) != tt.want {
			t.Errorf("%s = %s (%v), want %s", tt.src, got, err, tt.want)
		}
	}
}

// There are 103 functions, each of which the table above calls.
func TestEveryFunctionIsTested(t *testing.T) {
	all := All(Env{})
	if len(all) != 103 {
		t.Errorf("there are %d functions, Packer has 103", len(all))
	}
	for name := range all {
		called := false
		for _, tt := range cases {
			called = called || strings.Contains(tt.src, name+"(")
		}
		if !called {
			t.Errorf("no test calls %s", name)
		}
	}
}

// What functions make of something sensitive is told, in its new form.
func TestMarkedResults(t *testing.T) {
	e, _ := world(t)
	seen := map[string]bool{}
	e.Marked = func(v cty.Value) {
		plain, _ := v.UnmarkDeep()
		if plain.Type() == cty.String {
			seen[plain.AsString()] = true
		}
	}
	v, err := eval(t, e, `try("x ${base64encode(secret)}", "")`)
	if err != nil || !v.IsMarked() {
		t.Fatalf("%#v, %v: want a marked value", v, err)
	}
	if !seen["aHVzaA=="] {
		t.Errorf("base64 of the secret was not told: %v", seen)
	}
	if _, err := eval(t, e, `upper("plain")`); err != nil || seen["PLAIN"] {
		t.Errorf("a plain value was told (%v)", err)
	}
	for _, src := range []string{`convert(secret, string)`, `length(secret)`, `templatefile("list.tpl", { xs = [secret] })`} {
		if v, err := eval(t, e, src); err != nil || !v.IsMarked() {
			t.Errorf("%s lost the mark: %#v, %v", src, v, err)
		}
	}
}

// Without a clock, what tells the time is unknown rather than wrong.
func TestUnpinned(t *testing.T) {
	for _, src := range []string{"timestamp()", "legacy_isotime()", "legacy_strftime(\"%Y\")", "uuidv4()", "upper(unknown)"} {
		if v, err := eval(t, Env{}, src); err != nil || v.IsKnown() {
			t.Errorf("%s = %#v, %v; want unknown", src, v, err)
		}
	}
}

// Files that are read are told, so that they can travel.
func TestReads(t *testing.T) {
	e, read := world(t)
	if _, err := eval(t, e, `[file("a.txt"), file("~/secret"), fileexists("nope"), fileset("sub", "*.conf"), templatefile("list.tpl", { xs = [] })]`); err != nil {
		t.Fatal(err)
	}
	got := map[string]bool{}
	for _, name := range *read {
		got[name] = true
	}
	for _, want := range []string{"t/a.txt", "~/secret", "t/sub/c.conf", "t/list.tpl"} {
		if !got[want] {
			t.Errorf("%s is not told: %v", want, *read)
		}
	}
	if got["t/nope"] {
		t.Error("a file that is not there is told")
	}
}
