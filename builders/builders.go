// Package builders says what it takes to make an image. Each builder is a
// package below this one.
package builders

import (
	"context"
	"encoding/json"
	"time"

	"github.com/bakehouse-farm/bakehouse"
	"github.com/bakehouse-farm/bakehouse/communicator"
)

// A Builder makes images on one kind of platform.
//
// Its methods run as activities: each may be called again, on another agent,
// after being cut off anywhere, also between an API call and its answer. So a
// Builder remembers nothing; what it knows is in its arguments and on the
// platform, where all it makes carries the tags of its build from the call that
// creates it. Lines for the user go to bakehouse.LogOf(ctx), in Packer's words.
//
// Errors carry a bakehouse.Kind when the failure is final. Methods that wait
// do so until ctx ends or the limits in the settings pass.
type Builder interface {
	bakehouse.Component

	// ID is Packer's builder id, "mitchellh.amazonebs".
	ID() string
	// Communicator returns how the machine of these settings is reached.
	Communicator(settings json.RawMessage) (communicator.Settings, error)
	// Resolve checks what needs the network and fixes every choice: source image,
	// subnet, names, random values. It changes nothing on the platform. The
	// result is frozen: no later step chooses anything again.
	Resolve(ctx context.Context, b bakehouse.Build) (Resolved, error)
	// Release removes everything that carries the build's tag, reported or not,
	// in every region of r, but the finished images in h.Keep. Releasing nothing
	// is no error. It tries everything before it returns what it could not remove.
	// r is the zero value when the build ended before Resolve did.
	Release(ctx context.Context, b bakehouse.Build, r Resolved, h Holding) error
	// Artifact describes the finished images as Packer does.
	Artifact(images []Image) bakehouse.Artifact
}

// Holding is what a build holds when it is released, as far as it knows. What a
// platform lists lags behind what it has made: without the build's own
// knowledge, something new could be overlooked.
type Holding struct {
	// Keep are the finished images. They stay.
	Keep []Image `json:"keep,omitempty"`
	// Made are the ids of what the platform has told the build that it made:
	// machines, groups, images.
	Made []string `json:"made,omitempty"`
	// Asked tells that something was asked for without an answer: it may become
	// visible only later.
	Asked bool `json:"asked,omitempty"`
	// Since is when the release was first asked for, whichever call of it this is:
	// all that is held was made before. Zero means now.
	Since time.Time `json:"-"`
}

// A Launcher is a Builder that starts a machine of its own for the build.
// Without it (null, file) the settings say where the machine is.
type Launcher interface {
	// KeyPair makes the public half of the key known to the platform, under a
	// name derived from the build. publicKey is in authorized_keys format.
	// It does nothing when r.KeyPair is empty.
	KeyPair(ctx context.Context, b bakehouse.Build, r Resolved, publicKey string) error
	// SecurityGroup makes the machine reachable, or does nothing when the
	// template names groups of its own. It returns the ids to launch with.
	SecurityGroup(ctx context.Context, b bakehouse.Build, r Resolved) ([]string, error)
	// Launch asks for the machine and returns at once with its ID. Called again
	// for the same build, it returns the same machine.
	Launch(ctx context.Context, b bakehouse.Build, r Resolved, groups []string) (Machine, error)
	// Await waits until the machine runs and says where it can be reached.
	Await(ctx context.Context, b bakehouse.Build, m Machine) (Machine, error)
	// Stop stops the machine so that it can be captured, and waits for it.
	Stop(ctx context.Context, b bakehouse.Build, r Resolved, m Machine) error
}

// A Watcher is a Launcher that can tell when its machine is gone.
type Watcher interface {
	// Watch returns an error of kind bakehouse.Gone that says why, once the
	// machine has gone without the build having asked for that: terminated,
	// stopped, failed. Until then it waits; when ctx ends it returns its cause.
	Watch(ctx context.Context, b bakehouse.Build, m Machine) error
	// Discard removes the machine and what is its own, and nothing else of the
	// build, so that another can take its place. It does not wait until the
	// machine is gone. Discarding what is gone is no error.
	Discard(ctx context.Context, b bakehouse.Build, m Machine) error
}

// A Checkpointer is a Capturer that can capture a machine while it is worked
// on, so that the work is not lost with the machine. AwaitImage waits for its
// images, too, and Release removes them.
type Checkpointer interface {
	// Checkpoint asks for an image of the running machine as it is now, and
	// returns at once with its ID, or finds the one that an earlier call with the
	// same name asked for. What has been written to disk is in it.
	Checkpoint(ctx context.Context, b bakehouse.Build, r Resolved, m Machine, name string) (Image, error)
	// Forget removes a checkpoint. Forgetting what is gone is no error.
	Forget(ctx context.Context, b bakehouse.Build, img Image) error
}

