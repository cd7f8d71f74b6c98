package localcloud

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/bakehouse-farm/bakehouse/localcloud/sandbox"
	"github.com/bakehouse-farm/bakehouse/localcloud/state"
)

// A worker brings one instance to where its record says it should be. All that
// is done to an instance is done by its worker, one thing after the other. What
// it does can be done again, so a worker that is cut off anywhere is simply
// replaced by another.
type worker struct {
	wake chan struct{}
}

// attend has the instance's worker look at its record.
func (l *Cloud) attend(region, id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return
	}
	if w := l.workers[id]; w != nil {
		poke(w.wake)
		return
	}
	w := &worker{wake: make(chan struct{}, 1)}
	l.workers[id] = w
	l.tasks.Go(func() { l.work(w, region, id) })
}

// settled is what a step returns when there is nothing to do for an instance
// until somebody changes its record.
const settled time.Duration = -1

func (l *Cloud) work(w *worker, region, id string) {
	for l.ctx.Err() == nil {
		wait, err := l.step(l.ctx, region, id)
		if err != nil && l.ctx.Err() == nil {
			// The state could not be read or written: nothing to go by. Try again
			// rather than leave the instance in between.
			l.log.Error("instance is stuck", "instance", id, "error", err)
			wait = 2 * time.Second
		}
		if wait == 0 {
			continue
		}
		if wait == settled {
			l.mu.Lock()
			select {
			case <-w.wake:
				l.mu.Unlock()
				continue
			default:
			}
			delete(l.workers, id)
			l.mu.Unlock()
			return
		}
		select {
		case <-l.ctx.Done():
		case <-w.wake:
		case <-time.After(wait):
		}
	}
}

// step does the next thing for an instance and returns how long there is
// nothing more to do: 0, or settled, or until a delay has passed.
func (l *Cloud) step(ctx context.Context, region, id string) (time.Duration, error) {
	var i *state.Instance
	var open []*state.Snapshot
	err := l.store.View(func(t *state.Tx) error {
		i = state.Get[state.Instance](t, region, id)
		if i != nil {
			open = captures(t, i)
		}
		return nil
	})
	if err != nil || i == nil {
		return settled, err
	}
	// A capture was asked for before whatever else is to happen now: an image
	// holds what the instance had written by then.
	if len(open) > 0 {
		return 0, l.freeze(ctx, i, open[0])
	}
	switch i.State {
	case state.Pending:
		return l.boot(ctx, i)
	case state.Running:
		return l.run(ctx, i)
	case state.Stopping:
		return l.halt(ctx, i)
	case state.ShuttingDown:
		return l.end(ctx, i)
	}
	return settled, nil
}

// captures returns the snapshots for which the instance is still to be frozen,
// the oldest first.
func captures(t *state.Tx, i *state.Instance) []*state.Snapshot {
	volume := rootVolume(i)
	if volume == "" {
		return nil
	}
	list := slices.DeleteFunc(state.List[state.Snapshot](t, i.Region), func(s *state.Snapshot) bool {
		return s.Volume != volume || s.Freezes == "" || len(s.Layers) > 0 || s.State != state.Pending
	})
	slices.SortFunc(list, func(a, b *state.Snapshot) int {
		return cmp.Or(a.Started.Compare(b.Started), cmp.Compare(a.ID, b.ID))
	})
	return list
}

func rootVolume(i *state.Instance) string {
	for _, m := range i.Mappings {
		if m.Device == i.RootDevice {
			return m.Volume
		}
	}
	return ""
}

// snapshotter is a host that can capture a running instance. *sandbox.Host is
// one.
type snapshotter interface {
	// Snapshot makes what a running instance has written a layer, while it goes on.
	Snapshot(ctx context.Context, id, layer string) error
}

// freeze makes what the instance has written so far the layer of a snapshot.
// A running instance stands still for it, unless that is to be taken live, and
// is started again by run, because its record asks for a reboot.
func (l *Cloud) freeze(ctx context.Context, i *state.Instance, s *state.Snapshot) error {
	live, err := l.capturesLive(i, s)
	switch {
	case err != nil:
	case live:
		err = l.host.(snapshotter).Snapshot(ctx, i.ID, s.Freezes)
		if still, e := l.capturesLive(i, s); err != nil && e == nil && !still {
			return nil // it has ended meanwhile: look again
		}
	default:
		if err = l.host.Stop(ctx, i.ID); err == nil {
			err = l.host.Freeze(ctx, i.ID, s.Freezes)
		}
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		l.log.Error("capture failed", "instance", i.ID, "snapshot", s.ID, "error", err)
		return l.update(func(t *state.Tx) {
			if s := state.Get[state.Snapshot](t, s.Region, s.ID); s != nil {
				s.State, s.Message = state.Errored, err.Error()
				state.Put(t, s)
			}
		}, l.ripe)
	}
	size, err := l.host.Size(s.Freezes)
	if err != nil {
		l.log.Warn("size of layer is unknown", "layer", s.Freezes, "error", err)
	}
	return l.update(func(t *state.Tx) {
		i := state.Get[state.Instance](t, i.Region, i.ID)
		layers := i.Layers
		if !slices.Contains(layers, s.Freezes) {
			layers = append([]string{s.Freezes}, layers...)
		}
		if !live {
			i.Layers = layers
			state.Put(t, i)
		}
		// Deleted meanwhile? Then only the instance needs the layer.
		if s := state.Get[state.Snapshot](t, s.Region, s.ID); s != nil {
			s.Layers, s.Bytes = layers, size
			state.Put(t, s)
		}
	}, l.ripe)
}

