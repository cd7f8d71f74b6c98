package workflows_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.temporal.io/sdk/log"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/workflow"
	"gocloud.dev/blob/memblob"

	"github.com/bakehouse-farm/bakehouse"
	"github.com/bakehouse-farm/bakehouse/activities"
	"github.com/bakehouse-farm/bakehouse/agent/buildlog"
	"github.com/bakehouse-farm/bakehouse/agent/bundle"
	"github.com/bakehouse-farm/bakehouse/agent/secret"
	"github.com/bakehouse-farm/bakehouse/builders"
	"github.com/bakehouse-farm/bakehouse/postprocessors"
	"github.com/bakehouse-farm/bakehouse/provisioners"
	"github.com/bakehouse-farm/bakehouse/template"
	"github.com/bakehouse-farm/bakehouse/workflows"
)

// A bakery is the real workflows and activities over an oven.
type bakery struct {
	env  *testsuite.TestWorkflowEnvironment
	acts *activities.Activities
	logs *buildlog.Store
	in   bakehouse.Submission
	sent sentTraces
	kept []workflows.BuildRequest // builds that were to be kept
}

// sentTraces notes whose traces were asked for.
type sentTraces struct{ ids []string }

func (s *sentTraces) Send(submission, run string) { s.ids = append(s.ids, submission+" "+run) }

func newBakery(t *testing.T, o *oven, hcl string) *bakery {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "t.pkr.hcl"), []byte(hcl), 0o600); err != nil {
		t.Fatal(err)
	}
	keys, err := secret.LoadOrCreate(filepath.Join(t.TempDir(), "key"))
	if err != nil {
		t.Fatal(err)
	}
	bucket := memblob.OpenBucket(nil)
	t.Cleanup(func() { bucket.Close() })
	bundles, logs := bundle.New(bucket, keys), buildlog.New(bucket, keys)
	catalogue := template.Catalogue{
		Builders:       map[string]bakehouse.Component{"oven": o},
		Provisioners:   map[string]bakehouse.Component{"script": scriptRunner{o}},
		PostProcessors: map[string]bakehouse.Component{"note": noter{o}},
	}
	files := bakehouse.Files{Cwd: dir, Home: dir}
	tmpl, diags := template.Load("t.pkr.hcl", files, catalogue)
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	values, diags := tmpl.Variables(template.Inputs{})
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	raw, err := json.Marshal(values)
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	stored, err := bundles.Put(ctx, raw)
	if err != nil {
		t.Fatal(err)
	}
	packed, _, err := bundles.Pack(ctx, files, []string{dir}, nil)
	if err != nil {
		t.Fatal(err)
	}

	b := &bakery{}
	b.acts = activities.New(activities.Config{
		Template:       catalogue,
		Builders:       map[string]builders.Builder{"oven": o},
		Provisioners:   map[string]provisioners.Provisioner{"script": scriptRunner{o}},
		PostProcessors: map[string]postprocessors.PostProcessor{"note": noter{o}},
		Machines:       machines{}, Bundles: bundles, Logs: logs, Cache: t.TempDir(), Traces: &b.sent,
	})
	b.env, b.logs, b.in = b.farm(func(ctx workflow.Context, r workflows.BuildRequest) (bakehouse.Result, error) {
		if r.Kept != nil { // the test goes on with it, or not
			b.kept = append(b.kept, r)
			return bakehouse.Result{}, nil
		}
		return workflows.Build(ctx, r)
	}), logs, bakehouse.Submission{
		Template: "t.pkr.hcl", Title: "t", Bundle: string(packed), Cwd: dir, Home: dir, Values: string(stored), Pool: "p",
	}
	return b
}

// farm is a farm with one agent.
func (b *bakery) farm(build func(workflow.Context, workflows.BuildRequest) (bakehouse.Result, error)) *testsuite.TestWorkflowEnvironment {
	suite := &testsuite.WorkflowTestSuite{}
	suite.SetLogger(log.NewStructuredLogger(slog.New(slog.DiscardHandler)))
	env := suite.NewTestWorkflowEnvironment()
	env.SetTestTimeout(time.Minute)
	env.RegisterWorkflowWithOptions(workflows.Submission, workflow.RegisterOptions{Name: "Submission"})
	env.RegisterWorkflowWithOptions(build, workflow.RegisterOptions{Name: "Build"})
	env.RegisterActivity(b.acts)
	return env
}

