package localcloud

import (
	"regexp"
	"strings"

	"github.com/bakehouse-farm/bakehouse/localcloud/state"
	"github.com/bakehouse-farm/bakehouse/localcloud/wire"
)

// Instance profiles are there to be named at a launch, and to be seen in
// DescribeInstances. There are no roles to put into them, and instances get no
// credentials by them.

// iamTable lists the actions of IAM that there are, GetRole aside.
func iamTable() map[string]action {
	return map[string]action{
		"CreateInstanceProfile": writes(createProfile),
		"GetInstanceProfile":    reads(getProfile),
		"ListInstanceProfiles":  reads(listProfiles),
		"DeleteInstanceProfile": writes(deleteProfile),
	}
}

type profileItem struct {
	Path    string    `xml:"Path"`
	Name    string    `xml:"InstanceProfileName"`
	ID      string    `xml:"InstanceProfileId"`
	ARN     string    `xml:"Arn"`
	Created wire.Time `xml:"CreateDate"`
	Roles   struct{}  `xml:"Roles"`
}

func (c *call) showProfile(p *state.Profile) profileItem {
	return profileItem{Path: p.Path, Name: p.Name, ID: p.ID, ARN: c.profileARN(p), Created: wire.Time(p.Created)}
}

func (c *call) profileARN(p *state.Profile) string {
	return "arn:aws:iam::" + c.cloud.account + ":instance-profile" + p.Path + p.Name
}

type profileOutput struct {
	Profile profileItem `xml:"InstanceProfile"`
}

type createProfileInput struct {
	InstanceProfileName string `q:",required"`
	Path                string
}

var profileName = regexp.MustCompile(`^[\w+=,.@-]{1,128}$`)

func createProfile(c *call, in *createProfileInput) (*profileOutput, error) {
	if !profileName.MatchString(in.InstanceProfileName) {
		return nil, wire.Errorf("ValidationError", "The specified value for instanceProfileName is invalid. It must contain only alphanumeric characters and/or the following: +=,.@_-")
	}
	if c.profile(in.InstanceProfileName) != nil {
		return nil, wire.Errorf("EntityAlreadyExists", "Instance Profile %s already exists.", in.InstanceProfileName)
	}
	p := &state.Profile{Name: in.InstanceProfileName, ID: profileID(), Path: "/", Created: c.now}
	if in.Path != "" {
		if !strings.HasPrefix(in.Path, "/") || !strings.HasSuffix(in.Path, "/") {
			return nil, wire.Errorf("ValidationError", "The specified value for path is invalid. It must begin and end with / and contain only alphanumeric characters and/or / characters.")
		}
		p.Path = in.Path
	}
	state.Put(c.Tx, p)
	return &profileOutput{c.showProfile(p)}, nil
}

// profileID has no dash: IDs of IAM are made otherwise than those of EC2.
func profileID() string { return strings.ToUpper(strings.Replace(state.NewID("aipa"), "-", "", 1)) }

type profileInput struct {
	InstanceProfileName string `q:",required"`
}

func (c *call) profile(name string) *state.Profile { return state.Get[state.Profile](c.Tx, "", name) }

func (c *call) someProfile(name string) (*state.Profile, error) {
	if p := c.profile(name); p != nil {
		return p, nil
	}
	return nil, wire.Errorf("NoSuchEntity", "Instance Profile %s cannot be found.", name)
}

func getProfile(c *call, in *profileInput) (*profileOutput, error) {
	p, err := c.someProfile(in.InstanceProfileName)
	if err != nil {
		return nil, err
	}
	return &profileOutput{c.showProfile(p)}, nil
}

func deleteProfile(c *call, in *profileInput) (*struct{}, error) {
	p, err := c.someProfile(in.InstanceProfileName)
	if err != nil {
		return nil, err
	}
	state.Delete(c.Tx, p)
	return &struct{}{}, nil
}

type profilesOutput struct {
	Profiles []profileItem `xml:"InstanceProfiles>member"`
	More     bool          `xml:"IsTruncated"`
}

func listProfiles(c *call, in *struct{ PathPrefix string }) (*profilesOutput, error) {
	out := &profilesOutput{}
	for _, p := range state.List[state.Profile](c.Tx, "") {
		if strings.HasPrefix(p.Path, in.PathPrefix) {
			out.Profiles = append(out.Profiles, c.showProfile(p))
		}
	}
	return out, nil
}

type profileSpec struct{ Name, Arn string }

// launchProfile finds the profile that a launch names, nil when it names none.
func (c *call) launchProfile(in profileSpec) (*state.Profile, error) {
	switch {
	case in.Name != "" && in.Arn != "":
		return nil, wire.Errorf("InvalidParameterCombination", "The parameter 'iamInstanceProfile.name' may not be used in combination with 'iamInstanceProfile.arn'")
	case in.Name != "":
		if p := c.profile(in.Name); p != nil {
			return p, nil
		}
		return nil, wire.Errorf("InvalidParameterValue", "Value (%s) for parameter iamInstanceProfile.name is invalid. Invalid IAM Instance Profile name", in.Name)
	case in.Arn != "":
		for _, p := range state.List[state.Profile](c.Tx, "") {
			if c.profileARN(p) == in.Arn {
				return p, nil
			}
		}
		return nil, wire.Errorf("InvalidParameterValue", "Value (%s) for parameter iamInstanceProfile.arn is invalid. Invalid IAM Instance Profile ARN", in.Arn)
	}
	return nil, nil
}
