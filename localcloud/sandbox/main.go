package sandbox

import (
	"fmt"
	"os"

	"github.com/bakehouse-farm/bakehouse/localcloud/sandbox/guest"
)

// Main makes the process what a Host or an instance has started it as. It is
// the first thing to call in the main function of an executable that calls New
// (in tests: in TestMain). It returns false if this is an ordinary process,
// and does not return otherwise.
func Main() bool {
	guest.Main()
	if len(os.Args) == 0 {
		return false
	}
	var err error
	switch args := os.Args[1:]; os.Args[0] {
	case shimName:
		shim(args[0])
	case probeName:
		err = probeMain(args[0], args[1])
	case exportName:
		err = exportMain(args[0])
	case enterName:
		err = enterMain(args[0])
	default:
		return false
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
	return true
}
