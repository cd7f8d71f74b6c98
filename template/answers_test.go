package template

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/bakehouse-farm/bakehouse"
)

// A desk answers what is on it, and counts who asks.
type desk struct {
	mu      sync.Mutex
	answers map[string]string
	fail    map[string]error
	asked   map[string]int
}

func (d *desk) ask(ctx context.Context, question ...string) (string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	q := strings.Join(question, " ")
	if d.asked == nil {
		d.asked = map[string]int{}
	}
	d.asked[q]++
	if err := d.fail[q]; err != nil {
		return "", err
	}
	if ctx.Err() != nil {
		return "", ctx.Err()
	}
	if a, ok := d.answers[q]; ok {
		return a, nil
	}
	return "", bakehouse.Errorf(bakehouse.NotFound, "%s: there is nothing", q)
}

func (d *desk) Vault(ctx context.Context, path, key string) (string, error) {
	return d.ask(ctx, "vault", path, key)
}

func (d *desk) ConsulKey(ctx context.Context, path string) (string, error) {
	return d.ask(ctx, "consul", path)
}

func (d *desk) SecretsManager(ctx context.Context, name, key string) (string, error) {
	return d.ask(ctx, "aws", name, key)
}

func (d *desk) SecretsManagerRaw(ctx context.Context, name string) (string, error) {
	return d.ask(ctx, "raw", name)
}

func full() *desk {
	return &desk{answers: map[string]string{
		"vault secret/data/db password": "hunter22",
		"vault secret/data/i-1 token":   "t0ken-of-i-1",
		"consul base/ami":               "ami-123",
		"aws db ":                       "only-one",
		"aws db user":                   "admin-user",
		"raw api":                       `{"a":"raw-secret"}`,
	}}
}

// asking loads a template that asks at a desk.
func asking(t *testing.T, archive string, d *desk) (*Template, Values) {
	t.Helper()
	s := with(t, archive)
	cat := catalogue()
	cat.Lookup = d
	tpl, diags := Load(s.path, s.files, cat)
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	values, diags := tpl.Variables(s.in)
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	if diags := tpl.Check(values, Selection{}, pinned); len(diags) > 0 {
		t.Errorf("check says %v", diags)
	}
	_ = tpl.LocalFiles(values, Selection{}, pinned)
	if len(d.asked) > 0 {
		t.Errorf("what only checks has asked: %v", d.asked)
	}
	return tpl, throughJSON(t, values)
}

const askingHCL = `
-- t.pkr.hcl --
locals {
  pw  = vault("secret/data/db", "password")
  ami = consul_key("base/ami")
}
source "amazon-ebs" "a" {
  region     = "eu-west-1"
  ami_name   = "a-${aws_secretsmanager("db", null)}"
  source_ami = local.ami
  tags       = { user = aws_secretsmanager("db", "user") }
}
source "amazon-ebs" "b" {
  region     = "eu-west-1"
  ami_name   = "b"
  source_ami = consul_key("base/ami")
}
build {
  sources = ["amazon-ebs.a", "amazon-ebs.b"]
  provisioner "shell" {
    inline = [
      "login ${vault("secret/data/db", "password")} ${upper(local.pw)} on ${build.ID}",
      jsondecode(aws_secretsmanager_raw("api")).a,
    ]
  }
  post-processor "manifest" {
    output = "${base64encode(vault("secret/data/db", "password"))}.json"
  }
}
`

const askingJSON = `
-- args --
path t.json
-- t.json --
{
  "variables": {
    "again": "{{user ` + "`pw`" + `}}!",
    "pw":    "{{vault ` + "`secret/data/db` `password`" + `}}",
    "mail":  "{{user ` + "`pw`" + `}}@{{aws_secretsmanager ` + "`db` `user`" + `}}",
    "one":   "{{aws_secretsmanager ` + "`db`" + `}}",
    "raw":   "{{aws_secretsmanager_raw ` + "`api`" + `}}",
    "ami":   "{{consul_key ` + "`base/ami`" + `}}",
    "low":   "{{consul_key ` + "`base/ami`" + ` | upper}}"
  },
  "builders": [{
    "type": "amazon-ebs", "region": "eu-west-1",
    "ami_name": "a-{{user ` + "`one`" + `}}", "source_ami": "{{user ` + "`ami`" + `}}", "tags": {"low": "{{user ` + "`low`" + `}}"}
  }],
  "provisioners": [{
    "type": "shell",
    "inline": ["{{user ` + "`again`" + `}} {{user ` + "`mail`" + `}} {{build ` + "`ID`" + `}}"],
    "execute_command": "{{user ` + "`pw`" + `}} {{.Path}}"
  }]
}
`

