package amazon

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/bakehouse-farm/bakehouse"
	"github.com/bakehouse-farm/bakehouse/builders"
)

// machineDetails are what later calls must know of a machine.
type machineDetails struct {
	Region string `json:"region"`
}

// Launch asks for the instance, or finds the one that an earlier call asked for.
// The client token would do for both, but EC2 may forget it a day after the
// instance is gone, and a build can sleep longer: so it looks by tag first.
func (e *EBS) Launch(ctx context.Context, b bakehouse.Build, r builders.Resolved, groups []string) (builders.Machine, error) {
	s, c, err := e.open(ctx, b, r.Region)
	if err != nil {
		return builders.Machine{}, err
	}
	p, err := planOf(r)
	if err != nil {
		return builders.Machine{}, err
	}
	data, err := e.userData(b, s)
	if err != nil {
		return builders.Machine{}, err
	}
	say(ctx, "Launching a source AWS instance...")
	there, err := c.findInstances(ctx, append(madeBy(b, again(b, stepLaunch)), filter("instance-state-name", "pending", "running", "stopping", "stopped"))...)
	if err != nil {
		return builders.Machine{}, failed(ctx, err, "look for the build's instance")
	}
	id := ""
	if len(there) > 0 {
		id = aws.ToString(there[0].InstanceId)
	} else if id, err = c.runInstance(ctx, runInput(b, s, r, p, groups, data)); err != nil {
		return builders.Machine{}, c.explain(ctx, s, failed(ctx, err, "Error launching source instance"))
	}
	say(ctx, "Instance ID: %s", id)
	details, err := json.Marshal(machineDetails{c.region})
	return builders.Machine{ID: id, Details: details}, err
}

// runInstance runs one instance. What it refers to may be so new that EC2 does
// not know it everywhere.
func (c *connection) runInstance(ctx context.Context, in *ec2.RunInstancesInput) (string, error) {
	var id string
	err := settled(ctx, 2*time.Minute, unsettled, func() error {
		out, err := c.ec2.RunInstances(ctx, in)
		if is(err, "VPCIdNotSpecified") {
			return bakehouse.Errorf(bakehouse.Invalid, "a valid Subnet Id was not specified: %w", err)
		}
		if err != nil {
			return err
		}
		if len(out.Instances) == 0 {
			return fmt.Errorf("EC2 answered without an instance")
		}
		id = aws.ToString(out.Instances[0].InstanceId)
		return nil
	})
	return id, err
}

// unsettled tells whether EC2 refuses a launch because of something that has
// just been made: a profile, our group or our key pair.
func unsettled(err error) bool {
	if is(err, "InvalidGroup.NotFound", "InvalidKeyPair.NotFound") {
		return true
	}
	text := strings.ToLower(fmt.Sprint(err))
	return is(err, "InvalidParameterValue") && strings.Contains(strings.ReplaceAll(text, " ", ""), "iaminstanceprofile")
}

var burstable = regexp.MustCompile(`^t(2|3a?|4g)\.`)

