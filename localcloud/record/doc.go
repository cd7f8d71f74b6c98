// Package record keeps what a localcloud was asked and what it did: one line of
// JSON for each request and each thing that happened by itself, in files that
// are only ever appended to. The oldest files go when there are too many.
//
// What is on record survives a killed process. A line is written before the
// state that it tells of is committed; New takes back the last ones if the
// state says that they never happened.
package record