// The agent asks once for each question, and what it was told is what every
// later step sees: nobody is asked again, on whatever agent.
func TestAskedOnceAndFrozen(t *testing.T) {
	tests := []struct {
		name, archive string
		asked         map[string]int
		settings      []string
		late          []string
		secrets       []string
	}{
		{
			"hcl", askingHCL,
			map[string]int{"vault secret/data/db password": 1, "consul base/ami": 1, "aws db ": 1, "aws db user": 1, "raw api": 1},
			[]string{
				`{"ami_name":"a-only-one","region":"eu-west-1","source_ami":"ami-123","tags":{"user":"admin-user"}}`,
				`{"ami_name":"b","region":"eu-west-1","source_ami":"ami-123"}`,
			},
			[]string{
				`{"inline":["login hunter22 HUNTER22 on i-1","raw-secret"]}`, `{"output":"aHVudGVyMjI=.json"}`,
				`{"inline":["login hunter22 HUNTER22 on i-1","raw-secret"]}`, `{"output":"aHVudGVyMjI=.json"}`,
			},
			[]string{"hunter22", "HUNTER22", "aHVudGVyMjI=", "only-one", "admin-user", `{"a":"raw-secret"}`, "raw-secret"},
		},
		{
			"legacy", askingJSON,
			map[string]int{"vault secret/data/db password": 1, "consul base/ami": 1, "aws db ": 1, "aws db user": 1, "raw api": 1},
			[]string{`{"ami_name":"a-only-one","region":"eu-west-1","source_ami":"ami-123","tags":{"low":"AMI-123"}}`},
			[]string{`{"execute_command":"hunter22 {{.Path}}","inline":["hunter22! hunter22@admin-user i-1"]}`},
			[]string{"hunter22", "hunter22@admin-user", "only-one", "admin-user", `{"a":"raw-secret"}`},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := full()
			tpl, values := asking(t, tt.archive, d)
			made, diags := tpl.Plan(context.Background(), values, Selection{}, pinned)
			if diags.HasErrors() {
				t.Fatal(diags)
			}
			if diff := cmp.Diff(tt.asked, d.asked); diff != "" {
				t.Errorf("the plan asked (-want +got)\n%s", diff)
			}
			var later desk // has no answers, and would count
			again, _ := asking(t, tt.archive, &later)
			plan := throughJSON(t, *made)
			var settings, late []string
			for _, b := range plan.Builds {
				settings = append(settings, string(b.Settings))
				for _, p := range b.Provisioners {
					s, diags := again.Provisioner(plan.Scope, b, p, map[string]string{"ID": "i-1"})
					late = append(late, string(s)+fmt.Sprint(diags.Errs()))
				}
				for _, chain := range b.PostProcessors {
					s, diags := again.Asking(context.Background(), nil).PostProcessor(plan.Scope, b, chain[0], nil)
					late = append(late, string(s)+fmt.Sprint(diags.Errs()))
				}
			}
			for i := range tt.late {
				tt.late[i] += "[]"
			}
			if diff := cmp.Diff(tt.settings, settings); diff != "" {
				t.Errorf("settings (-want +got)\n%s", diff)
			}
			if diff := cmp.Diff(tt.late, late); diff != "" {
				t.Errorf("late blocks (-want +got)\n%s", diff)
			}
			if len(later.asked) > 0 {
				t.Errorf("asked again: %v", later.asked)
			}
			for _, s := range tt.secrets {
				if !slices.Contains(plan.Secrets(), s) {
					t.Errorf("%q is not masked: %q", s, plan.Secrets())
				}
			}
			if slices.Contains(plan.Secrets(), "ami-123") {
				t.Error("a key of Consul is masked")
			}
		})
	}
}

