package state_test

import (
	"errors"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/bakehouse-farm/bakehouse/localcloud/state"
)

// What a transaction kept is there for good; what a failed one did never was.
func TestStore(t *testing.T) {
	dir := t.TempDir()
	s, err := state.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	web := &state.Image{Region: "us-east-1", ID: "ami-1", Name: "web", Created: time.Now().UTC(), Tags: state.Tags{"a": "b"}}
	if err := s.Update(func(tx *state.Tx) error {
		state.Put(tx, web)
		state.Put(tx, &state.Image{Region: "us-east-11", ID: "ami-2"})
		state.Put(tx, &state.Base{Name: "b", Owner: "o"})
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	no := errors.New("no")
	if err := s.Update(func(tx *state.Tx) error { state.Delete(tx, web); return no }); !errors.Is(err, no) {
		t.Fatalf("got %v", err)
	}
	if err := s.View(func(tx *state.Tx) error { state.Put(tx, web); return nil }); err == nil {
		t.Error("wrote in a reading transaction")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if s, err = state.Open(dir); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.View(func(tx *state.Tx) error {
		if diff := cmp.Diff(web, state.Get[state.Image](tx, "us-east-1", "ami-1")); diff != "" {
			t.Error(diff)
		}
		if got := state.Get[state.Image](tx, "us-east-1", "ami-2"); got != nil {
			t.Errorf("got %+v of another region", got)
		}
		for region, want := range map[string]int{"us-east-1": 1, "us-east-11": 1, "*": 2, "": 0} {
			if n := len(state.List[state.Image](tx, region)); n != want {
				t.Errorf("%d images in %q, want %d", n, region, want)
			}
		}
		if n := len(state.List[state.Base](tx, "")); n != 1 {
			t.Errorf("%d bases", n)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

func TestLock(t *testing.T) {
	dir := t.TempDir()
	if pid := state.Holder(dir); pid != "" {
		t.Errorf("held by %s", pid)
	}
	s, err := state.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	me := strconv.Itoa(os.Getpid())
	if pid := state.Holder(dir); pid != me {
		t.Errorf("held by %q, want %s", pid, me)
	}
	if _, err := state.Open(dir); err == nil || !strings.Contains(err.Error(), "pid "+me) {
		t.Errorf("got %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if pid := state.Holder(dir); pid != "" {
		t.Errorf("held by %s after it was closed", pid)
	}
	if _, err := state.Open("/dev/null/x"); err == nil {
		t.Error("opened where no folder can be")
	}
}
