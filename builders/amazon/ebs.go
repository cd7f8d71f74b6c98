package amazon

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/bakehouse-farm/bakehouse"
	"github.com/bakehouse-farm/bakehouse/builders"
	"github.com/bakehouse-farm/bakehouse/communicator"
)

// Packer's defaults for reaching the machine.
const (
	defaultSSHTimeout = 5 * time.Minute
	defaultHandshakes = 10
)

// EBS is the builder amazon-ebs: it launches an instance from a source image,
// and makes an image of what the provisioners have made of it. It may be used
// by many builds at once, which then wait together.
type EBS struct {
	config      Config
	connections *connections
}

// What EBS promises to be.
var (
	_ builders.Builder  = (*EBS)(nil)
	_ builders.Launcher = (*EBS)(nil)
	_ builders.Capturer = (*EBS)(nil)
	_ builders.Watcher  = (*EBS)(nil)

	_ builders.Checkpointer = (*EBS)(nil)
	_ builders.Router       = (*EBS)(nil)
)

// NewEBS returns the builder. It does not talk to AWS yet.
func NewEBS(c Config) *EBS {
	return &EBS{config: c, connections: newConnections(c)}
}

// ID is Packer's.
func (e *EBS) ID() string { return "mitchellh.amazonebs" }

// Settings returns a *Settings with Packer's defaults.
func (e *EBS) Settings() any { return defaults() }

// Communicator returns how the instance is reached, with Packer's defaults.
func (e *EBS) Communicator(settings json.RawMessage) (communicator.Settings, error) {
	s, err := decode(settings)
	if err != nil {
		return communicator.Settings{}, err
	}
	return s.Settings, nil
}

// Artifact describes the images as Packer does; without any it is empty.
func (e *EBS) Artifact(images []builders.Image) bakehouse.Artifact {
	var ids, lines []string
	for _, i := range images {
		ids = append(ids, i.Region+":"+i.ID)
		lines = append(lines, i.Region+": "+i.ID+"\n")
	}
	slices.Sort(ids)
	slices.Sort(lines)
	if len(ids) == 0 {
		return bakehouse.Artifact{}
	}
	return bakehouse.Artifact{
		BuilderID: e.ID(),
		ID:        strings.Join(ids, ","),
		String:    "AMIs were created:\n" + strings.Join(lines, ""),
	}
}

// open reads the settings of a build and connects to a region, or, when region
// is empty, to the one in which the build takes place.
func (e *EBS) open(ctx context.Context, b bakehouse.Build, region string) (*Settings, *connection, error) {
	s, err := decode(b.Settings)
	if err != nil {
		return nil, nil, err
	}
	if b.Force {
		s.ForceDeregister = true
	}
	c, err := e.connections.to(ctx, s.Access, region)
	return s, c, err
}

// plan is what Resolve found, besides what everybody may read.
type plan struct {
	AMI    string   `json:"ami"`
	Vpc    string   `json:"vpc,omitempty"`
	Subnet string   `json:"subnet,omitempty"`
	Zone   string   `json:"zone,omitempty"`
	Groups []string `json:"groups,omitempty"`
	// KeyName is the existing key pair to launch with.
	KeyName string `json:"key_name,omitempty"`
	// CIDRs may reach the machine through the temporary security group.
	CIDRs []string `json:"cidrs,omitempty"`
	// Name is what the image is to be called, CaptureName what it is called when
	// it is captured: another one for an intermediate image.
	Name        string `json:"name"`
	CaptureName string `json:"capture_name"`
	Description string `json:"description,omitempty"`

	RunTags      map[string]string `json:"run_tags,omitempty"`
	VolumeTags   map[string]string `json:"volume_tags,omitempty"`
	Tags         map[string]string `json:"tags,omitempty"`
	SnapshotTags map[string]string `json:"snapshot_tags,omitempty"`
	// Replaces are the images of the same name that force_deregister removes.
	Replaces []replaced `json:"replaces,omitempty"`
}

// replaced is an image that makes room for ours.
type replaced struct {
	Region    string   `json:"region"`
	ID        string   `json:"id"`
	Snapshots []string `json:"snapshots,omitempty"`
}

func planOf(r builders.Resolved) (plan, error) {
	var p plan
	if err := json.Unmarshal(r.Details, &p); err != nil {
		return p, bakehouse.Errorf(bakehouse.Invalid, "read what was resolved: %w", err)
	}
	return p, nil
}

func say(ctx context.Context, format string, args ...any) {
	bakehouse.LogOf(ctx).Say(fmt.Sprintf(format, args...))
}
