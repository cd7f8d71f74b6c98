package localcloud

import (
	"cmp"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/bakehouse-farm/bakehouse/localcloud/filter"
	"github.com/bakehouse-farm/bakehouse/localcloud/state"
	"github.com/bakehouse-farm/bakehouse/localcloud/wire"
)

type stateItem struct {
	Code int    `xml:"code"`
	Name string `xml:"name"`
}

// showState adds the number that EC2 has for a state.
func showState(name string) stateItem {
	code := map[string]int{
		state.Pending: 0, state.Running: 16, state.ShuttingDown: 32, state.Terminated: 48, state.Stopping: 64, state.Stopped: 80,
	}[name]
	return stateItem{code, name}
}

type attachedItem struct {
	Device string `xml:"deviceName"`
	EBS    struct {
		Volume string    `xml:"volumeId"`
		Status string    `xml:"status"`
		Time   wire.Time `xml:"attachTime"`
		Delete bool      `xml:"deleteOnTermination"`
	} `xml:"ebs"`
}

type instanceItem struct {
	ID             string         `xml:"instanceId"`
	Image          string         `xml:"imageId"`
	State          stateItem      `xml:"instanceState"`
	PrivateDNS     string         `xml:"privateDnsName"`
	DNS            string         `xml:"dnsName"`
	Transition     string         `xml:"reason"`
	KeyName        string         `xml:"keyName,omitempty"`
	Index          int            `xml:"amiLaunchIndex"`
	Codes          []codeItem     `xml:"productCodes>item"`
	Type           string         `xml:"instanceType"`
	Launched       wire.Time      `xml:"launchTime"`
	Zone           string         `xml:"placement>availabilityZone"`
	Tenancy        string         `xml:"placement>tenancy"`
	Monitoring     string         `xml:"monitoring>state"`
	Subnet         string         `xml:"subnetId,omitempty"`
	VPC            string         `xml:"vpcId,omitempty"`
	PrivateAddr    string         `xml:"privateIpAddress,omitempty"`
	Addr           string         `xml:"ipAddress,omitempty"`
	SourceDest     bool           `xml:"sourceDestCheck"`
	Groups         []groupName    `xml:"groupSet>item"`
	Reason         *reasonItem    `xml:"stateReason,omitempty"`
	Arch           string         `xml:"architecture"`
	RootType       string         `xml:"rootDeviceType"`
	RootDevice     string         `xml:"rootDeviceName"`
	Mappings       []attachedItem `xml:"blockDeviceMapping>item"`
	Virtualization string         `xml:"virtualizationType"`
	Token          string         `xml:"clientToken"`
	Tags           []tag          `xml:"tagSet>item"`
	Hypervisor     string         `xml:"hypervisor"`
	Interfaces     []nicItem      `xml:"networkInterfaceSet>item"`
	EBSOptimized   bool           `xml:"ebsOptimized"`
	ENA            bool           `xml:"enaSupport"`
	SRIOV          string         `xml:"sriovNetSupport,omitempty"`
	Options        *optionsItem   `xml:"metadataOptions,omitempty"`
	Platform       string         `xml:"platformDetails"`
	Profile        *launchedWith  `xml:"iamInstanceProfile,omitempty"`
}

type launchedWith struct {
	ARN string `xml:"arn"`
	ID  string `xml:"id"`
}

type nicItem struct {
	interfaceItem
	Association *associationItem `xml:"association,omitempty"`
}

type associationItem struct {
	Addr  string `xml:"publicIp"`
	DNS   string `xml:"publicDnsName"`
	Owner string `xml:"ipOwnerId"`
}

type optionsItem struct {
	State    string `xml:"state"`
	Tokens   string `xml:"httpTokens"`
	Hops     string `xml:"httpPutResponseHopLimit"`
	Endpoint string `xml:"httpEndpoint"`
	Tags     string `xml:"instanceMetadataTags"`
}

// live tells whether an instance still has what it was given.
func live(i *state.Instance) bool { return i.State != state.Terminated }

