package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/bakehouse-farm/bakehouse"
	"github.com/bakehouse-farm/bakehouse/cmd/submit/farm"
	"github.com/bakehouse-farm/bakehouse/cmd/submit/ui"
	"github.com/bakehouse-farm/bakehouse/timeline"
)

// The same submission has the same ID; whatever makes it another makes another.
func TestSubmissionID(t *testing.T) {
	base := func() (bakehouse.Submission, json.RawMessage, string) {
		return bakehouse.Submission{
			Title: "web", Bundle: "b", Template: "web.pkr.hcl", Only: []string{"a"}, Except: []string{"c"},
			Policy: bakehouse.Policy{OnError: "cleanup"}, Pool: "east", User: "ann", Values: "sealed", TraceParent: "00-1", Parallel: 1,
		}, json.RawMessage(`{"version":"1"}`), ""
	}
	id := submissionID(base())
	if !strings.HasPrefix(id, "web-") || len(id) != len("web-")+10 {
		t.Errorf("ID %q", id)
	}
	tests := []struct {
		name   string
		change func(s *bakehouse.Submission, values *json.RawMessage, extra *string)
		same   bool
	}{
		{"nothing", func(*bakehouse.Submission, *json.RawMessage, *string) {}, true},
		{"user", func(s *bakehouse.Submission, _ *json.RawMessage, _ *string) { s.User = "bob" }, true},
		{"trace", func(s *bakehouse.Submission, _ *json.RawMessage, _ *string) { s.TraceParent = "00-2" }, true},
		{"how many at a time", func(s *bakehouse.Submission, _ *json.RawMessage, _ *string) { s.Parallel = 2 }, true},
		{"seal of the values", func(s *bakehouse.Submission, _ *json.RawMessage, _ *string) { s.Values = "sealed again" }, true},
		{"values", func(_ *bakehouse.Submission, v *json.RawMessage, _ *string) { *v = json.RawMessage(`{"version":"2"}`) }, false},
		{"files", func(s *bakehouse.Submission, _ *json.RawMessage, _ *string) { s.Bundle = "c" }, false},
		{"template", func(s *bakehouse.Submission, _ *json.RawMessage, _ *string) { s.Template = "./web.pkr.hcl" }, false},
		{"only", func(s *bakehouse.Submission, _ *json.RawMessage, _ *string) { s.Only = nil }, false},
		{"only as except", func(s *bakehouse.Submission, _ *json.RawMessage, _ *string) { s.Only, s.Except = s.Except, s.Only }, false},
		{"checkpoints", func(s *bakehouse.Submission, _ *json.RawMessage, _ *string) { s.Checkpoint = true }, false},
		{"which checkpoints", func(s *bakehouse.Submission, _ *json.RawMessage, _ *string) { s.CheckpointAfter = []string{"web"} }, false},
		{"on-error", func(s *bakehouse.Submission, _ *json.RawMessage, _ *string) { s.OnError = "abort" }, false},
		{"force", func(s *bakehouse.Submission, _ *json.RawMessage, _ *string) { s.Force = true }, false},
		{"pool", func(s *bakehouse.Submission, _ *json.RawMessage, _ *string) { s.Pool = "west" }, false},
		{"-id", func(_ *bakehouse.Submission, _ *json.RawMessage, e *string) { *e = "nightly" }, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, v, e := base()
			tt.change(&s, &v, &e)
			if got := submissionID(s, v, e); (got == id) != tt.same {
				t.Errorf("ID %s, was %s: same should be %t", got, id, tt.same)
			}
		})
	}
}

func TestTitle(t *testing.T) {
	tests := []struct{ path, want string }{
		{"web.pkr.hcl", "web"},
		{"dir/Web_Server.pkr.json", "web-server"},
		{"legacy.json", "legacy"},
		{".", "here"},
		{"../there/", "there"},
		{"--.pkr.hcl", "template"},
		{strings.Repeat("long-", 20) + ".pkr.hcl", "long-long-long-long-long-long"},
	}
	for _, tt := range tests {
		d := &dish{path: tt.path, files: bakehouse.Files{Cwd: "/some/here"}}
		if got := d.title(); got != tt.want {
			t.Errorf("title of %s = %q, want %q", tt.path, got, tt.want)
		}
	}
}

