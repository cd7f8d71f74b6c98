package activities

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"strings"
	"time"

	"go.temporal.io/sdk/activity"
	"golang.org/x/crypto/ssh"

	"github.com/bakehouse-farm/bakehouse"
	"github.com/bakehouse-farm/bakehouse/builders"
	"github.com/bakehouse-farm/bakehouse/communicator"
)

// A Key is a key pair made for one build.
type Key struct {
	Private string `json:"private"` // PEM
	Public  string `json:"public"`  // authorized_keys format
}

// MakeKey makes a key of type "rsa" or "ed25519". It is used as a local
// activity: a second key made because the first answer was lost harms nobody,
// as none has been used yet.
func (a *Activities) MakeKey(_ context.Context, typ string) (Key, error) {
	var private any
	var public any
	var block *pem.Block
	var err error
	switch typ {
	case "", "rsa":
		var k *rsa.PrivateKey
		if k, err = rsa.GenerateKey(rand.Reader, 2048); err == nil {
			private, public = k, &k.PublicKey
			block = &pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(k)}
		}
	case "ed25519":
		var k ed25519.PrivateKey
		if _, k, err = ed25519.GenerateKey(rand.Reader); err == nil {
			private, public = k, k.Public()
			block, err = ssh.MarshalPrivateKey(private, "")
		}
	default:
		err = bakehouse.Errorf(bakehouse.Invalid, "key type %q: only rsa and ed25519 exist", typ)
	}
	if err != nil {
		return Key{}, verdict(context.Background(), err)
	}
	pub, err := ssh.NewPublicKey(public)
	if err != nil {
		return Key{}, verdict(context.Background(), err)
	}
	return Key{
		Private: string(pem.EncodeToMemory(block)),
		Public:  strings.TrimSpace(string(ssh.MarshalAuthorizedKey(pub))),
	}, nil
}

// at runs one call of a step's builder between begin and verdict.
func at[T any](ctx context.Context, a *Activities, s Step, do func(context.Context, bakehouse.Build, builders.Builder) (T, error)) (T, error) {
	var out T
	ctx, end, err := a.begin(ctx, s)
	if err != nil {
		return out, err
	}
	b, builder, err := a.build(ctx, s)
	if err == nil {
		out, err = do(ctx, b, builder)
	}
	return out, end(err)
}

// launcher and capturer return builder as what the workflow takes it for.
func launcher(b builders.Builder) (builders.Launcher, error) {
	if l, ok := b.(builders.Launcher); ok {
		return l, nil
	}
	return nil, bakehouse.Errorf(bakehouse.Invalid, "builder %s starts no machines", b.ID())
}

func capturer(b builders.Builder) (builders.Capturer, error) {
	if c, ok := b.(builders.Capturer); ok {
		return c, nil
	}
	return nil, bakehouse.Errorf(bakehouse.Invalid, "builder %s makes no images", b.ID())
}

// Resolve fixes every choice of the build.
func (a *Activities) Resolve(ctx context.Context, s Step) (builders.Resolved, error) {
	return at(ctx, a, s, func(ctx context.Context, b bakehouse.Build, builder builders.Builder) (builders.Resolved, error) {
		return builder.Resolve(ctx, b)
	})
}

// KeyPair makes the build's public key known to the platform.
func (a *Activities) KeyPair(ctx context.Context, s Step, r builders.Resolved, public string) error {
	_, err := at(ctx, a, s, func(ctx context.Context, b bakehouse.Build, builder builders.Builder) (struct{}, error) {
		l, err := launcher(builder)
		if err == nil {
			err = l.KeyPair(ctx, b, r, public)
		}
		return struct{}{}, err
	})
	return err
}

// SecurityGroup makes the machine reachable.
func (a *Activities) SecurityGroup(ctx context.Context, s Step, r builders.Resolved) ([]string, error) {
	return at(ctx, a, s, func(ctx context.Context, b bakehouse.Build, builder builders.Builder) ([]string, error) {
		l, err := launcher(builder)
		if err != nil {
			return nil, err
		}
		return l.SecurityGroup(ctx, b, r)
	})
}

// Launch asks for the machine.
func (a *Activities) Launch(ctx context.Context, s Step, r builders.Resolved, groups []string) (builders.Machine, error) {
	return at(ctx, a, s, func(ctx context.Context, b bakehouse.Build, builder builders.Builder) (builders.Machine, error) {
		l, err := launcher(builder)
		if err != nil {
			return builders.Machine{}, err
		}
		return l.Launch(ctx, b, r, groups)
	})
}

