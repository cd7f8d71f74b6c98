package amazon

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/bakehouse-farm/bakehouse"
	"github.com/bakehouse-farm/bakehouse/builders"
)

func TestResolve(t *testing.T) {
	vpcs := func(f *fakeCloud) {
		f.add("us-east-1", "vpc", map[string]string{"tag-name": "main", "state": "available"}, map[string]string{"Name": "main"}, nil).id = "vpc-main"
		for id, free := range map[string]string{"subnet-a": "5", "subnet-b": "200", "subnet-c": "20"} {
			f.add("us-east-1", "subnet", map[string]string{"vpc-id": "vpc-main", "state": "available", "zone": "z-" + id, "free": free},
				map[string]string{"net": "build"}, nil).id = id
		}
	}
	tests := []struct {
		name   string
		more   map[string]any
		world  func(*fakeCloud)
		kind   bakehouse.Kind
		error  string
		detail func(plan) bool
	}{
		{"plain", nil, nil, "", "", func(p plan) bool {
			return p.AMI == "ami-0000base" && p.Name == "web-1" && p.CaptureName == "web-1" && p.Description == "from ami-0000base" &&
				p.Tags["from"] == "debian-12" && slices.Equal(p.CIDRs, []string{"0.0.0.0/0"})
		}},
		{"ipv6", map[string]any{"ssh_interface": "ipv6"}, nil, "", "", func(p plan) bool { return slices.Equal(p.CIDRs, []string{"::/0"}) }},
		{"public ip", map[string]any{"temporary_security_group_source_public_ip": true}, nil, "", "", func(p plan) bool {
			return slices.Equal(p.CIDRs, []string{"198.51.100.7/32"})
		}},
		{
			"name is taken", nil, func(f *fakeCloud) { f.addImage("us-east-1", "web-1", nil, nil).id = "ami-old" }, bakehouse.Conflict,
			"Error: AMI Name: 'web-1' is used by an existing AMI: ami-old", nil,
		},
		{"no image", map[string]any{"source_ami": "ami-none"}, nil, bakehouse.NotFound, "No AMI was found matching filters: region us-east-1; image ami-none", nil},
		{"most recent", map[string]any{"source_ami": "", "source_ami_filter": map[string]any{
			"owners": []string{"amazon"}, "filters": map[string]string{"name": "debian-12, debian-13"}, "most_recent": true,
		}}, func(f *fakeCloud) {
			f.add("us-east-1", "image", map[string]string{"name": "debian-13", "owner": "amazon", "root": "ebs", "creation-date": "2025-01-01T00:00:00.000Z"}, nil, nil).id = "ami-13"
		}, "", "", func(p plan) bool { return p.AMI == "ami-13" }},
		{"more than one image", map[string]any{"source_ami": "", "source_ami_filter": map[string]any{"owners": []string{"amazon"}}}, func(f *fakeCloud) {
			f.add("us-east-1", "image", map[string]string{"owner": "amazon", "root": "ebs"}, nil, nil)
		}, bakehouse.Invalid, "Your query returned more than one result.", nil},
		{
			"instance store", nil, func(f *fakeCloud) { f.get("us-east-1", "image", "ami-0000base").fields["root"] = "instance-store" }, bakehouse.Invalid,
			"The provided source AMI has an invalid root device type.\nExpected 'ebs', got 'instance-store'.", nil,
		},
		{"not hvm", map[string]any{"ena_support": true}, func(f *fakeCloud) {
			f.get("us-east-1", "image", "ami-0000base").fields["virtualization-type"] = "paravirtual"
		}, bakehouse.Invalid, "Cannot enable enhanced networking, source AMI 'ami-0000base' is not HVM", nil},
		{
			"option says not hvm",
			map[string]any{"sriov_support": true, "ami_virtualization_type": "paravirtual"},
			nil, bakehouse.Invalid,
			"Cannot enable enhanced networking, AMIVirtType 'paravirtual' is not HVM", nil,
		},
		{"unknown region", map[string]any{"ami_regions": []string{"mars-1"}}, nil, bakehouse.Invalid, "Invalid region(s): [mars-1], available regions: [eu-west-1, us-east-1, us-west-2]", nil},
		{"filters", map[string]any{
			"vpc_filter":    map[string]any{"filters": map[string]string{"tag:Name": "main"}},
			"subnet_filter": map[string]any{"filter": []map[string]string{{"name": "tag:net", "value": "build"}}, "most_free": true},
		}, vpcs, "", "", func(p plan) bool { return p.Vpc == "vpc-main" && p.Subnet == "subnet-b" && p.Zone == "z-subnet-b" }},
		{
			"several subnets",
			map[string]any{"subnet_filter": map[string]any{"filters": map[string]string{"tag:net": "build"}}},
			vpcs, bakehouse.Invalid,
			"Your filter matched 3 Subnets. Please try a more specific search, or set random or most_free to true.", nil,
		},
		{"no subnet", map[string]any{"subnet_filter": map[string]any{"filters": map[string]string{"tag:net": "none"}}}, vpcs, bakehouse.NotFound, "No Subnets was found matching filters", nil},
		{
			"no vpc",
			map[string]any{"vpc_filter": map[string]any{"filters": map[string]string{"tag:Name": "none"}}},
			vpcs, bakehouse.NotFound,
			"Exactly one VPC should match the filter, but 0 VPC's was found", nil,
		},
		{
			"vpc without subnet",
			map[string]any{"vpc_id": "vpc-main"},
			vpcs, bakehouse.Invalid,
			"Error: subnet_id or subnet_filter must be provided for non-default VPCs (vpc-main)", nil,
		},
		{"no groups", map[string]any{"security_group_filter": map[string]any{"filters": map[string]string{"tag:x": "y"}}}, nil, bakehouse.NotFound, "No security groups was found for filters", nil},
		{"groups", map[string]any{"security_group_filter": map[string]any{"filters": map[string]string{"tag:x": "y"}}}, func(f *fakeCloud) {
			f.add("us-east-1", "group", map[string]string{}, map[string]string{"x": "y"}, nil).id = "sg-x"
		}, "", "", func(p plan) bool { return slices.Equal(p.Groups, []string{"sg-x"}) }},
		{"own key pair", map[string]any{"ssh_keypair_name": "mine", "ssh_agent_auth": true}, nil, "", "", func(p plan) bool { return p.KeyName == "mine" }},
		{"broken description", map[string]any{"ami_description": "{{ nope }}"}, nil, bakehouse.Invalid, "ami_description", nil},
		{"user data is gone", map[string]any{"user_data_file": "/nowhere/to/be"}, nil, bakehouse.NotFound, "Problem reading user data file", nil},
		{"denied", nil, func(f *fakeCloud) { f.fail["DescribeRegions"] = apiError("UnauthorizedOperation", "no") }, bakehouse.Denied, "error validating regions", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := newFake()
			if tt.world != nil {
				tt.world(f)
			}
			e := f.agent()
			e.config.PublicIP = func(context.Context) (string, error) { return "198.51.100.7\n", nil }
			r, err := e.Resolve(t.Context(), testBuild(t, tt.more))
			if tt.error != "" {
				if err == nil || !strings.Contains(err.Error(), tt.error) || bakehouse.KindOf(err) != tt.kind {
					t.Errorf("%v (%s), want %q (%s)", err, bakehouse.KindOf(err), tt.error, tt.kind)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if p, err := planOf(r); err != nil || !tt.detail(p) {
				t.Errorf("plan %+v, %v", p, err)
			}
		})
	}
}

func TestCopyRegions(t *testing.T) {
	yes := true
	tests := []struct {
		name string
		s    Image
		want []string
		mid  bool
	}{
		{"none", Image{}, nil, false},
		{"sorted, once, without its own", Image{Regions: []string{"b", "a", "b", "home"}}, []string{"a", "b"}, false},
		{"encrypted", Image{Regions: []string{"a"}, EncryptBoot: &yes}, []string{"a", "home"}, true},
		{"not at home", Image{Regions: []string{"a"}, SkipSaveBuildRegion: true}, []string{"a"}, true},
		{"encrypted, not at home", Image{Regions: []string{"a"}, SkipSaveBuildRegion: true, EncryptBoot: &yes}, []string{"a"}, true},
		{"no image at all", Image{Regions: []string{"a"}, SkipCreateAMI: true}, nil, false},
	}
	for _, tt := range tests {
		s := &Settings{Image: tt.s}
		r, err := (&EBS{}).freeze(bakehouse.Build{ID: "b"}, s, "home", f0(), plan{})
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(r.CopyRegions, tt.want) || r.Intermediate != tt.mid {
			t.Errorf("%s: %v, intermediate %t; want %v, %t", tt.name, r.CopyRegions, r.Intermediate, tt.want, tt.mid)
		}
	}
}

func f0() imageState { return (&thing{fields: map[string]string{}}).image() }

func TestKeyPairRules(t *testing.T) {
	tests := []struct {
		set                 map[string]any
		temporary, existing string
	}{
		{nil, "bakehouse-build-7", ""},
		{map[string]any{"temporary_key_pair_name": "mine"}, "mine", ""},
		{map[string]any{"ssh_password": "p"}, "", ""},
		{map[string]any{"ssh_private_key_file": "k"}, "", ""},
		{map[string]any{"ssh_private_key_file": "k", "ssh_keypair_name": "there"}, "", "there"},
		{map[string]any{"ssh_agent_auth": true, "ssh_keypair_name": "there"}, "", "there"},
		{map[string]any{"ssh_agent_auth": true}, "", ""},
	}
	for _, tt := range tests {
		b := testBuild(t, tt.set)
		s, err := decode(b.Settings)
		if err != nil {
			t.Fatal(err)
		}
		if temporary, existing := keyPair(b, s); temporary != tt.temporary || existing != tt.existing {
			t.Errorf("%v: %q, %q; want %q, %q", tt.set, temporary, existing, tt.temporary, tt.existing)
		}
	}
}

func TestUserDataFile(t *testing.T) {
	root := t.TempDir()
	if err := os.MkdirAll(filepath.Join(root, "home/me"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, "home/me/init.sh"), []byte("#!/bin/sh\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	e := NewEBS(Config{})
	b := bakehouse.Build{Files: bakehouse.Files{Root: root, Cwd: "/home/me"}}
	for name, want := range map[string]string{"init.sh": "IyEvYmluL3NoCg==", "/home/me/init.sh": "IyEvYmluL3NoCg==", "": "", "none": ""} {
		got, err := e.userData(b, &Settings{Run: Run{UserDataFile: name}})
		if got != want || (err != nil) != (name == "none") {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	if got, _ := e.userData(b, &Settings{Run: Run{UserData: "aGVsbG8="}}); got != "aGVsbG8=" {
		t.Errorf("base64 was encoded again: %s", got)
	}
}

func TestFilters(t *testing.T) {
	got, err := filters(map[string]string{"name": `a*, "b,c"`, "empty": ""})
	if err != nil {
		t.Fatal(err)
	}
	var out [][]string
	for _, f := range got {
		out = append(out, append([]string{*f.Name}, f.Values...))
	}
	if diff := cmp.Diff([][]string{{"empty", ""}, {"name", "a*", "b,c"}}, out); diff != "" {
		t.Error(diff)
	}
}

func TestReadAMI(t *testing.T) {
	f := newFake()
	f.get("us-east-1", "image", "ami-0000base").tags["kind"] = "base"
	a := NewAMI(Config{connect: f.agent().config.connect})
	raw, err := a.Read(t.Context(), json.RawMessage(`{"owners": ["amazon"], "filters": {"name": "debian-12"}}`), bakehouse.Files{})
	if err != nil {
		t.Fatal(err)
	}
	var got AMIOutputs
	if err := json.Unmarshal(raw, &got); err != nil {
		t.Fatal(err)
	}
	want := AMIOutputs{
		ID: "ami-0000base", Name: "debian-12", CreationDate: "2024-01-02T00:00:00.000Z", Owner: "amazon", Tags: map[string]string{"kind": "base"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	_, err = a.Read(t.Context(), json.RawMessage(`{"owners": ["self"]}`), bakehouse.Files{})
	if bakehouse.KindOf(err) != bakehouse.NotFound {
		t.Errorf("%v, want not found", err)
	}
}

func TestArtifact(t *testing.T) {
	e := NewEBS(Config{})
	got := e.Artifact([]builders.Image{{Region: "us-west-2", ID: "ami-2"}, {Region: "eu-west-1", ID: "ami-3"}, {Region: "us-east-1", ID: "ami-1"}})
	want := bakehouse.Artifact{
		BuilderID: "mitchellh.amazonebs", ID: "eu-west-1:ami-3,us-east-1:ami-1,us-west-2:ami-2",
		String: "AMIs were created:\neu-west-1: ami-3\nus-east-1: ami-1\nus-west-2: ami-2\n",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestCommunicator(t *testing.T) {
	c, err := NewEBS(Config{}).Communicator(json.RawMessage(`{"ssh_username": "admin"}`))
	if err != nil || c.Communicator != "ssh" || c.SSHPort != 22 || c.SSHTimeout == 0 || c.SSHHandshakeAttempts != 10 {
		t.Errorf("%+v, %v", c, err)
	}
	c, _ = NewEBS(Config{}).Communicator(json.RawMessage(`{"ssh_timeout": "10m"}`))
	if c.SSHHandshakeAttempts != 0 {
		t.Error("a timeout must lift the default limit of handshakes")
	}
	if _, err = NewEBS(Config{}).Communicator(json.RawMessage(`{"ssh_port": "x"}`)); bakehouse.KindOf(err) != bakehouse.Invalid {
		t.Errorf("%v, want invalid", err)
	}
}
