package workflows_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"sync"

	"github.com/bakehouse-farm/bakehouse"
	"github.com/bakehouse-farm/bakehouse/builders"
	"github.com/bakehouse-farm/bakehouse/communicator"
	"github.com/bakehouse-farm/bakehouse/postprocessors"
	"github.com/bakehouse-farm/bakehouse/provisioners"
)

// An oven is a platform in memory: machines and images that live as long as
// nobody removes them.
type oven struct {
	mu       sync.Mutex
	machines map[bakehouse.BuildID]string
	images   map[string]builders.Image // by ID
	keys     map[bakehouse.BuildID]bool
	calls    []string
	// fail is asked before (when) a call takes effect, and after.
	before, after func(call string) error
	scripts       []string
	// on are the scripts that have run on a machine, or that an image holds.
	on   map[string][]string
	dead map[string]chan struct{} // machines; closed when one is gone
}

func newOven() *oven {
	return &oven{
		machines: map[bakehouse.BuildID]string{}, images: map[string]builders.Image{}, keys: map[bakehouse.BuildID]bool{},
		on: map[string][]string{}, dead: map[string]chan struct{}{},
	}
}

// kill makes the machine of the build go away.
func (o *oven) kill(id string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	select {
	case <-o.dead[id]:
	default:
		close(o.dead[id])
	}
}

// do records a call and lets the test's faults happen around it.
func (o *oven) do(call string, effect func()) error {
	o.mu.Lock()
	o.calls = append(o.calls, call)
	o.mu.Unlock()
	if o.before != nil {
		if err := o.before(call); err != nil {
			return err
		}
	}
	o.mu.Lock()
	effect()
	o.mu.Unlock()
	if o.after != nil {
		return o.after(call)
	}
	return nil
}

func (o *oven) called(call string) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	n := 0
	for _, c := range o.calls {
		if c == call {
			n++
		}
	}
	return n
}

type ovenSettings struct {
	communicator.Settings
	Regions []string `json:"regions"`
	Junk    bool     `json:"junk"` // capture an intermediate image
}

func (o *oven) Settings() any { return new(ovenSettings) }

func (o *oven) Check(json.RawMessage, []string, bakehouse.Files) []bakehouse.Finding { return nil }

func (o *oven) ID() string { return "test.oven" }

func (o *oven) Communicator(raw json.RawMessage) (communicator.Settings, error) {
	var s ovenSettings
	err := json.Unmarshal(raw, &s)
	return s.Settings, err
}

func (o *oven) Resolve(_ context.Context, b bakehouse.Build) (builders.Resolved, error) {
	var s ovenSettings
	if err := json.Unmarshal(b.Settings, &s); err != nil {
		return builders.Resolved{}, err
	}
	err := o.do("resolve", func() {})
	return builders.Resolved{Region: "home", CopyRegions: s.Regions, Intermediate: s.Junk, KeyPair: "k", KeyType: "ed25519"}, err
}

func (o *oven) KeyPair(_ context.Context, b bakehouse.Build, _ builders.Resolved, public string) error {
	if public == "" {
		return errors.New("no public key")
	}
	return o.do("keypair", func() { o.keys[b.ID] = true })
}

func (o *oven) SecurityGroup(context.Context, bakehouse.Build, builders.Resolved) ([]string, error) {
	return []string{"sg"}, o.do("securitygroup", func() {})
}

func (o *oven) Launch(_ context.Context, b bakehouse.Build, r builders.Resolved, groups []string) (builders.Machine, error) {
	if !slices.Equal(groups, []string{"sg"}) {
		return builders.Machine{}, fmt.Errorf("launch with groups %v", groups)
	}
	id := "m-" + string(b.ID)
	if b.Attempt > 0 {
		id = fmt.Sprintf("%s.%d", id, b.Attempt)
	}
	err := o.do("launch", func() {
		if o.dead[id] != nil {
			return
		}
		o.machines[b.ID], o.dead[id] = id, make(chan struct{})
		o.on[id] = slices.Clone(o.on[r.Checkpoint])
	})
	return builders.Machine{ID: id}, err
}