// What depends on the machine is asked when it is known, and masked from then on.
func TestAskedLate(t *testing.T) {
	d := full()
	tpl, values := asking(t, `
-- t.pkr.hcl --
source "null" "a" {}
build {
  sources = ["null.a"]
  provisioner "shell" {
    inline = ["use ${vault("secret/data/${build.ID}", "token")} of ${consul_key("base/ami")}"]
  }
}
`, d)
	plan, diags := tpl.Plan(context.Background(), values, Selection{}, pinned)
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	if want := map[string]int{"consul base/ami": 1}; !maps.Equal(d.asked, want) {
		t.Errorf("the plan asked %v, want %v", d.asked, want)
	}
	b := plan.Builds[0]
	build := map[string]string{"ID": "i-1"}
	if _, diags := tpl.Provisioner(plan.Scope, b, b.Provisioners[0], build); !strings.Contains(fmt.Sprint(diags), "still not known: inline") {
		t.Errorf("without Asking: %v", diags)
	}
	var hidden []string
	settings, diags := tpl.Asking(context.Background(), func(s string) { hidden = append(hidden, s) }).
		Provisioner(plan.Scope, b, b.Provisioners[0], build)
	if want := `{"inline":["use t0ken-of-i-1 of ami-123"]}`; diags.HasErrors() || string(settings) != want {
		t.Errorf("%s (%v), want %s", settings, diags, want)
	}
	if !slices.Contains(hidden, "t0ken-of-i-1") || slices.Contains(hidden, "ami-123") {
		t.Errorf("to hide: %q", hidden)
	}
	if want := map[string]int{"consul base/ami": 1, "vault secret/data/i-1 token": 1}; !maps.Equal(d.asked, want) {
		t.Errorf("asked %v, want %v", d.asked, want)
	}
}

const tryHCL = `
-- t.pkr.hcl --
source "null" "a" {}
build {
  sources = ["null.a"]
  provisioner "shell" {
    inline = ["${try(consul_key("motd"), "default")}"]
  }
}
`

// Where there was nothing when the build was planned, there is nothing later.
func TestNothingIsFrozenToo(t *testing.T) {
	d := full()
	tpl, values := asking(t, tryHCL, d)
	made, diags := tpl.Plan(context.Background(), values, Selection{}, pinned)
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	d.answers["consul motd"] = "hello"
	plan := throughJSON(t, *made)
	b := plan.Builds[0]
	settings, diags := tpl.Asking(context.Background(), nil).Provisioner(plan.Scope, b, b.Provisioners[0], nil)
	if want := `{"inline":["default"]}`; diags.HasErrors() || string(settings) != want {
		t.Errorf("%s (%v), want %s", settings, diags, want)
	}
}

// A server that is away for a moment delays a build, and does not change it.
func TestTryDoesNotHideTrouble(t *testing.T) {
	d := full()
	d.fail = map[string]error{"consul motd": errors.New("consul: connection refused")}
	tpl, values := asking(t, tryHCL, d)
	_, diags := tpl.Plan(context.Background(), values, Selection{}, pinned)
	err := Failure(diags)
	if err == nil || bakehouse.KindOf(err) != bakehouse.Trouble || !strings.Contains(err.Error(), "connection refused") {
		t.Errorf("%v", err)
	}

	letGo := errors.New("agent lets go")
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(letGo)
	tpl, values = asking(t, tryHCL, full())
	if _, diags = tpl.Plan(ctx, values, Selection{}, pinned); !errors.Is(Failure(diags), letGo) && !errors.Is(Failure(diags), context.Canceled) {
		t.Errorf("%v", diags)
	}
}