func TestListFlag(t *testing.T) {
	var l list
	for _, s := range []string{"a,b", "*.{x,y},c", ""} {
		if err := l.Set(s); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(list{"a", "b", "*.{x,y}", "c"}, l); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestMachineReadable(t *testing.T) {
	tests := []struct {
		args string
		rest string
		on   bool
	}{
		{"build x", "build x", false},
		{"-machine-readable build x", "build x", true},
		{"build x --machine-readable", "build x", true},
		{"build -machine-readable=true -machine-readable=false x", "build x", false},
		{"local run -- -machine-readable", "local run -- -machine-readable", false},
	}
	for _, tt := range tests {
		rest, on := machineReadable(strings.Fields(tt.args))
		if strings.Join(rest, " ") != tt.rest || on != tt.on {
			t.Errorf("%s: %v %t", tt.args, rest, on)
		}
	}
}

// Colours are for terminals, unless they are asked for; the variables win.
func TestColored(t *testing.T) {
	tests := []struct {
		name    string
		given   string
		environ []string
		machine bool
		want    bool
	}{
		{"no terminal", "", nil, false, false},
		{"asked for", "true", nil, false, true},
		{"asked for, but NO_COLOR", "true", []string{"NO_COLOR=1"}, false, true},
		{"asked for, but PACKER_NO_COLOR", "true", []string{"PACKER_NO_COLOR=1"}, false, false},
		{"machine-readable", "true", nil, true, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l := new(look)
			if tt.given != "" {
				if err := l.color.Set(tt.given); err != nil {
					t.Fatal(err)
				}
			}
			if got := l.colored(&console{out: new(bytes.Buffer), environ: tt.environ, machine: tt.machine}); got != tt.want {
				t.Errorf("got %t", got)
			}
		})
	}
}

// Files of the builds are put where the template says, as often as one likes.
func TestApplyOutputs(t *testing.T) {
	dir := t.TempDir()
	entry := json.RawMessage(`{"name":"web","builder_type":"amazon-ebs","build_time":1,"files":null,"artifact_id":"us-east-1:ami-1","packer_run_uuid":"run","custom_data":null}`)
	results := bakehouse.Results{Builds: []bakehouse.Result{{
		Build:   bakehouse.Build{Name: "web", RunUUID: "run"},
		Outputs: []bakehouse.Output{{Path: "out/packer-manifest.json", Kind: "manifest", Data: entry}},
	}}}
	var out bytes.Buffer
	w := &watch{ui: ui.New(&out, ui.Options{}), outputs: true, submission: bakehouse.Submission{Cwd: dir, Home: "/home/ann"}}
	for range 2 {
		if err := w.apply(t.Context(), results); err != nil {
			t.Fatal(err)
		}
	}
	data, err := os.ReadFile(filepath.Join(dir, "out", "packer-manifest.json"))
	if err != nil || strings.Count(string(data), "us-east-1:ami-1") != 1 || !strings.Contains(string(data), `"last_run_uuid": "run"`) {
		t.Errorf("manifest: %v\n%s", err, data)
	}
	if !strings.Contains(out.String(), "==> Wrote "+filepath.Join(dir, "out", "packer-manifest.json")) {
		t.Errorf("output: %s", out.String())
	}
	results.Builds[0].Outputs[0].Kind = "parcel"
	if err := w.apply(t.Context(), results); err == nil || !strings.Contains(err.Error(), `kind "parcel"`) {
		t.Errorf("unknown kind: %v", err)
	}
}

func TestReplace(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sub", "file")
	for _, text := range []string{"old", "new"} {
		if err := replace(path, []byte(text)); err != nil {
			t.Fatal(err)
		}
		if got, _ := os.ReadFile(path); string(got) != text {
			t.Errorf("%q, want %q", got, text)
		}
	}
	if entries, _ := os.ReadDir(filepath.Dir(path)); len(entries) != 1 {
		t.Errorf("left behind: %v", entries)
	}
}

func TestWriteList(t *testing.T) {
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	var out bytes.Buffer
	writeList(&out, []farm.Entry{
		{ID: "web-abc", Pool: "east", Status: "running", Started: now.Add(-90 * time.Second)},
		{ID: "db-def", Pool: "east", Status: "failed", Started: now.Add(-time.Hour), Ended: now.Add(-59 * time.Minute)},
	}, now)
	want := "" +
		"SUBMISSION  POOL  STATUS   STARTED    TOOK\n" +
		"web-abc     east  running  1m30s ago  1m30s\n" +
		"db-def      east  failed   1h00m ago  1m00s\n"
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestShow(t *testing.T) {
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	from := now.Add(-time.Minute)
	s := shown{
		Entry:     farm.Entry{ID: "web-abc", Pool: "east", Status: "running", Started: from},
		Submitted: bakehouse.Submission{Template: "web.pkr.hcl", Cwd: "/src", User: "ann"},
		Results: []bakehouse.Result{{
			Build:     bakehouse.Build{ID: "w-1"},
			Artifacts: []bakehouse.Artifact{{String: "AMIs were created:\nus-east-1: ami-1\n"}},
		}},
		Builds: []*timeline.Span{
			{Kind: timeline.Build, Name: "amazon-ebs.web", Build: "w-1", Scheduled: from, Ended: now.Add(-20 * time.Second), Outcome: timeline.Success},
			{Kind: timeline.Build, Name: "amazon-ebs.db", Build: "d-1", Scheduled: from, Children: []*timeline.Span{
				{Kind: timeline.Step, Name: "connect", Scheduled: now.Add(-5 * time.Second)},
			}},
		},
	}
	var out bytes.Buffer
	s.write(&out, now)
	for _, want := range []string{
		"Submission web-abc: running\n", "template  web.pkr.hcl", "by        ann",
		"Build amazon-ebs.web: done after 40s\n", "AMIs were created:\n            us-east-1: ami-1\n",
		"Build amazon-ebs.db: running for 1m00s: connect waits for an agent (5.0s)\n",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("lacks %q:\n%s", want, out.String())
		}
	}
}

func TestLiveLine(t *testing.T) {
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	s := &status{build: bakehouse.Build{Name: "amazon-ebs.web"}, began: now.Add(-65 * time.Second)}
	tests := []struct {
		steps []farm.StepState
		want  string
	}{
		{nil, "    amazon-ebs.web  1m05s  …"},
		{[]farm.StepState{{Key: "07-provision-1-shell", Since: now.Add(-12 * time.Second), Attempt: 1}}, "    amazon-ebs.web  1m05s  provision-1-shell 12s"},
		{[]farm.StepState{{Key: "12-copy-us-west-2", Since: now.Add(-2 * time.Second), Attempt: 2}, {Key: "14-copy-eu-west-1", Waiting: true}}, "    amazon-ebs.web  1m05s  copy-us-west-2, attempt 2 2.0s; copy-eu-west-1, waiting for an agent"},
	}
	for _, tt := range tests {
		s.steps = tt.steps
		if got := s.line(now); got != tt.want {
			t.Errorf("%q, want %q", got, tt.want)
		}
	}
}
