// Package wire speaks EC2's query protocol: form-encoded requests, XML answers,
// and the scope of a signature that says which region and which API is meant.
package wire
