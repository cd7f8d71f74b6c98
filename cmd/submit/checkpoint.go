package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/bakehouse-farm/bakehouse"
	"github.com/bakehouse-farm/bakehouse/template"
)

// checkpoints is the flag -checkpoint: after which provisioners the machine is
// captured. The zero value means after none.
type checkpoints struct {
	on bool
	// after are the words that mean some of them; none means all. They are
	// sorted, so that the order in which they were written means nothing.
	after []string
}

func (c *checkpoints) String() string {
	switch {
	case !c.on:
		return "false"
	case len(c.after) == 0:
		return "all"
	}
	return strings.Join(c.after, ",")
}

// IsBoolFlag makes -checkpoint alone mean all.
func (c *checkpoints) IsBoolFlag() bool { return true }

// Set implements flag.Value.
func (c *checkpoints) Set(s string) error {
	*c = checkpoints{}
	switch s {
	case "true", "all":
		c.on = true
		return nil
	case "false", "none":
		return nil
	}
	for word := range strings.SplitSeq(s, ",") {
		if word = strings.TrimSpace(word); word != "" {
			c.after = append(c.after, word)
		}
	}
	if len(c.after) == 0 {
		return fmt.Errorf("choose all, none, or names, types or numbers of provisioners")
	}
	c.on = true
	slices.Sort(c.after)
	c.after = slices.Compact(c.after)
	return nil
}

// fit refuses words that mean no provisioner of any of the builds, and those
// that mean only last ones: what comes after those is the image itself.
func (c *checkpoints) fit(chains []template.Chain) error {
	for _, word := range c.after {
		p := bakehouse.Policy{Checkpoint: true, CheckpointAfter: []string{word}}
		var meant, last bool
		for _, chain := range chains {
			for i, step := range chain.Provisioners {
				if p.ChecksAfter(i+1, step.Name, step.Type) {
					meant = meant || i+1 < len(chain.Provisioners)
					last = last || i+1 == len(chain.Provisioners)
				}
			}
		}
		switch {
		case meant:
		case last:
			return fmt.Errorf("-checkpoint=%s: that is the last provisioner, after which the image itself is made%s", word, boundaries(chains))
		default:
			return fmt.Errorf("-checkpoint=%s: there is no such provisioner%s", word, boundaries(chains))
		}
	}
	return nil
}

// boundaries lists the provisioners after which there can be a checkpoint.
func boundaries(chains []template.Chain) string {
	var lines []string
	for _, chain := range chains {
		var steps []string
		for i, p := range chain.Provisioners[:max(len(chain.Provisioners)-1, 0)] {
			step := fmt.Sprintf("%d (%s", i+1, p.Type)
			if p.Name != "" {
				step += " " + p.Name
			}
			steps = append(steps, step+")")
		}
		if steps == nil {
			steps = []string{"none: it has fewer than two provisioners"}
		}
		lines = append(lines, "\n  "+chain.Build+": "+strings.Join(steps, ", "))
	}
	return "; a checkpoint can be made after a number, type or name of:" + strings.Join(lines, "")
}
