package main

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/bakehouse-farm/bakehouse"
	"github.com/bakehouse-farm/bakehouse/cmd/submit/farm"
	"github.com/bakehouse-farm/bakehouse/cmd/submit/ui"
)

// live keeps one line for each build below the output of a terminal: what it
// does now, and for how long.
type live struct {
	ui   *ui.UI
	farm *farm.Farm

	mu     sync.Mutex
	builds []*status
	over   bool
}

// A status is what is known of one build.
type status struct {
	build bakehouse.Build
	began time.Time
	steps []farm.StepState
}

func newLive(u *ui.UI, f *farm.Farm) *live { return &live{ui: u, farm: f} }

func (l *live) began(b bakehouse.Build) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if string(b.ID) != b.Submission {
		// The plan is over when the first build begins.
		l.builds = without(l.builds, bakehouse.BuildID(b.Submission))
	}
	l.builds = append(l.builds, &status{build: b, began: time.Now()})
}

func (l *live) ended(b bakehouse.Build) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.builds = without(l.builds, b.ID)
}

func without(builds []*status, id bakehouse.BuildID) []*status {
	var rest []*status
	for _, s := range builds {
		if s.build.ID != id {
			rest = append(rest, s)
		}
	}
	return rest
}

// stop removes the lines for good.
func (l *live) stop() {
	l.mu.Lock()
	l.over = true
	l.mu.Unlock()
	l.ui.Live(nil)
}

// atOnce is how many builds are asked about in one round: with hundreds, their
// lines are not on the screen anyway.
const atOnce = 10

// run draws until ctx ends or stop is called.
func (l *live) run(ctx context.Context) {
	go l.ask(ctx)
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		l.mu.Lock()
		if l.over {
			l.mu.Unlock()
			return
		}
		var lines []string
		for _, s := range l.builds {
			lines = append(lines, s.line(time.Now()))
		}
		// Under the lock, so that stop has the last word.
		l.ui.Live(lines)
		l.mu.Unlock()
	}
}

// ask keeps the steps up to date. That the farm does not answer only means that
// lines are old; who follows the history tells.
func (l *live) ask(ctx context.Context) {
	for ctx.Err() == nil {
		l.mu.Lock()
		some := append([]*status(nil), l.builds[:min(len(l.builds), atOnce)]...)
		over := l.over
		l.mu.Unlock()
		if over {
			return
		}
		for _, s := range some {
			try, cancel := context.WithTimeout(ctx, 3*time.Second)
			steps, err := l.farm.Steps(try, string(s.build.ID))
			cancel()
			if err == nil {
				l.mu.Lock()
				s.steps = steps
				l.mu.Unlock()
			}
		}
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
}

var number = regexp.MustCompile(`^[0-9]+-`)

// line is what the status looks like.
func (s *status) line(now time.Time) string {
	var doing []string
	for _, step := range s.steps {
		text := number.ReplaceAllString(step.Key, "")
		switch {
		case step.Waiting:
			text += ", waiting for an agent"
		case step.Attempt > 1:
			text += fmt.Sprintf(", attempt %d", step.Attempt)
		}
		if !step.Since.IsZero() {
			text += " " + ui.Short(now.Sub(step.Since))
		}
		doing = append(doing, text)
	}
	if len(doing) == 0 {
		doing = []string{"…"}
	}
	return fmt.Sprintf("    %s  %s  %s", s.build.Name, ui.Short(now.Sub(s.began)), strings.Join(doing, "; "))
}
