package shell

import (
	"context"
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
	"github.com/bakehouse-farm/bakehouse/communicator"
	"github.com/bakehouse-farm/bakehouse/communicator/communicatortest"
	"github.com/bakehouse-farm/bakehouse/communicator/ssh"
	"github.com/bakehouse-farm/bakehouse/provisioners"
)

// outputs keeps the output of each command, as the agent does.
type outputs struct {
	mu  sync.Mutex
	all map[string]*communicatortest.Output
}

func (o *outputs) of(id string) *communicatortest.Output {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.all == nil {
		o.all = map[string]*communicatortest.Output{}
	}
	if o.all[id] == nil {
		o.all[id] = &communicatortest.Output{}
	}
	return o.all[id]
}

func (o *outputs) Offset(id string) int64           { return o.of(id).Offset() }
func (o *outputs) Sink(id string) communicator.Sink { return o.of(id).Sink }

func (o *outputs) text() string {
	var b strings.Builder
	for i := range len(o.all) {
		for id, out := range o.all {
			if strings.HasSuffix(id, fmt.Sprintf(".%d", i)) {
				b.Write(out.Bytes())
			}
		}
	}
	return b.String()
}

// lines keeps what the user is told.
type lines struct{ said []string }

func (l *lines) Say(line string)   { l.said = append(l.said, line) }
func (l *lines) Error(line string) { l.said = append(l.said, "error: "+line) }

func connect(t *testing.T) communicator.Communicator {
	t.Helper()
	c, err := ssh.Dial(t.Context(), communicatortest.SSHD(t), ssh.Options{Runner: communicatortest.Runner(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

var steps int

// work is one call of the provisioner, in a step of its own.
func work(t *testing.T, c communicator.Communicator, dir, settings string) (provisioners.Work, *outputs) {
	t.Helper()
	steps++
	out := &outputs{}
	return provisioners.Work{
		Build: bakehouse.Build{ID: bakehouse.BuildID(fmt.Sprintf("b-%d-%d", os.Getpid(), time.Now().UnixNano())), Type: "null", Source: "web"},
		ID:    fmt.Sprintf("step-%d", steps), Settings: json.RawMessage(settings),
		Files: bakehouse.Files{Cwd: dir}, Machine: c, Env: map[string]string{"TRACEPARENT": "00-1-2-01"}, Output: out,
	}, out
}

func TestProvision(t *testing.T) {
	c := connect(t)
	dir := t.TempDir()
	for name, content := range map[string]string{
		"a.sh": "#!/bin/sh\necho a=$A\n", "b.sh": "#!/bin/sh\necho b\n", "crlf.sh": "#!/bin/sh\r\necho dos\r\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		name, settings, out string
		err                 string
		kind                bakehouse.Kind
	}{
		{"inline", `{"inline":["echo one","echo two"]}`, "one\ntwo\n", "", ""},
		{"inline ends at the first failure", `{"inline":["false","echo two"]}`, "", "Script exited with non-zero exit status: 1. Allowed exit codes are: [0]", bakehouse.Script},
		{"shebang of its own", `{"inline":["#!/bin/bash","false","echo $BASH_VERSINFO | tr -d 0-9"]}`, "\n", "", ""},
		{"inline_shebang", `{"inline":["false","echo two"],"inline_shebang":"/bin/sh"}`, "two\n", "", ""},
		{"script", `{"script":"a.sh","environment_vars":["A=it's \"x\" $HOME"]}`, "a=it's \"x\" $HOME\n", "", ""},
		{"scripts", `{"scripts":["a.sh","b.sh"],"env":{"A":"1"}}`, "a=1\nb\n", "", ""},
		{"line ends", `{"script":"crlf.sh"}`, "dos\n", "", ""},
		{"exit code", `{"inline":["exit 3"]}`, "", "Script exited with non-zero exit status: 3. Allowed exit codes are: [0]", bakehouse.Script},
		{"allowed exit code", `{"inline":["exit 3"],"valid_exit_codes":[0,3]}`, "", "", ""},
		{"environment", `{"inline":["echo $PACKER_BUILD_NAME $PACKER_BUILDER_TYPE $TRACEPARENT"]}`, "web null 00-1-2-01\n", "", ""},
		{"variables in a file", `{"inline":["echo $A"],"env":{"A":"it's"},"use_env_var_file":true}`, "it's\n", "", ""},
		{
			"execute_command", `{"inline":["echo $A $0"],"env":{"A":"1"},"remote_path":"/tmp/` + filepath.Base(dir) + `.sh","execute_command":"{{.Vars}} sh -x {{.Path}} 2>/dev/null; echo end"}`,
			"1 /tmp/" + filepath.Base(dir) + ".sh\nend\n", "", "",
		},
		{"format", `{"inline":["echo $A"],"env":{"A":"1"},"env_var_format":"%s=%s0 "}`, "10\n", "", ""},
		{"remote folder", `{"inline":["echo $0"],"remote_folder":"` + dir + `","remote_file":"x.sh"}`, dir + "/x.sh\n", "", ""},
		{"bad folder", `{"inline":["true"],"remote_folder":"/nonexistent"}`, "", "upload script", bakehouse.NotFound},
		{"bad template", `{"inline":["true"],"execute_command":"{{.Path"}`, "", "Error processing command", bakehouse.Invalid},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w, out := work(t, c, dir, tt.settings)
			err := New().Provision(t.Context(), w)
			switch {
			case tt.err == "" && err != nil:
				t.Fatal(err)
			case tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err) || bakehouse.KindOf(err) != tt.kind):
				t.Fatalf("err = %v (%s)", err, bakehouse.KindOf(err))
			}
			if diff := cmp.Diff(tt.out, out.text()); diff != "" {
				t.Error(diff)
			}
			if left, _ := filepath.Glob("/tmp/*_" + number(w) + ".sh"); len(left) > 0 && tt.err == "" {
				t.Errorf("left on the machine: %v", left)
			}
			if left, _ := filepath.Glob("/tmp/*_" + number(w) + ".sh"); tt.err != "" {
				for _, name := range left { // as with Packer, scripts that failed can be looked at
					os.Remove(name)
				}
			}
		})
	}
}

