package main

import (
	"flag"
	"fmt"
	"strconv"

	"github.com/bakehouse-farm/bakehouse/cmd/submit/ui"
)

// A look is how a command prints.
type look struct {
	color      choice
	timestamps bool
}

func (l *look) flags(f *flag.FlagSet) {
	f.Var(&l.color, "color", "colour the output by build; without this flag, if it goes to a terminal and neither PACKER_NO_COLOR nor NO_COLOR is set")
	f.BoolVar(&l.timestamps, "timestamp-ui", false, "put the time before each line of a build")
}

func (l *look) ui(c *console) *ui.UI {
	width, _ := c.terminal()
	return ui.New(c.out, ui.Options{Machine: c.machine, Color: l.colored(c), Timestamps: l.timestamps, Width: width})
}

// colored tells whether to use colours. The variables count more than the
// flag, as in Packer.
func (l *look) colored(c *console) bool {
	if c.machine || c.getenv("PACKER_NO_COLOR") != "" {
		return false
	}
	if l.color.given {
		return l.color.on
	}
	_, terminal := c.terminal()
	return terminal && c.getenv("NO_COLOR") == ""
}

// A choice is a boolean flag that may also not be given.
type choice struct{ on, given bool }

func (c *choice) String() string {
	if !c.given {
		return ""
	}
	return strconv.FormatBool(c.on)
}

// Set implements flag.Value.
func (c *choice) Set(s string) error {
	on, err := strconv.ParseBool(s)
	if err != nil {
		return fmt.Errorf("%q is neither true nor false", s)
	}
	c.on, c.given = on, true
	return nil
}

// IsBoolFlag lets -color stand alone.
func (c *choice) IsBoolFlag() bool { return true }