func TestAskedInVain(t *testing.T) {
	const (
		path = "vault secret/data/db password"
		hcl  = "-- t.pkr.hcl --\nlocals {\n  pw = %s\n}\nsource \"null\" \"a\" {}\nbuild {\n  sources = [\"null.a\"]\n}\n-- f.txt --\n${vault(\"secret/data/db\", \"password\")}\n"
		json = "-- args --\npath t.json\n-- t.json --\n{\"variables\": {\"pw\": \"{{vault `secret/data/db` `password`}}\"}, \"builders\": [{\"type\": \"null\"}]}\n"
	)
	const (
		inSource = "-- t.pkr.hcl --\nsource \"amazon-ebs\" \"a\" {\n  ami_name = vault(\"secret/data/db\", \"password\")\n  region = \"r\"\n}\nbuild {\n  sources = [\"amazon-ebs.a\"]\n}\n"
		inShell  = "-- t.pkr.hcl --\nsource \"null\" \"a\" {}\nbuild {\n  sources = [\"null.a\"]\n  provisioner \"shell\" {\n    inline = [vault(\"secret/data/db\", \"password\")]\n  }\n}\n"
	)
	call := fmt.Sprintf(hcl, `vault("secret/data/db", "password")`)
	inFile := fmt.Sprintf(hcl, `templatefile("f.txt", {})`)
	denied := bakehouse.Errorf(bakehouse.Denied, "vault: read secret/data/db: permission denied")
	away := fmt.Errorf("vault: read secret/data/db: connection refused")
	tests := []struct {
		name, archive string
		err           error
		want          bakehouse.Kind
		at            string
	}{
		{"denied", call, denied, bakehouse.Denied, "t.pkr.hcl:2,8"},
		{"away", call, away, bakehouse.Trouble, "t.pkr.hcl:2,8"},
		{"denied, in a file", inFile, denied, bakehouse.Denied, "t.pkr.hcl:2,8"},
		{"away, in a file", inFile, away, bakehouse.Trouble, "t.pkr.hcl:2,8"},
		{"away, in a source", inSource, away, bakehouse.Trouble, "t.pkr.hcl:2,14"},
		{"away, in a required argument", inShell, away, bakehouse.Trouble, "t.pkr.hcl:5,15"},
		{"denied, legacy", json, denied, bakehouse.Denied, "t.json:1,16"},
		{"away, legacy", json, away, bakehouse.Trouble, "t.json:1,16"},
		{"away, and others depend on it, legacy", strings.Replace(json, `"}, "b`, `", "a": "{{user `+"`pw`"+`}}", "z": "{{user `+"`a`"+`}}"}, "b`, 1), away, bakehouse.Trouble, "t.json:1,16"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := full()
			d.fail = map[string]error{path: tt.err}
			tpl, values := asking(t, tt.archive, d)
			_, diags := tpl.Plan(context.Background(), values, Selection{}, pinned)
			err := Failure(diags)
			if err == nil || bakehouse.KindOf(err) != tt.want || !strings.Contains(err.Error(), tt.err.Error()) {
				t.Errorf("%v of kind %s, want %s", err, bakehouse.KindOf(err), tt.want)
			}
			if len(diags) != 1 {
				t.Errorf("said %v", diags.Errs())
			}
			if s := fmt.Sprint(diags); !strings.Contains(s, tt.at) || !strings.Contains(s, tt.err.Error()) {
				t.Errorf("said %q, want it at %s", s, tt.at)
			}
		})
	}
}

// An answer does not show in what is said about it.
func TestAnswersStaySecret(t *testing.T) {
	tpl, values := asking(t, `
-- t.pkr.hcl --
locals {
  n = parseint(vault("secret/data/db", "password"), 10)
}
source "null" "a" {}
build {
  sources = ["null.a"]
}
`, full())
	_, diags := tpl.Plan(context.Background(), values, Selection{}, pinned)
	var text strings.Builder
	WriteDiagnostics(&text, diags, tpl, false, 0)
	if !diags.HasErrors() || strings.Contains(text.String(), "hunter22") || !strings.Contains(text.String(), "<sensitive>") {
		t.Errorf("%s", &text)
	}
}

// Whoever submits cannot ask: it is said instead of passing the rule unchecked.
func TestValidationDoesNotAsk(t *testing.T) {
	s := with(t, `
-- t.pkr.hcl --
variable "v" {
  default = "x"
  validation {
    condition     = var.v == consul_key("allowed")
    error_message = "V must be allowed."
  }
}
`)
	cat := catalogue()
	cat.Lookup = full()
	tpl, diags := Load(s.path, s.files, cat)
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	if _, diags = tpl.Variables(Inputs{}); !strings.Contains(fmt.Sprint(diags), "no server is asked here") {
		t.Errorf("%v", diags)
	}
}

// Without anyone to ask, a plan that needs an answer says so.
func TestNobodyToAsk(t *testing.T) {
	s := with(t, askingHCL)
	tpl := mustLoad(t, s)
	_, diags := tpl.Plan(context.Background(), Values{}, Selection{}, pinned)
	if err := Failure(diags); err == nil || !bakehouse.KindOf(err).Final() || !strings.Contains(err.Error(), "cannot be asked from here") {
		t.Errorf("%v", err)
	}
}

