package state

import "time"

// Tags are what a user has written on a resource.
type Tags map[string]string

// A Region is set up when it is first used.
type Region struct {
	Name string
}

// A VPC is a private network.
type VPC struct {
	Region, ID string
	CIDR       string
	Default    bool
	Tags       Tags
}

// A Subnet is a part of a VPC in one availability zone.
type Subnet struct {
	Region, ID string
	VPC, Zone  string
	CIDR       string
	Default    bool // the default one of its zone
	Public     bool // its instances get a public address unless told otherwise
	Tags       Tags
}

// A KeyPair is the public half of a key.
type KeyPair struct {
	Region, ID  string
	Name, Type  string
	Fingerprint string
	Public      string // in authorized_keys format
	Created     time.Time
	Tags        Tags
}

// A Profile is an instance profile, by which instances would get a role.
type Profile struct {
	Name, ID, Path string
	Created        time.Time
}

// A Rule lets some traffic into a security group, or out of it.
type Rule struct {
	ID          string
	Egress      bool
	Protocol    string
	From, To    int
	CIDR, CIDR6 string
	Group       string // traffic of members of this group
	PrefixList  string
	Description string
	Tags        Tags
}

// A SecurityGroup is a named list of rules.
type SecurityGroup struct {
	Region, ID        string
	VPC               string
	Name, Description string
	Rules             []Rule
	Tags              Tags
}

// A Mapping says what stands behind a device name of an instance or an image.
type Mapping struct {
	Device              string
	Virtual             string `json:",omitempty"` // ephemeral0 …: nothing else is set
	Volume              string `json:",omitempty"` // of an instance
	Snapshot            string `json:",omitempty"` // of an image
	Size                int64  `json:",omitempty"` // GiB
	Type                string `json:",omitempty"`
	IOPS, Throughput    int64  `json:",omitempty"`
	Encrypted           bool   `json:",omitempty"`
	KMSKey              string `json:",omitempty"`
	DeleteOnTermination bool
}

// A Reason says why something is in the state it is in.
type Reason struct {
	Code, Message string
}

// A Doom is what is going to become of something that was asked for in vain.
type Doom struct {
	At     time.Time
	Reason Reason
}

// States of an instance, as EC2 calls them.
const (
	Pending      = "pending"
	Running      = "running"
	Stopping     = "stopping"
	Stopped      = "stopped"
	ShuttingDown = "shutting-down"
	Terminated   = "terminated"
)

// An Instance is a machine.
type Instance struct {
	Region, ID  string
	Reservation string
	Index       int // among the instances of its reservation
	Image       string
	Type, Arch  string
	KeyPair     string
	VPC, Subnet string
	Zone        string
	Addr        string
	Public      bool
	Groups      []string
	Interface   string // id of its network interface
	Virtual     string

	State      string
	Since      time.Time // when State was entered
	Launched   time.Time // last start
	Reason     Reason
	Transition string // why State was last left, with the time, as EC2 words it
	// Reboot asks for a restart while State stays running. It is taken back once
	// the machine runs again.
	Reboot bool
	// Abrupt tells that its next stop or restart is a fault: nothing inside is
	// told of it.
	Abrupt bool `json:",omitempty"`
	// Booted tells that the machine has run at least once.
	Booted bool
	// Doom ends it before it has run.
	Doom *Doom `json:",omitempty"`

	Layers     []string // what the machine sees below its own writable layer, topmost first
	RootDevice string
	Mappings   []Mapping
	UserData   []byte
	Keys       []string // authorized_keys lines of the launch
	Shutdown   string   // what an end from inside means: stop or terminate
	Protected  bool     // against termination by the API
	NoStop     bool     // protected against being stopped by the API
	EBSOpt     bool
	ENA        bool
	SRIOV      string
	SourceDest bool
	Monitoring bool
	Options    map[string]string // metadata options as given
	Profile    Profile           `json:",omitzero"`
	Token      string
	Tags       Tags
}

// A Volume is a disk.
type Volume struct {
	Region, ID       string
	Zone             string
	Size             int64
	Type             string
	IOPS, Throughput int64
	Snapshot         string
	Encrypted        bool
	KMSKey           string
	Created          time.Time
	Instance, Device string // what it is attached to
	DeleteWith       bool   // deleted when the instance is terminated
	// Layers is what a root volume holds once its instance is gone.
	Layers []string
	Tags   Tags
}

// A Permission lets others use an image or a snapshot.
type Permission struct {
	User, Group, Org, OU string
}

