package amazon

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/aws/smithy-go"

	"github.com/bakehouse-farm/bakehouse"
)

// kinds says what EC2's error codes mean to a build. Codes that are not listed,
// nor match a rule of kindOf, are trouble: they are tried again.
var kinds = map[string]bakehouse.Kind{
	"UnauthorizedOperation":                  bakehouse.Denied,
	"UnauthorizedException":                  bakehouse.Denied,
	"AuthFailure":                            bakehouse.Denied,
	"AccessDenied":                           bakehouse.Denied,
	"AccessDeniedException":                  bakehouse.Denied,
	"InvalidClientTokenId":                   bakehouse.Denied,
	"SignatureDoesNotMatch":                  bakehouse.Denied,
	"MissingAuthenticationToken":             bakehouse.Denied,
	"IncompleteSignature":                    bakehouse.Denied,
	"OptInRequired":                          bakehouse.Denied,
	"PendingVerification":                    bakehouse.Trouble,
	"Blocked":                                bakehouse.Denied,
	"UnsupportedOperation":                   bakehouse.Invalid,
	"Unsupported":                            bakehouse.Invalid,
	"UnknownParameter":                       bakehouse.Invalid,
	"InvalidAction":                          bakehouse.Invalid,
	"MissingParameter":                       bakehouse.Invalid,
	"MissingInput":                           bakehouse.Invalid,
	"MalformedQueryString":                   bakehouse.Invalid,
	"ValidationError":                        bakehouse.Invalid,
	"VPCIdNotSpecified":                      bakehouse.Invalid,
	"NoSuchEntity":                           bakehouse.NotFound,
	"InvalidAMIID.Unavailable":               bakehouse.NotFound,
	"InvalidAMIName.Duplicate":               bakehouse.Conflict,
	"InvalidKeyPair.Duplicate":               bakehouse.Conflict,
	"InvalidGroup.Duplicate":                 bakehouse.Conflict,
	"OperationNotPermitted":                  bakehouse.Conflict,
	"IdempotentParameterMismatch":            bakehouse.Conflict,
	"InvalidBlockDeviceMapping":              bakehouse.Invalid,
	"InvalidUserData.Malformed":              bakehouse.Invalid,
	"InvalidKey.Format":                      bakehouse.Invalid,
	"InvalidGroup.InUse":                     bakehouse.Trouble,
	"InvalidSnapshot.InUse":                  bakehouse.Trouble,
	"InvalidInstanceID.NotLinkable":          bakehouse.Invalid,
	"InvalidAMIAttributeItemValue":           bakehouse.Invalid,
	"InvalidTag.Malformed":                   bakehouse.Invalid,
	"TagLimitExceeded":                       bakehouse.Invalid,
	"SecurityGroupsPerInstanceLimitExceeded": bakehouse.Invalid,
}

// kindOf says what an answer of AWS means. Throttling, capacity, quotas and
// everything between here and AWS is trouble. So are expired credentials: they
// come from a chain that renews them, perhaps on another agent, and a build
// that has worked for hours must not end because a token ran out while it
// waited. What never gets better is ended by the user's own limits.
func kindOf(err error) bakehouse.Kind {
	var known *bakehouse.Error
	if errors.As(err, &known) {
		return known.Kind
	}
	c := code(err)
	if k, ok := kinds[c]; ok {
		return k
	}
	switch {
	case c == "":
		return bakehouse.Trouble
	case strings.HasSuffix(c, ".NotFound"), strings.HasSuffix(c, ".NotFoundException"):
		return bakehouse.NotFound
	case strings.HasSuffix(c, ".Duplicate"):
		return bakehouse.Conflict
	case strings.HasPrefix(c, "InvalidParameter"), strings.HasSuffix(c, ".Malformed"),
		strings.HasPrefix(c, "InvalidSubnet"), strings.HasPrefix(c, "InvalidVpc"):
		if strings.Contains(err.Error(), "is not in state") {
			return bakehouse.Trouble // a stop that has not sunk in yet
		}
		return bakehouse.Invalid
	}
	return bakehouse.Trouble
}

// code returns the code of the error that AWS answered, or "".
func code(err error) string {
	var api smithy.APIError
	if errors.As(err, &api) {
		return api.ErrorCode()
	}
	return ""
}

// is tells whether AWS answered with one of the codes.
func is(err error, codes ...string) bool {
	c := code(err)
	if c == "" {
		return false
	}
	for _, want := range codes {
		if c == want {
			return true
		}
	}
	return false
}

// gone tells whether AWS says that the thing does not exist (any more).
func gone(err error) bool {
	c := code(err)
	return strings.HasSuffix(c, ".NotFound") || c == "InvalidAMIID.Unavailable"
}

// failed puts what was tried before err and gives it its kind. A context that
// ended is passed on as its cause, so that the one who ended it recognises it.
func failed(ctx context.Context, err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return context.Cause(ctx)
	}
	if k := kindOf(err); k.Final() {
		return bakehouse.Errorf(k, "%s: %w", fmt.Sprintf(format, args...), err)
	}
	return fmt.Errorf("%s: %w", fmt.Sprintf(format, args...), err)
}
