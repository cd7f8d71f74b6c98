package localcloud

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/bakehouse-farm/bakehouse"
	"github.com/bakehouse-farm/bakehouse/localcloud/record"
	"github.com/bakehouse-farm/bakehouse/localcloud/sandbox"
	"github.com/bakehouse-farm/bakehouse/localcloud/state"
)

// An Act is what can be done to a machine to break or to mend it.
type Act string

// The acts.
const (
	Terminate  Act = "terminate"   // as a spot interruption: Server.SpotInstanceTermination
	FailHost   Act = "fail"        // as a failing host: Server.InternalError, killed; stopped, or terminated
	HardReboot Act = "reboot"      // kill all processes and boot again
	Freeze     Act = "freeze"      // stop all processes where they are
	Thaw       Act = "thaw"        // let them go on
	Fill       Act = "fill"        // leave no room on its disk
	Free       Act = "free"        // give the room back
	Cut        Act = "cut"         // lose all packets, until it is mended
	Impair     Act = "impair"      // delay or lose packets, or limit their rate, as long as this process runs
	Mend       Act = "mend"        // end cut and impair
	PauseSSHD  Act = "pause-sshd"  // stop the SSH server alone
	ResumeSSHD Act = "resume-sshd" // let it go on
)

// Acts lists all acts.
func Acts() []Act {
	return []Act{Terminate, FailHost, HardReboot, Freeze, Thaw, Fill, Free, Cut, Impair, Mend, PauseSSHD, ResumeSSHD}
}

// A MachineFault is an act on some machines. At least one of Instances, Tags
// and Region must be set; machines that have all that is set are meant.
type MachineFault struct {
	Act       Act               `json:"act"`
	Instances []string          `json:"instances,omitempty"`
	Tags      map[string]string `json:"tags,omitempty"`
	Region    string            `json:"region,omitempty"`
	// To is the state that FailHost leads to: "stopped" or "terminated". Empty:
	// terminated.
	To string `json:"to,omitempty"`
	// Network is for Impair. Its fields may be combined.
	Network sandbox.Impairment `json:"network,omitzero"`
}

// breakable is a host whose instances can be broken. *sandbox.Host is one.
type breakable interface {
	Kill(ctx context.Context, id string) error
	Pause(id string) error
	Resume(id string) error
	PauseLogin(id string) error
	ResumeLogin(id string) error
	Impair(id string, i sandbox.Impairment) error
	Fill(id string) error
	Free(id string) error
}

// Break does f and returns the ids of the machines that it was done to. Acts
// that change a machine's state return when that is decided: the state then
// goes its way. It stops at the first machine that it fails for. That no
// machine is meant is an error of kind NotFound, a wrong MachineFault one of
// kind Invalid, and what this host cannot do one of kind Invalid that names it.
func (l *Cloud) Break(ctx context.Context, f MachineFault) (done []string, err error) {
	if err := f.check(); err != nil {
		return nil, err
	}
	list, err := l.meant(f)
	if err != nil {
		return nil, err
	}
	for _, i := range list {
		if err := l.breakOne(ctx, f, i); err != nil {
			return done, fmt.Errorf("machine %s: %s: %w", f.Act, i.ID, err)
		}
		done = append(done, i.ID)
	}
	return done, nil
}

func (f MachineFault) check() error {
	if !slices.Contains(Acts(), f.Act) {
		var names []string
		for _, a := range Acts() {
			names = append(names, string(a))
		}
		return bakehouse.Errorf(bakehouse.Invalid, "machine: there is no act %q: choose one of %s", f.Act, strings.Join(names, ", "))
	}
	if len(f.Instances) == 0 && len(f.Tags) == 0 && f.Region == "" {
		return bakehouse.Errorf(bakehouse.Invalid, "machine %s: which one? Name instances, a tag or a region", f.Act)
	}
	if f.To != "" && (f.Act != FailHost || f.To != state.Stopped && f.To != state.Terminated) {
		return bakehouse.Errorf(bakehouse.Invalid, "machine %s: it cannot lead to %q: fail leads to %s or %s", f.Act, f.To, state.Stopped, state.Terminated)
	}
	if (f.Network != sandbox.Impairment{}) != (f.Act == Impair) || f.Network.Cut {
		return bakehouse.Errorf(bakehouse.Invalid, "machine %s: impair needs a delay, a loss or a rate, and nothing else has one", f.Act)
	}
	return nil
}

