package breakpoint

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/bakehouse-farm/bakehouse"
	"github.com/bakehouse-farm/bakehouse/provisioners"
)

type lines []string

func (l *lines) Say(s string)   { *l = append(*l, s) }
func (l *lines) Error(s string) { *l = append(*l, "error: "+s) }

func TestProvision(t *testing.T) {
	tests := []struct {
		settings string
		parks    bool
		says     string
	}{
		{`{}`, true, "Pausing at breakpoint provisioner."},
		{`{"note": "look at /etc"}`, true, `Pausing at breakpoint provisioner with note "look at /etc".`},
		{`{"disable": true, "note": "n"}`, false, `Breakpoint provisioner with note "n" disabled; continuing...`},
	}
	for _, tt := range tests {
		var log lines
		err := New().Provision(bakehouse.WithLog(t.Context(), &log), provisioners.Work{Settings: json.RawMessage(tt.settings)})
		if (bakehouse.KindOf(err) == bakehouse.Breakpoint) != tt.parks || (err != nil) != tt.parks {
			t.Errorf("%s: %v", tt.settings, err)
		}
		if diff := cmp.Diff(lines{tt.says}, log); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.settings, diff)
		}
	}
}