func (c *call) showInstance(i *state.Instance) instanceItem {
	item := instanceItem{
		ID: i.ID, Image: i.Image, State: showState(i.State), Transition: i.Transition, KeyName: i.KeyPair, Index: i.Index,
		Type: i.Type, Launched: wire.Time(i.Launched), Zone: i.Zone, Tenancy: "default", Monitoring: "disabled",
		SourceDest: i.SourceDest, Reason: showReason(i.Reason), Arch: i.Arch, RootType: "ebs", RootDevice: i.RootDevice,
		Virtualization: "hvm", Token: i.Token, Tags: shown(i.Tags), Hypervisor: "xen", EBSOptimized: i.EBSOpt, ENA: i.ENA,
		SRIOV: i.SRIOV, Platform: "Linux/UNIX",
	}
	if i.Monitoring {
		item.Monitoring = "enabled"
	}
	if i.Profile.ID != "" {
		item.Profile = &launchedWith{c.profileARN(&i.Profile), i.Profile.ID}
	}
	if !live(i) {
		return item
	}
	item.Subnet, item.VPC, item.PrivateAddr, item.Groups = i.Subnet, i.VPC, i.Addr, c.groupNames(i.Groups)
	// There is no name service for instances. Where EC2 has a host name, we give
	// the address, which reaches the instance wherever a host name would.
	item.PrivateDNS = i.Addr
	if n := state.Get[state.Interface](c.Tx, i.Region, i.Interface); n != nil {
		nic := nicItem{interfaceItem: c.interfaceItem(n)}
		if c.reachable(i) {
			nic.Association = &associationItem{i.Addr, i.Addr, c.cloud.account}
		}
		item.Interfaces = []nicItem{nic}
	}
	if c.reachable(i) {
		item.Addr, item.DNS = i.Addr, i.Addr
	}
	for _, m := range i.Mappings {
		if m.Volume == "" {
			continue
		}
		a := attachedItem{Device: m.Device}
		a.EBS.Volume, a.EBS.Status, a.EBS.Time, a.EBS.Delete = m.Volume, "attached", wire.Time(i.Launched), m.DeleteOnTermination
		item.Mappings = append(item.Mappings, a)
	}
	item.Options = &optionsItem{
		State: "applied", Tokens: cmp.Or(i.Options["HttpTokens"], "optional"), Hops: cmp.Or(i.Options["HttpPutResponseHopLimit"], "1"),
		Endpoint: cmp.Or(i.Options["HttpEndpoint"], "enabled"), Tags: cmp.Or(i.Options["InstanceMetadataTags"], "disabled"),
	}
	return item
}

// reachable tells whether an instance has a public address now: like EC2's, it
// goes when the instance is stopped.
func (c *call) reachable(i *state.Instance) bool {
	return i.Public && (i.State == state.Running || i.State == state.Pending)
}

func (c *call) instanceFields() filter.Fields[*state.Instance] {
	always := func(v string) func(*state.Instance) []string {
		return func(*state.Instance) []string { return []string{v} }
	}
	alive := func(f func(*state.Instance) string) func(*state.Instance) []string {
		return func(i *state.Instance) []string {
			if !live(i) {
				return nil
			}
			return one(f(i))
		}
	}
	groups := func(name bool) func(*state.Instance) []string {
		return func(i *state.Instance) []string {
			var v []string
			for _, g := range c.groupNames(i.Groups) {
				if name {
					v = append(v, g.Name)
				} else {
					v = append(v, g.ID)
				}
			}
			return v
		}
	}
	public := func(i *state.Instance) []string {
		if !c.reachable(i) {
			return nil
		}
		return one(i.Addr)
	}
	return filter.Fields[*state.Instance]{
		"instance-id":                            func(i *state.Instance) []string { return one(i.ID) },
		"image-id":                               func(i *state.Instance) []string { return one(i.Image) },
		"instance-state-name":                    func(i *state.Instance) []string { return one(i.State) },
		"instance-state-code":                    func(i *state.Instance) []string { return one(strconv.Itoa(showState(i.State).Code)) },
		"instance-type":                          func(i *state.Instance) []string { return one(i.Type) },
		"architecture":                           func(i *state.Instance) []string { return one(i.Arch) },
		"availability-zone":                      func(i *state.Instance) []string { return one(i.Zone) },
		"client-token":                           func(i *state.Instance) []string { return one(i.Token) },
		"key-name":                               func(i *state.Instance) []string { return one(i.KeyPair) },
		"launch-time":                            func(i *state.Instance) []string { return one(wire.Stamp(i.Launched)) },
		"reservation-id":                         func(i *state.Instance) []string { return one(i.Reservation) },
		"reason":                                 func(i *state.Instance) []string { return one(i.Transition) },
		"state-reason-code":                      func(i *state.Instance) []string { return one(i.Reason.Code) },
		"root-device-name":                       func(i *state.Instance) []string { return one(i.RootDevice) },
		"vpc-id":                                 alive(func(i *state.Instance) string { return i.VPC }),
		"subnet-id":                              alive(func(i *state.Instance) string { return i.Subnet }),
		"private-ip-address":                     alive(func(i *state.Instance) string { return i.Addr }),
		"ip-address":                             public,
		"dns-name":                               public,
		"instance.group-id":                      groups(false),
		"instance.group-name":                    groups(true),
		"group-id":                               groups(false),
		"group-name":                             groups(true),
		"owner-id":                               always(c.cloud.account),
		"root-device-type":                       always("ebs"),
		"virtualization-type":                    always("hvm"),
		"hypervisor":                             always("xen"),
		"tenancy":                                always("default"),
		"network-interface.network-interface-id": alive(func(i *state.Instance) string { return i.Interface }),
		"block-device-mapping.volume-id": func(i *state.Instance) []string {
			var v []string
			for _, m := range i.Mappings {
				v = append(v, m.Volume)
			}
			return v
		},
		"block-device-mapping.device-name": func(i *state.Instance) []string {
			var v []string
			for _, m := range i.Mappings {
				v = append(v, m.Device)
			}
			return v
		},
	}
}

