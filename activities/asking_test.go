package activities_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.temporal.io/sdk/log"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"
	"gocloud.dev/blob"
	"gocloud.dev/blob/memblob"

	"github.com/bakehouse-farm/bakehouse"
	"github.com/bakehouse-farm/bakehouse/activities"
	"github.com/bakehouse-farm/bakehouse/agent/buildlog"
	"github.com/bakehouse-farm/bakehouse/agent/bundle"
	"github.com/bakehouse-farm/bakehouse/agent/secret"
	"github.com/bakehouse-farm/bakehouse/builders"
	"github.com/bakehouse-farm/bakehouse/builders/null"
	"github.com/bakehouse-farm/bakehouse/postprocessors"
	"github.com/bakehouse-farm/bakehouse/template"
)

// A vault answers by path and key, and counts who asks. Nothing else is asked.
type vault struct {
	mu      sync.Mutex
	answers map[string]string
	fail    error
	asked   map[string]int
}

func (v *vault) Vault(_ context.Context, path, key string) (string, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.asked[path+" "+key]++
	if v.fail != nil {
		return "", v.fail
	}
	return v.answers[path+" "+key], nil
}

func (v *vault) ConsulKey(context.Context, string) (string, error) { return "", errors.ErrUnsupported }

func (v *vault) SecretsManager(context.Context, string, string) (string, error) {
	return "", errors.ErrUnsupported
}

func (v *vault) SecretsManagerRaw(context.Context, string) (string, error) {
	return "", errors.ErrUnsupported
}

// A teller is a post-processor that says what it is told, and fails with it.
type teller struct{}

type tellerSettings struct {
	Say  string `json:"say"`
	Fail bool   `json:"fail"`
}

func (teller) Settings() any { return new(tellerSettings) }

func (teller) Check(json.RawMessage, []string, bakehouse.Files) []bakehouse.Finding { return nil }

func (teller) Writes(json.RawMessage) []string { return nil }

func (teller) Process(ctx context.Context, w postprocessors.Work) (postprocessors.Result, error) {
	var s tellerSettings
	if err := json.Unmarshal(w.Settings, &s); err != nil {
		return postprocessors.Result{}, err
	}
	bakehouse.LogOf(ctx).Say("I was told: " + s.Say)
	if s.Fail {
		return postprocessors.Result{}, bakehouse.Errorf(bakehouse.Script, "cannot use %s", s.Say)
	}
	return postprocessors.Result{Artifact: w.Artifact}, nil
}

// A bench is the activities of one agent over a store in memory.
type bench struct {
	env    *testsuite.TestActivityEnvironment
	acts   *activities.Activities
	bucket *blob.Bucket
	logs   *buildlog.Store
	in     activities.PlanInput
}

func newBench(t *testing.T, v *vault, hcl string) *bench {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "t.pkr.hcl"), []byte(hcl), 0o600); err != nil {
		t.Fatal(err)
	}
	keys, err := secret.LoadOrCreate(filepath.Join(t.TempDir(), "key"))
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{bucket: memblob.OpenBucket(nil)}
	t.Cleanup(func() { b.bucket.Close() })
	bundles := bundle.New(b.bucket, keys)
	b.logs = buildlog.New(b.bucket, keys)
	b.acts = activities.New(activities.Config{
		Template: template.Catalogue{
			Builders:       map[string]bakehouse.Component{"null": null.New()},
			PostProcessors: map[string]bakehouse.Component{"teller": teller{}},
			Lookup:         v,
		},
		Builders:       map[string]builders.Builder{"null": null.New()},
		PostProcessors: map[string]postprocessors.PostProcessor{"teller": teller{}},
		Bundles:        bundles, Logs: b.logs, Cache: t.TempDir(),
	})
	ctx := context.Background()
	packed, _, err := bundles.Pack(ctx, bakehouse.Files{Cwd: dir, Home: dir}, []string{dir}, nil)
	if err != nil {
		t.Fatal(err)
	}
	values, err := json.Marshal(template.Values{})
	if err != nil {
		t.Fatal(err)
	}
	stored, err := bundles.Put(ctx, values)
	if err != nil {
		t.Fatal(err)
	}
	b.in = activities.PlanInput{
		Step: activities.Step{
			Key: "00-plan", Build: bakehouse.Build{ID: "sub-1"},
			Plan: activities.PlanRef{Files: activities.FilesRef{Bundle: string(packed), Template: "t.pkr.hcl", Cwd: dir, Home: dir}},
		},
		Submission: bakehouse.Submission{Values: string(stored)},
		Run:        "run", Time: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), RunUUID: "uuid",
	}
	suite := &testsuite.WorkflowTestSuite{}
	suite.SetLogger(log.NewStructuredLogger(slog.New(slog.DiscardHandler)))
	b.env = suite.NewTestActivityEnvironment()
	b.env.RegisterActivity(b.acts)
	return b
}

