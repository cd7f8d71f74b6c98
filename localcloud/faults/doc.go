// Package faults holds the rules by which a localcloud misbehaves: which
// requests a rule hits, how often, and what then goes wrong. It decides; what
// has been decided is done by the localcloud.
//
// Decisions depend on the rule, its seed and how many requests it has seen, and
// on nothing else: the same requests in the same order meet the same faults.
package faults