type describeInstancesInput struct {
	InstanceId []string //nolint:revive // EC2's name
	Filter     []filter.Filter
	Paging
}

type reservationItem struct {
	ID        string         `xml:"reservationId"`
	Owner     string         `xml:"ownerId"`
	Groups    []groupName    `xml:"groupSet>item"`
	Instances []instanceItem `xml:"instancesSet>item"`
}

type describeInstancesOutput struct {
	Reservations []reservationItem `xml:"reservationSet>item"`
	Next         string            `xml:"nextToken,omitempty"`
}

func describeInstances(c *call, in *describeInstancesInput) (*describeInstancesOutput, error) {
	list, err := selected(c, instanceSpecies, in.InstanceId, in.Filter, c.instanceFields(),
		func(i *state.Instance) map[string]string { return i.Tags })
	if err != nil {
		return nil, err
	}
	list, next, err := page(list, in.Paging)
	if err != nil {
		return nil, err
	}
	out := &describeInstancesOutput{Next: next}
	at := map[string]int{}
	for _, i := range list {
		n, ok := at[i.Reservation]
		if !ok {
			n = len(out.Reservations)
			at[i.Reservation] = n
			out.Reservations = append(out.Reservations, reservationItem{ID: i.Reservation, Owner: c.cloud.account})
		}
		out.Reservations[n].Instances = append(out.Reservations[n].Instances, c.showInstance(i))
	}
	return out, nil
}

type describeStatusInput struct {
	InstanceId          []string //nolint:revive // EC2's name
	IncludeAllInstances bool
	Filter              []filter.Filter
	Paging
}

type checkItem struct {
	Status  string `xml:"status"`
	Details []struct {
		Name   string `xml:"name"`
		Status string `xml:"status"`
	} `xml:"details>item"`
}

type statusItem struct {
	ID       string    `xml:"instanceId"`
	Zone     string    `xml:"availabilityZone"`
	State    stateItem `xml:"instanceState"`
	System   checkItem `xml:"systemStatus"`
	Instance checkItem `xml:"instanceStatus"`
}

type describeStatusOutput struct {
	Statuses []statusItem `xml:"instanceStatusSet>item"`
	Next     string       `xml:"nextToken,omitempty"`
}

