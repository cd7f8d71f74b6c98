package secret

import (
	"slices"
	"strings"
)

// A search finds words in text, all at once and in time that is linear in the
// text, however many words there are and however they overlap (Aho and
// Corasick's automaton). A node stands for a beginning of words; the first is
// the empty one.
type search struct {
	label []byte  // the last byte of what the node stands for
	depth []int32 // how many bytes that has
	child []int32 // the first of the nodes that are one byte longer; 0 is none
	next  []int32 // the next child of the same node; 0 is none
	fail  []int32 // the longest end of it that is a node, too
	found []int32 // the length of the longest word that is an end of it; 0 is none
	first [256]int32
}

// A span is where something was found: the bytes from start up to end.
type span struct{ start, end int }

// newSearch returns a search for the words that fit into so many nodes: the
// shortest first.
func newSearch(words []string, most int) *search {
	s := &search{}
	s.node(0, 0)
	slices.SortFunc(words, func(a, b string) int {
		if len(a) != len(b) {
			return len(a) - len(b)
		}
		return strings.Compare(a, b)
	})
	for _, w := range words {
		if len(s.label)+len(w) > most {
			break
		}
		s.add(w)
	}
	s.link()
	return s
}

func (s *search) node(label byte, depth int32) int32 {
	s.label = append(s.label, label)
	s.depth = append(s.depth, depth)
	s.child = append(s.child, 0)
	s.next = append(s.next, 0)
	s.fail = append(s.fail, 0)
	s.found = append(s.found, 0)
	return int32(len(s.label) - 1)
}

func (s *search) add(word string) {
	at := int32(0)
	for i := range len(word) {
		to := s.step(at, word[i])
		if to == 0 {
			to = s.node(word[i], int32(i+1))
			s.next[to], s.child[at] = s.child[at], to
			if at == 0 {
				s.first[word[i]] = to
			}
		}
		at = to
	}
	s.found[at] = int32(len(word))
}

// step is the child of a node by a byte, or 0.
func (s *search) step(at int32, b byte) int32 {
	if at == 0 {
		return s.first[b]
	}
	for c := s.child[at]; c != 0; c = s.next[c] {
		if s.label[c] == b {
			return c
		}
	}
	return 0
}

// link finds where each node fails to, the short ones first.
func (s *search) link() {
	var queue []int32
	for c := s.child[0]; c != 0; c = s.next[c] {
		queue = append(queue, c)
	}
	for i := 0; i < len(queue); i++ {
		at := queue[i]
		for c := s.child[at]; c != 0; c = s.next[c] {
			s.fail[c] = s.follow(s.fail[at], s.label[c])
			s.found[c] = max(s.found[c], s.found[s.fail[c]])
			queue = append(queue, c)
		}
	}
}

// follow is the node after one more byte.
func (s *search) follow(at int32, b byte) int32 {
	for {
		if to := s.step(at, b); to != 0 || at == 0 {
			return to
		}
		at = s.fail[at]
	}
}

// spans are where words were found in text, by their ends: the longest that
// ends there. last is the node after the text.
func (s *search) spans(text string) (list []span, last int32) {
	for i := range len(text) {
		last = s.follow(last, text[i])
		if n := int(s.found[last]); n > 0 {
			list = append(list, span{i + 1 - n, i + 1})
		}
	}
	return list, last
}

// begun is how long the longest end of what a node stands for is that a word
// begins with, and does not end with.
func (s *search) begun(at int32) int {
	for at != 0 && s.child[at] == 0 {
		at = s.fail[at]
	}
	return int(s.depth[at])
}