// AwaitMachine waits until the machine runs.
func (a *Activities) AwaitMachine(ctx context.Context, s Step, m builders.Machine) (builders.Machine, error) {
	return at(ctx, a, s, func(ctx context.Context, b bakehouse.Build, builder builders.Builder) (builders.Machine, error) {
		l, err := launcher(builder)
		if err != nil {
			return m, err
		}
		return l.Await(ctx, b, m)
	})
}

// Stop stops the machine.
func (a *Activities) Stop(ctx context.Context, s Step, r builders.Resolved, m builders.Machine) error {
	_, err := at(ctx, a, s, func(ctx context.Context, b bakehouse.Build, builder builders.Builder) (struct{}, error) {
		l, err := launcher(builder)
		if err == nil {
			err = l.Stop(ctx, b, r, m)
		}
		return struct{}{}, err
	})
	return err
}

// Captured is what Capture returns.
type Captured struct {
	Image builders.Image `json:"image"`
	// Wanted is false when the settings ask for no image.
	Wanted bool `json:"wanted"`
}

// Capture asks for the image.
func (a *Activities) Capture(ctx context.Context, s Step, r builders.Resolved, m builders.Machine) (Captured, error) {
	return at(ctx, a, s, func(ctx context.Context, b bakehouse.Build, builder builders.Builder) (out Captured, err error) {
		c, err := capturer(builder)
		if err == nil {
			out.Image, out.Wanted, err = c.Capture(ctx, b, r, m)
		}
		return out, err
	})
}

// AwaitImage waits until the image can be used.
func (a *Activities) AwaitImage(ctx context.Context, s Step, img builders.Image) (builders.Image, error) {
	return at(ctx, a, s, func(ctx context.Context, b bakehouse.Build, builder builders.Builder) (builders.Image, error) {
		c, err := capturer(builder)
		if err != nil {
			return img, err
		}
		return c.AwaitImage(ctx, b, img)
	})
}

// Copy asks for the copy of an image into a region.
func (a *Activities) Copy(ctx context.Context, s Step, r builders.Resolved, img builders.Image, region string) (builders.Image, error) {
	return at(ctx, a, s, func(ctx context.Context, b bakehouse.Build, builder builders.Builder) (builders.Image, error) {
		c, err := capturer(builder)
		if err != nil {
			return img, err
		}
		return c.Copy(ctx, b, r, img, region)
	})
}

// Finish gives an image what the settings ask for.
func (a *Activities) Finish(ctx context.Context, s Step, r builders.Resolved, img builders.Image) error {
	_, err := at(ctx, a, s, func(ctx context.Context, b bakehouse.Build, builder builders.Builder) (struct{}, error) {
		c, err := capturer(builder)
		if err == nil {
			err = c.Finish(ctx, b, r, img)
		}
		return struct{}{}, err
	})
	return err
}

// Release removes everything of the build but the images to keep.
func (a *Activities) Release(ctx context.Context, s Step, r builders.Resolved, h builders.Holding) error {
	h.Since = activity.GetInfo(ctx).ScheduledTime
	_, err := at(ctx, a, s, func(ctx context.Context, b bakehouse.Build, builder builders.Builder) (struct{}, error) {
		return struct{}{}, builder.Release(ctx, b, r, h)
	})
	return err
}

// Artifact describes the finished images.
func (a *Activities) Artifact(ctx context.Context, s Step, images []builders.Image) (bakehouse.Artifact, error) {
	_, builder, err := a.build(ctx, s)
	if err != nil {
		return bakehouse.Artifact{}, verdict(ctx, err)
	}
	return builder.Artifact(images), nil
}

// A Login is how the machine of a build is reached, but for what its settings
// say: those come from the plan.
type Login struct {
	Machine builders.Machine `json:"machine"`
	// Key is the build's own; empty when the template brings one.
	Key Key `json:"key"`
	// HostKey is the one that Connect saw.
	HostKey string `json:"host_key,omitempty"`
	// Expires is for how long nobody may have talked to the machine before it
	// switches itself off; zero: for ever.
	Expires time.Duration `json:"expires,omitempty"`
}

