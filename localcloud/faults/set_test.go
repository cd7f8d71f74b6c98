package faults_test

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/bakehouse-farm/bakehouse"
	"github.com/bakehouse-farm/bakehouse/localcloud/faults"
)

var noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

func open(t *testing.T, path string) *faults.Set {
	t.Helper()
	s, err := faults.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func add(t *testing.T, s *faults.Set, r faults.Rule) faults.Rule {
	t.Helper()
	r, err := s.Add(r)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// hit returns the ids of the rules that hit a call.
func hit(t *testing.T, s *faults.Set, c faults.Call) string {
	t.Helper()
	list, err := s.Match(c)
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, r := range list {
		ids = append(ids, r.ID)
	}
	return strings.Join(ids, " ")
}

// All that a rule says must apply.
func TestMatch(t *testing.T) {
	call := faults.Call{Action: "RunInstances", Region: "us-east-1", AccessKey: "AKIA1", Builds: []string{"b1"}, Names: []string{"ami-1", "bakehouse-b2-token"}, Time: noon}
	for _, tt := range []struct {
		name string
		rule faults.Rule
		want bool
	}{
		{"any", faults.Rule{Kind: faults.Throttle}, true},
		{"action", faults.Rule{Kind: faults.Throttle, Actions: []string{"Create*", "Run*"}}, true},
		{"other action", faults.Rule{Kind: faults.Throttle, Actions: []string{"Run"}}, false},
		{"region", faults.Rule{Kind: faults.Throttle, Regions: []string{"us-*"}}, true},
		{"other region", faults.Rule{Kind: faults.Throttle, Regions: []string{"eu-*"}}, false},
		{"build by tag", faults.Rule{Kind: faults.Throttle, Build: "b1"}, true},
		{"build by name", faults.Rule{Kind: faults.Throttle, Build: "b2"}, true},
		{"other build", faults.Rule{Kind: faults.Throttle, Build: "b3"}, false},
		{"key", faults.Rule{Kind: faults.Expired, AccessKey: "AKIA*"}, true},
		{"other key", faults.Rule{Kind: faults.Expired, AccessKey: "ASIA*"}, false},
		{"now", faults.Rule{Kind: faults.Throttle, From: noon, Until: noon.Add(time.Second)}, true},
		{"too early", faults.Rule{Kind: faults.Throttle, From: noon.Add(time.Second)}, false},
		{"too late", faults.Rule{Kind: faults.Throttle, Until: noon}, false},
		{"default action", faults.Rule{Kind: faults.Die}, true},
		{"default of others", faults.Rule{Kind: faults.Fail}, false},
		{"consistency", faults.Rule{Kind: faults.Unseen, Delay: time.Second}, false},
		{"consistency where asked for", faults.Rule{Kind: faults.Unseen, Delay: time.Second, Actions: []string{"RunInstances"}}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := open(t, filepath.Join(t.TempDir(), "faults.json"))
			r := add(t, s, tt.rule)
			if got := hit(t, s, call) == r.ID; got != tt.want {
				t.Errorf("hit is %v, want %v", got, tt.want)
			}
			if got := s.List()[0]; (got.Hits == 1) != tt.want || (got.Seen == 1) != tt.want {
				t.Errorf("status %+v", got)
			}
		})
	}
}

func TestRefused(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "faults.json"))
	for _, tt := range []struct {
		rule faults.Rule
		want string
	}{
		{faults.Rule{Kind: "rain"}, "throttle"}, // names those there are
		{faults.Rule{Kind: faults.Throttle, Actions: []string{"[Run"}}, "pattern"},
		{faults.Rule{Kind: faults.Throttle, Probability: 2}, "between 0 and 1"},
		{faults.Rule{Kind: faults.Throttle, Count: -1}, "negative"},
		{faults.Rule{Kind: faults.Slow}, "delay"},
		{faults.Rule{Kind: faults.Stale, Delay: time.Hour}, "15m"},
		{faults.Rule{Kind: faults.Throttle, From: noon, Until: noon}, "before it begins"},
		{faults.Rule{Kind: faults.Throttle, Resources: []string{"image"}}, "resources"},
		{faults.Rule{Kind: faults.Die, Actions: []string{"CreateImage"}}, "cannot hit CreateImage"},
		{faults.Rule{Kind: faults.Stale, Delay: 1, Actions: []string{"CreateTags"}}, "Describe*"},
	} {
		if _, err := s.Add(tt.rule); bakehouse.KindOf(err) != bakehouse.Invalid || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%+v: %v, want %q", tt.rule, err, tt.want)
		}
	}
	add(t, s, faults.Rule{ID: "one", Kind: faults.Reset})
	if _, err := s.Add(faults.Rule{ID: "one", Kind: faults.Lost}); bakehouse.KindOf(err) != bakehouse.Conflict {
		t.Errorf("taken: %v", err)
	}
	if err := s.Remove("two"); bakehouse.KindOf(err) != bakehouse.NotFound {
		t.Errorf("removed what is not there: %v", err)
	}
	if len(s.List()) != 1 {
		t.Errorf("rules %v", s.List())
	}
}