// capturesLive tells whether a snapshot is taken while the instance runs on.
func (l *Cloud) capturesLive(i *state.Instance, s *state.Snapshot) (bool, error) {
	if !s.Live || i.State != state.Running {
		return false, nil
	}
	status, err := l.host.Status(i.ID)
	return status.State == sandbox.Running, err
}

// update writes and then wakes who waits on c.
func (l *Cloud) update(f func(*state.Tx), wake ...chan struct{}) error {
	err := l.write(itself(""), func(t *state.Tx) error {
		f(t)
		return nil
	})
	if err == nil {
		for _, c := range wake {
			poke(c)
		}
	}
	return err
}

// move takes the instance from the state it was seen in to another, unless
// somebody else has moved it since.
func (l *Cloud) move(i *state.Instance, to string, also func(*state.Tx, *state.Instance)) error {
	return l.update(func(t *state.Tx) {
		now := state.Get[state.Instance](t, i.Region, i.ID)
		if now == nil || now.State != i.State || !now.Since.Equal(i.Since) {
			return
		}
		enter(now, to, time.Now().UTC())
		if also != nil {
			also(t, now)
		}
		state.Put(t, now)
	})
}

func left(since time.Time, delay time.Duration) time.Duration {
	return max(0, time.Until(since.Add(delay)))
}

func spec(i *state.Instance) sandbox.Spec {
	return sandbox.Spec{
		ID: i.ID, Layers: i.Layers, Hostname: hostname(i), Addr: addrOf(i.Addr), Keys: i.Keys,
		UserData: i.UserData, Metadata: metadata(i),
	}
}

func (l *Cloud) boot(ctx context.Context, i *state.Instance) (time.Duration, error) {
	if d := i.Doom; d != nil {
		if wait := time.Until(d.At); wait > 0 {
			return wait, nil
		}
		return 0, l.move(i, state.ShuttingDown, func(_ *state.Tx, i *state.Instance) {
			i.Reason, i.Transition = d.Reason, d.Reason.Code
		})
	}
	if err := l.host.Start(ctx, spec(i)); err != nil {
		if ctx.Err() != nil {
			return 0, ctx.Err()
		}
		return 0, l.failed(i, err)
	}
	if wait := left(i.Since, l.delays.boot()); wait > 0 {
		return wait, nil
	}
	return 0, l.move(i, state.Running, func(_ *state.Tx, i *state.Instance) { i.Booted = true })
}

// failed puts an instance that does not boot where EC2 would: a new one is
// terminated, one that was stopped is stopped again.
func (l *Cloud) failed(i *state.Instance, err error) error {
	l.log.Error("instance does not boot", "instance", i.ID, "error", err)
	reason := state.Reason{Code: "Server.InternalError", Message: "Server.InternalError: " + err.Error()}
	to := state.ShuttingDown
	if i.Booted {
		to = state.Stopping
	}
	return l.move(i, to, func(_ *state.Tx, i *state.Instance) {
		i.Reason, i.Transition = reason, "Server.InternalError"
	})
}

// run looks after a running instance: it restarts one whose record asks for it,
// and notices one that has ended by itself.
func (l *Cloud) run(ctx context.Context, i *state.Instance) (time.Duration, error) {
	if i.Reboot {
		err := l.stop(ctx, i)
		if err == nil {
			err = l.host.Start(ctx, spec(i))
		}
		if ctx.Err() != nil {
			return 0, ctx.Err()
		}
		if err != nil {
			return 0, l.failed(i, err)
		}
		// A capture that was asked for in the meantime wants the next restart.
		return 0, l.update(func(t *state.Tx) {
			now := state.Get[state.Instance](t, i.Region, i.ID)
			if now != nil && now.State == state.Running && len(captures(t, now)) == 0 {
				now.Reboot, now.Abrupt = false, false
				state.Put(t, now)
			}
		})
	}
	s, err := l.host.Status(i.ID)
	if err != nil {
		l.log.Warn("state of instance is unknown", "instance", i.ID, "error", err)
		return 5 * time.Second, nil
	}
	if s.State == sandbox.Running {
		return settled, nil
	}
	l.log.Info("instance ended by itself", "instance", i.ID, "reason", s.Reason, "behaviour", i.Shutdown)
	to := state.Stopping
	reason := state.Reason{Code: "Server.InternalError", Message: fmt.Sprintf("Server.InternalError: %s %s", s.Reason, s.Detail)}
	switch {
	case s.State == sandbox.Gone:
		to, reason.Message = state.ShuttingDown, "Server.InternalError: the instance's files are gone"
	case s.Reason == sandbox.FromInside:
		reason = state.Reason{Code: "Client.InstanceInitiatedShutdown", Message: "Client.InstanceInitiatedShutdown: Instance initiated shutdown"}
		if i.Shutdown == "terminate" {
			to = state.ShuttingDown
		}
	}
	return 0, l.move(i, to, func(_ *state.Tx, i *state.Instance) {
		i.Reason = reason
		i.Transition = fmt.Sprintf("Instance initiated (%s)", time.Now().UTC().Format("2006-01-02 15:04:05 GMT"))
	})
}

