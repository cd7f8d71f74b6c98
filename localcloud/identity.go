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

// iam answers for an account that has instance profiles, but no roles.
func (l *Cloud) iam(q *request, name, region string, form url.Values) (any, error) {
	a, ok := l.iamActions[name]
	switch {
	case ok:
		return l.perform(q, a, name, region, form)
	case name == "GetRole":
		return nil, wire.Errorf("NoSuchEntity", "The role with name %s cannot be found.", form.Get("RoleName"))
	}
	return nil, wire.Errorf("UnsupportedOperation", "localcloud does not have the action iam %s: it has no roles, users and policies", name)
}
