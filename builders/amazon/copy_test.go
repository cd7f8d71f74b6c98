package amazon

import (
	"testing"

	"github.com/bakehouse-farm/bakehouse"
)

// A copy that fails while the answer that names it is lost: EC2 would name it
// again, by its token, even when it was deregistered meanwhile. So who finds it
// takes it for what it is, and only another attempt makes another one.
func TestFailedCopyIsFound(t *testing.T) {
	f := newFake()
	e, b := f.agent(), testBuild(t, map[string]any{"ami_regions": []string{"us-west-2"}})
	r, err := e.Resolve(t.Context(), b)
	if err != nil {
		t.Fatal(err)
	}
	img, _, err := e.Capture(t.Context(), b, r, launched(t, e, b, r))
	if err != nil {
		t.Fatal(err)
	}
	first, err := e.Copy(t.Context(), b, r, img, "us-west-2")
	if err != nil {
		t.Fatal(err)
	}
	f.get("us-west-2", "image", first.ID).fields["state"] = "failed"
	again, err := e.Copy(t.Context(), b, r, img, "us-west-2")
	if err != nil || again.ID != first.ID {
		t.Errorf("the same attempt copies to %q, not %q: %v", again.ID, first.ID, err)
	}
	if _, err := e.AwaitImage(t.Context(), b, again); bakehouse.KindOf(err) != bakehouse.Failed {
		t.Errorf("wait for it: %v", err)
	}
	b.Attempt++
	other, err := e.Copy(t.Context(), b, r, img, "us-west-2")
	if err != nil || other.ID == first.ID || f.get("us-west-2", "image", first.ID) != nil {
		t.Errorf("the next attempt copies to %q after %q: %v", other.ID, first.ID, err)
	}
	if found, err := e.Copy(t.Context(), b, r, img, "us-west-2"); err != nil || found.ID != other.ID {
		t.Errorf("asked once more: %q, not %q: %v", found.ID, other.ID, err)
	}
	if _, err := e.AwaitImage(t.Context(), b, other); err != nil {
		t.Error(err)
	}
}