func describeStatus(c *call, in *describeStatusInput) (*describeStatusOutput, error) {
	check := func(i *state.Instance) checkItem {
		s, reach := "not-applicable", ""
		switch i.State {
		case state.Running:
			s, reach = "ok", "passed"
		case state.Pending:
			s, reach = "initializing", "initializing"
		}
		item := checkItem{Status: s}
		if reach != "" {
			item.Details = append(item.Details, struct {
				Name   string `xml:"name"`
				Status string `xml:"status"`
			}{"reachability", reach})
		}
		return item
	}
	fields := c.instanceFields()
	fields["instance-status.status"] = func(i *state.Instance) []string { return one(check(i).Status) }
	fields["system-status.status"] = fields["instance-status.status"]
	list, err := selected(c, instanceSpecies, in.InstanceId, in.Filter, fields,
		func(i *state.Instance) map[string]string { return i.Tags })
	if err != nil {
		return nil, err
	}
	list = slices.DeleteFunc(list, func(i *state.Instance) bool { return !in.IncludeAllInstances && i.State != state.Running })
	list, next, err := page(list, in.Paging)
	out := &describeStatusOutput{Next: next}
	for _, i := range list {
		out.Statuses = append(out.Statuses, statusItem{i.ID, i.Zone, showState(i.State), check(i), check(i)})
	}
	return out, err
}

type changeItem struct {
	ID       string    `xml:"instanceId"`
	Current  stateItem `xml:"currentState"`
	Previous stateItem `xml:"previousState"`
}

type changesOutput struct {
	Changes []changeItem `xml:"instancesSet>item"`
}

type instancesInput struct {
	InstanceId []string `q:",required"` //nolint:revive // EC2's name
	Force      bool
}

// change moves instances from the states that it is for into another. Those
// already there, or on the way, stay as they are.
func (c *call) change(ids []string, f func(*state.Instance) (to string, err error)) (*changesOutput, error) {
	out := &changesOutput{}
	var list []*state.Instance
	for _, id := range ids {
		i, err := find[state.Instance](c, instanceSpecies, id)
		if err != nil {
			return nil, err
		}
		list = append(list, i)
	}
	for _, i := range list {
		before := i.State
		to, err := f(i)
		if err != nil {
			return nil, err
		}
		if to != before {
			enter(i, to, c.now)
			state.Put(c.Tx, i)
			c.later(func() { c.cloud.attend(i.Region, i.ID) })
		}
		out.Changes = append(out.Changes, changeItem{i.ID, showState(i.State), showState(before)})
	}
	return out, nil
}

// enter moves an instance into a state.
func enter(i *state.Instance, to string, now time.Time) {
	i.State, i.Since = to, now
	switch to {
	case state.Pending:
		i.Launched, i.Transition, i.Reason = now, "", state.Reason{}
	case state.Stopping, state.ShuttingDown:
		i.Reboot = false
	}
}

// because notes that the user wanted a transition.
func because(i *state.Instance, code string, now time.Time) {
	i.Transition = "User initiated (" + now.UTC().Format("2006-01-02 15:04:05 GMT") + ")"
	i.Reason = state.Reason{Code: code, Message: code + ": User initiated shutdown"}
}

func wrongState(i *state.Instance, verb string) error {
	return wire.Errorf("IncorrectInstanceState", "The instance '%s' is not in a state from which it can be %s.", i.ID, verb)
}

func startInstances(c *call, in *instancesInput) (*changesOutput, error) {
	return c.change(in.InstanceId, func(i *state.Instance) (string, error) {
		switch i.State {
		case state.Stopped:
			return state.Pending, nil
		case state.Pending, state.Running:
			return i.State, nil
		}
		return "", wrongState(i, "started")
	})
}

func stopInstances(c *call, in *instancesInput) (*changesOutput, error) {
	return c.change(in.InstanceId, func(i *state.Instance) (string, error) {
		switch i.State {
		case state.Running:
			if i.NoStop {
				return "", wire.Errorf("OperationNotPermitted", "The instance '%s' may not be stopped. Modify its 'disableApiStop' instance attribute and try again.", i.ID)
			}
			because(i, "Client.UserInitiatedShutdown", c.now)
			return state.Stopping, nil
		case state.Stopping, state.Stopped:
			return i.State, nil
		}
		return "", wrongState(i, "stopped")
	})
}

func terminateInstances(c *call, in *instancesInput) (*changesOutput, error) {
	return c.change(in.InstanceId, func(i *state.Instance) (string, error) {
		if i.State == state.ShuttingDown || i.State == state.Terminated {
			return i.State, nil
		}
		if i.Protected {
			return "", wire.Errorf("OperationNotPermitted", "The instance '%s' may not be terminated. Modify its 'disableApiTermination' instance attribute and try again.", i.ID)
		}
		because(i, "Client.UserInitiatedShutdown", c.now)
		return state.ShuttingDown, nil
	})
}