// A Snapshot is what a disk held at one moment.
type Snapshot struct {
	Region, ID  string
	Owner       string
	Alias       string
	Volume      string
	Size        int64 // GiB
	Bytes       int64 // of its topmost layer
	Description string
	Started     time.Time
	State       string // pending, completed, error
	Message     string
	// Layers is the content, topmost first. It is empty for a disk that nothing
	// was ever written to, and until the content is frozen.
	Layers []string
	// Freezes is the layer that is being written for this snapshot.
	Freezes string
	// Live tells that it is taken while the instance runs on.
	Live        bool `json:",omitempty"`
	Copied      bool // from another snapshot
	Encrypted   bool
	KMSKey      string
	Permissions []Permission
	Doom        *Doom     `json:",omitempty"` // it fails
	NotBefore   time.Time `json:",omitzero"`  // it stays pending until then
	Tags        Tags
}

// States of images and snapshots.
const (
	Available = "available"
	Failed    = "failed"
	Completed = "completed"
	Errored   = "error"
)

// An Image is what instances are launched from.
type Image struct {
	Region, ID        string
	Owner, Alias      string
	Name, Description string
	Arch              string
	Created           time.Time
	State             string
	Reason            Reason
	// Source is the instance or image that it is made from, for a pending image
	// as well as later on.
	SourceInstance string
	SourceImage    string
	SourceRegion   string
	RootDevice     string
	Mappings       []Mapping
	Boot           string // boot mode
	ENA            bool
	SRIOV          string
	IMDS           string
	TPM            string
	Deprecated     time.Time
	Protected      bool
	Cooldown       bool
	CooldownUntil  time.Time
	Permissions    []Permission
	ProductCodes   []string
	Copied         bool      // from another image
	StandIn        string    // what really stands behind the name, if not itself
	Doom           *Doom     `json:",omitempty"` // it fails
	NotBefore      time.Time `json:",omitzero"`  // it stays pending until then
	Tags           Tags
}

// A Base is a file system that images are registered for in every region.
type Base struct {
	Name         string
	Owner, Alias string
	Arch         string
	Description  string
	RootDevice   string
	Size         int64
	Layers       []string
	Created      time.Time
	Imported     bool
	Public       bool
}

// A Token is a ClientToken that was used.
type Token struct {
	Region, ID string
	Digest     string // of the parameters it came with
	Resource   string
	Used       time.Time
}

// Kind implements Record.
func (*Region) Kind() string { return "region" }

// Key implements Record.
func (r *Region) Key() (region, id string) { return "", r.Name }

// Kind implements Record.
func (*VPC) Kind() string { return "vpc" }

// Key implements Record.
func (r *VPC) Key() (region, id string) { return r.Region, r.ID }

// Kind implements Record.
func (*Subnet) Kind() string { return "subnet" }

// Key implements Record.
func (r *Subnet) Key() (region, id string) { return r.Region, r.ID }

// Kind implements Record.
func (*KeyPair) Kind() string { return "key-pair" }

// Key implements Record.
func (r *KeyPair) Key() (region, id string) { return r.Region, r.ID }

// Kind implements Record.
func (*Profile) Kind() string { return "instance-profile" }

// Key implements Record.
func (r *Profile) Key() (region, id string) { return "", r.Name }

// Kind implements Record.
func (*SecurityGroup) Kind() string { return "security-group" }

// Key implements Record.
func (r *SecurityGroup) Key() (region, id string) { return r.Region, r.ID }

// Kind implements Record.
func (*Instance) Kind() string { return "instance" }

// Key implements Record.
func (r *Instance) Key() (region, id string) { return r.Region, r.ID }

// Kind implements Record.
func (*Volume) Kind() string { return "volume" }

// Key implements Record.
func (r *Volume) Key() (region, id string) { return r.Region, r.ID }

// Kind implements Record.
func (*Snapshot) Kind() string { return "snapshot" }

// Key implements Record.
func (r *Snapshot) Key() (region, id string) { return r.Region, r.ID }

// Kind implements Record.
func (*Image) Kind() string { return "image" }

// Key implements Record.
func (r *Image) Key() (region, id string) { return r.Region, r.ID }

// Kind implements Record.
func (*Base) Kind() string { return "base" }

// Key implements Record.
func (r *Base) Key() (region, id string) { return "", r.Owner + ":" + r.Name }

// Kind implements Record.
func (*Token) Kind() string { return "token" }

// Key implements Record.
func (r *Token) Key() (region, id string) { return r.Region, r.ID }

// An Interface is the network interface of an instance.
type Interface struct {
	Region, ID  string
	Instance    string
	VPC, Subnet string
	Zone        string
	Addr        string
	Groups      []string
	Tags        Tags
}

// Kind implements Record.
func (*Interface) Kind() string { return "network-interface" }

// Key implements Record.
func (r *Interface) Key() (region, id string) { return r.Region, r.ID }
