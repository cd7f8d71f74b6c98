package localcloud

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"time"

	"github.com/bakehouse-farm/bakehouse"
	"github.com/bakehouse-farm/bakehouse/localcloud/standin"
	"github.com/bakehouse-farm/bakehouse/localcloud/state"
)

// Import makes an image of a root file system in a tarball, plain or compressed
// with gzip, xz or zstd, and registers it in every region under the name. An
// empty owner means the account of the cloud; with the account of a publisher
// (099720109477), the filters of a template find it. The size of its root
// volume is 8 GiB, or enough for the files.
func (l *Cloud) Import(ctx context.Context, name, owner string, tarball io.Reader) error {
	base := &state.Base{
		Name: name, Owner: cmp.Or(owner, l.account), Alias: standin.Alias(owner), Arch: l.arch, Imported: true,
		Description: "Imported from a tarball", RootDevice: "/dev/sda1", Created: time.Now().UTC().Truncate(time.Millisecond),
	}
	base.Public = base.Owner != l.account
	if !isAccount(base.Owner) {
		return bakehouse.Errorf(bakehouse.Invalid, "import %s: owner %q is not an account of twelve digits", name, base.Owner)
	}
	taken := func(t *state.Tx) error {
		if state.Get[state.Base](t, "", baseKey(base)) != nil {
			return bakehouse.Errorf(bakehouse.Conflict, "import %s: there is an imported image of that name and owner: remove it first (localcloud rm %[1]s)", name)
		}
		for region := range regionZones() {
			c := &call{Tx: t, cloud: l, region: region}
			if err := c.freeName(name); err != nil && base.Owner == l.account {
				return bakehouse.Errorf(bakehouse.Conflict, "import %s in %s: %w", name, region, err)
			}
		}
		return nil
	}
	if err := l.store.View(taken); err != nil {
		return err
	}
	layer := state.NewID("import")
	l.mu.Lock()
	l.importing[layer] = true
	l.mu.Unlock()
	defer func() {
		l.mu.Lock()
		delete(l.importing, layer)
		l.mu.Unlock()
		poke(l.trash) // it is garbage if it has got no record
	}()
	if err := l.host.ImportLayer(ctx, layer, tarball); err != nil {
		return fmt.Errorf("import %s: %w", name, err)
	}
	bytes, err := l.host.Size(layer)
	if err != nil {
		return fmt.Errorf("import %s: %w", name, err)
	}
	base.Layers, base.Size = []string{layer}, max(8, bytes>>30+2)
	return l.write(operator("import", name), func(t *state.Tx) error {
		if err := taken(t); err != nil {
			return err
		}
		state.Put(t, base)
		for _, r := range state.List[state.Region](t, "") {
			l.register(t, r.Name, base)
		}
		return nil
	})
}

// Forget takes back what Import did: the images of that name in all regions.
// Instances that were launched from them go on.
func (l *Cloud) Forget(name string) error {
	found := false
	err := l.write(operator("rm", name), func(t *state.Tx) error {
		for _, b := range state.List[state.Base](t, "") {
			if !b.Imported || b.Name != name {
				continue
			}
			found = true
			state.Delete(t, b)
			for _, r := range state.List[state.Region](t, "") {
				i, s := l.image(r.Name, b)
				state.Delete(t, i)
				state.Delete(t, s)
			}
		}
		return nil
	})
	if err == nil && !found {
		return bakehouse.Errorf(bakehouse.NotFound, "no imported image is called %s", name)
	}
	poke(l.trash)
	return err
}