// target returns where the machine of a step is.
func (a *Activities) target(ctx context.Context, s Step, l Login) (communicator.Target, error) {
	b, builder, err := a.build(ctx, s)
	if err != nil {
		return communicator.Target{}, err
	}
	settings, err := builder.Communicator(b.Settings)
	if err != nil {
		return communicator.Target{}, err
	}
	host := l.Machine.Host
	if settings.SSHHost != "" {
		host = settings.SSHHost
	}
	t := communicator.Target{Settings: settings, Host: host, PrivateKey: l.Key.Private, HostKey: l.HostKey, Build: string(b.ID)}
	if l.Machine.Via != "" {
		router, ok := builder.(builders.Router)
		if !ok {
			return t, bakehouse.Errorf(bakehouse.Invalid, "builder %s knows no way to machines via %s", builder.ID(), l.Machine.Via)
		}
		t.Route = router.Route(b, l.Machine)
	}
	return t, nil
}

// dial connects to the machine of a step.
func (a *Activities) dial(ctx context.Context, s Step, l Login) (communicator.Communicator, communicator.Target, error) {
	t, err := a.target(ctx, s, l)
	if err != nil {
		return nil, t, err
	}
	files, err := a.load(ctx, s.Plan.Files)
	if err != nil {
		return nil, t, err
	}
	c, err := a.Machines.Dial(ctx, t, files.files)
	return c, t, err
}

// Connect waits until one can log in, and returns the host key to pin.
func (a *Activities) Connect(ctx context.Context, s Step, l Login) (hostKey string, err error) {
	ctx, end, err := a.begin(ctx, s)
	if err != nil {
		return "", err
	}
	hostKey, err = a.connect(ctx, s, l)
	return hostKey, end(err)
}

func (a *Activities) connect(ctx context.Context, s Step, l Login) (string, error) {
	t, err := a.target(ctx, s, l)
	if err != nil {
		return "", err
	}
	files, err := a.load(ctx, s.Plan.Files)
	if err != nil {
		return "", err
	}
	var hostKey string
	err = a.guard(ctx, s, l.Machine, func(ctx context.Context) error {
		hostKey, err = a.Machines.Wait(ctx, t, files.files)
		return err
	})
	if err == nil && l.Expires > 0 {
		l.HostKey = hostKey
		a.expire(ctx, s, l)
	}
	return hostKey, err
}

// expire has the machine switch itself off when the farm has lost it. Where
// that is not to be had, the build goes on: a sweep finds the machine, too.
func (a *Activities) expire(ctx context.Context, s Step, l Login) {
	machine, _, err := a.dial(ctx, s, l)
	if err == nil {
		defer machine.Close()
		e, ok := machine.(communicator.Expirer)
		if !ok {
			return
		}
		err = e.Expire(ctx, l.Expires)
	}
	if err != nil && ctx.Err() == nil {
		activity.GetLogger(ctx).Warn("machine will not switch itself off", "build", s.Build.ID, "error", err)
	}
}

// Tidy takes from the machine what was there only for the build.
func (a *Activities) Tidy(ctx context.Context, s Step, l Login, clearKeys bool) error {
	ctx, end, err := a.begin(ctx, s)
	if err != nil {
		return err
	}
	return end(a.reach(ctx, s, l, func(ctx context.Context, machine communicator.Communicator) error {
		return tidy(ctx, machine, l, clearKeys)
	}))
}

func tidy(ctx context.Context, machine communicator.Communicator, l Login, clearKeys bool) error {
	if err := machine.Clean(ctx); err != nil {
		return fmt.Errorf("clean up on the machine: %w", err)
	}
	if !clearKeys || l.Key.Public == "" {
		return nil
	}
	bakehouse.LogOf(ctx).Say("Trying to remove ephemeral keys from authorized_keys files")
	// The key itself is the surest mark: its comment is the platform's choice.
	blob := strings.Fields(l.Key.Public)[1]
	for _, line := range []string{
		`test ! -f ~/.ssh/authorized_keys || sed -i '\|` + blob + `|d' ~/.ssh/authorized_keys`,
		`test "$(id -u)" = 0 || ! command -v sudo >/dev/null || sudo -n sh -c 'test ! -f /root/.ssh/authorized_keys || sed -i "\|` + blob + `|d" /root/.ssh/authorized_keys'`,
	} {
		short, cancel := context.WithTimeout(ctx, time.Minute)
		r, out, err := machine.Exec(short, line)
		cancel()
		if err != nil {
			return fmt.Errorf("remove ephemeral keys: %w", err)
		}
		if r.Exit != 0 {
			bakehouse.LogOf(ctx).Error(fmt.Sprintf("Error cleaning up authorized_keys: exit status %d: %s", r.Exit, strings.TrimSpace(string(out))))
		}
	}
	return nil
}
