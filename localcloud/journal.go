package localcloud

import (
	"strings"
	"time"

	"github.com/bakehouse-farm/bakehouse/localcloud/record"
	"github.com/bakehouse-farm/bakehouse/localcloud/state"
)

// itself begins the entry of something that nobody has asked for just now.
func itself(what string) record.Entry {
	return record.Entry{Time: time.Now().UTC(), By: record.Itself, Action: what}
}

// operator begins the entry of something that was asked for over the control
// socket.
func operator(what string, names ...string) record.Entry {
	return record.Entry{Time: time.Now().UTC(), By: record.Operator, Action: what, Names: names}
}

// write changes the state in one transaction. If that changes any resource, e
// goes on record with the changes; that it does so and that the changes are
// made is one thing, also for a process that is killed in between.
func (l *Cloud) write(e record.Entry, f func(*state.Tx) error) error {
	_, err := l.tell(&e, f)
	return err
}

// tell is write, and tells whether e, as f left it, went on record.
func (l *Cloud) tell(e *record.Entry, f func(*state.Tx) error) (told bool, err error) {
	var seq uint64
	err = l.store.Update(func(t *state.Tx) error {
		if err := f(t); err != nil {
			return err
		}
		if e.Changes = t.Changes(); len(e.Changes) == 0 {
			return nil
		}
		var err error
		if seq, err = l.journal.Append(*e); err != nil {
			return err
		}
		state.Put(t, &state.Mark{Seq: seq})
		return nil
	})
	if err != nil {
		if seq > 0 {
			if undo := l.journal.Undo(seq); undo != nil {
				l.log.Error("record tells of what never happened", "entry", seq, "error", undo)
			}
		}
		return false, err
	}
	if !always(e) {
		l.past.note(e.Changes, time.Now())
	}
	return seq > 0, nil
}

// always tells whether what was made seems to have been there for ever: what a
// region comes with, and images that stand in for those of others.
func always(e *record.Entry) bool {
	return strings.HasPrefix(e.Action, setUpRegion) || strings.HasPrefix(e.Action, "Describe")
}

const setUpRegion = "set up "

// note puts on record what changed no resource.
func (l *Cloud) note(e record.Entry) {
	if _, err := l.journal.Append(e); err != nil {
		l.log.Error("request is not on record", "action", e.Action, "error", err)
	}
}

// Record calls f with the entries of the record that pass, the oldest first,
// until it returns false.
func (l *Cloud) Record(filter record.Filter, f func(record.Entry) bool) error {
	return l.journal.Read(filter, f)
}
