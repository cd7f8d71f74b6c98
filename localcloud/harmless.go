package localcloud

import (
	"slices"
	"strings"
)

// A spare is a parameter that localcloud may leave aside because the result is
// the same without it.
type spare struct {
	action, prefix string
	// values are those it is spared for; none means any.
	values []string
	why    string
}

// spares lists all parameters that are left aside. Every other parameter that
// an action does not know is refused.
func spares() []spare {
	return []spare{
		{"RunInstances", "CreditSpecification.CpuCredits", nil, "no CPU credits are counted, instances may always burst"},
		{"RunInstances", "CapacityReservationSpecification.CapacityReservationPreference", []string{"open", "none"}, "there are no reservations"},
		{"RunInstances", "EnclaveOptions.Enabled", []string{"false"}, "instances have no enclaves"},
		{"RunInstances", "HibernationOptions.Configured", []string{"false"}, "instances do not hibernate"},
		{"RunInstances", "Placement.Tenancy", []string{"default"}, "everything is on this machine"},
		{"RunInstances", "MaintenanceOptions.AutoRecovery", nil, "nothing is migrated"},
		{"RunInstances", "PrivateDnsNameOptions.", nil, "instances are named by address"},
		{"RunInstances", "NetworkInterface.1.Description", nil, "shown nowhere"},
		{"RunInstances", "NetworkInterface.1.InterfaceType", []string{"interface"}, "the only kind"},
		{"CopyImage", "SnapshotCopyCompletionDurationMinutes", nil, "copies take no longer than asked for"},
		{"CopySnapshot", "CompletionDurationMinutes", nil, "copies take no longer than asked for"},
		{"CopySnapshot", "PresignedUrl", nil, "the signature of the source region is not checked"},
		{"CopySnapshot", "DestinationRegion", nil, "the signature names it"},
		{"TerminateInstances", "SkipOsShutdown", []string{"false"}, "the default"},
		{"StopInstances", "SkipOsShutdown", []string{"false"}, "the default"},
		{"StopInstances", "Hibernate", []string{"false"}, "the default"},
		{"DescribeImages", "IncludeDisabled", nil, "no image is ever disabled"},
		{"DescribeInstances", "IncludeManagedResources", nil, "no resource is managed by others"},
		{"DescribeVolumes", "IncludeManagedResources", nil, "no resource is managed by others"},
		{"CreateVpc", "InstanceTenancy", []string{"default"}, "everything is on this machine"},
		{"CreateVpc", "AmazonProvidedIpv6CidrBlock", []string{"false"}, "the default"},
	}
}

func harmless(action, parameter, value string) bool {
	return slices.ContainsFunc(spares(), func(s spare) bool {
		if s.action != action || !strings.HasPrefix(parameter, s.prefix) {
			return false
		}
		return len(s.values) == 0 || slices.Contains(s.values, strings.ToLower(value))
	})
}
