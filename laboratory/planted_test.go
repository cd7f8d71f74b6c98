//go:build e2e

package laboratory_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/bakehouse-farm/bakehouse/laboratory"
	"github.com/bakehouse-farm/bakehouse/localcloud/faults"
)

// A safeguard is something that the product does so that nothing is lost. Here
// it is taken out of the source, by an overlay of the compiler's: nothing in the
// product itself can switch it off.
type safeguard struct {
	name    string
	program string // that is built without it
	edits   []edit
	faults  []laboratory.Fault // that it is there for
	// found tells whether the laboratory saw what then must happen.
	found func(laboratory.Finding) bool
}

type edit struct{ file, old, new string }

func lost(action string) laboratory.Fault {
	return laboratory.Fault{Kind: "answer lost", Rule: &faults.Rule{Kind: faults.Lost, Actions: []string{action}, Count: 3}}
}

func killAgents() []laboratory.Fault {
	return []laboratory.Fault{
		{Kind: "kill -9 agent", Agent: 0, At: laboratory.Moment{Script: 1, Line: 5}, For: time.Second},
		{Kind: "kill -9 agent", Agent: 1, At: laboratory.Moment{Script: 2, Line: 5}, For: time.Second},
		{Kind: "kill -9 agent", Agent: 0, At: laboratory.Moment{Script: 3, Line: 5}, For: time.Second},
	}
}

func safeguards() []safeguard {
	return []safeguard{
		{
			name: "client token and look before launch", program: "agent",
			edits: []edit{
				{"builders/amazon/instance.go", "aws.String(token(b, again(b, stepLaunch)))", "aws.String(token(b, time.Now().String()))"},
				{"builders/amazon/instance.go", "if len(there) > 0 {\n\t\tid =", "if len(there) > 1000 {\n\t\tid ="},
			},
			faults: []laboratory.Fault{lost("RunInstances")},
			found:  func(f laboratory.Finding) bool { return f.Again > 0 },
		},
		{
			name: "look before the image is made", program: "agent",
			edits: []edit{
				{"builders/amazon/image.go", "if i := slices.IndexFunc(there, usable); i >= 0 {\n\t\timg.ID = aws.ToString(there[i].ImageId)\n\t\tsay(ctx, \"AMI: %s\", img.ID)", "if i := slices.IndexFunc(there, usable); i >= 1000 {\n\t\timg.ID = aws.ToString(there[i].ImageId)\n\t\tsay(ctx, \"AMI: %s\", img.ID)"},
				{"builders/amazon/image.go", "if !is(err, \"InvalidAMIName.Duplicate\") {\n\t\t\treturn err", "if err != nil {\n\t\t\treturn err"},
			},
			faults: []laboratory.Fault{lost("CreateImage")},
			found:  func(f laboratory.Finding) bool { return f.Lost },
		},
		{
			name: "start once on the machine", program: "runner",
			edits: []edit{
				{"cmd/runner/start.go", "if s, err := f.status(); err != nil || s.State != runner.None {\n\t\t\treturn s, err", "if s, err := f.status(); err != nil {\n\t\t\treturn s, err"},
				{"cmd/runner/start.go", "if s, err := f.status(); err != nil || s.State != runner.None {\n\t\t\t\treturn s, err", "if s, err := f.status(); err != nil {\n\t\t\t\treturn s, err"},
				{"cmd/runner/folder.go", "err = syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)", "err = nil"},
			},
			faults: killAgents(),
			found:  func(f laboratory.Finding) bool { return f.Twice > 0 },
		},
		{
			name: "offset in the log", program: "agent",
			edits:  []edit{{"agent/buildlog/flush.go", "if e.Offset > st.offsets[e.Command] {", "if e.Offset < 0 {"}},
			faults: killAgents(),
			found:  func(f laboratory.Finding) bool { return f.Bytes > 0 },
		},
		{
			name: "release apart from the cancellation", program: "agent",
			edits:  []edit{{"workflows/capture.go", "ctx, cancel := workflow.NewDisconnectedContext(ctx)", "ctx, cancel := workflow.WithCancel(ctx)"}},
			faults: []laboratory.Fault{{Kind: "cancel", At: laboratory.Moment{Script: 2, Line: 3}}},
			found:  func(f laboratory.Finding) bool { return f.Left > 0 },
		},
		{
			name: "release promised before the launch", program: "agent",
			edits:  []edit{{"workflows/build.go", "defer func() { b.giveBack(ctx, err) }()", "defer func() {\n\t\t\tif b.Stage > launching {\n\t\t\t\tb.giveBack(ctx, err)\n\t\t\t}\n\t\t}()"}},
			faults: []laboratory.Fault{{Kind: "not authorized", Rule: &faults.Rule{Kind: faults.Unauthorized, Actions: []string{"RunInstances"}, Count: 1}}},
			found:  func(f laboratory.Finding) bool { return f.Left > 0 },
		},
		{
			name: "guard over the machine", program: "agent",
			edits:  []edit{{"activities/guard.go", "if bakehouse.KindOf(err) == bakehouse.Gone && inner.Err() == nil {", "if bakehouse.KindOf(err) == bakehouse.Breakpoint && inner.Err() == nil {"}, {"activities/guard.go", "gone := watcher.Watch(look, b, m); bakehouse.KindOf(gone) == bakehouse.Gone {", "gone := watcher.Watch(look, b, m); bakehouse.KindOf(gone) == bakehouse.Breakpoint {"}},
			faults: []laboratory.Fault{{Kind: "terminate machine", At: laboratory.Moment{Script: 2, Line: 3}}},
			found:  func(f laboratory.Finding) bool { return f.Lost },
		},
	}
}