func rebootInstances(c *call, in *instancesInput) (*done, error) {
	for _, id := range in.InstanceId {
		i, err := find[state.Instance](c, instanceSpecies, id)
		if err != nil {
			return nil, err
		}
		if i.State != state.Running {
			return nil, wrongState(i, "rebooted")
		}
		i.Reboot = true
		state.Put(c.Tx, i)
		c.later(func() { c.cloud.attend(i.Region, i.ID) })
	}
	return &done{true}, nil
}

type boolValue struct {
	Value *bool
}

type modifyInstanceInput struct {
	InstanceId                        string `q:",required"` //nolint:revive // EC2's name
	Attribute, Value                  string
	EnaSupport                        boolValue
	SriovNetSupport                   stringValue
	InstanceInitiatedShutdownBehavior stringValue
	DisableApiTermination             boolValue
	DisableApiStop                    boolValue
	SourceDestCheck                   boolValue
	EbsOptimized                      boolValue
	InstanceType                      stringValue
	GroupId                           []string //nolint:revive // EC2's name
}

func modifyInstance(c *call, in *modifyInstanceInput) (*done, error) {
	i, err := find[state.Instance](c, instanceSpecies, in.InstanceId)
	if err != nil {
		return nil, err
	}
	if err := in.long(); err != nil {
		return nil, err
	}
	stopped := func(what string) error {
		if i.State != state.Stopped {
			return wire.Errorf("IncorrectInstanceState", "The instance '%s' is not in the 'stopped' state: %s cannot be changed", i.ID, what)
		}
		return nil
	}
	if v := in.EnaSupport.Value; v != nil {
		if err := stopped("enaSupport"); err != nil {
			return nil, err
		}
		i.ENA = *v
	}
	if v := in.SriovNetSupport.Value; v != nil {
		if err := stopped("sriovNetSupport"); err != nil {
			return nil, err
		}
		i.SRIOV = *v
	}
	if v := in.InstanceType.Value; v != nil {
		if err := stopped("instanceType"); err != nil {
			return nil, err
		}
		arch, err := archOf(*v)
		if err == nil && arch != i.Arch {
			err = wire.Errorf("InvalidParameterValue", "The architecture '%s' of the specified instance type does not match the architecture '%s' of the instance.", arch, i.Arch)
		}
		if err != nil {
			return nil, err
		}
		i.Type = *v
	}
	if v := in.InstanceInitiatedShutdownBehavior.Value; v != nil {
		if *v != "stop" && *v != "terminate" {
			return nil, wire.Errorf("InvalidParameterValue", "Value (%s) for instanceInitiatedShutdownBehavior is invalid.", *v)
		}
		i.Shutdown = *v
	}
	for _, b := range []struct {
		to *bool
		v  *bool
	}{
		{&i.Protected, in.DisableApiTermination.Value},
		{&i.NoStop, in.DisableApiStop.Value},
		{&i.SourceDest, in.SourceDestCheck.Value},
		{&i.EBSOpt, in.EbsOptimized.Value},
	} {
		if b.v != nil {
			*b.to = *b.v
		}
	}
	if len(in.GroupId) > 0 {
		for _, g := range in.GroupId {
			if _, err := find[state.SecurityGroup](c, groupSpecies, g); err != nil {
				return nil, err
			}
		}
		i.Groups = in.GroupId
		if n := state.Get[state.Interface](c.Tx, c.region, i.Interface); n != nil {
			n.Groups = in.GroupId
			state.Put(c.Tx, n)
		}
	}
	state.Put(c.Tx, i)
	return &done{true}, nil
}

// long turns the form Attribute=…&Value=… into the one with a parameter for
// each attribute.
func (in *modifyInstanceInput) long() error {
	v := strings.EqualFold(in.Value, "true")
	switch in.Attribute {
	case "":
	case "instanceInitiatedShutdownBehavior":
		in.InstanceInitiatedShutdownBehavior.Value = &in.Value
	case "instanceType":
		in.InstanceType.Value = &in.Value
	case "sriovNetSupport":
		in.SriovNetSupport.Value = &in.Value
	case "disableApiTermination":
		in.DisableApiTermination.Value = &v
	case "disableApiStop":
		in.DisableApiStop.Value = &v
	case "sourceDestCheck":
		in.SourceDestCheck.Value = &v
	case "ebsOptimized":
		in.EbsOptimized.Value = &v
	case "enaSupport":
		in.EnaSupport.Value = &v
	default:
		return wire.Errorf("UnsupportedOperation", "localcloud cannot change the instance attribute %s", in.Attribute)
	}
	return nil
}

