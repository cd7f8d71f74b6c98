package file

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/bakehouse-farm/bakehouse"
	"github.com/bakehouse-farm/bakehouse/communicator/communicatortest"
	"github.com/bakehouse-farm/bakehouse/communicator/ssh"
	"github.com/bakehouse-farm/bakehouse/provisioners"
)

type lines struct{ said []string }

func (l *lines) Say(line string)   { l.said = append(l.said, line) }
func (l *lines) Error(line string) { l.said = append(l.said, "error: "+line) }

// Each case starts with the folder "local" on the submitter's computer and
// "there" on the machine; $D is what holds both.
func TestProvision(t *testing.T) {
	c, err := ssh.Dial(t.Context(), communicatortest.SSHD(t), ssh.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, tt := range []struct {
		name, settings string
		want           map[string]string // files that are new
		said           []string
		kind           bakehouse.Kind
	}{
		{"file", `{"source":"local/a","destination":"$D/there/new"}`, map[string]string{"there/new": "A"}, []string{"Uploading local/a => $D/there/new"}, ""},
		{"file into a folder", `{"source":"local/a","destination":"$D/there/"}`, map[string]string{"there/a": "A"}, []string{"Uploading local/a => $D/there/"}, ""},
		{
			"sources", `{"sources":["local/a","local/sub/b"],"destination":"$D/there/"}`,
			map[string]string{"there/a": "A", "there/b": "B"},
			[]string{"Uploading local/a => $D/there/", "Uploading local/sub/b => $D/there/"},
			"",
		},
		{"folder", `{"source":"local","destination":"$D/there"}`, map[string]string{"there/local/a": "A", "there/local/sub/b": "B"}, []string{"Uploading local => $D/there"}, ""},
		{"content of a folder", `{"source":"local/","destination":"$D/there/new"}`, map[string]string{"there/new/a": "A", "there/new/sub/b": "B"}, []string{"Uploading local/ => $D/there/new"}, ""},
		{"content", `{"content":"hello","destination":"$D/there/new"}`, map[string]string{"there/new": "hello"}, []string{"Uploading content => $D/there/new"}, ""},
		{"missing", `{"source":"local/no","destination":"$D/there/new","generated":true}`, nil, nil, bakehouse.Invalid},
		{"download", `{"direction":"download","source":"$D/there/x","destination":"got"}`, map[string]string{"got": "X"}, []string{"Downloading $D/there/x => got"}, ""},
		{"download into a folder", `{"direction":"download","source":"$D/there/x","destination":"got/"}`, map[string]string{"got/x": "X"}, []string{"Downloading $D/there/x => got/"}, ""},
		{"download a folder", `{"direction":"download","source":"$D/there/","destination":"got"}`, map[string]string{"got/x": "X", "got/y z": "Y"}, []string{"Downloading $D/there/ => got"}, ""},
		{"download a pattern", `{"direction":"download","source":"$D/there/y*","destination":"got/"}`, map[string]string{"got/y z": "Y"}, []string{"Downloading $D/there/y* => got/"}, ""},
		{"download nothing", `{"direction":"download","source":"$D/there/no*","destination":"got/"}`, nil, []string{"Downloading $D/there/no* => got/"}, bakehouse.NotFound},
		{"download what is not there", `{"direction":"download","source":"$D/there/no","destination":"got"}`, nil, []string{"Downloading $D/there/no => got"}, bakehouse.NotFound},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			old := map[string]string{"local/a": "A", "local/sub/b": "B", "there/x": "X", "there/y z": "Y"}
			for name, content := range old {
				name = filepath.Join(dir, name)
				if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			var said lines
			err := New().Provision(bakehouse.WithLog(t.Context(), &said), provisioners.Work{
				Settings: json.RawMessage(strings.ReplaceAll(tt.settings, "$D", dir)),
				Files:    bakehouse.Files{Cwd: dir}, Machine: c,
				Download: func(_ context.Context, path string, fetch func(string) error) error {
					// As the agent does: what is fetched goes to a new place first.
					local := filepath.Join(t.TempDir(), "file")
					if err := fetch(local); err != nil {
						return err
					}
					if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, path)), 0o755); err != nil {
						return err
					}
					return os.Rename(local, filepath.Join(dir, path))
				},
			})
			if tt.kind == "" && err != nil || tt.kind != "" && (err == nil || bakehouse.KindOf(err) != tt.kind) {
				t.Fatalf("Provision() = %v", err)
			}
			got := map[string]string{}
			err = filepath.WalkDir(dir, func(name string, d os.DirEntry, err error) error {
				rel, _ := filepath.Rel(dir, name)
				if _, known := old[rel]; err != nil || d.IsDir() || known {
					return err
				}
				data, err := os.ReadFile(name)
				got[rel] = string(data)
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			if tt.want == nil {
				tt.want = map[string]string{}
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
			for i := range said.said {
				said.said[i] = strings.ReplaceAll(said.said[i], dir, "$D")
			}
			if diff := cmp.Diff(tt.said, said.said); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestCheck(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "a"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, settings string
		unknown        []string
		want           []string
	}{
		{"source", `{"source":"a","destination":"/b"}`, nil, nil},
		{"nothing", `{}`, nil, []string{"source, sources or content must be specified.", "Destination must be specified."}},
		{"to come", `{"destination":"/b"}`, []string{"content"}, nil},
		{"missing", `{"sources":["a","no"],"destination":"/b"}`, nil, []string{"Bad source 'no': stat no: no such file or directory"}},
		{"generated", `{"source":"no","destination":"/b","generated":true}`, nil, nil},
		{"download", `{"source":"/no","destination":"b","direction":"download"}`, nil, nil},
		{"direction", `{"source":"a","destination":"/b","direction":"sideways"}`, nil, []string{"Direction must be one of: download, upload."}},
		{"both", `{"source":"a","content":"x","destination":"/b"}`, nil, []string{"source(s) conflicts with content."}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var got []string
			for _, f := range New().Check(json.RawMessage(tt.settings), tt.unknown, bakehouse.Files{Cwd: dir}) {
				got = append(got, f.Message)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}
