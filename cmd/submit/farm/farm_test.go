package farm

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/bakehouse-farm/bakehouse/agent/buildlog"
)

func TestChoose(t *testing.T) {
	submission := func(id string) Entry { return Entry{ID: id, Submission: id} }
	build := func(id, of string) Entry { return Entry{ID: id, Submission: of, IsBuild: true} }
	tests := []struct {
		name  string
		found []Entry
		want  string // an ID, or what the error says
	}{
		{"nothing", nil, "no submission or build"},
		{"one", []Entry{submission("web-1")}, "web-1"},
		{"runs of one", []Entry{submission("web-1"), submission("web-1")}, "web-1"},
		{"a build", []Entry{build("web-b", "site-1")}, "web-b"},
		{"a submission and its builds", []Entry{build("web-b", "web-1"), submission("web-1"), build("web-c", "web-1")}, "web-1"},
		{"two submissions", []Entry{submission("web-1"), submission("web-2")}, `"web" may mean web-1, web-2`},
		{"a submission and a build of another", []Entry{submission("web-1"), build("web-b", "site-1")}, `"web" may mean web-1, web-b`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e, err := choose("web", tt.found)
			got := e.ID
			if err != nil {
				got = err.Error()
			}
			if !strings.Contains(got, tt.want) {
				t.Errorf("%s, want %s", got, tt.want)
			}
			if len(tt.found) == 0 && !errors.Is(err, ErrUnknown) {
				t.Errorf("error %v is not ErrUnknown", err)
			}
		})
	}
}

func TestQuote(t *testing.T) {
	if got := quote("it's"); got != "'it''s'" {
		t.Error(got)
	}
}

// The pieces of a line that were stored apart are shown as one, by step.
func TestJoiner(t *testing.T) {
	line := func(step, text string, partial bool) buildlog.Line {
		return buildlog.Line{Step: step, Text: text, Partial: partial}
	}
	var j joiner
	var got []string
	for _, l := range []buildlog.Line{
		line("a", "whole", false),
		line("a", "one ", true), line("b", "other", false), line("a", "two ", true), line("a", "three", false),
		line("a", strings.Repeat("x", longest+1), true),
		line("b", "never ends", true),
	} {
		if l, ok := j.add(l); ok {
			got = append(got, l.Step+":"+l.Text[:min(len(l.Text), 20)])
		}
	}
	for _, l := range j.rest() {
		got = append(got, l.Step+":"+l.Text)
	}
	if diff := cmp.Diff([]string{"a:whole", "b:other", "a:one two three", "a:xxxxxxxxxxxxxxxxxxxx", "b:never ends"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if rest := j.rest(); len(rest) > 0 {
		t.Errorf("shown twice: %v", rest)
	}
}