// Export writes the file system of an image, in any region, as a tarball.
func (l *Cloud) Export(ctx context.Context, image string, w io.Writer) error {
	var layers []string
	err := l.store.View(func(t *state.Tx) error {
		for _, i := range state.List[state.Image](t, "*") {
			if i.ID != image {
				continue
			}
			if i.State != state.Available {
				return bakehouse.Errorf(bakehouse.Conflict, "export %s: it is %s", image, i.State)
			}
			for _, m := range i.Mappings {
				if s := state.Get[state.Snapshot](t, i.Region, m.Snapshot); s != nil && m.Device == i.RootDevice {
					layers = s.Layers
				}
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	if len(layers) == 0 {
		return bakehouse.Errorf(bakehouse.NotFound, "export %s: no such image (localcloud images lists them)", image)
	}
	return l.host.Export(ctx, layers, w)
}

// Command prepares a command to run as root in a running instance of any region.
func (l *Cloud) Command(ctx context.Context, instance string, argv []string) (*exec.Cmd, error) {
	i, err := l.instance(instance)
	if err != nil {
		return nil, err
	}
	if i.State != state.Running {
		return nil, bakehouse.Errorf(bakehouse.Conflict, "instance %s is %s, not running", instance, i.State)
	}
	return l.host.Command(ctx, instance, argv)
}

func (l *Cloud) instance(id string) (i *state.Instance, err error) {
	err = l.store.View(func(t *state.Tx) error {
		for _, r := range state.List[state.Instance](t, "*") {
			if r.ID == id {
				i = r
			}
		}
		return nil
	})
	if err == nil && i == nil {
		err = bakehouse.Errorf(bakehouse.NotFound, "no instance %s (localcloud instances lists them)", id)
	}
	return i, err
}

// Images returns the images of all regions that have been used, by region and
// then as they were made.
func (l *Cloud) Images() (list []*state.Image, err error) {
	err = l.store.View(func(t *state.Tx) error {
		list = state.List[state.Image](t, "*")
		return nil
	})
	slices.SortStableFunc(list, func(a, b *state.Image) int {
		return cmp.Or(cmp.Compare(a.Region, b.Region), a.Created.Compare(b.Created))
	})
	return list, err
}

// Instances returns the instances of all regions.
func (l *Cloud) Instances() (list []*state.Instance, err error) {
	err = l.store.View(func(t *state.Tx) error {
		list = state.List[state.Instance](t, "*")
		return nil
	})
	slices.SortStableFunc(list, func(a, b *state.Instance) int {
		return cmp.Or(cmp.Compare(a.Region, b.Region), a.Launched.Compare(b.Launched))
	})
	return list, err
}

// Terminate ends all instances and waits until they are gone.
func (l *Cloud) Terminate(ctx context.Context) error {
	return l.each(ctx, "terminate", func(i *state.Instance, now time.Time) bool {
		if i.State != state.Terminated && i.State != state.ShuttingDown {
			because(i, "Client.UserInitiatedShutdown", now)
			enter(i, state.ShuttingDown, now)
		}
		return i.State == state.Terminated
	})
}

// Stop stops all running instances and waits until they stand still.
func (l *Cloud) Stop(ctx context.Context) error {
	return l.each(ctx, "stop", func(i *state.Instance, now time.Time) bool {
		if i.State == state.Running {
			because(i, "Client.UserInitiatedShutdown", now)
			enter(i, state.Stopping, now)
		}
		return i.State == state.Stopped || i.State == state.Terminated
	})
}

// each has f change all instances until it says of each that it is as it should
// be.
func (l *Cloud) each(ctx context.Context, verb string, f func(i *state.Instance, now time.Time) bool) error {
	for {
		open := 0
		err := l.write(operator(verb), func(t *state.Tx) error {
			open = 0
			for _, i := range state.List[state.Instance](t, "*") {
				before := i.State
				if !f(i, time.Now().UTC()) {
					open++
				}
				if i.State != before {
					state.Put(t, i)
				}
			}
			return nil
		})
		if err != nil || open == 0 {
			return err
		}
		list, err := l.Instances()
		if err != nil {
			return err
		}
		for _, i := range list {
			if live(i) {
				l.attend(i.Region, i.ID)
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%d instances are still on their way: %w", open, context.Cause(ctx))
		case <-l.ctx.Done():
			return errors.New("localcloud was closed")
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Reset terminates all instances and removes whatever the account has made, in
// all regions. Imported images stay.
func (l *Cloud) Reset(ctx context.Context) error {
	if err := l.Terminate(ctx); err != nil {
		return fmt.Errorf("reset: %w", err)
	}
	err := l.write(operator("reset"), func(t *state.Tx) error {
		keep := map[string]bool{}
		for _, b := range state.List[state.Base](t, "") {
			for _, r := range state.List[state.Region](t, "") {
				i, s := l.image(r.Name, b)
				keep[i.ID], keep[s.ID] = true, true
			}
		}
		drop(t, func(r *state.Image) bool { return !keep[r.ID] })
		drop(t, func(r *state.Snapshot) bool { return !keep[r.ID] })
		drop(t, func(*state.Instance) bool { return true })
		drop(t, func(*state.Volume) bool { return true })
		drop(t, func(*state.Interface) bool { return true })
		drop(t, func(*state.KeyPair) bool { return true })
		drop(t, func(*state.Token) bool { return true })
		custom := map[string]bool{}
		for _, v := range state.List[state.VPC](t, "*") {
			custom[v.ID] = !v.Default
		}
		drop(t, func(r *state.SecurityGroup) bool { return r.Name != "default" || custom[r.VPC] })
		drop(t, func(r *state.Subnet) bool { return !r.Default })
		drop(t, func(r *state.VPC) bool { return !r.Default })
		return nil
	})
	if err != nil {
		return fmt.Errorf("reset: %w", err)
	}
	return l.sweep()
}

func drop[T any, R state.Record[T]](t *state.Tx, gone func(R) bool) {
	for _, r := range state.List[T, R](t, "*") {
		if gone(r) {
			state.Delete[T, R](t, r)
		}
	}
}
