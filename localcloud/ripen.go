package localcloud

import (
	"slices"
	"time"

	"github.com/bakehouse-farm/bakehouse/localcloud/state"
)

// How long things are still shown after they ended.
const (
	keepTerminated = time.Hour
	keepToken      = 7 * 24 * time.Hour
)

// ripen completes snapshots and images whose content is there and whose delay
// has passed, and forgets what has been shown for long enough.
func (l *Cloud) ripen() {
	for {
		wait := time.Minute
		err := l.store.View(func(t *state.Tx) error {
			r := ripening{l: l, t: t, now: time.Now().UTC(), next: wait}
			r.look()
			if r.due == 0 {
				wait = r.next
				return nil
			}
			wait = 0
			return nil
		})
		if err == nil && wait == 0 {
			err = l.write(itself(""), func(t *state.Tx) error {
				r := ripening{l: l, t: t, now: time.Now().UTC(), next: time.Minute}
				r.look()
				wait = r.next
				return nil
			})
			poke(l.trash)
		}
		if err != nil {
			l.log.Error("images cannot be completed", "error", err)
			wait = 5 * time.Second
		}
		select {
		case <-l.ctx.Done():
			return
		case <-l.ripe:
		case <-time.After(wait):
		}
	}
}

// A ripening is one look at everything that changes by itself. In a reading
// transaction it only counts what is due.
type ripening struct {
	l    *Cloud
	t    *state.Tx
	now  time.Time
	due  int
	next time.Duration // until something else is due
}

// when runs f if the time has come, and otherwise notes when it will.
func (r *ripening) when(at time.Time, f func()) {
	if d := at.Sub(r.now); d > 0 {
		r.next = min(r.next, d)
		return
	}
	r.due++
	if r.t.Writable() {
		f()
	}
}

func (r *ripening) look() {
	for _, s := range state.List[state.Snapshot](r.t, "*") {
		if s.State != state.Pending || s.Freezes != "" && len(s.Layers) == 0 && s.Doom == nil {
			continue
		}
		delay := r.l.delays.snapshot()
		if s.Copied {
			delay = r.l.delays.copy()
		}
		if s.Doom != nil {
			r.when(s.Doom.At, func() {
				s.State, s.Message = state.Errored, s.Doom.Reason.Message
				state.Put(r.t, s)
			})
			continue
		}
		r.when(later(s.Started.Add(delay), s.NotBefore), func() {
			s.State = state.Completed
			state.Put(r.t, s)
		})
	}
	for _, i := range state.List[state.Image](r.t, "*") {
		if i.State == state.Pending {
			r.image(i)
		}
	}
	for _, i := range state.List[state.Instance](r.t, "*") {
		if i.State == state.Terminated {
			r.when(i.Since.Add(keepTerminated), func() { state.Delete(r.t, i) })
		}
	}
	for _, k := range state.List[state.Token](r.t, "*") {
		r.when(k.Used.Add(keepToken), func() { state.Delete(r.t, k) })
	}
}

// image completes an image whose snapshots are complete, or gives it up with
// the first that has failed.
func (r *ripening) image(i *state.Image) {
	if i.Doom != nil {
		r.when(i.Doom.At, func() {
			i.State, i.Reason = state.Failed, i.Doom.Reason
			state.Put(r.t, i)
		})
		return
	}
	var snaps []*state.Snapshot
	for _, m := range i.Mappings {
		if m.Snapshot != "" {
			snaps = append(snaps, state.Get[state.Snapshot](r.t, i.Region, m.Snapshot))
		}
	}
	bad := slices.IndexFunc(snaps, func(s *state.Snapshot) bool { return s == nil || s.State == state.Errored })
	if bad >= 0 {
		reason := state.Reason{Code: "Client.InternalError", Message: "Client.InternalError: a snapshot of the image is gone"}
		if s := snaps[bad]; s != nil {
			reason.Message = "Client.InternalError: " + s.Message
		}
		r.when(r.now, func() {
			i.State, i.Reason = state.Failed, reason
			state.Put(r.t, i)
		})
		return
	}
	if slices.ContainsFunc(snaps, func(s *state.Snapshot) bool { return s.State != state.Completed }) {
		return // its ripening comes first, and wakes us
	}
	delay := r.l.delays.image()
	if i.Copied {
		delay = r.l.delays.copy()
	}
	r.when(later(i.Created.Add(delay), i.NotBefore), func() {
		i.State = state.Available
		state.Put(r.t, i)
	})
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// collect removes the layers that nothing needs any more. A layer's record is
// always there before the layer, and once no record names a layer none ever
// will again; so a layer seen before the records, and not named by them, is
// garbage.
func (l *Cloud) collect() {
	for {
		select {
		case <-l.ctx.Done():
			return
		case <-l.trash:
		}
		if err := l.sweep(); err != nil {
			l.log.Error("layers cannot be collected", "error", err)
		}
	}
}

func (l *Cloud) sweep() error {
	l.mu.Lock()
	used := map[string]bool{l.host.HostLayer(): true}
	for layer := range l.importing {
		used[layer] = true
	}
	l.mu.Unlock()
	layers, err := l.host.Layers()
	if err != nil {
		return err
	}
	use := func(list ...string) {
		for _, layer := range list {
			used[layer] = true
		}
	}
	err = l.store.View(func(t *state.Tx) error {
		for _, s := range state.List[state.Snapshot](t, "*") {
			use(append(s.Layers, s.Freezes)...)
		}
		for _, i := range state.List[state.Instance](t, "*") {
			use(i.Layers...)
		}
		for _, v := range state.List[state.Volume](t, "*") {
			use(v.Layers...)
		}
		for _, b := range state.List[state.Base](t, "") {
			use(b.Layers...)
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, layer := range layers {
		if used[layer] || l.ctx.Err() != nil {
			continue
		}
		if err := l.host.RemoveLayer(layer); err != nil {
			l.log.Warn("layer cannot be removed", "layer", layer, "error", err)
		}
	}
	return nil
}