// The laboratory finds what goes wrong without a safeguard, and finds nothing
// with it under the same faults.
func TestPlantedBugs(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("the laboratory needs root")
	}
	bin := os.Getenv("BAKEHOUSE_BIN")
	if bin == "" {
		bin, _ = filepath.Abs("../bin")
	}
	for _, s := range safeguards() {
		t.Run(strings.ReplaceAll(s.name, " ", "-"), func(t *testing.T) {
			with, log := experiment(t, bin, s)
			if !with.Good() {
				t.Errorf("with the safeguard:\n%s", log)
			}
			without, log := experiment(t, s.plant(t, bin), s)
			for _, f := range without.Findings {
				if s.found(f) {
					t.Logf("found: %s", strings.Join(f.Trouble, "; "))
					return
				}
			}
			t.Errorf("the laboratory has not noticed that it is missing:\n%s", log)
		})
	}
}

// experiment makes two builds that meet the faults.
func experiment(t *testing.T, bin string, s safeguard) (laboratory.Report, string) {
	t.Helper()
	var log strings.Builder
	dir, err := os.MkdirTemp("", "bakehouse-lab-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	report, err := laboratory.Run(t.Context(), laboratory.Config{
		Bin: bin, Dir: dir, Seed: 1, Faults: 2 * len(s.faults), Builds: 2, Parallel: 2, Patience: 3 * time.Minute, Progress: &log,
		Recipe: func(n int) laboratory.Recipe {
			r := laboratory.NewRecipe(1, n, []string{}).Unattended()
			r.Restart, r.Checkpoint, r.Upload = s.faults[0].Kind == "terminate machine", false, false
			for i := range r.Scripts {
				r.Scripts[i] = laboratory.Script{Lines: 12, Pace: 200 * time.Millisecond}
			}
			for _, f := range s.faults {
				if f.Rule != nil {
					rule := *f.Rule
					rule.AccessKey = r.Key
					f.Rule = &rule
				}
				r.Faults = append(r.Faults, f)
			}
			return r
		},
	})
	if err != nil {
		t.Fatalf("%v\n%s", err, log.String())
	}
	report.Write(&log)
	return report, log.String()
}

// plant builds the program without the safeguard, and returns a folder with it
// and all other programs.
func (s safeguard) plant(t *testing.T, bin string) string {
	t.Helper()
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	content := map[string]string{}
	for _, e := range s.edits {
		path := filepath.Join(root, e.file)
		if content[path] == "" {
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			content[path] = string(data)
		}
		if strings.Count(content[path], e.old) != 1 {
			t.Fatalf("%s has changed: %q is not in it once; say anew where the safeguard is", e.file, e.old)
		}
		content[path] = strings.Replace(content[path], e.old, e.new, 1)
	}
	overlay := struct{ Replace map[string]string }{map[string]string{}}
	for path, text := range content {
		name := filepath.Join(dir, strings.ReplaceAll(strings.TrimPrefix(path, root+"/"), "/", "_"))
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		overlay.Replace[path] = name
	}
	data, err := json.Marshal(overlay)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "overlay.json"), data, 0o600); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(dir, "bin")
	if err := os.Mkdir(out, 0o700); err != nil {
		t.Fatal(err)
	}
	programs, err := os.ReadDir(bin)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range programs {
		if p.IsDir() {
			continue
		}
		copyFile(t, filepath.Join(bin, p.Name()), filepath.Join(out, p.Name()))
	}
	target := filepath.Join(out, s.program)
	if s.program == "runner" {
		target += "-linux-amd64"
	}
	if err := os.Remove(target); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("go", "build", "-ldflags", "-s -w", "-overlay", filepath.Join(dir, "overlay.json"), "-o", target, "./cmd/"+s.program)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-trimpath -buildvcs=false", "GOOS=linux", "GOARCH=amd64")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build %s without %s: %v\n%s", s.program, s.name, err, out)
	}
	return out
}

// copyFile makes a link where it can: the server is big. A symbolic one would
// not do, as the agent finds the runner beside what it really is.
func copyFile(t *testing.T, from, to string) {
	t.Helper()
	if os.Link(from, to) == nil {
		return
	}
	data, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, data, 0o700); err != nil {
		t.Fatal(err)
	}
}