// bake runs the submission to its end.
func (b *bakery) bake(t *testing.T) (bakehouse.Results, error) {
	t.Helper()
	b.env.ExecuteWorkflow(workflows.Submission, b.in)
	if !b.env.IsWorkflowCompleted() {
		t.Fatal("submission did not end")
	}
	err := b.env.GetWorkflowError()
	var out bakehouse.Results
	var app *temporal.ApplicationError
	var cancelled *temporal.CanceledError
	switch {
	case err == nil:
		if rerr := b.env.GetWorkflowResult(&out); rerr != nil {
			t.Fatal(rerr)
		}
	case errors.As(err, &cancelled) && cancelled.HasDetails():
		if derr := cancelled.Details(&out); derr != nil {
			t.Fatal(derr)
		}
	case errors.As(err, &app) && app.HasDetails():
		if derr := app.Details(&out); derr != nil {
			t.Fatal(derr)
		}
	}
	if len(b.sent.ids) != 1 {
		t.Errorf("traces asked for: %v, want one, however the submission ended", b.sent.ids)
	}
	return out, err
}

const plain = `
source "oven" "bread" {
  ssh_username = "baker"
  regions      = ["east", "west"]
}
build {
  sources = ["source.oven.bread"]
  provisioner "script" { script = "knead" }
  provisioner "script" {
    script      = "prove"
    max_retries = 2
  }
  provisioner "script" {
    script            = "decorate"
    continue_on_error = true
  }
  error-cleanup-provisioner "script" { script = "scrape" }
  post-processor "note" { keep = true }
}
`

// on fails a call for the first n times.
func on(call string, n int, err error) func(string) error {
	return func(c string) error {
		if c == call && n > 0 {
			n--
			return err
		}
		return nil
	}
}

// However a build ends, no machine and no key is left, and images are left if
// and only if it succeeded.
func TestNothingIsLeft(t *testing.T) {
	no := bakehouse.Errorf(bakehouse.Script, "Script exited with non-zero exit status: 3")
	denied := bakehouse.Errorf(bakehouse.Denied, "not allowed")
	trouble := errors.New("connection reset")
	tests := []struct {
		name          string
		hcl           string
		before, after func(string) error
		cancelAt      string // cancel when this call is made
		onError       string
		want          string // error of the build; empty: success
		images        int
		calls         map[string]int
		left          bool // -on-error=abort
	}{
		{name: "done", images: 3, calls: map[string]int{"script knead": 1, "script prove": 1, "note": 1, "release": 1}},
		{name: "trouble is retried", before: on("launch", 3, trouble), images: 3, calls: map[string]int{"launch": 4}},
		{name: "answer of launch is lost", after: on("launch", 1, trouble), images: 3, calls: map[string]int{"launch": 2}},
		{name: "launch is denied", before: on("launch", 9, denied), want: "not allowed", calls: map[string]int{"launch": 1, "release": 1}},
		{name: "launch takes effect and is denied", after: on("launch", 9, denied), want: "not allowed"},
		{name: "resolve is denied", before: on("resolve", 9, denied), want: "not allowed", calls: map[string]int{"launch": 0, "release": 1}},
		{name: "script says no", before: on("script knead", 9, no), want: "Script exited with non-zero exit status: 3", calls: map[string]int{"script knead": 1, "script prove": 0, "script scrape": 1}},
		{name: "script says no twice and may", before: on("script prove", 2, no), images: 3, calls: map[string]int{"script prove": 3, "script scrape": 0}},
		{name: "script says no too often", before: on("script prove", 9, no), want: "Script exited with non-zero exit status: 3", calls: map[string]int{"script prove": 3}},
		{name: "failure that is to be ignored", before: on("script decorate", 9, no), images: 3},
		{name: "one copy fails", before: on("await-image west", 9, bakehouse.Errorf(bakehouse.Failed, "copy failed")), want: "copy failed"},
		{name: "finishing fails", before: on("finish east", 9, denied), want: "not allowed"},
		{name: "post-processor fails", before: on("note", 9, denied), want: "1 error(s) occurred:\n\n* Post-processor failed: not allowed", images: 3},
		{name: "cancelled in a script", before: on("script prove", 1, errHang), cancelAt: "script prove", want: "build was cancelled", calls: map[string]int{"capture": 0}},
		{name: "cancelled while an image is copied", before: on("await-image east", 1, errHang), cancelAt: "await-image east", want: "build was cancelled"},
		{name: "cancelled in a post-processor", before: on("note", 1, errHang), cancelAt: "note", want: "build was cancelled", calls: map[string]int{"release": 2}},
		{name: "cancelled in the release", cancelAt: "release", want: "build was cancelled", calls: map[string]int{"release": 2, "note": 0}},
		{name: "intermediate image", hcl: strings.Replace(plain, `regions `, "junk = true\n  regions ", 1), images: 2},
		{name: "image is given up", hcl: strings.Replace(plain, "keep = true", "keep = false", 1), images: 0, calls: map[string]int{"release": 2}},
		{name: "abort leaves everything", before: on("script knead", 9, no), onError: "abort", want: "Script exited with non-zero exit status: 3", left: true, calls: map[string]int{"release": 0, "script scrape": 0}},
		{name: "only the cleanup provisioner", before: on("script knead", 9, no), onError: "run-cleanup-provisioner", want: "Script exited with non-zero exit status: 3", left: true, calls: map[string]int{"release": 0, "script scrape": 1}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o := newOven()
			hcl := tt.hcl
			if hcl == "" {
				hcl = plain
			}
			b := newBakery(t, o, hcl)
			b.in.OnError = tt.onError
			o.after = tt.after
			o.before = func(call string) error {
				if call == tt.cancelAt {
					b.env.CancelWorkflow()
				}
				if tt.before != nil {
					return tt.before(call)
				}
				return nil
			}
			results, err := b.bake(t)
			if len(results.Builds) != 1 {
				t.Fatalf("%d results, error %v", len(results.Builds), err)
			}
			res := results.Builds[0]
			if res.Error != tt.want {
				t.Errorf("build ended with %q, want %q", res.Error, tt.want)
			}
			if (err != nil) != (tt.want != "") {
				t.Errorf("submission ended with %v", err)
			}
			if (tt.cancelAt != "") != res.Cancelled {
				t.Errorf("cancelled: %v", res.Cancelled)
			}
			if tt.left {
				if len(o.machines) != 1 {
					t.Errorf("machines: %v, want the one of the build", o.machines)
				}
			} else if len(o.machines) != 0 || len(o.keys) != 0 {
				t.Errorf("left behind: machines %v, keys %v", o.machines, o.keys)
			}
			if len(o.images) != tt.images {
				t.Errorf("images: %v, want %d", o.images, tt.images)
			}
			for call, n := range tt.calls {
				if got := o.called(call); got != n {
					t.Errorf("%q was called %d times, want %d", call, got, n)
				}
			}
		})
	}
}