// meant lists the machines that f means and that there are to be broken.
func (l *Cloud) meant(f MachineFault) ([]*state.Instance, error) {
	var list []*state.Instance
	err := l.store.View(func(t *state.Tx) error {
		list = state.List[state.Instance](t, cmp.Or(f.Region, "*"))
		return nil
	})
	if err != nil {
		return nil, err
	}
	list = slices.DeleteFunc(list, func(i *state.Instance) bool {
		if len(f.Instances) > 0 && !slices.Contains(f.Instances, i.ID) {
			return true
		}
		for k, v := range f.Tags {
			if have, ok := i.Tags[k]; !ok || have != v {
				return true
			}
		}
		switch f.Act {
		case Terminate, FailHost:
			return i.State == state.Terminated || i.State == state.ShuttingDown
		}
		return i.State != state.Running
	})
	for _, id := range f.Instances {
		if !slices.ContainsFunc(list, func(i *state.Instance) bool { return i.ID == id }) {
			return nil, bakehouse.Errorf(bakehouse.NotFound, "machine %s: no instance %s that it can be done to (localcloud instances lists them)", f.Act, id)
		}
	}
	if len(list) == 0 {
		return nil, bakehouse.Errorf(bakehouse.NotFound, "machine %s: no instance that it can be done to has all that was named (localcloud instances lists them)", f.Act)
	}
	return list, nil
}

func (l *Cloud) breakOne(ctx context.Context, f MachineFault, i *state.Instance) error {
	e := operator("machine "+string(f.Act), i.ID)
	e.Region = i.Region
	e.Faults = []record.Fault{{Rule: "machine", Kind: string(f.Act)}}
	if b := i.Tags[TagBuild]; b != "" {
		e.Builds = []string{b}
	}
	switch f.Act {
	case Terminate, FailHost, HardReboot:
		return l.strike(e, f, i)
	}
	h, ok := l.host.(breakable)
	if !ok {
		return bakehouse.Errorf(bakehouse.Invalid, "this host cannot do that to its instances")
	}
	err := act(h, f, i.ID)
	if err != nil {
		e.Message = err.Error()
	}
	l.note(e)
	return err
}

func act(h breakable, f MachineFault, id string) error {
	switch f.Act {
	case Freeze:
		return h.Pause(id)
	case Thaw:
		return h.Resume(id)
	case Fill:
		return h.Fill(id)
	case Free:
		return h.Free(id)
	case Cut:
		return h.Impair(id, sandbox.Impairment{Cut: true})
	case Impair:
		return h.Impair(id, f.Network)
	case Mend:
		return h.Impair(id, sandbox.Impairment{})
	case PauseSSHD:
		return h.PauseLogin(id)
	case ResumeSSHD:
		return h.ResumeLogin(id)
	}
	return bakehouse.Errorf(bakehouse.Invalid, "nobody knows how")
}

// strike changes what becomes of an instance.
func (l *Cloud) strike(e record.Entry, f MachineFault, i *state.Instance) error {
	late := false
	err := l.write(e, func(t *state.Tx) error {
		now := state.Get[state.Instance](t, i.Region, i.ID)
		if now == nil || now.State != i.State {
			late = true
			return nil
		}
		f.apply(now, time.Now().UTC())
		state.Put(t, now)
		return nil
	})
	switch {
	case err != nil:
		return err
	case late:
		return bakehouse.Errorf(bakehouse.Conflict, "its state has just changed")
	}
	l.attend(i.Region, i.ID)
	return nil
}

func (f MachineFault) apply(i *state.Instance, now time.Time) {
	because := func(code, message string) {
		i.Reason = state.Reason{Code: code, Message: code + ": " + message}
		i.Transition = code + " (" + now.Format("2006-01-02 15:04:05 GMT") + ")"
	}
	switch f.Act {
	case Terminate: // which the system inside is told, as on EC2
		because("Server.SpotInstanceTermination", "Spot instance termination")
		enter(i, state.ShuttingDown, now)
	case FailHost:
		i.Abrupt = true
		because("Server.InternalError", "the host of the instance has failed")
		switch {
		case f.To == state.Stopped && i.State == state.Stopped:
		case f.To == state.Stopped:
			enter(i, state.Stopping, now)
		default:
			enter(i, state.ShuttingDown, now)
		}
	case HardReboot:
		i.Abrupt, i.Reboot = true, true
	}
}

// stop ends a machine, as a fault does or as an orderly stop.
func (l *Cloud) stop(ctx context.Context, i *state.Instance) error {
	if h, ok := l.host.(interface {
		Kill(ctx context.Context, id string) error
	}); ok && i.Abrupt {
		return h.Kill(ctx, i.ID)
	}
	return l.host.Stop(ctx, i.ID)
}
