package localcloud

// table lists the actions of EC2 that there are. Any other is refused by name.
func (l *Cloud) table() map[string]action {
	return map[string]action{
		"DescribeRegions":               reads(describeRegions),
		"DescribeAvailabilityZones":     reads(describeZones),
		"DescribeInstanceTypeOfferings": reads(describeOfferings),

		"DescribeVpcs":              reads(describeVpcs),
		"CreateVpc":                 writes(createVpc),
		"DeleteVpc":                 writes(deleteVpc),
		"DescribeSubnets":           reads(describeSubnets),
		"CreateSubnet":              writes(createSubnet),
		"DeleteSubnet":              writes(deleteSubnet),
		"ModifySubnetAttribute":     writes(modifySubnet),
		"DescribeNetworkInterfaces": reads(describeInterfaces),

		"CreateSecurityGroup":           writes(createGroup),
		"DescribeSecurityGroups":        reads(describeGroups),
		"DeleteSecurityGroup":           writes(deleteGroup),
		"AuthorizeSecurityGroupIngress": writes(authorize(false)),
		"AuthorizeSecurityGroupEgress":  writes(authorize(true)),
		"RevokeSecurityGroupIngress":    writes(revoke(false)),
		"RevokeSecurityGroupEgress":     writes(revoke(true)),

		"CreateKeyPair":    writes(createKey),
		"ImportKeyPair":    writes(importKey),
		"DescribeKeyPairs": reads(describeKeys),
		"DeleteKeyPair":    writes(deleteKey),

		"RunInstances":              writes(runInstances),
		"DescribeInstances":         reads(describeInstances),
		"DescribeInstanceStatus":    reads(describeStatus),
		"DescribeInstanceAttribute": reads(instanceAttribute),
		"ModifyInstanceAttribute":   writes(modifyInstance),
		"StartInstances":            writes(startInstances),
		"StopInstances":             writes(stopInstances),
		"RebootInstances":           writes(rebootInstances),
		"TerminateInstances":        writes(terminateInstances),
		"GetConsoleOutput":          reads(getConsole),

		"CreateImage":                          writes(createImage),
		"RegisterImage":                        writes(registerImage),
		"CopyImage":                            writes(copyImage),
		"DescribeImages":                       reads(describeImages),
		"DeregisterImage":                      writes(deregisterImage),
		"DescribeImageAttribute":               reads(imageAttribute),
		"ModifyImageAttribute":                 writes(modifyImage),
		"ResetImageAttribute":                  writes(resetImageAttribute),
		"EnableImageDeprecation":               writes(enableDeprecation),
		"DisableImageDeprecation":              writes(disableDeprecation),
		"EnableImageDeregistrationProtection":  writes(enableProtection),
		"DisableImageDeregistrationProtection": writes(disableProtection),

		"CreateSnapshot":            writes(createSnapshot),
		"CopySnapshot":              writes(copySnapshot),
		"DescribeSnapshots":         reads(describeSnapshots),
		"DeleteSnapshot":            writes(deleteSnapshot),
		"ModifySnapshotAttribute":   writes(modifySnapshot),
		"DescribeSnapshotAttribute": reads(describeSnapshotAttribute),

		"DescribeVolumes": reads(describeVolumes),
		"DeleteVolume":    writes(deleteVolume),

		"CreateTags":   writes(createTags),
		"DeleteTags":   writes(deleteTags),
		"DescribeTags": reads(describeTags),
	}
}