func (l *Cloud) halt(ctx context.Context, i *state.Instance) (time.Duration, error) {
	if err := l.stop(ctx, i); err != nil {
		if ctx.Err() != nil {
			return 0, ctx.Err()
		}
		l.log.Error("instance does not stop", "instance", i.ID, "error", err)
		return 5 * time.Second, nil
	}
	if wait := left(i.Since, l.delays.stop()); wait > 0 {
		return wait, nil
	}
	return 0, l.move(i, state.Stopped, func(_ *state.Tx, i *state.Instance) { i.Abrupt = false })
}

// end removes an instance. Volumes that are to outlive it keep what it wrote.
func (l *Cloud) end(ctx context.Context, i *state.Instance) (time.Duration, error) {
	var err error
	if i.Abrupt {
		err = l.stop(ctx, i)
	}
	var kept []string
	if err == nil {
		kept, err = l.keepRoot(ctx, i)
	}
	if err == nil {
		err = l.host.Remove(ctx, i.ID)
	}
	if err != nil {
		if ctx.Err() != nil {
			return 0, ctx.Err()
		}
		l.log.Error("instance cannot be removed", "instance", i.ID, "error", err)
		return 5 * time.Second, nil
	}
	if wait := left(i.Since, l.delays.terminate()); wait > 0 {
		return wait, nil
	}
	err = l.move(i, state.Terminated, func(t *state.Tx, i *state.Instance) {
		for _, m := range i.Mappings {
			v := state.Get[state.Volume](t, i.Region, m.Volume)
			switch {
			case v == nil:
			case v.DeleteWith:
				state.Delete(t, v)
			default:
				if v.Device == i.RootDevice {
					v.Layers = kept
				}
				v.Instance, v.Device = "", ""
				state.Put(t, v)
			}
		}
		if n := state.Get[state.Interface](t, i.Region, i.Interface); n != nil {
			state.Delete(t, n)
		}
		i.Layers, i.Mappings = nil, nil
	})
	poke(l.trash)
	return 0, err
}

// keepRoot freezes the root volume of an instance that is about to go, if the
// volume is to stay, and returns the layers that it then consists of.
func (l *Cloud) keepRoot(ctx context.Context, i *state.Instance) ([]string, error) {
	var v *state.Volume
	err := l.store.View(func(t *state.Tx) error {
		v = state.Get[state.Volume](t, i.Region, rootVolume(i))
		return nil
	})
	if err != nil || v == nil || v.DeleteWith {
		return nil, err
	}
	layer := "layer-" + v.ID
	if slices.Contains(i.Layers, layer) {
		return i.Layers, nil
	}
	// Before the layer is there, the volume must be known to own it: or else it
	// would be collected as garbage.
	stack := append([]string{layer}, i.Layers...)
	if !i.Booted {
		if s, err := l.host.Status(i.ID); err == nil && s.State == sandbox.Gone {
			return i.Layers, nil // it has never written anything
		}
	}
	if err := l.host.Stop(ctx, i.ID); err != nil {
		return nil, err
	}
	err = l.update(func(t *state.Tx) {
		if v := state.Get[state.Volume](t, i.Region, v.ID); v != nil {
			v.Layers = stack
			state.Put(t, v)
		}
	})
	if err != nil {
		return nil, err
	}
	if s, err := l.host.Status(i.ID); err == nil && s.State == sandbox.Gone {
		return stack, nil // frozen and removed before we were cut off
	}
	return stack, l.host.Freeze(ctx, i.ID, layer)
}

// watch notices instances that end by themselves: at once by the host's events,
// and now and then by looking, since events may be missed.
func (l *Cloud) watch() {
	tick := time.NewTicker(5 * time.Second)
	defer tick.Stop()
	for {
		id := ""
		select {
		case <-l.ctx.Done():
			return
		case e, ok := <-l.host.Events():
			if !ok {
				<-l.ctx.Done()
				return
			}
			id = e.ID
		case <-tick.C:
		}
		var list []*state.Instance
		err := l.store.View(func(t *state.Tx) error {
			list = state.List[state.Instance](t, "*")
			return nil
		})
		if err != nil {
			l.log.Error("state cannot be read", "error", err)
		}
		for _, i := range list {
			if i.State == state.Running && (id == "" || id == i.ID) {
				l.attend(i.Region, i.ID)
			}
		}
	}
}
