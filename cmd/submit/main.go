// Command submit is how one bakes: it checks a template, sends it to a farm,
// shows what happens there, and brings back the results. With -local, the farm
// is this machine.
package main

import (
	"context"
	"os"
)

// version is set by the linker; see Makefile.
var version = "dev"

func main() {
	c := &console{in: os.Stdin, out: os.Stdout, err: os.Stderr, environ: os.Environ()}
	os.Exit(run(context.Background(), c, os.Args[1:]))
}