func (o *oven) Watch(ctx context.Context, _ bakehouse.Build, m builders.Machine) error {
	o.mu.Lock()
	dead := o.dead[m.ID]
	o.mu.Unlock()
	select {
	case <-dead:
		return bakehouse.Errorf(bakehouse.Gone, "machine %s is gone: spot interruption", m.ID)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (o *oven) Discard(_ context.Context, b bakehouse.Build, m builders.Machine) error {
	return o.do("discard", func() {
		if o.machines[b.ID] == m.ID {
			delete(o.machines, b.ID)
		}
	})
}

func (o *oven) Checkpoint(_ context.Context, b bakehouse.Build, _ builders.Resolved, m builders.Machine, name string) (builders.Image, error) {
	img := o.image(b, "home")
	img.ID += "/" + name
	return img, o.do("checkpoint", func() {
		o.images[img.ID] = img
		o.on[img.ID] = slices.Clone(o.on[m.ID])
	})
}

func (o *oven) Forget(_ context.Context, _ bakehouse.Build, img builders.Image) error {
	return o.do("forget", func() { delete(o.images, img.ID) })
}

func (o *oven) Await(_ context.Context, _ bakehouse.Build, m builders.Machine) (builders.Machine, error) {
	m.Host = "host-of-" + m.ID
	return m, o.do("await", func() {})
}

func (o *oven) Stop(context.Context, bakehouse.Build, builders.Resolved, builders.Machine) error {
	return o.do("stop", func() {})
}

func (o *oven) image(b bakehouse.Build, region string) builders.Image {
	return builders.Image{Region: region, ID: string(b.ID) + "@" + region}
}

func (o *oven) Capture(_ context.Context, b bakehouse.Build, _ builders.Resolved, m builders.Machine) (builders.Image, bool, error) {
	img := o.image(b, "home")
	return img, true, o.do("capture", func() {
		o.images[img.ID] = img
		o.on[img.ID] = slices.Clone(o.on[m.ID])
	})
}

func (o *oven) AwaitImage(ctx context.Context, _ bakehouse.Build, img builders.Image) (builders.Image, error) {
	err := o.do("await-image "+img.Region, func() {})
	if errors.Is(err, errHang) {
		<-ctx.Done()
		return img, context.Cause(ctx)
	}
	return img, err
}

func (o *oven) Copy(_ context.Context, b bakehouse.Build, _ builders.Resolved, _ builders.Image, region string) (builders.Image, error) {
	img := o.image(b, region)
	return img, o.do("copy "+region, func() { o.images[img.ID] = img })
}

func (o *oven) Finish(_ context.Context, _ bakehouse.Build, _ builders.Resolved, img builders.Image) error {
	return o.do("finish "+img.Region, func() {})
}

func (o *oven) Release(_ context.Context, b bakehouse.Build, _ builders.Resolved, h builders.Holding) error {
	return o.do("release", func() {
		delete(o.machines, b.ID)
		delete(o.keys, b.ID)
		for id := range o.images {
			if !slices.ContainsFunc(h.Keep, func(k builders.Image) bool { return k.ID == id }) {
				delete(o.images, id)
			}
		}
	})
}

func (o *oven) Artifact(images []builders.Image) bakehouse.Artifact {
	var id string
	for i, img := range images {
		if i > 0 {
			id += ","
		}
		id += img.Region + ":" + img.ID
	}
	return bakehouse.Artifact{BuilderID: o.ID(), ID: id}
}

// errHang makes a call wait until its context ends.
var errHang = errors.New("hang")

// A scriptRunner is a provisioner whose script is a name that the test knows.
type scriptRunner struct{ oven *oven }

func (scriptRunner) Settings() any {
	return new(struct {
		Script string `json:"script" bake:"required"`
	})
}

func (scriptRunner) Check(json.RawMessage, []string, bakehouse.Files) []bakehouse.Finding { return nil }

func (r scriptRunner) Provision(ctx context.Context, w provisioners.Work) error {
	var s struct {
		Script string `json:"script"`
	}
	if err := json.Unmarshal(w.Settings, &s); err != nil {
		return err
	}
	bakehouse.LogOf(ctx).Say("running " + s.Script)
	err := r.oven.do("script "+s.Script, func() {
		r.oven.scripts = append(r.oven.scripts, s.Script)
		m := r.oven.machines[w.Build.ID]
		r.oven.on[m] = append(r.oven.on[m], s.Script)
	})
	if errors.Is(err, errHang) {
		<-ctx.Done()
		return context.Cause(ctx)
	}
	return err
}

// A noter is a post-processor that notes artifacts down.
type noter struct{ oven *oven }

func (noter) Settings() any {
	return new(struct {
		Keep bool `json:"keep"`
	})
}

func (noter) Check(json.RawMessage, []string, bakehouse.Files) []bakehouse.Finding { return nil }

func (noter) Writes(json.RawMessage) []string { return nil }

func (n noter) Process(ctx context.Context, w postprocessors.Work) (postprocessors.Result, error) {
	var s struct {
		Keep bool `json:"keep"`
	}
	if err := json.Unmarshal(w.Settings, &s); err != nil {
		return postprocessors.Result{}, err
	}
	err := n.oven.do("note", func() {})
	if errors.Is(err, errHang) {
		<-ctx.Done()
		return postprocessors.Result{}, context.Cause(ctx)
	}
	return postprocessors.Result{Artifact: w.Artifact, Keep: s.Keep}, err
}

// machines lets the test's provisioner in without talking to anything.
type machines struct{}

func (machines) Wait(context.Context, communicator.Target, bakehouse.Files) (string, error) {
	return "ssh-ed25519 HOSTKEY", nil
}

func (machines) Dial(_ context.Context, t communicator.Target, _ bakehouse.Files) (communicator.Communicator, error) {
	if t.HostKey != "ssh-ed25519 HOSTKEY" || t.PrivateKey == "" {
		return nil, bakehouse.Errorf(bakehouse.Denied, "host key %q, private key of %d bytes", t.HostKey, len(t.PrivateKey))
	}
	return silent{}, nil
}

// silent is a machine that does nothing.
type silent struct{}

func (silent) Upload(context.Context, string, io.Reader, fs.FileMode) error { return nil }
func (silent) UploadDir(context.Context, string, string) error              { return nil }
func (silent) Download(context.Context, string, io.Writer) error            { return nil }
func (silent) DownloadDir(context.Context, string, string) error            { return nil }
func (silent) Exec(context.Context, string) (communicator.Result, []byte, error) {
	return communicator.Result{}, nil, nil
}

func (silent) Probe(context.Context, string) (communicator.State, error) {
	return communicator.None, nil
}

func (silent) Run(context.Context, communicator.Command, int64, communicator.Sink) (communicator.Result, error) {
	return communicator.Result{}, nil
}
func (silent) Clean(context.Context) error { return nil }
func (silent) Close() error                { return nil }
