package localcloudtest

import (
	"archive/tar"
	"context"
	"fmt"
	"io"
	"maps"
	"os/exec"
	"slices"
	"sync"

	"github.com/bakehouse-farm/bakehouse/localcloud/sandbox"
)

// A Fake is a localcloud.Host in memory. Its instances run nothing, but they
// have files: a test writes them as an instance would, and reads them from
// another that was launched from the image. It keeps what it has when the
// Cloud on top of it is closed, as a machine does.
type Fake struct {
	mu        sync.Mutex
	instances map[string]*fakeInstance
	layers    map[string]map[string]string
	frozen    map[string]string // layer → instance it was frozen from
	events    chan sandbox.Event

	// OnStart, if set, decides whether an instance boots.
	OnStart func(sandbox.Spec) error
	// OnFreeze, if set, decides whether an instance can be frozen.
	OnFreeze func(id, layer string) error
}

type fakeInstance struct {
	spec   sandbox.Spec
	files  map[string]string
	status sandbox.Status
	killed int
}

// NewFake returns a Fake without instances, whose host layer has one file,
// /etc/os-release.
func NewFake() *Fake {
	return &Fake{
		instances: map[string]*fakeInstance{}, frozen: map[string]string{}, events: make(chan sandbox.Event, 64),
		layers: map[string]map[string]string{"host": {"/etc/os-release": "host"}},
	}
}

