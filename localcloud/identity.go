package localcloud

import (
	"net/url"

	"github.com/bakehouse-farm/bakehouse/localcloud/wire"
)

type callerIdentity struct {
	ARN     string `xml:"Arn"`
	User    string `xml:"UserId"`
	Account string `xml:"Account"`
}

// sts answers what an EC2 client asks STS before it starts.
func (l *Cloud) sts(action string) (any, error) {
	switch action {
	case "GetCallerIdentity":
		return &callerIdentity{"arn:aws:iam::" + l.account + ":user/localcloud", "AIDALOCALCLOUD0000000", l.account}, nil
	case "AssumeRole":
		return nil, wire.Errorf("AccessDenied", "localcloud has no roles to assume: use its endpoint without assume_role")
	}
	return nil, wire.Errorf("UnsupportedOperation", "localcloud does not have the action sts %s", action)
}

// iam answers for an account that has no instance profiles and no roles.
func (l *Cloud) iam(action string, form url.Values) error {
	switch action {
	case "GetInstanceProfile":
		return wire.Errorf("NoSuchEntity", "Instance Profile %s cannot be found.", form.Get("InstanceProfileName"))
	case "GetRole":
		return wire.Errorf("NoSuchEntity", "The role with name %s cannot be found.", form.Get("RoleName"))
	}
	return wire.Errorf("UnsupportedOperation", "localcloud does not have the action iam %s: it has no roles and no instance profiles", action)
}
