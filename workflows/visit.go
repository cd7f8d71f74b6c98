package workflows

import (
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"github.com/bakehouse-farm/bakehouse/activities"
)

// An Execution asks for a command to be run on the machine.
type Execution struct {
	Line string `json:"line"`
	// Name tells this execution from others; letters, digits and dashes.
	Name string `json:"name"`
}

// A Visit asks for a key to be admitted to the machine, or removed.
type Visit struct {
	Name   string `json:"name"` // tells visitors apart; letters, digits and dashes
	Public string `json:"public,omitempty"`
}

// maxVisits is how many people may be on one machine at a time.
const maxVisits = 5

// visits is what a build knows of the people on its machine.
type visits struct {
	visitors   int
	stopVisits []workflow.CancelFunc
	admitted   bool // a key was admitted
}

// receive lets people onto the machine, while there is one that one can log in
// to and that is not about to become an image.
func (b *build) receive(ctx workflow.Context) error {
	open := func() error {
		switch {
		case b.leaving || b.Stage > provisioning:
			return refuse("the machine of this build is finished: what changed it now would be in the image, or not, by chance")
		case b.Login.HostKey == "":
			return refuse("the machine of this build cannot be reached yet")
		case b.visitors >= maxVisits:
			return refuse("%d commands run on the machine already", b.visitors)
		}
		return nil
	}
	if err := workflow.SetUpdateHandlerWithOptions(ctx, AskExecute, func(ctx workflow.Context, e Execution) (int, error) {
		var exit int
		err := b.visit(ctx, "exec-"+e.Name, func(ctx workflow.Context, s activities.Step) workflow.Future {
			return workflow.ExecuteActivity(ctx, do.Execute, s, b.Login, e.Line)
		}, &exit)
		return exit, err
	}, workflow.UpdateHandlerOptions{Validator: func(_ workflow.Context, e Execution) error {
		if e.Line == "" || !plainName(e.Name) {
			return refuse("a command needs a line and a plain name")
		}
		return open()
	}}); err != nil {
		return err
	}
	if err := workflow.SetUpdateHandlerWithOptions(ctx, AskAdmit, func(ctx workflow.Context, v Visit) (activities.Door, error) {
		var door activities.Door
		b.admitted = true
		err := b.visit(ctx, "admit", func(ctx workflow.Context, s activities.Step) workflow.Future {
			return workflow.ExecuteActivity(ctx, do.Admit, s, b.Login, v.Name, v.Public)
		}, &door)
		door.Machine, door.Region = b.Login.Machine.ID, b.Resolved.Region
		return door, err
	}, workflow.UpdateHandlerOptions{Validator: func(_ workflow.Context, v Visit) error {
		if v.Public == "" || !plainName(v.Name) {
			return refuse("a visitor needs a public key and a plain name")
		}
		return open()
	}}); err != nil {
		return err
	}
	return workflow.SetUpdateHandlerWithOptions(ctx, AskDismiss, func(ctx workflow.Context, v Visit) error {
		if b.leaving || b.Login.HostKey == "" {
			return nil // the key has gone with the machine
		}
		return b.visit(ctx, "dismiss", func(ctx workflow.Context, s activities.Step) workflow.Future {
			return workflow.ExecuteActivity(ctx, do.Dismiss, s, b.Login, v.Name)
		}, nil)
	}, workflow.UpdateHandlerOptions{Validator: func(_ workflow.Context, v Visit) error {
		if !plainName(v.Name) {
			return refuse("a visitor needs a plain name")
		}
		return nil
	}})
}

// visit runs one activity for a visitor, until the build wants the machine for
// itself.
func (b *build) visit(ctx workflow.Context, name string, call func(workflow.Context, activities.Step) workflow.Future, out any) error {
	ctx, cancel := workflow.WithCancel(ctx)
	defer cancel()
	b.stopVisits = append(b.stopVisits, cancel)
	b.visitors++
	defer func() { b.visitors-- }()
	ctx, step := b.step(works(ctx), name)
	err := call(ctx, step).Get(ctx, out)
	if temporal.IsCanceledError(err) {
		return temporal.NewNonRetryableApplicationError("the build went on, which ended the visit", "cancelled", nil)
	}
	return err
}

// endVisits ends what visitors do, as the build is done with the machine. Their
// keys are taken off it, unless it goes with them.
func (b *build) endVisits(ctx workflow.Context, goes bool) {
	if b.leaving {
		return
	}
	b.leaving = true
	ctx, cancel := workflow.NewDisconnectedContext(ctx)
	defer cancel()
	for _, stop := range b.stopVisits {
		stop()
	}
	b.stopVisits = nil
	if err := workflow.Await(ctx, func() bool { return b.visitors == 0 }); err != nil {
		return
	}
	if !b.admitted || goes {
		return
	}
	b.admitted = false
	gone, step := b.step(asks(ctx), "dismiss")
	if err := workflow.ExecuteActivity(gone, do.Dismiss, step, b.Login, "").Get(gone, nil); err != nil {
		workflow.GetLogger(ctx).Warn("keys of visitors stay on the machine", "error", err)
	}
}

func plainName(s string) bool { return s != "" && len(s) <= 40 && slug(s) == s }
