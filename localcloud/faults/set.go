package faults

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/bakehouse-farm/bakehouse"
)

// A Status is a rule and what it has done so far.
type Status struct {
	Rule
	// Seen counts the requests that it is about, hit or not.
	Seen uint64 `json:"seen"`
	// Hits counts the requests that it has hit.
	Hits int       `json:"hits"`
	Last time.Time `json:"last,omitzero"` // the last hit
}

// A Set is the rules of one localcloud. They are kept in a file and outlive the
// process, as do their counts. Its methods may be called at the same time.
type Set struct {
	path string

	mu    sync.Mutex
	rules []*Status
	next  int
}

type saved struct {
	Next  int       `json:"next"`
	Rules []*Status `json:"rules"`
}

// Open reads the rules that are kept at path; no file means no rules.
func Open(path string) (*Set, error) {
	s := &Set{path: path}
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	var kept saved
	if err == nil {
		err = json.Unmarshal(b, &kept)
	}
	if err != nil {
		return nil, fmt.Errorf("rules of faults in %s: %w", path, err)
	}
	s.next, s.rules = kept.Next, kept.Rules
	return s, nil
}

// save replaces the file: a killed process leaves the old or the new one.
func (s *Set) save() error {
	b, err := json.MarshalIndent(saved{s.next, s.rules}, "", "  ")
	if err == nil {
		err = os.WriteFile(s.path+".new", append(b, '\n'), 0o600)
	}
	if err == nil {
		err = os.Rename(s.path+".new", s.path)
	}
	if err != nil {
		return fmt.Errorf("keep rules of faults: %w", err)
	}
	return nil
}

// Add adds a rule behind those there are, and returns it with its ID and the
// defaults of its kind. One that makes no sense is an error of kind Invalid, an
// ID that is taken one of kind Conflict.
func (s *Set) Add(r Rule) (Rule, error) {
	r, err := r.normal()
	if err != nil {
		return r, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for r.ID == "" || r.ID == "*" {
		s.next++
		if id := "fault-" + strconv.Itoa(s.next); s.find(id) == nil {
			r.ID = id
		}
	}
	if s.find(r.ID) != nil {
		return r, bakehouse.Errorf(bakehouse.Conflict, "fault %s: there is a rule of that id", r.ID)
	}
	s.rules = append(s.rules, &Status{Rule: r})
	if err := s.save(); err != nil {
		s.rules = s.rules[:len(s.rules)-1]
		return r, err
	}
	return r, nil
}

func (s *Set) find(id string) *Status {
	for _, r := range s.rules {
		if r.ID == id {
			return r
		}
	}
	return nil
}

// Remove removes the rule of that id; "*" removes all. An id that no rule has
// is an error of kind NotFound.
func (s *Set) Remove(id string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.rules
	s.rules = slices.DeleteFunc(slices.Clone(before), func(r *Status) bool { return id == "*" || r.ID == id })
	if len(s.rules) == len(before) && id != "*" {
		return bakehouse.Errorf(bakehouse.NotFound, "fault %s: there is no such rule (localcloud faults list)", id)
	}
	return s.save()
}

// List returns the rules in the order in which they are asked.
func (s *Set) List() []Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]Status, 0, len(s.rules))
	for _, r := range s.rules {
		list = append(list, *r)
	}
	return list
}

// Match returns the rules that hit a call, in their order, and counts the hits.
// Of the kinds that end a call there is one at most: the first.
func (s *Set) Match(c Call) ([]Rule, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var hits []Rule
	ended, seen := false, false
	for _, r := range s.rules {
		if ended && r.Kind.ends() || r.Count > 0 && r.Hits >= r.Count || !r.about(c) {
			continue
		}
		seen = true
		r.Seen++
		if r.Seen <= uint64(r.Skip) || !r.draw() {
			continue
		}
		r.Hits++
		r.Last = c.Time
		ended = ended || r.Kind.ends()
		hits = append(hits, r.Rule)
	}
	if !seen {
		return nil, nil
	}
	return hits, s.save()
}

// draw decides by lot about the request that was seen last.
func (s *Status) draw() bool {
	if s.Probability == 0 || s.Probability == 1 {
		return true
	}
	return rand.New(rand.NewPCG(s.Seed, s.Seen)).Float64() < s.Probability
}

// Spare takes back a hit that had no effect: there was nothing to hit.
func (s *Set) Spare(id string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.find(id)
	if r == nil {
		return nil
	}
	r.Hits--
	return s.save()
}
