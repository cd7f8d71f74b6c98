package manifest_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/bakehouse-farm/bakehouse"
	"github.com/bakehouse-farm/bakehouse/postprocessors"
	"github.com/bakehouse-farm/bakehouse/postprocessors/manifest"
)

const run = "6491f198-dee0-8207-ab29-655ccac63361"

// work is a call for an artifact of the source name.
func work(name, id, settings string) postprocessors.Work {
	return postprocessors.Work{
		Build:    bakehouse.Build{Name: "amazon-ebs." + name, Type: "amazon-ebs", Source: name, RunUUID: run},
		Settings: json.RawMessage(settings),
		Artifact: bakehouse.Artifact{BuilderID: "mitchellh.amazonebs", ID: id},
		Time:     1795230604,
	}
}

// entry returns the Data that Process makes.
func entry(t *testing.T, w postprocessors.Work) json.RawMessage {
	t.Helper()
	r, err := manifest.PostProcessor{}.Process(t.Context(), w)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Outputs) != 1 || r.Outputs[0].Kind != manifest.OutputKind {
		t.Fatalf("outputs: %+v", r.Outputs)
	}
	return r.Outputs[0].Data
}

func apply(t *testing.T, path string, data json.RawMessage, run string) {
	t.Helper()
	if err := manifest.Apply(path, data, run); err != nil {
		t.Fatal(err)
	}
}

func check(t *testing.T, path, want string) {
	t.Helper()
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("manifest (-want +got):\n%s", diff)
	}
}

// ids returns the artifact ids in the manifest.
func ids(t *testing.T, path string) []string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var doc struct {
		Builds []struct {
			ArtifactID string `json:"artifact_id"`
		} `json:"builds"`
	}
	if err := json.Unmarshal(text, &doc); err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, b := range doc.Builds {
		out = append(out, b.ArtifactID)
	}
	return out
}

func TestTheManifestLooksLikePackers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "packer-manifest.json")
	apply(t, path, entry(t, work("full", "us-east-1:ami-4,us-west-2:ami-5", `{}`)), run)
	const image = `    {
      "name": "full",
      "builder_type": "amazon-ebs",
      "build_time": 1795230604,
      "files": null,
      "artifact_id": "us-east-1:ami-4,us-west-2:ami-5",
      "packer_run_uuid": "6491f198-dee0-8207-ab29-655ccac63361",
      "custom_data": null
    }`
	check(t, path, "{\n  \"builds\": [\n"+image+"\n  ],\n  \"last_run_uuid\": \"6491f198-dee0-8207-ab29-655ccac63361\"\n}")

	w := work("f", "File", `{"custom_data":{"b":"<2>","a":"1"},"strip_path":true,"strip_time":true}`)
	w.Build.Type = "file"
	w.Artifact.Files = []bakehouse.File{{Name: "out/x.txt", Size: 7}}
	apply(t, path, entry(t, w), "another-run")
	check(t, path, "{\n  \"builds\": [\n"+image+`,
    {
      "name": "f",
      "builder_type": "file",
      "files": [
        {
          "name": "x.txt",
          "size": 7
        }
      ],
      "artifact_id": "File",
      "packer_run_uuid": "6491f198-dee0-8207-ab29-655ccac63361",
      "custom_data": {
        "a": "1",
        "b": "\u003c2\u003e"
      }
    }
  ],
  "last_run_uuid": "another-run"
}`)
}

func TestProcess(t *testing.T) {
	w := work("full", "us-east-1:ami-4", `{"output":"out/m.json"}`)
	r, err := manifest.PostProcessor{}.Process(t.Context(), w)
	if err != nil {
		t.Fatal(err)
	}
	if !r.Keep || r.Artifact.ID != w.Artifact.ID || r.Outputs[0].Path != "out/m.json" {
		t.Errorf("got %+v", r)
	}
	if diff := cmp.Diff([]string{"out/m.json"}, manifest.PostProcessor{}.Writes(w.Settings)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"packer-manifest.json"}, manifest.PostProcessor{}.Writes(nil)); diff != "" {
		t.Error(diff)
	}
	for settings, findings := range map[string]int{`{}`: 0, `{"output":"a/"}`: 1, `{"output":1}`: 1} {
		if got := (manifest.PostProcessor{}).Check(json.RawMessage(settings), nil, bakehouse.Files{}); len(got) != findings {
			t.Errorf("%s: %+v", settings, got)
		}
	}
	if _, err := (manifest.PostProcessor{}).Process(t.Context(), work("a", "b", `{"output":1}`)); bakehouse.KindOf(err) != bakehouse.Invalid {
		t.Errorf("wrong settings: %v", err)
	}
}

func TestApplyingTwiceIsTheSameAsOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "m.json")
	a, b := entry(t, work("a", "ami-a", "")), entry(t, work("b", "ami-b", ""))
	apply(t, path, a, run)
	apply(t, path, b, run)
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	apply(t, path, a, run)
	check(t, path, string(before))
}

func TestForceRemovesOtherRuns(t *testing.T) {
	path := filepath.Join(t.TempDir(), "m.json")
	old := work("a", "ami-old", "")
	old.Build.RunUUID = "old-run"
	apply(t, path, entry(t, old), "old-run")
	apply(t, path, entry(t, work("a", "ami-new", "")), run)
	if diff := cmp.Diff([]string{"ami-old", "ami-new"}, ids(t, path)); diff != "" {
		t.Error(diff)
	}
	forced := work("b", "ami-forced", "")
	forced.Build.Force = true
	apply(t, path, entry(t, forced), run)
	if diff := cmp.Diff([]string{"ami-new", "ami-forced"}, ids(t, path)); diff != "" {
		t.Error(diff)
	}
}

func TestWhatOthersWroteStays(t *testing.T) {
	path := filepath.Join(t.TempDir(), "m.json")
	const old = `{"builds":[{"name":"x","artifact_id":"X","from_the_future":[1]}],"last_run_uuid":"y"}`
	if err := os.WriteFile(path, []byte(old), 0o640); err != nil {
		t.Fatal(err)
	}
	apply(t, path, entry(t, work("a", "ami-a", "")), run)
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), "from_the_future") {
		t.Errorf("a field was lost: %s", text)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("mode is %v, %v", info.Mode(), err)
	}
}

func TestAFileThatIsNoManifestIsLeftAlone(t *testing.T) {
	for name, content := range map[string]string{
		"text": "my notes", "cut short": `{"builds":[{"name":"x"`, "list": "[]", "entries": `{"builds":["x"]}`,
	} {
		path := filepath.Join(t.TempDir(), "m.json")
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		err := manifest.Apply(path, entry(t, work("a", "ami-a", "")), run)
		if bakehouse.KindOf(err) != bakehouse.Conflict || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", name, err)
		}
		check(t, path, content)
		if left, err := os.ReadDir(filepath.Dir(path)); err != nil || len(left) != 1 {
			t.Errorf("%s: left behind: %v, %v", name, left, err)
		}
	}
	// An empty file is no loss; somebody made it with mktemp.
	path := filepath.Join(t.TempDir(), "m.json")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	apply(t, path, entry(t, work("a", "ami-a", "")), run)
}

func TestALinkToTheManifestStaysALink(t *testing.T) {
	dir := t.TempDir()
	real, link := filepath.Join(dir, "deep", "real.json"), filepath.Join(dir, "m.json")
	apply(t, real, entry(t, work("a", "ami-a", "")), run)
	if err := os.Symlink(real, link); err != nil {
		t.Fatal(err)
	}
	apply(t, link, entry(t, work("b", "ami-b", "")), run)
	if _, err := os.Readlink(link); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff([]string{"ami-a", "ami-b"}, ids(t, real)); diff != "" {
		t.Error(diff)
	}
}

func TestManyWriteAtOnce(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "m.json")
	const n = 40
	errs := make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		data := entry(t, work(fmt.Sprint("s", i), fmt.Sprint("ami-", i), ""))
		wg.Go(func() { errs[i] = manifest.Apply(path, data, run) })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	if got := ids(t, path); len(got) != n {
		t.Errorf("%d entries, not %d", len(got), n)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestALockThatACrashLeftBehind(t *testing.T) {
	path := filepath.Join(t.TempDir(), "m.json")
	if err := os.WriteFile(path+".lock", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	old := time.Now().Add(-time.Hour)
	if err := os.Chtimes(path+".lock", old, old); err != nil {
		t.Fatal(err)
	}
	apply(t, path, entry(t, work("a", "ami-a", "")), run)
	if _, err := os.Stat(path + ".lock"); err == nil {
		t.Error("it is still there")
	}
}