// runInput is the same each time that it is made for a build, as its client
// token demands.
func runInput(b bakehouse.Build, s *Settings, r builders.Resolved, p plan, groups []string, data string) *ec2.RunInstancesInput {
	in := &ec2.RunInstancesInput{
		ClientToken:                       aws.String(token(b, again(b, stepLaunch))),
		ImageId:                           aws.String(cmp.Or(r.Checkpoint, p.AMI)),
		InstanceType:                      types.InstanceType(s.InstanceType),
		MinCount:                          aws.Int32(1),
		MaxCount:                          aws.Int32(1),
		BlockDeviceMappings:               devices(s.LaunchMappings),
		EbsOptimized:                      aws.Bool(s.EBSOptimized),
		InstanceInitiatedShutdownBehavior: types.ShutdownBehavior(s.ShutdownBehavior),
		MetadataOptions:                   s.metadata(),
		Placement:                         s.placement(p.Zone),
		CapacityReservationSpecification:  s.capacity(),
		TagSpecifications: []types.TagSpecification{
			spec(types.ResourceTypeInstance, marked(b, again(b, stepLaunch), p.RunTags)),
			spec(types.ResourceTypeNetworkInterface, marked(b, again(b, stepLaunch), p.RunTags)),
			spec(types.ResourceTypeVolume, marked(b, again(b, stepLaunch), p.VolumeTags)),
		},
	}
	if r.Checkpoint != "" {
		in.BlockDeviceMappings = nil // the checkpoint has the disks, and what is on them
	}
	if key := r.KeyPair + p.KeyName; key != "" { // one of them is empty
		in.KeyName = aws.String(key)
	}
	if data != "" {
		in.UserData = aws.String(data)
	}
	if s.InstanceProfile != "" {
		in.IamInstanceProfile = &types.IamInstanceProfileSpecification{Name: aws.String(s.InstanceProfile)}
	}
	if s.NitroEnclave {
		in.EnclaveOptions = &types.EnclaveOptionsRequest{Enabled: aws.Bool(true)}
	}
	if burstable.MatchString(s.InstanceType) {
		credits := "standard"
		if s.UnlimitedCredits || s.T2Unlimited {
			credits = "unlimited"
		}
		in.CreditSpecification = &types.CreditSpecificationRequest{CpuCredits: aws.String(credits)}
	}
	for _, l := range s.Licenses {
		if l.Request != nil {
			in.LicenseSpecifications = append(in.LicenseSpecifications,
				types.LicenseConfigurationRequest{LicenseConfigurationArn: aws.String(l.Request.ARN)})
		}
	}
	if s.NoEphemeral {
		for letter := 'a'; letter <= 'z'; letter++ {
			in.BlockDeviceMappings = append(in.BlockDeviceMappings,
				types.BlockDeviceMapping{DeviceName: aws.String("xvdc" + string(letter)), NoDevice: aws.String("")})
		}
	}
	s.attach(in, p.Subnet, groups)
	return in
}

// attach puts the instance into its subnet. Whether it gets a public address
// can only be asked of a network interface.
func (s *Settings) attach(in *ec2.RunInstancesInput, subnet string, groups []string) {
	var at *string
	if subnet != "" {
		at = aws.String(subnet)
	}
	if s.PublicIP == nil {
		in.SubnetId, in.SecurityGroupIds = at, groups
		return
	}
	in.NetworkInterfaces = []types.InstanceNetworkInterfaceSpecification{{
		DeviceIndex:              aws.Int32(0),
		AssociatePublicIpAddress: s.PublicIP,
		SubnetId:                 at,
		Groups:                   groups,
		DeleteOnTermination:      aws.Bool(true),
	}}
}

func (s *Settings) metadata() *types.InstanceMetadataOptionsRequest {
	m := s.metadataSettings()
	o := &types.InstanceMetadataOptionsRequest{
		// Packer forgets to send "disabled".
		HttpEndpoint:            types.InstanceMetadataEndpointState(m.HTTPEndpoint),
		HttpTokens:              types.HttpTokensState(m.HTTPTokens),
		HttpPutResponseHopLimit: aws.Int32(int32(*m.HopLimit)),
	}
	if m.InstanceTags == "enabled" {
		o.InstanceMetadataTags = types.InstanceMetadataTagsState(m.InstanceTags)
	}
	return o
}

// metadataSettings returns the block metadata_options with its defaults.
func (s *Settings) metadataSettings() Metadata {
	var m Metadata
	if s.Metadata != nil {
		m = *s.Metadata
	}
	if m.HTTPEndpoint == "" {
		m.HTTPEndpoint = "enabled"
	}
	if m.HTTPTokens == "" {
		m.HTTPTokens = "optional"
	}
	if m.HopLimit == nil || *m.HopLimit == 0 {
		m.HopLimit = aws.Int(1)
	}
	if m.InstanceTags == "" {
		m.InstanceTags = "disabled"
	}
	return m
}

