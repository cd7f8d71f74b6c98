// Package localcloud is an EC2 endpoint on one machine, in EC2's wire format,
// whose instances really boot from the images that it really made.
//
// It keeps its state below one folder and survives being killed at any moment:
// what was begun is finished at the next start. What it cannot do it refuses by
// name; it never answers for something that did not happen. Four things are
// recorded and reported back without having an effect, because one machine has
// nothing to give them: security group rules (only this machine reaches
// instances), encryption, volumes besides the root volume, and the size of an
// instance type. Tags and log lines say so where it matters.
//
// It can be made to fail on purpose, as the real one does by itself: rules hit
// requests (package faults), machines are broken (Break). What it was asked and
// what it did is on record (package record), and Census tells what exists, so
// that anyone can see from outside what a client has left behind.
package localcloud
