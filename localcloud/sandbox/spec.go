package sandbox

import (
	"net/netip"
	"time"

	"github.com/bakehouse-farm/bakehouse"
)

// A Spec says what an instance is.
type Spec struct {
	// ID names the instance, and its folder: letters, digits, dashes.
	ID string `json:"id"`
	// Layers are what the instance boots from, topmost first. They count at the
	// first Start only: afterwards the instance knows what it stands on, for
	// Freeze changes it.
	Layers []string `json:"layers"`
	// Hostname of the instance; empty means ID.
	Hostname string `json:"hostname"`
	// Addr is the instance's IPv4 address, of 198.18.0.0/15 and no other
	// instance's. 198.18.0.1 and .2 are taken.
	Addr netip.Addr `json:"addr"`
	// Keys are lines of authorized_keys that are good for every login.
	Keys []string `json:"keys,omitempty"`
	// UserData is run once as root, at the first boot, if it begins with #!.
	// Its output is in /var/log/cloud-init-output.log.
	UserData []byte `json:"user_data,omitempty"`
	// Metadata is shown inside as /run/bakehouse/metadata.json.
	Metadata map[string]string `json:"metadata,omitempty"`
	// MemoryMax, in bytes, and PidsMax, in processes and threads, are limits.
	// Zero: no limit of memory, 4096 processes.
	MemoryMax int64 `json:"memory_max,omitempty"`
	PidsMax   int64 `json:"pids_max,omitempty"`
	// Disk is how many bytes the instance can write before its disk is full. It
	// counts at the first Start only. Zero: what the Host's Config says. With a
	// size, what it writes is kept in memory, until Freeze makes a layer of it.
	Disk int64 `json:"disk,omitempty"`
}

func (s Spec) check() error {
	if err := checkID("instance", s.ID); err != nil {
		return err
	}
	if !s.Addr.Is4() || !fabric.Contains(s.Addr) || s.Addr == hostAddr || s.Addr == dnsAddr {
		return bakehouse.Errorf(bakehouse.Invalid, "instance %s: address %s: must be in %s, and neither %s nor %s", s.ID, s.Addr, fabric, hostAddr, dnsAddr)
	}
	if len(s.Layers) == 0 {
		return bakehouse.Errorf(bakehouse.Invalid, "instance %s: no layers to boot from", s.ID)
	}
	for _, l := range s.Layers {
		if err := checkID("layer", l); err != nil {
			return err
		}
	}
	return nil
}

// The network of the instances: RFC 2544 keeps it for benchmarks, so nobody
// else has it.
var (
	fabric   = netip.MustParsePrefix("198.18.0.0/15")
	hostAddr = netip.MustParseAddr("198.18.0.1") // the host, as instances see it
	dnsAddr  = netip.MustParseAddr("198.18.0.2") // what resolves names inside
)

// A State is how an instance is.
type State string

// The states of an instance.
const (
	Running State = "running"
	Stopped State = "stopped" // has files, no processes
	Gone    State = "gone"    // unknown or removed
)

// A Reason says why an instance is stopped.
type Reason string

// The reasons.
const (
	NeverStarted Reason = ""
	ByRequest    Reason = "stopped by request"
	FromInside   Reason = "powered off from inside"
	Crashed      Reason = "init died"
	Killed       Reason = "killed, or the host went down"
	BootFailed   Reason = "did not boot"
)

// A Status tells how an instance is.
type Status struct {
	State  State
	Reason Reason // why it is stopped
	Detail string // more about the reason, for people; may be empty
	// Since is when the state began, as far as known.
	Since time.Time
	// Boots counts how often it has booted; a reboot from inside counts.
	Boots int
}

// An Event tells that an instance ended by itself.
type Event struct {
	ID     string
	Status Status
}