// Nobody is asked where expressions are only tried.
func TestConsoleDoesNotAsk(t *testing.T) {
	for _, tt := range []struct{ archive, line string }{
		{askingHCL, `"x-${vault("secret/data/db", "password")}"`},
		{askingHCL, `"x-${local.ami}"`},
		{askingJSON, "x-{{user `pw`}}"},
		{askingJSON, "x-{{user `again` | upper}}"},
	} {
		d := full()
		tpl, values := asking(t, tt.archive, d)
		c, diags := tpl.Console(values, pinned)
		if diags.HasErrors() {
			t.Fatal(diags)
		}
		if got, diags := c.Evaluate(tt.line, pinned); diags.HasErrors() || got != Unknown {
			t.Errorf("%s is %q (%v), want %s", tt.line, got, diags, Unknown)
		}
		variables, locals := c.Variables()
		for _, n := range append(variables, locals...) {
			if n.Value != Unknown {
				t.Errorf("%s is %q, want %s", n.Name, n.Value, Unknown)
			}
		}
		if len(d.asked) > 0 {
			t.Errorf("asked %v", d.asked)
		}
	}
}

// What was asked for may itself be a secret, long or short; so is the answer.
func TestQuestionsStaySecret(t *testing.T) {
	const src = "-- t.pkr.hcl --\nvariable \"place\" {\n  default   = %q\n  sensitive = true\n}\nlocals {\n  x = %s\n}\n" +
		"source \"null\" \"a\" {}\nbuild {\n  sources = [\"null.a\"]\n  provisioner \"shell\" {\n    inline = [local.x]\n  }\n}\n"
	for _, tt := range []struct{ place, path, key, told string }{
		{"hidden-place", "base/${var.place}", "base/hidden-place", "consul: read key <sensitive>: connection refused"},
		{"q9", "base/${var.place}", "base/q9", "consul: read key <sensitive>: connection refused"},
		{"q9", "${var.place}", "q9", "it fails with this sensitive value"},
	} {
		for _, expr := range []string{`consul_key("` + tt.path + `")`, `try(consul_key("` + tt.path + `"), "default")`} {
			archive := fmt.Sprintf(src, tt.place, expr)
			d := full()
			d.fail = map[string]error{"consul " + tt.key: errors.New("consul: read key " + tt.key + ": connection refused")}
			tpl, values := asking(t, archive, d)
			_, diags := tpl.Plan(context.Background(), values, Selection{}, pinned)
			if err := Failure(diags); err == nil || bakehouse.KindOf(err).Final() ||
				!strings.Contains(err.Error(), tt.told) || strings.Contains(err.Error(), tt.place) {
				t.Errorf("%s: %v", expr, err)
			}
			if strings.Contains(fmt.Sprint(diags), tt.place) {
				t.Errorf("%s: said %v", expr, diags)
			}

			d = full()
			d.answers["consul "+tt.key] = "what-is-there"
			tpl, values = asking(t, archive, d)
			plan, diags := tpl.Plan(context.Background(), values, Selection{}, pinned)
			if diags.HasErrors() {
				t.Errorf("%s: %v", expr, diags)
			} else if !slices.Contains(plan.Secrets(), "what-is-there") {
				t.Errorf("%s: the answer is not masked: %q", expr, plan.Secrets())
			}
		}
	}
}

// Who checks and may ask is told what is wrong with the answers, too.
func TestCheckAsking(t *testing.T) {
	for _, archive := range []string{askingHCL, askingJSON} {
		d := full()
		tpl, values := asking(t, archive, d)
		if diags := tpl.CheckAsking(context.Background(), values, Selection{}, pinned); diags.HasErrors() {
			t.Error(diags)
		}
		if n := d.asked["vault secret/data/db password"]; n != 1 {
			t.Errorf("asked %d times", n)
		}
		delete(d.answers, "vault secret/data/db password")
		diags := tpl.CheckAsking(context.Background(), values, Selection{}, pinned)
		if !strings.Contains(fmt.Sprint(diags), "vault secret/data/db password: there is nothing") {
			t.Errorf("%v", diags)
		}
	}
}