func TestWhatTheUserIsTold(t *testing.T) {
	c := connect(t)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "a.sh"), []byte("#!/bin/sh\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var said lines
	ctx := bakehouse.WithLog(t.Context(), &said)
	w, _ := work(t, c, dir, `{"script":"a.sh","pause_after":"10ms"}`)
	if err := New().Provision(ctx, w); err != nil {
		t.Fatal(err)
	}
	w, _ = work(t, c, dir, `{"inline":["true"]}`)
	if err := New().Provision(ctx, w); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"Provisioning with shell script: a.sh", "Pausing 10ms after this provisioner...",
		"Provisioning with shell script: /tmp/packer-shell" + number(w),
	}
	if diff := cmp.Diff(want, said.said); diff != "" {
		t.Error(diff)
	}
}

// A step that is let go and taken up again, as by another agent, runs each of
// its scripts once, and its output is stored once.
func TestScriptsRunOnce(t *testing.T) {
	c := connect(t)
	dir := t.TempDir()
	w, out := work(t, c, dir, `{"scripts":["a.sh","b.sh"]}`)
	for _, name := range []string{"a.sh", "b.sh"} {
		content := "#!/bin/sh\ncd " + dir + "\necho " + name + " >> counter\necho begin\nwhile ! test -e go-" + name + "; do sleep 0.02; done\necho end\n"
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	drained := errors.New("agent drains")
	for _, name := range []string{"a.sh", "b.sh"} {
		ctx, cancel := context.WithCancelCause(t.Context())
		done := make(chan error, 1)
		go func() { done <- New().Provision(ctx, w) }()
		communicatortest.Eventually(t, name+" has begun", func() bool {
			data, _ := os.ReadFile(filepath.Join(dir, "counter"))
			return strings.HasSuffix(string(data), name+"\n")
		})
		cancel(drained)
		if err := <-done; err != drained {
			t.Fatalf("Provision() = %v, want the cause, unwrapped", err)
		}
		if err := os.WriteFile(filepath.Join(dir, "go-"+name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 { // also after the end
		if err := New().Provision(t.Context(), w); err != nil {
			t.Fatal(err)
		}
	}
	if data, _ := os.ReadFile(filepath.Join(dir, "counter")); string(data) != "a.sh\nb.sh\n" {
		t.Errorf("scripts that ran: %q", data)
	}
	if diff := cmp.Diff("begin\nend\nbegin\nend\n", out.text()); diff != "" {
		t.Error(diff)
	}
}

// A machine that goes away under a script is an error, unless it is expected to.
func TestDisconnect(t *testing.T) {
	// The supervisor is found among the ancestors, by the name it gives itself.
	const kill = `"inline":["p=$$; until grep -aq ^bakehouse-runner /proc/$p/cmdline; do ` +
		`p=$(cut -d' ' -f4 /proc/$p/stat); test $p -gt 1 || exit 9; done; kill -9 $p; sleep 1"]`
	for _, tt := range []struct {
		more string
		want bakehouse.Kind
	}{
		{"", bakehouse.Lost},
		{`,"expect_disconnect":true`, ""},
		{`,"valid_exit_codes":[0,2300218]`, ""},
	} {
		t.Run(tt.more, func(t *testing.T) {
			w, _ := work(t, connect(t), t.TempDir(), "{"+kill+tt.more+"}")
			err := New().Provision(t.Context(), w)
			if tt.want == "" && err != nil || tt.want != "" && (bakehouse.KindOf(err) != tt.want || !strings.Contains(err.Error(), "Script disconnected unexpectedly.")) {
				t.Errorf("Provision() = %v (%s)", err, bakehouse.KindOf(err))
			}
			left, _ := filepath.Glob("/tmp/*_" + number(w) + ".sh")
			for _, name := range left {
				os.Remove(name)
			}
		})
	}
}

func TestCheck(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "a.sh"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, settings string
		unknown        []string
		want           []string
	}{
		{"inline", `{"inline":["true"]}`, nil, nil},
		{"script", `{"script":"a.sh"}`, nil, nil},
		{"nothing", `{}`, nil, []string{"Either a script file or inline script must be specified."}},
		{"to come", `{}`, []string{"inline"}, nil},
		{"both", `{"inline":["true"],"script":"a.sh"}`, nil, []string{"Only a script file or an inline script can be specified, not both."}},
		{"script and scripts", `{"script":"a.sh","scripts":["a.sh"]}`, nil, []string{"Only one of script or scripts can be specified."}},
		{"missing", `{"scripts":["a.sh","no.sh"]}`, nil, []string{"Bad script 'no.sh': stat no.sh: no such file or directory"}},
		{"variables", `{"inline":["true"],"environment_vars":["A=1","B","=C"]}`, nil, []string{
			"Environment variable not in format 'key=value': B", "Environment variable not in format 'key=value': =C",
		}},
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
