package main

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// validate asks data sources when it is told to, and only then: what is wrong
// with a value that comes from one is not known before. It asks from here, with
// the credentials of the environment.
func TestEvaluateDatasources(t *testing.T) {
	var asked []string
	aws := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = r.ParseForm()
		asked = append(asked, r.PostForm.Get("Action"))
		fmt.Fprint(w, `<DescribeImagesResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/"><imagesSet><item>
			<imageId>ami-0123456789abcdef0</imageId><name>base</name><creationDate>2024-02-29T12:05:06.000Z</creationDate>
			<imageOwnerId>123456789012</imageOwnerId></item></imagesSet></DescribeImagesResponse>`)
	}))
	defer aws.Close()
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.URL.Path)
		fmt.Fprint(w, "shrug")
	}))
	defer web.Close()
	for name, value := range map[string]string{
		"AWS_ENDPOINT_URL": aws.URL, "AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s", "AWS_REGION": "us-east-1",
		"AWS_EC2_METADATA_DISABLED": "true", "AWS_CONFIG_FILE": "/dev/null", "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
	} {
		t.Setenv(name, value)
	}
	dir := t.TempDir()
	write(t, dir, "good.pkr.hcl", `
data "amazon-ami" "base" {
  filters     = { name = "base" }
  owners      = ["self"]
  most_recent = true
}
locals { port = substr(data.amazon-ami.base.id, 0, 3) == "ami" ? 22 : "none" }
source "null" "n" {
  ssh_host     = data.amazon-ami.base.id
  ssh_port     = local.port
  ssh_username = "u"
  ssh_password = "p"
}
build { sources = ["null.n"] }
`)
	write(t, dir, "bad.pkr.hcl", fmt.Sprintf(`
data "http" "answer" { url = "%s/answer" }
source "null" "n" {
  ssh_host     = "h"
  ssh_port     = data.http.answer.body
  ssh_username = "u"
  ssh_password = "p"
}
build { sources = ["null.n"] }
`, web.URL))
	write(t, dir, "away.pkr.hcl", `
data "http" "answer" { url = "http://127.0.0.1:1/" }
source "null" "n" { communicator = "none" }
build { sources = ["null.n"] }
`)
	write(t, dir, "lacking.pkr.hcl", `
data "git-commit" "here" {}
source "null" "n" { communicator = "none" }
build { sources = ["null.n"] }
`)
	t.Chdir(dir)
	tests := []struct {
		args  string
		code  int
		says  string
		asked string
	}{
		{"good.pkr.hcl", 0, "The configuration is valid.", ""},
		{"-evaluate-datasources good.pkr.hcl", 0, "The configuration is valid.", "DescribeImages"},
		{"bad.pkr.hcl", 0, "The configuration is valid.", ""},
		{"-evaluate-datasources bad.pkr.hcl", 1, "bad.pkr.hcl line 5", "/answer"},
		{"-evaluate-datasources away.pkr.hcl", 1, "Datasource.http failed", ""},
		{"lacking.pkr.hcl", 0, "The configuration is valid.", ""},
		{"-evaluate-datasources lacking.pkr.hcl", 1, "Data source was not read", ""},
	}
	for _, tt := range tests {
		t.Run(tt.args, func(t *testing.T) {
			asked = nil
			var out, said bytes.Buffer
			c := &console{in: strings.NewReader(""), out: &out, err: &said}
			code := run(t.Context(), c, append([]string{"validate"}, strings.Fields(tt.args)...))
			if code != tt.code || !strings.Contains(out.String(), tt.says) {
				t.Errorf("exit code %d, want %d, and %q:\n%s%s", code, tt.code, tt.says, &out, &said)
			}
			if got := strings.Join(asked, " "); got != tt.asked {
				t.Errorf("asked %q, want %q", got, tt.asked)
			}
		})
	}
}
