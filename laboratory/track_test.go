package laboratory

import (
	"testing"

	"github.com/bakehouse-farm/bakehouse/localcloud/record"
	"github.com/bakehouse-farm/bakehouse/localcloud/state"
)

// What localcloud takes back, because it was killed before it was done, has
// never been.
func TestTakenBack(t *testing.T) {
	b := newTrack(Recipe{Key: "K"})
	w := newWatcher(nil)
	w.add(b)
	launch := func(seq uint64, id string) record.Entry {
		return record.Entry{
			Seq: seq, AccessKey: "K", Action: "RunInstances",
			Changes: []state.Change{{Op: state.Created, Summary: state.Summary{Kind: "instance", Region: home, ID: id}}},
		}
	}
	w.seen(launch(1, "i-1"))
	w.seen(record.Entry{Seq: 1, Undone: true})
	if b.machine() != "" || b.made["instance in "+home] != 0 || b.reached(Moment{Call: "RunInstances", Nth: 1}) {
		t.Errorf("still there: %v, %v, %v", b.machines, b.made, b.calls)
	}
	w.seen(launch(2, "i-2"))
	if b.machine() != "i-2" || b.made["instance in "+home] != 1 || !b.reached(Moment{Call: "RunInstances", Nth: 1}) {
		t.Errorf("not there: %v, %v, %v", b.machines, b.made, b.calls)
	}
}