// What cannot be removed is reported and does not hide how the build ended.
func TestLeftoversAreReported(t *testing.T) {
	o := newOven()
	o.before = on("release", 1, bakehouse.Errorf(bakehouse.Denied, "may not delete"))
	results, err := newBakery(t, o, plain).bake(t)
	if len(results.Builds) != 1 {
		t.Fatalf("no result: %v", err)
	}
	if err != nil || results.Builds[0].Error != "" {
		t.Errorf("submission %v, build %q: the image was made", err, results.Builds[0].Error)
	}
	if results.Builds[0].Leftovers != "may not delete" {
		t.Errorf("leftovers: %q", results.Builds[0].Leftovers)
	}
}

// One build that fails does not disturb the others; -parallel-builds limits.
func TestBuildsAreIndependent(t *testing.T) {
	o := newOven()
	o.before = on("script only-a", 9, bakehouse.Errorf(bakehouse.Script, "no"))
	b := newBakery(t, o, `
source "oven" "a" { ssh_username = "x" }
source "oven" "b" { ssh_username = "x" }
build {
  name    = "both"
  sources = ["source.oven.a", "source.oven.b"]
  provisioner "script" {
    only   = ["oven.a"]
    script = "only-a"
  }
  provisioner "script" { script = "each" }
}`)
	b.in.Parallel = 1
	results, err := b.bake(t)
	var app *temporal.ApplicationError
	if !errors.As(err, &app) || app.Type() != workflows.BuildsFailed {
		t.Errorf("submission ended with %v", err)
	}
	var got []string
	for _, r := range results.Builds {
		got = append(got, r.Build.Name+": "+r.Error)
	}
	if diff := cmp.Diff([]string{"both.oven.a: no", "both.oven.b: "}, got); diff != "" {
		t.Errorf("results (-want +got):\n%s", diff)
	}
}

// A template that cannot be planned fails with its diagnostics, and nothing is
// begun.
func TestPlanFails(t *testing.T) {
	o := newOven()
	b := newBakery(t, o, strings.Replace(plain, `"knead"`, `file("nowhere")`, 1)+"locals { x = file(\"nowhere\") }\n")
	_, err := b.bake(t)
	var app *temporal.ApplicationError
	if !errors.As(err, &app) || app.Type() != string(activities.PlanFailed) || !strings.Contains(app.Message(), "nowhere") {
		t.Errorf("submission ended with %v", err)
	}
	if len(o.calls) != 0 {
		t.Errorf("calls: %v", o.calls)
	}
}

// Each line that a step says is in the log once, in the order of the steps.
func TestLogIsKept(t *testing.T) {
	o := newOven()
	o.after = on("script knead", 1, errors.New("connection reset"))
	b := newBakery(t, o, plain)
	results, err := b.bake(t)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for line, err := range b.logs.Read(context.Background(), results.Builds[0].Build.ID) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, line.Text)
	}
	want := []string{
		"running knead", "connection reset (trying again)", "running prove", "running decorate",
		"Running post-processor:  (type note)",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("log (-want +got):\n%s", diff)
	}
}
