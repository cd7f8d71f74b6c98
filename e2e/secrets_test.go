//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"encoding/base64"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"go.temporal.io/api/enums/v1"
	"go.temporal.io/api/history/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"google.golang.org/protobuf/proto"
)

// What is sensitive, and what is made of it, lies nowhere in the open: neither
// in what submit prints or sends to a collector of traces, nor in the state
// folder, nor in what Temporal's API gives away. A secret of one letter is not
// looked for, so that it does not make the log unreadable.
func TestSecretsLieNowhere(t *testing.T) {
	var mu sync.Mutex
	var traces bytes.Buffer
	collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		_, _ = io.Copy(&traces, r.Body)
	}))
	defer collector.Close()
	sendTo(t, nil)
	t.Setenv("OTEL_TRACES_EXPORTER", "otlp")
	t.Setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.URL)

	const token, pin = "correct-horse-battery", "zebra-4711-stripe"
	s := newStack(t)
	head := source("secret", "") + `
variable "token" {
  type      = string
  sensitive = true
}
variable "pin" {
  type      = string
  default   = env("E2E_PIN")
  sensitive = true
}
variable "letter" {
  type      = string
  sensitive = true
}
locals {
  derived = base64encode("${upper(var.token)}/${var.letter}")
  late    = { pins = [for p in split("-", var.pin) : "pin-${p}-of-it"] }
}
build {
  sources = ["source.amazon-ebs.secret"]
  provisioner "shell" {
    environment_vars = ["TOKEN=${var.token}", "LETTER=${var.letter}"]
    inline = [
      "echo an apple a day: $LETTER",
      "echo token is $TOKEN, made ${local.derived}",
      "echo pin is ${var.pin}, late ${join(" ", local.late.pins)}",
      "test $${#TOKEN} = 21",
    ]
  }
  `
	dir := write(t, map[string]string{
		"good.pkr.hcl": head + "post-processor \"manifest\" {}\n}\n",
		"bad.pkr.hcl":  head + "provisioner \"shell\" {\n    inline = [\"echo ${var.token} is refused >&2; exit 3\"]\n  }\n}\n",
		"odd.pkr.hcl":  head + "provisioner \"shell\" {\n    inline = [parseint(\"${var.pin}${build.ID}\", 10)]\n  }\n}\n",
	})
	t.Setenv("E2E_PIN", pin)
	secrets := []string{
		token, strings.ToUpper(token), base64.StdEncoding.EncodeToString([]byte(strings.ToUpper(token) + "/a")),
		pin, "pin-zebra-of-it", "pin-4711-of-it",
	}
	look := func(where string, data []byte) {
		t.Helper()
		for _, secret := range secrets {
			if at := bytes.Index(data, []byte(secret)); at >= 0 {
				t.Errorf("%s holds %q: %q", where, secret, data[max(0, at-100):min(len(data), at+len(secret)+100)])
			}
		}
	}

	vars := []string{"-var", "token=" + token, "-var", "letter=a"}
	out, err := s.build(dir, append(vars, "good.pkr.hcl")...)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	look("the output", []byte(out))
	for _, want := range []string{"an apple a day: a", "token is <sensitive>, made <sensitive>", "pin is <sensitive>, late <sensitive>\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("the output lacks %q:\n%s", want, out)
		}
	}
	for name, want := range map[string]string{"bad.pkr.hcl": "<sensitive> is refused", "odd.pkr.hcl": "parseint"} {
		out, err := s.build(dir, append(vars, name)...)
		if err == nil || !strings.Contains(out, want) {
			t.Errorf("%s: %v, %q is not in:\n%s", name, err, want, out)
		}
		look("the output of "+name, []byte(out))
	}
	manifest, err := os.ReadFile(filepath.Join(dir, "packer-manifest.json"))
	if err != nil {
		t.Error(err)
	}
	look("the manifest", manifest)

	_, address := s.entry("server")
	c, err := client.Dial(client.Options{HostPort: address})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx := context.Background()
	list, err := c.ListWorkflow(ctx, &workflowservice.ListWorkflowExecutionsRequest{})
	if err != nil || len(list.Executions) < 6 {
		t.Fatalf("%v, %d workflows", err, len(list.GetExecutions()))
	}
	raw := func(m proto.Message) []byte {
		data, err := proto.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	look("the list of workflows", raw(list))
	for _, e := range list.Executions {
		id := e.Execution.WorkflowId
		h := &history.History{}
		for it := c.GetWorkflowHistory(ctx, id, e.Execution.RunId, false, enums.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT); it.HasNext(); {
			event, err := it.Next()
			if err != nil {
				t.Fatal(err)
			}
			h.Events = append(h.Events, event)
		}
		look("the history of "+id, raw(h))
		about, err := c.DescribeWorkflowExecution(ctx, id, e.Execution.RunId)
		if err != nil {
			t.Fatal(err)
		}
		look("the description of "+id, raw(about))
		for _, args := range [][]string{{"show"}, {"show", "-json"}, {"timeline"}, {"timeline", "-json"}, {"logs"}, {"logs", "-json"}} {
			out, _ := s.ask(dir, append(args, id)...)
			look(strings.Join(args, " ")+" of "+id, []byte(out))
		}
	}
	for _, args := range [][]string{{"list"}, {"list", "-json"}} {
		out, code := s.ask(dir, args...)
		if code != 0 {
			t.Errorf("%v: exit %d\n%s", args, code, out)
		}
		look(strings.Join(args, " "), []byte(out))
	}
	mu.Lock()
	if !bytes.Contains(traces.Bytes(), []byte("provision-1-shell")) {
		t.Errorf("no step is in %d bytes of traces", traces.Len())
	}
	look("a trace", traces.Bytes())
	mu.Unlock()

	files := 0
	err = filepath.WalkDir(s.state, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return nil // gone meanwhile, or nothing to read
		}
		if data, err := os.ReadFile(path); err == nil {
			files++
			look(path, data)
		}
		return nil
	})
	if err != nil || files < 20 {
		t.Errorf("looked at %d files, %v", files, err)
	}
}
