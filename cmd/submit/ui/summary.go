package ui

import (
	"fmt"
	"strconv"
	"time"

	"github.com/bakehouse-farm/bakehouse"
)

// Ended prints how one build ended.
func (u *UI) Ended(r bakehouse.Result) {
	name, took := r.Build.Name, Words(r.Ended.Sub(r.Started))
	if r.Started.IsZero() {
		took = Words(0) // it never began
	}
	if r.Error != "" {
		u.About(name, r.Ended, fmt.Sprintf("Build '%s' errored after %s: %s", name, took, r.Error), true)
	} else {
		u.About(name, r.Ended, fmt.Sprintf("Build '%s' finished after %s.", name, took), false)
	}
	if r.Leftovers != "" {
		u.About(name, r.Ended, fmt.Sprintf("Build '%s' left something behind, tagged %s=%s: %s", name, bakehouse.TagBuild, r.Build.ID, r.Leftovers), true)
	}
}

// Summary prints what stands at the end of a submission. interrupted tells
// that the user ended it.
func (u *UI) Summary(results bakehouse.Results, took time.Duration, interrupted bool) {
	u.Say("\n==> Wait completed after " + Words(took))
	if interrupted {
		u.Say("Cleanly cancelled builds after being interrupted.")
		return
	}
	var good, bad []bakehouse.Result
	for _, r := range results.Builds {
		if r.Error != "" {
			bad = append(bad, r)
		} else {
			good = append(good, r)
		}
	}
	if len(bad) > 0 {
		u.Record("", "error-count", strconv.Itoa(len(bad)))
		u.Error("\n==> Some builds didn't complete successfully and had errors:")
		for _, r := range bad {
			u.Record(r.Build.Name, "error", r.Error)
			u.Error("--> " + r.Build.Name + ": " + r.Error)
		}
	}
	artifacts := 0
	for _, r := range good {
		artifacts += len(r.Artifacts)
	}
	if artifacts == 0 {
		u.Say("\n==> Builds finished but no artifacts were created.")
		return
	}
	u.Say("\n==> Builds finished. The artifacts of successful builds are:")
	for _, r := range good {
		u.artifacts(r)
	}
}

func (u *UI) artifacts(r bakehouse.Result) {
	name := r.Build.Name
	u.Record(name, "artifact-count", strconv.Itoa(len(r.Artifacts)))
	for i, a := range r.Artifacts {
		n := strconv.Itoa(i)
		text := a.String
		if text == "" {
			text = a.ID
		}
		u.Record(name, "artifact", n, "builder-id", a.BuilderID)
		u.Record(name, "artifact", n, "id", a.ID)
		u.Record(name, "artifact", n, "string", a.String)
		u.Record(name, "artifact", n, "files-count", strconv.Itoa(len(a.Files)))
		for j, f := range a.Files {
			u.Record(name, "artifact", n, "file", strconv.Itoa(j), f.Name)
		}
		u.Record(name, "artifact", n, "end")
		u.Say("--> " + name + ": " + text)
	}
}
