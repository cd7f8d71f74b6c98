package null

import (
	"context"
	"encoding/json"
	"testing"

	"github.com/bakehouse-farm/bakehouse"
)

func TestCheck(t *testing.T) {
	tests := []struct {
		settings string
		unknown  []string
		fails    bool
	}{
		{`{"input":"x"}`, nil, false},
		{`{"input":" "}`, nil, false},
		{`{}`, []string{"input"}, false},
		{`{}`, nil, true},
		{`{"input":""}`, nil, true},
	}
	for _, tt := range tests {
		found := DataSource{}.Check(json.RawMessage(tt.settings), tt.unknown, bakehouse.Files{})
		if (len(found) > 0) != tt.fails {
			t.Errorf("%s, unknown %v: %v", tt.settings, tt.unknown, found)
		}
	}
}

func TestRead(t *testing.T) {
	for _, input := range []string{"x", "a\nb", `"quoted" <&>`, "ä"} {
		settings, err := json.Marshal(Settings{Input: input})
		if err != nil {
			t.Fatal(err)
		}
		raw, err := DataSource{}.Read(context.Background(), settings, bakehouse.Files{})
		var out Outputs
		if err == nil {
			err = json.Unmarshal(raw, &out)
		}
		if err != nil || out.Output != input {
			t.Errorf("%q (%v), want %q", out.Output, err, input)
		}
	}
}