// Start implements localcloud.Host.
func (f *Fake) Start(_ context.Context, s sandbox.Spec) error {
	if f.OnStart != nil {
		if err := f.OnStart(s); err != nil {
			return err
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, l := range s.Layers {
		if f.layers[l] == nil {
			return fmt.Errorf("start %s: no layer %s", s.ID, l)
		}
	}
	for id, i := range f.instances {
		if id != s.ID && i.status.State == sandbox.Running && i.spec.Addr == s.Addr {
			return fmt.Errorf("start %s: address %s is taken by %s", s.ID, s.Addr, id)
		}
	}
	i := f.instances[s.ID]
	if i == nil {
		i = &fakeInstance{spec: s, files: map[string]string{}}
		f.instances[s.ID] = i
	}
	if i.status.State != sandbox.Running {
		i.status = sandbox.Status{State: sandbox.Running, Boots: i.status.Boots + 1}
	}
	return nil
}

// Status implements localcloud.Host.
func (f *Fake) Status(id string) (sandbox.Status, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if i := f.instances[id]; i != nil {
		return i.status, nil
	}
	return sandbox.Status{State: sandbox.Gone}, nil
}

// Events implements localcloud.Host.
func (f *Fake) Events() <-chan sandbox.Event { return f.events }

// Stop implements localcloud.Host.
func (f *Fake) Stop(_ context.Context, id string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if i := f.instances[id]; i != nil && i.status.State == sandbox.Running {
		i.status.State, i.status.Reason = sandbox.Stopped, sandbox.ByRequest
	}
	return nil
}

// Kill ends an instance as a power failure does.
func (f *Fake) Kill(_ context.Context, id string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if i := f.instances[id]; i != nil && i.status.State == sandbox.Running {
		i.status.State, i.status.Reason = sandbox.Stopped, sandbox.Killed
		i.killed++
	}
	return nil
}

// Killed returns how often an instance was killed.
func (f *Fake) Killed(id string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	if i := f.instances[id]; i != nil {
		return i.killed
	}
	return 0
}

// PowerOff ends an instance from inside.
func (f *Fake) PowerOff(id string) {
	f.mu.Lock()
	i := f.instances[id]
	i.status.State, i.status.Reason = sandbox.Stopped, sandbox.FromInside
	status := i.status
	f.mu.Unlock()
	f.events <- sandbox.Event{ID: id, Status: status}
}

// Remove implements localcloud.Host.
func (f *Fake) Remove(_ context.Context, id string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.instances, id)
	return nil
}

// Freeze implements localcloud.Host.
func (f *Fake) Freeze(_ context.Context, id, layer string) error {
	if f.OnFreeze != nil {
		if err := f.OnFreeze(id, layer); err != nil {
			return err
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.layers[layer] != nil && f.frozen[layer] == id {
		return nil
	}
	i := f.instances[id]
	switch {
	case i == nil:
		return fmt.Errorf("freeze %s: no such instance", id)
	case i.status.State == sandbox.Running:
		return fmt.Errorf("freeze %s: it runs", id)
	case f.layers[layer] != nil:
		return fmt.Errorf("freeze %s: layer %s is there", id, layer)
	}
	f.layers[layer], f.frozen[layer] = i.files, id
	i.files = map[string]string{}
	i.spec.Layers = append([]string{layer}, i.spec.Layers...)
	return nil
}

// Snapshot captures a running instance, as *sandbox.Host does.
func (f *Fake) Snapshot(_ context.Context, id, layer string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	i := f.instances[id]
	switch {
	case f.layers[layer] != nil && f.frozen[layer] == id:
		return nil
	case i == nil || i.status.State != sandbox.Running:
		return fmt.Errorf("snapshot %s: it does not run", id)
	}
	f.layers[layer], f.frozen[layer] = maps.Clone(i.files), id
	return nil
}

// Layers implements localcloud.Host.
func (f *Fake) Layers() ([]string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.DeleteFunc(slices.Sorted(maps.Keys(f.layers)), func(l string) bool { return l == "host" }), nil
}

// RemoveLayer implements localcloud.Host.
func (f *Fake) RemoveLayer(layer string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for id, i := range f.instances {
		if slices.Contains(i.spec.Layers, layer) {
			return fmt.Errorf("remove layer %s: %s stands on it", layer, id)
		}
	}
	delete(f.layers, layer)
	return nil
}

// Size implements localcloud.Host.
func (f *Fake) Size(layer string) (int64, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var n int64
	for _, v := range f.layers[layer] {
		n += int64(len(v))
	}
	return n, nil
}

// HostLayer implements localcloud.Host.
func (f *Fake) HostLayer() string { return "host" }

// ImportLayer implements localcloud.Host.
func (f *Fake) ImportLayer(_ context.Context, layer string, tarball io.Reader) error {
	files := map[string]string{}
	r := tar.NewReader(tarball)
	for {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		b, err := io.ReadAll(r)
		if err != nil {
			return err
		}
		files[h.Name] = string(b)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.layers[layer] = files
	return nil
}

// Export implements localcloud.Host.
func (f *Fake) Export(_ context.Context, layers []string, w io.Writer) error {
	f.mu.Lock()
	merged := map[string]string{}
	for _, l := range slices.Backward(layers) {
		maps.Copy(merged, f.layers[l])
	}
	f.mu.Unlock()
	t := tar.NewWriter(w)
	for _, name := range slices.Sorted(maps.Keys(merged)) {
		if err := t.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(merged[name]))}); err != nil {
			return err
		}
		if _, err := io.WriteString(t, merged[name]); err != nil {
			return err
		}
	}
	return t.Close()
}

// Command implements localcloud.Host: the command runs on this machine.
func (f *Fake) Command(ctx context.Context, id string, argv []string) (*exec.Cmd, error) {
	if s, _ := f.Status(id); s.State != sandbox.Running {
		return nil, fmt.Errorf("command in %s: it does not run", id)
	}
	return exec.CommandContext(ctx, argv[0], argv[1:]...), nil
}

// Write writes a file as the instance would.
func (f *Fake) Write(id, name, content string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.instances[id].files[name] = content
}

// Read reads a file as the instance would see it; empty when there is none.
func (f *Fake) Read(id, name string) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	i := f.instances[id]
	if i == nil {
		return ""
	}
	if v, ok := i.files[name]; ok {
		return v
	}
	for _, l := range i.spec.Layers {
		if v, ok := f.layers[l][name]; ok {
			return v
		}
	}
	return ""
}

// Spec returns what an instance was started with.
func (f *Fake) Spec(id string) sandbox.Spec {
	f.mu.Lock()
	defer f.mu.Unlock()
	if i := f.instances[id]; i != nil {
		return i.spec
	}
	return sandbox.Spec{}
}
