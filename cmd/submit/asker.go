package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/bakehouse-farm/bakehouse"
	"github.com/bakehouse-farm/bakehouse/cmd/submit/ui"
)

// An asker asks at the terminal how parked builds shall go on, as Packer does
// with -on-error=ask. Whoever decides elsewhere, with submit resolve, is as
// welcome: then the question is over.
type asker struct {
	ui   *ui.UI
	farm deciding
	in   io.Reader
	by   string
	poll time.Duration

	mu     sync.Mutex
	builds map[bakehouse.BuildID]string // that go on, with their names
}

// deciding is what an asker needs of a farm.
type deciding interface {
	Status(ctx context.Context, id string) (bakehouse.Status, error)
	Resolve(ctx context.Context, id string, d bakehouse.Decision) error
}

func (a *asker) began(b bakehouse.Build) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if b.ID != bakehouse.BuildID(b.Submission) { // the plan never parks
		a.builds[b.ID] = b.Name
	}
}

func (a *asker) ended(b bakehouse.Build) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.builds, b.ID)
}

func (a *asker) living() map[bakehouse.BuildID]string {
	a.mu.Lock()
	defer a.mu.Unlock()
	out := make(map[bakehouse.BuildID]string, len(a.builds))
	for id, name := range a.builds {
		out[id] = name
	}
	return out
}

// run asks until ctx ends or there is nobody to answer.
func (a *asker) run(ctx context.Context) {
	lines := make(chan string)
	go func() {
		defer close(lines)
		for in := bufio.NewScanner(a.in); in.Scan(); {
			select {
			case lines <- strings.ToLower(strings.TrimSpace(in.Text())):
			case <-ctx.Done():
				return
			}
		}
	}()
	for {
		for id, name := range a.living() {
			if s, err := a.farm.Status(ctx, string(id)); err == nil && s.Parked != nil {
				if !a.ask(ctx, string(id), name, *s.Parked, lines) {
					return
				}
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(a.poll):
		}
	}
}

// answers are what one may press.
var answers = []struct {
	key, says string
	action    bakehouse.Action
}{
	{"c", "clean up and exit", bakehouse.Cleanup},
	{"a", "abort without cleanup", bakehouse.Abort},
	{"r", "retry step", bakehouse.Retry},
	{"s", "skip step", bakehouse.Skip},
	{"g", "go on", bakehouse.Resume},
}

// ask asks until the build goes on. It tells whether to go on asking.
func (a *asker) ask(ctx context.Context, id, name string, p bakehouse.Parked, lines <-chan string) bool {
	may := map[string]bakehouse.Action{}
	var choices []string
	for _, c := range answers {
		for _, action := range p.Actions {
			if action == c.action {
				may[c.key] = c.action
				choices = append(choices, fmt.Sprintf("[%s] %s", c.key, c.says))
			}
		}
	}
	a.ui.Say(fmt.Sprintf("==> %s: %s waits at %s (%s): %s? (or: submit resolve %s)", name, id, p.Step, p.Why, strings.Join(choices, ", "), id))
	for {
		select {
		case <-ctx.Done():
			return false
		case line, ok := <-lines:
			if !ok {
				return false
			}
			action, known := may[line]
			if !known {
				a.ui.Say("==> " + name + ": " + strings.Join(choices, ", ") + "?")
				continue
			}
			if err := a.farm.Resolve(ctx, id, bakehouse.Decision{Action: action, By: a.by}); err != nil {
				a.ui.Error("==> " + name + ": " + err.Error())
			}
			return true
		case <-time.After(a.poll):
			if s, err := a.farm.Status(ctx, id); err == nil && (s.Parked == nil || !s.Parked.Since.Equal(p.Since)) {
				return true // somebody else has decided
			}
		}
	}
}
