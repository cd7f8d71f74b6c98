package template

import (
	"context"
	"fmt"
	"strings"
	"testing"
)

// Nothing that is said of a template tells a sensitive value, however short it
// is: not in words, and not in what hcl adds of the values of variables.
func TestDiagnosticsTellNoSecrets(t *testing.T) {
	const build = "source \"null\" \"a\" {\n  communicator = \"none\"\n}\nbuild {\n  sources = [\"null.a\"]\n  %s\n}\n"
	block := func(body string) string { return fmt.Sprintf(build, body) }
	local := func(expr string) string { return "locals {\n  x = " + expr + "\n}\n" + block("") }
	shell := func(args string) string {
		return block("provisioner \"shell\" {\n    inline = [\"x\"]\n    " + args + "\n  }")
	}
	ebs := func(args string) string {
		return "source \"amazon-ebs\" \"b\" {\n  " + args + "\n}\nbuild {\n  sources = [\"amazon-ebs.b\"]\n}\n"
	}
	tests := []struct{ name, hcl, want string }{
		{"number", local(`var.s + 1`), "number"},
		{"number of derived", "locals {\n  y = \"${var.s}\"\n}\n" + local(`local.y * 2`), "number"},
		{"truth", local(`var.s ? 1 : 2`), "bool"},
		{"attribute", local(`var.s.foo`), ""},
		{"index", local(`[1, 2][var.s]`), ""},
		{"key", local(`{ a = 1 }[var.s]`), ""},
		{"loop", local(`[for x in var.s : x]`), ""},
		{"loop over it", local(`[for x in [var.s] : x + 1]`), "number"},
		{"loop over an object of it", local(`[for k, x in { a = var.s } : x + 1]`), "number"},
		{"splat", local(`[{ a = var.s }][*].a[0] + 1`), "number"},
		{"function", local(`parseint(var.s, 10)`), "parseint"},
		{"function of derived", "locals {\n  y = upper(var.s)\n}\n" + local(`cidrhost(lower(local.y), 1)`), "cidrhost"},
		{"file", local(`file(var.s)`), "file"},
		{"template", local(`"%{for x in var.s}${x}%{endfor}"`), ""},
		{"not a string", local(`"x${[var.s]}"`), ""},
		{"name of a build", block("name = var.s"), "A name cannot be sensitive"},
		{"duration", shell("pause_before = var.s"), "is not a duration"},
		{"timeout", shell("timeout = var.s"), "is not a duration"},
		{"retries", shell("max_retries = var.s"), "number"},
		{"list", shell("environment_vars = var.s"), ""},
		{"braces", shell("execute_command = \"{{ ${var.s} }}\""), ""},
		{"for_each", block("dynamic \"provisioner\" {\n    for_each = var.s\n    labels = [\"shell\"]\n    content {}\n  }"), ""},
		{"labels", block("dynamic \"provisioner\" {\n    for_each = [1]\n    labels = [var.s]\n    content {}\n  }"), ""},
		{"number of a builder", ebs(`ssh_port = var.s`), "number"},
		{"duration of a builder", ebs(`ssh_timeout = var.s`), ""},
		{"truth of a builder", ebs(`ebs_optimized = var.s`), ""},
		{"block of a builder", ebs("ami_block_device_mappings {\n    volume_size = var.s\n  }"), ""},
		{"communicator", ebs(`communicator = var.s`), ""},
		{"validation", "variable \"v\" {\n  default = 1\n  validation {\n    condition = var.s == \"no\"\n    error_message = \"V is wrong.\"\n  }\n}\n" + block(""), ""},
	}
	for _, secret := range []string{"q9", "hidden-q9-value"} {
		for _, tt := range tests {
			t.Run(tt.name+" "+secret, func(t *testing.T) {
				tell(t, "-- args --\n-var s="+secret+"\n-- t.pkr.hcl --\nvariable \"s\" {\n  type      = string\n  sensitive = true\n}\n"+tt.hcl, secret, tt.want)
			})
		}
	}
}