func (s *Settings) placement(zone string) *types.Placement {
	p := &types.Placement{Tenancy: types.Tenancy(s.Tenancy)}
	if zone != "" {
		p.AvailabilityZone = aws.String(zone)
	}
	if s.Placement == nil {
		return p
	}
	if t := s.Placement.Tenancy; t != "" {
		p.Tenancy = types.Tenancy(t)
	}
	if h := s.Placement.HostID; h != "" {
		p.HostId = aws.String(h)
	}
	if g := s.Placement.HostResourceGroupARN; g != "" {
		p.HostResourceGroupArn = aws.String(g)
	}
	return p
}

func (s *Settings) capacity() *types.CapacityReservationSpecification {
	switch {
	case s.CapacityID != "":
		return &types.CapacityReservationSpecification{CapacityReservationTarget: &types.CapacityReservationTarget{
			CapacityReservationId: aws.String(s.CapacityID),
		}}
	case s.CapacityGroup != "":
		return &types.CapacityReservationSpecification{CapacityReservationTarget: &types.CapacityReservationTarget{
			CapacityReservationResourceGroupArn: aws.String(s.CapacityGroup),
		}}
	case s.CapacityPreference == "":
		return &types.CapacityReservationSpecification{CapacityReservationPreference: types.CapacityReservationPreferenceNone}
	}
	return &types.CapacityReservationSpecification{CapacityReservationPreference: types.CapacityReservationPreference(s.CapacityPreference)}
}

// devices turns block device mappings into EC2's.
func devices(in []BlockDevice) []types.BlockDeviceMapping {
	var out []types.BlockDeviceMapping
	for _, d := range in {
		m := types.BlockDeviceMapping{DeviceName: aws.String(d.DeviceName)}
		switch {
		case d.NoDevice:
			m.NoDevice = aws.String("")
		case strings.HasPrefix(d.VirtualName, "ephemeral"):
			m.VirtualName = aws.String(d.VirtualName)
		default:
			m.Ebs = d.volume()
		}
		out = append(out, m)
	}
	return out
}

func (d BlockDevice) volume() *types.EbsBlockDevice {
	v := &types.EbsBlockDevice{
		DeleteOnTermination: aws.Bool(d.DeleteOnTermination),
		VolumeType:          types.VolumeType(d.VolumeType),
		Encrypted:           d.Encrypted,
	}
	if d.VolumeSize > 0 {
		v.VolumeSize = aws.Int32(int32(d.VolumeSize))
	}
	if d.IOPS != nil && (d.VolumeType == "io1" || d.VolumeType == "io2" || d.VolumeType == "gp3") {
		v.Iops = aws.Int32(int32(*d.IOPS))
	}
	if d.Throughput != nil && d.VolumeType == "gp3" {
		v.Throughput = aws.Int32(int32(*d.Throughput))
	}
	if d.KMSKeyID != "" {
		v.KmsKeyId = aws.String(d.KMSKeyID)
	}
	if d.SnapshotID != "" {
		v.SnapshotId = aws.String(d.SnapshotID)
	}
	return v
}

// userData returns what EC2 wants: base64. Text that is base64 already stays.
func (e *EBS) userData(b bakehouse.Build, s *Settings) (string, error) {
	data := s.UserData
	if s.UserDataFile != "" {
		content, err := os.ReadFile(b.Files.Path(s.UserDataFile))
		if err != nil {
			return "", bakehouse.Errorf(bakehouse.NotFound, "Problem reading user data file: %w", err)
		}
		data = string(content)
	}
	if data == "" {
		return "", nil
	}
	if _, err := base64.StdEncoding.DecodeString(data); err == nil {
		return data, nil
	}
	return base64.StdEncoding.EncodeToString([]byte(data)), nil
}