// Counts end, also over a restart; a hit that was spared does not count.
func TestCount(t *testing.T) {
	path := filepath.Join(t.TempDir(), "faults.json")
	s := open(t, path)
	add(t, s, faults.Rule{ID: "slow", Kind: faults.Slow, Delay: 1})
	add(t, s, faults.Rule{ID: "first", Kind: faults.Throttle, Count: 2})
	add(t, s, faults.Rule{ID: "second", Kind: faults.Lost, Count: 1})
	call := faults.Call{Action: "DescribeImages", Time: noon}
	var got []string
	for range 3 {
		got = append(got, hit(t, s, call))
		s = open(t, path)
	}
	got = append(got, hit(t, s, call))
	if diff := cmp.Diff([]string{"slow first", "slow first", "slow second", "slow"}, got); diff != "" {
		t.Error(diff)
	}
	if err := s.Spare("second"); err != nil {
		t.Fatal(err)
	}
	if got := hit(t, open(t, path), call); got != "slow second" {
		t.Errorf("after a spared hit: %s", got)
	}
	if err := s.Remove("*"); err != nil || hit(t, open(t, path), call) != "" {
		t.Errorf("removed: %v", err)
	}
}

// The nth request can be meant.
func TestSkip(t *testing.T) {
	path := filepath.Join(t.TempDir(), "faults.json")
	s := open(t, path)
	add(t, s, faults.Rule{ID: "third", Kind: faults.Lost, Actions: []string{"Create*"}, Skip: 2, Count: 1})
	var got []string
	for _, action := range []string{"CreateTags", "DescribeTags", "CreateTags", "CreateImage", "CreateTags"} {
		got = append(got, hit(t, s, faults.Call{Action: action, Time: noon}))
		s = open(t, path)
	}
	if diff := cmp.Diff([]string{"", "", "", "third", ""}, got); diff != "" {
		t.Error(diff)
	}
}

// The same seed hits the same requests, whatever is restarted in between, about
// as many as the probability says.
func TestProbability(t *testing.T) {
	run := func(seed uint64, restart bool) string {
		path := filepath.Join(t.TempDir(), "faults.json")
		s := open(t, path)
		add(t, s, faults.Rule{ID: "x", Kind: faults.Internal, Probability: 0.3, Seed: seed})
		var got strings.Builder
		for n := range 400 {
			if restart && n%100 == 0 {
				s = open(t, path)
			}
			if hit(t, s, faults.Call{Action: "DescribeImages", Time: noon}) == "" {
				got.WriteByte('.')
			} else {
				got.WriteByte('x')
			}
		}
		return got.String()
	}
	one := run(7, false)
	if again := run(7, true); again != one {
		t.Errorf("the same seed:\n%s\n%s", one, again)
	}
	if other := run(8, false); other == one {
		t.Errorf("another seed: %s", other)
	}
	if n := strings.Count(one, "x"); n < 80 || n > 160 {
		t.Errorf("%d of 400 at 0.3", n)
	}
	if !strings.Contains(one, "xx") || !strings.Contains(one, "...") {
		t.Errorf("not by chance: %s", one)
	}
}