// The same for JSON templates.
func TestLegacyDiagnosticsTellNoSecrets(t *testing.T) {
	const frame = `{"variables":{"s":"","d":"{{user ` + "`s`" + `}}"},"sensitive-variables":["s"],"builders":[{"type":"null","communicator":"none"%s}],"provisioners":[{"type":"shell","inline":"x"%s}]}`
	builder := func(args string) string { return fmt.Sprintf(frame, ","+args, "") }
	shell := func(args string) string { return fmt.Sprintf(frame, "", ","+args) }
	tests := []struct{ name, json, want string }{
		{"name", builder("\"name\":\"{{user `s`}}\""), "A name cannot be sensitive"},
		{"name of derived", builder("\"name\":\"x{{user `d`}}\""), "A name cannot be sensitive"},
		{"split", builder("\"ssh_username\":\"{{split (user `s`) `-` 7}}\""), "Invalid {{ }} expression"},
		{"split of derived", builder("\"ssh_username\":\"{{split (user `d`) `-` 7}}\""), "Invalid {{ }} expression"},
		{"split in a variable", strings.Replace(builder(`"ssh_username":"x"`), `"d":"`, `"e":"{{split (user `+"`s`"+`) `+"`-`"+` 7}}","d":"`, 1), "Invalid value for user variable"},
		{"strftime", builder("\"ssh_username\":\"{{strftime (printf `%%%%!%%s` (user `s`))}}\""), ""},
		{"user", builder("\"ssh_username\":\"{{index (user `s`) 99}}\""), "index"},
		{"number", builder("\"ssh_port\":\"{{user `s`}}\""), ""},
		{"duration of a builder", builder("\"ssh_timeout\":\"{{user `s`}}\""), ""},
		{"duration", shell("\"pause_before\":\"{{user `s`}}\""), "is not a duration"},
		{"timeout", shell("\"timeout\":\"{{user `d`}}\""), "is not a duration"},
		{"retries", shell("\"max_retries\":\"{{user `s`}}\""), ""},
		{"only", shell("\"only\":[\"{{user `s`}}\"]"), ""},
		{"list", shell("\"valid_exit_codes\":[\"{{user `s`}}\"]"), ""},
	}
	for _, secret := range []string{"q9", "hidden-q9-value"} {
		for _, tt := range tests {
			t.Run(tt.name+" "+secret, func(t *testing.T) {
				tell(t, "-- args --\npath t.json\n-var s="+secret+"\n-- t.json --\n"+tt.json+"\n", secret, tt.want)
			})
		}
	}
}

// tell checks and plans a template in which something is wrong, and looks at
// what is said of it.
func tell(t *testing.T, archive, secret, want string) {
	t.Helper()
	s := with(t, archive)
	tpl, all := Load(s.path, s.files, catalogue())
	values, diags := tpl.Variables(s.in)
	all = append(all, diags...)
	all = append(all, tpl.Check(values, s.sel, pinned)...)
	if !all.HasErrors() {
		_, diags := tpl.Plan(context.Background(), values, s.sel, pinned)
		all = append(all, diags...)
	}
	var text strings.Builder
	WriteDiagnostics(&text, all, tpl, false, 0)
	if !all.HasErrors() || !strings.Contains(text.String(), want) {
		t.Errorf("said %q, want %q", text.String(), want)
	}
	if strings.Contains(text.String(), secret) || strings.Contains(strings.ToLower(fmt.Sprint(Failure(all))), secret) {
		t.Errorf("it is told:\n%s", &text)
	}
}

// That hcl shows the values of variables that are no secrets is what makes the
// tests above able to fail.
func TestDiagnosticsTellValues(t *testing.T) {
	s := with(t, "-- args --\n-var s=q9\n-- t.pkr.hcl --\nvariable \"s\" {\n  type = string\n}\nlocals {\n  x = var.s + 1\n}\n")
	tpl, _ := Load(s.path, s.files, catalogue())
	values, _ := tpl.Variables(s.in)
	var text strings.Builder
	WriteDiagnostics(&text, tpl.Check(values, Selection{}, pinned), tpl, false, 0)
	if !strings.Contains(text.String(), `with var.s as "q9"`) {
		t.Errorf("said %s", &text)
	}
}

// What logs into a machine is a secret, too, when a provisioner gets it wrong.
func TestLateDiagnosticsTellNoSecrets(t *testing.T) {
	for _, expr := range []string{
		`build.Password + 1`, `build.SSHPrivateKey + 1`, `build.WinRMPassword + 1`, `parseint("${build.Password}-", 10)`, `parseint(build.Password, 10)`, `var.s + 1`,
		`[for x in [build.Password] : x + 1][0]`,
	} {
		s := with(t, "-- args --\n-var s=q9\n-- t.pkr.hcl --\nvariable \"s\" {\n  type      = string\n  sensitive = true\n}\nsource \"null\" \"a\" {\n  communicator = \"none\"\n}\n"+
			"build {\n  sources = [\"null.a\"]\n  provisioner \"shell\" {\n    inline = [build.ID, "+expr+"]\n  }\n}\n")
		tpl := mustLoad(t, s)
		values, _ := tpl.Variables(s.in)
		plan, diags := tpl.Plan(context.Background(), values, Selection{}, pinned)
		if diags.HasErrors() {
			if !strings.Contains(expr, "var.s") {
				t.Fatal(diags)
			}
		} else {
			b := plan.Builds[0]
			_, diags = tpl.Provisioner(plan.Scope, b, b.Provisioners[0], map[string]string{
				"ID": "i-1", "Password": "q9", "SSHPrivateKey": "q9", "WinRMPassword": "q9",
			})
		}
		var text strings.Builder
		WriteDiagnostics(&text, diags, tpl, false, 0)
		if !diags.HasErrors() || strings.Contains(text.String(), "q9") || strings.Contains(Failure(diags).Error(), "q9") {
			t.Errorf("%s: said %s", expr, &text)
		}
	}
}