func (b *bench) plan() (out activities.Planned, err error) {
	v, err := b.env.ExecuteActivity(b.acts.Plan, b.in)
	if err == nil {
		err = v.Get(&out)
	}
	return out, err
}

// postProcess runs the nth post-processor of the plan's only build.
func (b *bench) postProcess(p activities.Planned, n int, key string) error {
	step := b.in.Step
	step.Key, step.Plan.Digest = key, p.Digest
	step.Build = bakehouse.Build{ID: "b-1", Name: p.Builds[0].Name, Type: p.Builds[0].Type, Source: p.Builds[0].Source}
	_, err := b.env.ExecuteActivity(b.acts.PostProcess, activities.PostProcessing{
		Step: step, PostProcessor: p.Builds[0].PostProcessors[n][0],
		Login: activities.Login{Machine: builders.Machine{ID: "i-1"}},
	})
	return err
}

// log is what the build's log says of a step.
func (b *bench) log(t *testing.T, step string) string {
	t.Helper()
	var all []string
	for line, err := range b.logs.Read(context.Background(), "b-1") {
		if err != nil {
			t.Fatal(err)
		}
		if line.Step == step {
			all = append(all, line.Text)
		}
	}
	return strings.Join(all, "\n")
}

const told = `
source "null" "a" { communicator = "none" }
build {
  sources = ["null.a"]
  post-processor "teller" {
    say = "${vault("secret/data/db", "password")} ${base64encode(vault("secret/data/db", "password"))}"
  }
  post-processor "teller" {
    say  = "${vault("secret/data/${build.ID}", "token")} ${upper(vault("secret/data/${build.ID}", "token"))}"
    fail = true
  }
}
`

// What Vault answered is used, asked for once, and seen nowhere: not in the log,
// not in a failure, not in the store.
func TestAnswersOfVault(t *testing.T) {
	v := &vault{asked: map[string]int{}, answers: map[string]string{
		"secret/data/db password": "hunter22", "secret/data/i-1 token": "t0ken-of-i-1",
	}}
	b := newBench(t, v, told)
	p, err := b.plan()
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"01-post-process", "02-post-process"} {
		if err := b.postProcess(p, 0, key); err != nil {
			t.Fatal(err)
		}
		if got, want := b.log(t, key), "I was told: <sensitive>"; !strings.HasSuffix(got, want) {
			t.Errorf("log says %q, want %q", got, want)
		}
	}
	err = b.postProcess(p, 1, "03-post-process")
	if got, want := b.log(t, "03-post-process"), "I was told: <sensitive>"; !strings.HasSuffix(got, want) {
		t.Errorf("log says %q, want %q", got, want)
	}
	if err == nil || !strings.Contains(err.Error(), "cannot use <sensitive>") {
		t.Errorf("failed with %v", err)
	}
	if n := v.asked["secret/data/db password"]; n != 1 {
		t.Errorf("the password was asked for %d times", n)
	}
	if n := v.asked["secret/data/i-1 token"]; n != 1 {
		t.Errorf("the token was asked for %d times", n)
	}
	blobs := 0
	for it := b.bucket.List(nil); ; blobs++ {
		o, err := it.Next(context.Background())
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		data, err := b.bucket.ReadAll(context.Background(), o.Key)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range []string{"hunter22", "t0ken-of-i-1"} {
			if strings.Contains(string(data), s) {
				t.Errorf("%s shows %q", o.Key, s)
			}
		}
	}
	if blobs == 0 {
		t.Error("nothing is stored")
	}
}

// A server that is away is asked again; one that refuses is not.
func TestVerdictOfVault(t *testing.T) {
	tests := []struct {
		name  string
		fail  error
		final bool
	}{
		{"away", errors.New("vault: connection refused"), false},
		{"refused", bakehouse.Errorf(bakehouse.Denied, "vault: permission denied"), true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := newBench(t, &vault{asked: map[string]int{}, fail: tt.fail}, told)
			_, err := b.plan()
			var app *temporal.ApplicationError
			if !errors.As(err, &app) || app.NonRetryable() != tt.final || !strings.Contains(app.Message(), tt.fail.Error()) {
				t.Errorf("plan ended with %v", err)
			}
		})
	}
}