type instanceAttributeInput struct {
	InstanceId string `q:",required"` //nolint:revive // EC2's name
	Attribute  string `q:",required"`
}

type truthItem struct {
	Value bool `xml:"value"`
}

type instanceAttributeOutput struct {
	ID         string         `xml:"instanceId"`
	Type       *valueItem     `xml:"instanceType,omitempty"`
	Shutdown   *valueItem     `xml:"instanceInitiatedShutdownBehavior,omitempty"`
	RootDevice *valueItem     `xml:"rootDeviceName,omitempty"`
	UserData   *valueItem     `xml:"userData,omitempty"`
	SRIOV      *valueItem     `xml:"sriovNetSupport,omitempty"`
	Protected  *truthItem     `xml:"disableApiTermination,omitempty"`
	NoStop     *truthItem     `xml:"disableApiStop,omitempty"`
	SourceDest *truthItem     `xml:"sourceDestCheck,omitempty"`
	EBSOpt     *truthItem     `xml:"ebsOptimized,omitempty"`
	ENA        *truthItem     `xml:"enaSupport,omitempty"`
	Groups     []groupName    `xml:"groupSet>item"`
	Mappings   []attachedItem `xml:"blockDeviceMapping>item"`
}

func instanceAttribute(c *call, in *instanceAttributeInput) (*instanceAttributeOutput, error) {
	i, err := find[state.Instance](c, instanceSpecies, in.InstanceId)
	if err != nil {
		return nil, err
	}
	out := &instanceAttributeOutput{ID: i.ID}
	switch in.Attribute {
	case "instanceType":
		out.Type = &valueItem{i.Type}
	case "instanceInitiatedShutdownBehavior":
		out.Shutdown = &valueItem{i.Shutdown}
	case "rootDeviceName":
		out.RootDevice = &valueItem{i.RootDevice}
	case "userData":
		out.UserData = &valueItem{encode(i.UserData)}
	case "sriovNetSupport":
		out.SRIOV = &valueItem{i.SRIOV}
	case "disableApiTermination":
		out.Protected = &truthItem{i.Protected}
	case "disableApiStop":
		out.NoStop = &truthItem{i.NoStop}
	case "sourceDestCheck":
		out.SourceDest = &truthItem{i.SourceDest}
	case "ebsOptimized":
		out.EBSOpt = &truthItem{i.EBSOpt}
	case "enaSupport":
		out.ENA = &truthItem{i.ENA}
	case "groupSet":
		out.Groups = c.groupNames(i.Groups)
	case "blockDeviceMapping":
		out.Mappings = c.showInstance(i).Mappings
	default:
		return nil, wire.Errorf("InvalidParameterValue", "Value (%s) for parameter attribute is invalid", in.Attribute)
	}
	return out, nil
}

type consoleInput struct {
	InstanceId string `q:",required"` //nolint:revive // EC2's name
	Latest     bool
}

type consoleOutput struct {
	ID     string    `xml:"instanceId"`
	Time   wire.Time `xml:"timestamp"`
	Output string    `xml:"output"`
}

func getConsole(c *call, in *consoleInput) (*consoleOutput, error) {
	i, err := find[state.Instance](c, instanceSpecies, in.InstanceId)
	if err != nil {
		return nil, err
	}
	h, ok := c.cloud.host.(interface {
		Console(id string) ([]byte, error)
	})
	if !ok {
		return nil, wire.Errorf("UnsupportedOperation", "localcloud keeps no console output here")
	}
	b, err := h.Console(i.ID)
	if err != nil {
		return nil, err
	}
	// EC2 returns the last 64 KiB.
	b = b[max(0, len(b)-64<<10):]
	return &consoleOutput{i.ID, wire.Time(c.now), encode(b)}, nil
}

func addrOf(s string) netip.Addr {
	a, _ := netip.ParseAddr(s)
	return a
}
