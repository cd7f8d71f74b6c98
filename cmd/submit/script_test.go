package main

import (
	"context"
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"submit": func() {
		c := &console{in: os.Stdin, out: os.Stdout, err: os.Stderr, environ: os.Environ()}
		os.Exit(run(context.Background(), c, os.Args[1:]))
	}})
}

// The command line is tested as it is used.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(e *testscript.Env) error {
			// Nothing of this machine's own farm must be found.
			for _, name := range []string{"TEMPORAL_ADDRESS", "BAKEHOUSE_STORE", "BAKEHOUSE_KEY", "BAKEHOUSE_POOL"} {
				e.Setenv(name, "")
			}
			e.Setenv("HOME", e.WorkDir)
			e.Setenv("XDG_CONFIG_HOME", e.WorkDir+"/.config")
			e.Setenv("BAKEHOUSE_STATE", e.WorkDir+"/state")
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"code": code},
	})
}

// code runs a command and demands an exit code: code 127 submit nothing.
func code(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: code N COMMAND ...")
	}
	err := ts.Exec(args[1], args[2:]...)
	got := "0"
	if err != nil {
		got = strings.TrimPrefix(err.Error(), "exit status ")
	}
	if got != args[0] {
		ts.Fatalf("exit code %s, want %s", got, args[0])
	}
}

// Every flag says what it does, every command what its exit codes mean.
func TestHelpIsComplete(t *testing.T) {
	for _, topic := range topics() {
		if topic.summary == "" || topic.text == "" {
			t.Errorf("%s is not described", topic.name)
		}
		if !strings.Contains(topic.exits, "  0  ") {
			t.Errorf("%s: exit codes are not described", topic.name)
		}
		topic.flagSet(topic.make()).VisitAll(func(f *flag.Flag) {
			if strings.TrimSpace(f.Usage) == "" {
				t.Errorf("%s -%s has no help", topic.name, f.Name)
			}
		})
		var out strings.Builder
		topic.usage(&out, topic.flagSet(topic.make()))
		if !strings.Contains(out.String(), "Usage: submit "+topic.name) || !strings.Contains(out.String(), "Exit codes:") {
			t.Errorf("%s: help:\n%s", topic.name, out.String())
		}
	}
}

// Packer's flags of build and validate are there.
func TestPackersFlags(t *testing.T) {
	want := map[string]string{
		"build":    "color debug except force on-error only parallel-builds timestamp-ui var var-file warn-on-undeclared-var ignore-prerelease-plugins use-sequential-evaluation skip-enforcement",
		"validate": "syntax-only except only var var-file no-warn-undeclared-var evaluate-datasources ignore-prerelease-plugins use-sequential-evaluation",
	}
	for _, topic := range topics() {
		f := topic.flagSet(topic.make())
		for _, name := range strings.Fields(want[topic.name]) {
			if f.Lookup(name) == nil {
				t.Errorf("%s has no flag -%s", topic.name, name)
			}
		}
	}
}