// A Sweeper is a Builder that finds what builds have left on its platform. It
// works with the agent's own credentials: there is no template any more.
type Sweeper interface {
	// Regions are the regions that builds may have been to.
	Regions(ctx context.Context) ([]string, error)
	// Owned lists what carries the tag of a build and a time at which it expires.
	// The images that a build was for carry no such time.
	Owned(ctx context.Context, region string) ([]Owned, error)
	// Sweep removes all that a build has in a region but its results, as Release
	// does, in the order in which the platform allows it.
	Sweep(ctx context.Context, region string, build bakehouse.BuildID) error
}

// Owned is one thing on a platform that a build has made.
type Owned struct {
	Build bakehouse.BuildID `json:"build"`
	// Source is the build's name.
	Source string `json:"source,omitempty"`
	Region string `json:"region"`
	// Kind is "instance", "image", "snapshot", "volume", "security-group",
	// "key-pair".
	Kind string `json:"kind"`
	ID   string `json:"id"`
	// Expires is when nobody has a claim to it any more.
	Expires time.Time `json:"expires"`
}

// ViaSessionManager is how a machine is reached through AWS Systems Manager.
const ViaSessionManager = "session-manager"

// A Router is a Launcher whose machines may be out of reach of their addresses.
type Router interface {
	// Route returns the way to the port that the machine is talked to by, for a
	// machine that says Via. It does not use it yet.
	Route(b bakehouse.Build, m Machine) communicator.Route
}

// A Capturer is a Builder that turns a machine into an image.
type Capturer interface {
	// Capture asks for the image and returns at once with its ID, or finds the
	// image that an earlier call asked for. ok is false when the settings say
	// that no image is wanted (skip_create_ami).
	Capture(ctx context.Context, b bakehouse.Build, r Resolved, m Machine) (img Image, ok bool, err error)
	// AwaitImage waits until the image can be used.
	AwaitImage(ctx context.Context, b bakehouse.Build, img Image) (Image, error)
	// Copy asks for the copy of img into region and returns its ID at once, or
	// finds the one that an earlier call asked for. The region is one of
	// r.CopyRegions.
	Copy(ctx context.Context, b bakehouse.Build, r Resolved, img Image, region string) (Image, error)
	// Finish gives an available image what the settings ask for: tags,
	// permissions, deprecation, description, protection.
	Finish(ctx context.Context, b bakehouse.Build, r Resolved, img Image) error
}

// Resolved is what Resolve found, frozen for the whole build.
type Resolved struct {
	// Region is where the build takes place.
	Region string `json:"region,omitempty"`
	// CopyRegions are the regions that the image is copied to, sorted, without
	// repetition. It includes Region when the image is first made under another
	// name (encrypt_boot) and copied within its region.
	CopyRegions []string `json:"copy_regions,omitempty"`
	// Intermediate tells that the captured image is not a result itself: it is
	// removed once the copies are made.
	Intermediate bool `json:"intermediate,omitempty"`
	// KeyPair is the name under which a key pair is to be made for the build,
	// and KeyType its type, "rsa" or "ed25519". Empty: the template brings its own.
	KeyPair string `json:"key_pair,omitempty"`
	KeyType string `json:"key_type,omitempty"`
	// OwnGroup tells that a security group is made for the build, not named by the
	// template.
	OwnGroup bool `json:"own_group,omitempty"`
	// Checkpoint is the image that the machine is launched from instead of the
	// one that Resolve chose: what an earlier machine of the build had become.
	Checkpoint string `json:"checkpoint,omitempty"`
	// SkipStop tells that the machine is not stopped before it is captured.
	SkipStop bool `json:"skip_stop,omitempty"`
	// Generated are the builder's own members of build.*: SourceAMI, BuildRegion …
	Generated map[string]string `json:"generated,omitempty"`
	// Details are the builder's own; nobody else reads them. A few KiB at most.
	Details json.RawMessage `json:"details,omitempty"`
}

// A Machine is the instance a build works on.
type Machine struct {
	// ID is the platform's name for it; empty for a machine we did not start.
	ID string `json:"id,omitempty"`
	// Host is the address that the settings choose to reach it by; known after Await.
	Host string `json:"host,omitempty"`
	// Via says how the machine is reached where Host is no address but only a
	// name: ViaSessionManager. Its builder then is a Router. Empty: Host is dialled.
	Via string `json:"via,omitempty"`
	// Details are the builder's own.
	Details json.RawMessage `json:"details,omitempty"`
}

// An Image is what a build makes: one in the region it was built in, and one
// for each region it was copied to.
type Image struct {
	Region string `json:"region"`
	ID     string `json:"id"`
	// Snapshots are the ids of what the image consists of, known once it is available.
	Snapshots []string `json:"snapshots,omitempty"`
}
