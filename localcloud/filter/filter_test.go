package filter_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/bakehouse-farm/bakehouse/localcloud/filter"
)

func TestMatch(t *testing.T) {
	for _, tt := range []struct {
		pattern, s string
		want       bool
	}{
		{"", "", true},
		{"a", "a", true},
		{"a", "ab", false},
		{"A", "a", false},
		{"*", "", true},
		{"*", "any/thing", true},
		{"a*c", "abbc", true},
		{"a*c", "abcd", false},
		{"*b*", "abc", true},
		{"a*b*c", "a-c-b-c", true},
		{"a?c", "abc", true},
		{"a?c", "ac", false},
		{"?", "", false},
		{`a\*c`, "a*c", true},
		{`a\*c`, "abc", false},
		{`*\?`, "why?", true},
		{`*\?`, "why", false},
		{"ubuntu/images/*ubuntu-jammy-22.04-amd64-server-*", "ubuntu/images/hvm-ssd/ubuntu-jammy-22.04-amd64-server-20260101", true},
	} {
		if got := filter.Match(tt.pattern, tt.s); got != tt.want {
			t.Errorf("Match(%q, %q) = %v", tt.pattern, tt.s, got)
		}
	}
}

func FuzzMatch(f *testing.F) {
	f.Add("a*b?", "axxby")
	f.Fuzz(func(t *testing.T, pattern, s string) {
		// Whatever matches, matches with a * on either side.
		if filter.Match(pattern, s) && !filter.Match("*"+pattern, "x"+s) {
			t.Errorf("%q matches %q, but not with a * before it", pattern, s)
		}
	})
}

func TestApply(t *testing.T) {
	type thing struct {
		id   string
		tags map[string]string
	}
	list := []thing{{"a", map[string]string{"k": "1"}}, {"b", map[string]string{"k": "2", "l": ""}}, {"c", nil}}
	for _, tt := range []struct {
		name    string
		filters []filter.Filter
		want    string
		err     bool
	}{
		{"none", nil, "abc", false},
		{"any value", []filter.Filter{{"id", []string{"a", "c"}}}, "ac", false},
		{"all filters", []filter.Filter{{"id", []string{"a", "b"}}, {"tag:k", []string{"2"}}}, "b", false},
		{"tag wildcard", []filter.Filter{{"tag:k", []string{"*"}}}, "ab", false},
		{"tag that is not there", []filter.Filter{{"tag:x", []string{"*"}}}, "", false},
		{"tag key", []filter.Filter{{"tag-key", []string{"l"}}}, "b", false},
		{"no values", []filter.Filter{{"id", nil}}, "", false},
		{"unknown", []filter.Filter{{"colour", []string{"*"}}}, "", true},
		{"nameless", []filter.Filter{{"", []string{"*"}}}, "", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := filter.Apply(list, tt.filters,
				filter.Fields[thing]{"id": func(x thing) []string { return []string{x.id} }},
				func(x thing) map[string]string { return x.tags })
			ids := ""
			for _, x := range got {
				ids += x.id
			}
			if diff := cmp.Diff(tt.want, ids); diff != "" || (err != nil) != tt.err {
				t.Errorf("%v %s", err, diff)
			}
		})
	}
}
