// Package amazon makes Amazon Machine Images: the builder amazon-ebs, and the
// data source amazon-ami.
//
// Each method of the builder may be cut off anywhere, also between a request
// and its answer, and be called again on another agent. So nothing is
// remembered here. Whatever is made carries the tags of its build from the
// request that makes it, and every request that makes something either has a
// client token that derives from the build, or looks for what an earlier call
// may have made and adopts it.
//
// Requests that wait are shared: all builds of an agent that use the same
// credentials in the same region ask EC2 together.
package amazon