// Await waits until the instance runs, and chooses its address.
func (e *EBS) Await(ctx context.Context, b bakehouse.Build, m builders.Machine) (builders.Machine, error) {
	s, c, err := e.openMachine(ctx, b, m)
	if err != nil {
		return m, err
	}
	say(ctx, "Waiting for instance (%s) to become ready...", m.ID)
	wait := e.config.polling(s.Polling, instanceLimit)
	seen := lookout{what: fmt.Sprintf("Error waiting for instance (%s) to become ready", m.ID), start: time.Now(), patienceOf: wait}
	var addressless time.Time
	err = c.instances.follow(ctx, m.ID, wait.delay, func(i instanceState, found bool) (bool, error) {
		if done, err := seen.unknown(found); done {
			return false, err
		}
		switch i.State.Name {
		case types.InstanceStateNamePending:
			return false, seen.late()
		case types.InstanceStateNameRunning:
			m.Host = s.host(i)
			if s.session() {
				m.Via = builders.ViaSessionManager
			}
			if m.Host != "" || s.Communicator == "none" {
				return true, nil
			}
			// An address may come a moment after the instance runs.
			if addressless.IsZero() {
				addressless = time.Now()
			}
			if time.Since(addressless) < 30*time.Second {
				return false, nil
			}
			return false, bakehouse.Errorf(bakehouse.Invalid, "instance %s has no address for ssh_interface %q", m.ID, s.SSHInterface)
		}
		return false, ended(seen.what, i)
	})
	if err != nil {
		return m, failed(ctx, err, "wait for instance %s", m.ID)
	}
	return m, pauseBeforeSession(ctx, s)
}

// ended says that an instance has ended, and whose doing that was. What EC2
// blames on the client (a key that may not be used, a volume limit) would end
// the next instance, too.
func ended(what string, i types.Instance) error {
	kind := bakehouse.Gone
	if i.StateReason != nil && strings.HasPrefix(aws.ToString(i.StateReason.Code), "Client.") &&
		!strings.HasPrefix(aws.ToString(i.StateReason.Code), "Client.User") {
		kind = bakehouse.Failed
	}
	return bakehouse.Errorf(kind, "%s: it is %s: %s", what, i.State.Name, reason(i.StateReason))
}

// host is the address that the settings choose.
func (s *Settings) host(i types.Instance) string {
	if s.Communicator == "winrm" && s.WinRMHost != "" {
		return s.WinRMHost
	}
	if s.SSHHost != "" {
		return s.SSHHost
	}
	switch s.SSHInterface {
	case "session_manager":
		return aws.ToString(i.InstanceId)
	case "public_ip":
		return aws.ToString(i.PublicIpAddress)
	case "private_ip":
		return aws.ToString(i.PrivateIpAddress)
	case "public_dns":
		return aws.ToString(i.PublicDnsName)
	case "private_dns":
		return aws.ToString(i.PrivateDnsName)
	case "ipv6":
		return aws.ToString(i.Ipv6Address)
	}
	if ip := aws.ToString(i.PublicIpAddress); ip != "" {
		return ip
	}
	return aws.ToString(i.PrivateIpAddress)
}

// Stop stops the instance, or waits until it stops itself when the template says
// so, and then sets its attributes.
func (e *EBS) Stop(ctx context.Context, b bakehouse.Build, r builders.Resolved, m builders.Machine) error {
	s, c, err := e.openMachine(ctx, b, m)
	if err != nil {
		return err
	}
	if !s.DisableStop {
		say(ctx, "Stopping the source instance...")
		say(ctx, "Stopping instance")
		err := settled(ctx, settling, gone, func() error {
			_, err := c.ec2.StopInstances(ctx, &ec2.StopInstancesInput{InstanceIds: []string{m.ID}})
			return err
		})
		// It may have stopped or ended by itself, which is seen below.
		if err != nil && !is(err, "IncorrectInstanceState", "IncorrectState") {
			return failed(ctx, err, "Error stopping instance")
		}
	} else {
		say(ctx, "Automatic instance stop disabled. Please stop instance manually.")
	}
	say(ctx, "Waiting for the instance to stop...")
	if err := e.awaitStopped(ctx, c, s, m); err != nil {
		return failed(ctx, err, "wait for instance %s to stop", m.ID)
	}
	return c.modifyInstance(ctx, s, m.ID)
}

