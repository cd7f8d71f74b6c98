package state_test

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/bakehouse-farm/bakehouse/localcloud/state"
)

// A transaction tells what it has done to resources: each once, what came to
// nothing not at all.
func TestChanges(t *testing.T) {
	s, err := state.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	tags := state.Tags{"k": "v"}
	web := &state.Image{Region: "r", ID: "ami-1", Name: "web", State: state.Pending, SourceInstance: "i-1", Tags: tags}
	type told struct{ Op, ID, State, Name, Of string }
	update := func(f func(*state.Tx)) []told {
		t.Helper()
		var list []told
		if err := s.Update(func(tx *state.Tx) error {
			f(tx)
			for _, c := range tx.Changes() {
				list = append(list, told{c.Op, c.ID, c.State, c.Name, c.Of})
				if c.Kind == "image" && !cmp.Equal(c.Tags, tags) {
					t.Errorf("tags %v", c.Tags)
				}
				if (c.Before == nil) != (c.Op == state.Created) {
					t.Errorf("%s with %q before", c.Op, c.Before)
				}
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		return list
	}
	for _, step := range []struct {
		name string
		f    func(*state.Tx)
		want []told
	}{
		{"created, and changed at once", func(tx *state.Tx) {
			state.Put(tx, web)
			web.State = state.Available
			state.Put(tx, web)
			state.Put(tx, &state.Token{Region: "r", ID: "no resource"})
		}, []told{{"created", "ami-1", "available", "web", "i-1"}}},
		{"the same again", func(tx *state.Tx) { state.Put(tx, web) }, nil},
		{"changed and another made and dropped", func(tx *state.Tx) {
			x := &state.Snapshot{Region: "r", ID: "snap-1"}
			state.Put(tx, x)
			web.State = state.Failed
			state.Put(tx, web)
			state.Delete(tx, x)
		}, []told{{"changed", "ami-1", "failed", "web", "i-1"}}},
		{"deleted", func(tx *state.Tx) { state.Delete(tx, web) }, []told{{"deleted", "ami-1", "failed", "web", "i-1"}}},
		{"deleted again", func(tx *state.Tx) { state.Delete(tx, web) }, nil},
	} {
		if diff := cmp.Diff(step.want, update(step.f)); diff != "" {
			t.Errorf("%s: %s", step.name, diff)
		}
	}
}

// Through a lens a reader sees what the lens shows; a writer must not.
func TestLook(t *testing.T) {
	s, err := state.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.Update(func(tx *state.Tx) error {
		state.Put(tx, &state.Image{Region: "r", ID: "ami-1", Name: "one", Tags: state.Tags{"a": "b"}})
		state.Put(tx, &state.Image{Region: "r", ID: "ami-2", Name: "two"})
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	lens := func(_, _, id string, v []byte) []byte {
		if id == "ami-1" {
			return nil
		}
		b, _ := json.Marshal(state.Image{Region: "r", ID: id, Name: "seen"})
		return b
	}
	if err := s.View(func(tx *state.Tx) error {
		if got := tx.TagsOf("r", "ami-1"); got["a"] != "b" {
			t.Errorf("tags %v", got)
		}
		tx.Look(lens)
		if got := state.Get[state.Image](tx, "r", "ami-1"); got != nil {
			t.Errorf("got %v", got)
		}
		if got := state.List[state.Image](tx, "*"); len(got) != 1 || got[0].Name != "seen" {
			t.Errorf("list %v", got)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if err := s.Update(func(tx *state.Tx) error { tx.Look(lens); return nil }); err == nil {
		t.Error("a writer looked through a lens")
	}
}
