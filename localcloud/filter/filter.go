// Package filter selects resources by EC2's filters: names with wildcards, any
// value of one filter, all filters together.
package filter

import (
	"strings"

	"github.com/bakehouse-farm/bakehouse/localcloud/wire"
)

// A Filter asks that one of the values that a resource has under Name matches
// one of Values. Values may contain * (anything) and ? (any one character);
// a backslash takes their meaning away.
type Filter struct {
	Name   string
	Values []string `q:"Value"`
}

// Fields says which filters a kind of resource has, and the values that a
// resource has under each. tag:KEY and tag-key need not be listed.
type Fields[T any] map[string]func(T) []string

// Apply returns the resources that match all filters, in their order. tags
// returns the tags of one; an unknown filter is EC2's InvalidParameterValue.
func Apply[T any](list []T, filters []Filter, fields Fields[T], tags func(T) map[string]string) ([]T, error) {
	gets := make([]func(T) []string, len(filters))
	for i, f := range filters {
		get, ok := fields[f.Name]
		switch {
		case ok:
		case strings.HasPrefix(f.Name, "tag:"):
			key := f.Name[len("tag:"):]
			get = func(r T) []string {
				if v, ok := tags(r)[key]; ok {
					return []string{v}
				}
				return nil
			}
		case f.Name == "tag-key":
			get = func(r T) []string {
				var keys []string
				for k := range tags(r) {
					keys = append(keys, k)
				}
				return keys
			}
		case f.Name == "":
			return nil, wire.Errorf("InvalidParameterValue", "The filter 'null' is invalid")
		default:
			return nil, wire.Errorf("InvalidParameterValue", "The filter '%s' is invalid", f.Name)
		}
		gets[i] = get
	}
	var out []T
next:
	for _, r := range list {
		for i, f := range filters {
			if !matchAny(f.Values, gets[i](r)) {
				continue next
			}
		}
		out = append(out, r)
	}
	return out, nil
}

func matchAny(patterns, values []string) bool {
	for _, p := range patterns {
		for _, v := range values {
			if Match(p, v) {
				return true
			}
		}
	}
	return false
}

// Match tells whether s matches an EC2 pattern as a whole. Unlike a glob of
// file names, * also matches slashes.
func Match(pattern, s string) bool {
	// The last * seen, and where in s its match ends: what does not match later
	// is tried again with one character more for it.
	star, mark := -1, 0
	p, i := 0, 0
	for i < len(s) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, mark = p, i
			p++
			continue
		case p < len(pattern) && pattern[p] == '?':
			p++
			i++
			continue
		case p+1 < len(pattern) && pattern[p] == '\\' && pattern[p+1] == s[i]:
			p += 2
			i++
			continue
		case p < len(pattern) && pattern[p] == s[i] && pattern[p] != '\\':
			p++
			i++
			continue
		}
		if star < 0 {
			return false
		}
		mark++
		p, i = star+1, mark
	}
	for p < len(pattern) && pattern[p] == '*' {
		p++
	}
	return p == len(pattern)
}

// Values returns the values of the filters called name, and whether there is
// such a filter.
func Values(filters []Filter, name string) (values []string, ok bool) {
	for _, f := range filters {
		if f.Name == name {
			values, ok = append(values, f.Values...), true
		}
	}
	return values, ok
}
