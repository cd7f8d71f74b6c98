package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bakehouse-farm/bakehouse"
	"github.com/bakehouse-farm/bakehouse/cmd/submit/ui"
)

// parkedOnce is a farm with one build that waits until somebody decides.
type parkedOnce struct {
	mu      sync.Mutex
	parked  *bakehouse.Parked
	decided []bakehouse.Action
	refuse  error
	done    chan struct{}
}

func (p *parkedOnce) Status(context.Context, string) (bakehouse.Status, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return bakehouse.Status{Parked: p.parked}, nil
}

func (p *parkedOnce) Resolve(_ context.Context, _ string, d bakehouse.Decision) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.decided = append(p.decided, d.Action)
	if p.refuse != nil {
		err := p.refuse
		p.refuse = nil
		return err
	}
	p.parked = nil
	close(p.done)
	return nil
}

// What is pressed is what the build is told; what is not offered is asked for
// again, and so is what the build refuses.
func TestAsker(t *testing.T) {
	failed := []bakehouse.Action{bakehouse.Retry, bakehouse.Cleanup, bakehouse.Abort}
	tests := []struct {
		name    string
		actions []bakehouse.Action
		pressed string
		refuse  error
		want    []bakehouse.Action
		says    string
	}{
		{"retry", failed, "r\n", nil, []bakehouse.Action{bakehouse.Retry}, "[c] clean up and exit, [a] abort without cleanup, [r] retry step?"},
		{"not offered", failed, "s\nhm\nC\n", nil, []bakehouse.Action{bakehouse.Cleanup}, "[r] retry step?"},
		{"refused", failed, "r\nr\n", errors.New("not now"), []bakehouse.Action{bakehouse.Retry, bakehouse.Retry}, "not now"},
		{"breakpoint", []bakehouse.Action{bakehouse.Resume, bakehouse.Cleanup, bakehouse.Abort}, "g\n", nil, []bakehouse.Action{bakehouse.Resume}, "[g] go on?"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			farm := &parkedOnce{parked: &bakehouse.Parked{Why: "failed", Step: "capture", Actions: tt.actions}, refuse: tt.refuse, done: make(chan struct{})}
			var out bytes.Buffer
			in, keys := io.Pipe()
			defer keys.Close()
			u := ui.New(&out, ui.Options{})
			a := &asker{ui: u, farm: farm, in: in, poll: time.Millisecond, builds: map[bakehouse.BuildID]string{}}
			a.began(bakehouse.Build{ID: "b-1", Name: "amazon-ebs.b", Submission: "s"})
			a.began(bakehouse.Build{ID: "s", Name: "s", Submission: "s"})
			ctx, stop := context.WithCancel(t.Context())
			ended := make(chan struct{})
			go func() {
				a.run(ctx)
				close(ended)
			}()
			go func() { _, _ = io.WriteString(keys, tt.pressed) }()
			<-farm.done
			stop()
			<-ended
			if len(farm.decided) != len(tt.want) || farm.decided[len(farm.decided)-1] != tt.want[len(tt.want)-1] {
				t.Errorf("decided %v, want %v", farm.decided, tt.want)
			}
			if !strings.Contains(out.String(), tt.says) || !strings.Contains(out.String(), "amazon-ebs.b: b-1 waits at capture (failed)") {
				t.Errorf("asked:\n%s", out.String())
			}
		})
	}
}