func (e *EBS) awaitStopped(ctx context.Context, c *connection, s *Settings, m builders.Machine) error {
	wait := e.config.polling(s.Polling, instanceLimit)
	seen := lookout{what: "Error waiting for instance to stop", start: time.Now(), patienceOf: wait}
	return c.instances.follow(ctx, m.ID, wait.delay, func(i instanceState, found bool) (bool, error) {
		if done, err := seen.unknown(found); done {
			return false, err
		}
		switch i.State.Name {
		case types.InstanceStateNameStopped:
			return true, nil
		case types.InstanceStateNameTerminated, types.InstanceStateNameShuttingDown:
			return false, bakehouse.Errorf(bakehouse.Gone, "%s: it is %s: %s", seen.what, i.State.Name, reason(i.StateReason))
		}
		return false, seen.late()
	})
}

// modifyInstance sets what can only be set while the instance is stopped.
func (c *connection) modifyInstance(ctx context.Context, s *Settings, id string) error {
	if s.SriovSupport {
		say(ctx, "Enabling Enhanced Networking (SR-IOV)...")
		if _, err := c.ec2.ModifyInstanceAttribute(ctx, &ec2.ModifyInstanceAttributeInput{
			InstanceId: aws.String(id), SriovNetSupport: &types.AttributeValue{Value: aws.String("simple")},
		}); err != nil {
			return failed(ctx, err, "Error enabling Enhanced Networking (SR-IOV) on %s", id)
		}
	}
	if s.ENASupport != nil {
		verb := "Disabling"
		if *s.ENASupport {
			verb = "Enabling"
		}
		say(ctx, "%s Enhanced Networking (ENA)...", verb)
		if _, err := c.ec2.ModifyInstanceAttribute(ctx, &ec2.ModifyInstanceAttributeInput{
			InstanceId: aws.String(id), EnaSupport: &types.AttributeBooleanValue{Value: s.ENASupport},
		}); err != nil {
			return failed(ctx, err, "Error changing Enhanced Networking (ENA) on %s", id)
		}
	}
	return nil
}

// openMachine connects to the region that the machine is in.
func (e *EBS) openMachine(ctx context.Context, b bakehouse.Build, m builders.Machine) (*Settings, *connection, error) {
	var d machineDetails
	if len(m.Details) > 0 {
		if err := json.Unmarshal(m.Details, &d); err != nil {
			return nil, nil, bakehouse.Errorf(bakehouse.Invalid, "read details of machine %s: %w", m.ID, err)
		}
	}
	return e.open(ctx, b, d.Region)
}

// A lookout keeps what one wait has seen.
type lookout struct {
	patienceOf
	what    string
	start   time.Time
	seen    bool
	missing time.Time
}

// unknown tells whether the thing is not known, and fails when that has lasted:
// longer for what may be too new than for what has been there.
func (l *lookout) unknown(found bool) (bool, error) {
	if found {
		l.seen, l.missing = true, time.Time{}
		return false, nil
	}
	if l.missing.IsZero() {
		l.missing = time.Now()
	}
	bear := settling
	if l.seen {
		bear = settling / 4
	}
	if time.Since(l.missing) < bear {
		return true, l.late()
	}
	return true, bakehouse.Errorf(bakehouse.Lost, "%s: %w", l.what, errUnknown)
}

// late fails when the limit has passed.
func (l *lookout) late() error { return l.until(l.start)(l.what) }
