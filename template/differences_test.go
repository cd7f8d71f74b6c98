package template_test

// A difference is a reason why Packer 1.6.6 and Bakehouse do not say the same.
type difference struct {
	name string
	// theirs and ours are expressions that Packer's first error and ours match;
	// "valid" is what the one says who has none. cases is an expression that the
	// case's name matches. Empty ones match everything.
	theirs, ours, cases string
	// newer tells that this is not our doing: a newer Packer says what we say.
	newer bool
	why   string
}

// differences are all that there are. One that explains nothing any more fails
// the test.
var differences = []difference{
	{
		name: "crash", theirs: `^\(crashed\)$`,
		why: "Packer crashes, so that there is no verdict",
	},

	// What came after 1.6.6.
	{
		name: "a build block is required", theirs: "^valid$", ours: "Missing build block", newer: true,
		why: "validate came to demand a build block",
	},
	{
		name: "a build needs sources", theirs: "^valid$", ours: "missing source reference", newer: true,
		why: "a build block must refer to a source",
	},
	{
		name: "duplicate locals", theirs: "^valid$", ours: "Duplicate local definition", newer: true,
		why: "to define a local twice became an error",
	},
	{
		name: "names of sources are identifiers", theirs: "^valid$", ours: "Invalid source name", newer: true,
		why: "1.6.6 does not look at the name",
	},
	{
		name: "no prereleases in constraints", theirs: "^valid$", ours: "asks for a prerelease", newer: true,
		why: "a constraint that names a prerelease became an error",
	},
	{
		name: "newer blocks and attributes", theirs: "^Unsupported (block type|argument)$", ours: "^valid$", newer: true,
		cases: "builds/(from|cleanup|data_block|local_block|registry)\\.|packer_block/plugins\\.",
		why:   "local, data, hcp_packer_registry, required_plugins and error-cleanup-provisioner came later",
	},
	{
		name: "sources are an expression", theirs: "^(Variables|Function calls) not allowed$", ours: "^valid$", cases: "builds/sources_", newer: true,
		why: "1.6.6 takes literal strings only",
	},
	{
		name: "components are looked up when they are used", theirs: "^Unknown (source|provisioner) type", ours: "^valid$",
		cases: "builds/(unused_unknown_source|provisioner_unknown_skipped)", newer: true,
		why: "since plugins are programs of their own, what no build uses need not be there",
	},
	{
		name: "newer functions", theirs: "^Call to unknown function$", ours: "^valid$", cases: "^functions?/", newer: true,
		why: "1.6.6 does not have the function",
	},
	{
		name: "index of Terraform", theirs: "^Error in function call$", ours: "^valid$", cases: "function/index", newer: true,
		why: "index(list, value) came later; 1.6.6 has go-cty's, which takes an index",
	},
	{
		name: "null to jsonencode", theirs: "^Invalid function argument$", ours: "^valid$", cases: "jsonencode_null|locals.j call 1 null", newer: true,
		why: "go-cty encodes a null since 1.9",
	},
	{
		name: "the type any", theirs: "^Invalid type specification$", ours: "^valid$", cases: "_any", newer: true,
		why: "1.6.6 does not take it for a variable",
	},
	{
		name: "can in a validation", theirs: "^Invalid value for default variable$", ours: "^valid$", cases: "validation_can", newer: true,
		why: "1.6.6 has no regex, so that can(regex(...)) is false",
	},
	{
		name: "packer_version in HCL", theirs: "^Failed preparing provisioner-block", ours: "^valid$", cases: "template_version", newer: true,
		why: "1.6.6 knows packer_version in JSON templates only",
	},
	{
		name: "content of a file", theirs: "^Failed preparing provisioner-block", ours: "^valid$", cases: `build\.provisioner\.file\.(source|content)|builds/file_content`, newer: true,
		why: "provisioner file takes its content from the template",
	},

	// What we do on purpose.
	{
		name: "source within locals", theirs: "^valid$", ours: "source is known in the provisioners",
		why: "1.6.6 lets a local refer to source, which has no value there; the reference has it in build blocks only",
	},
	{
		name: "fraction for a whole number", theirs: "^valid$", ours: "a whole number is required",
		why: "Packer cuts 0.5 down to 0 in JSON templates without a word",
	},
	{
		name: "list of nothing as override", theirs: "^valid$", ours: "inline script must be specified", cases: `override.second.inline|override_with_nothing`,
		why: "an override replaces a list; Packer's decoder leaves the rest of a longer list behind it",
	},
	{
		name: "list of one for an object", ours: "^valid$", cases: `put into a list .*source_ami_filter$|list_for_object`,
		why: "what it means is plain",
	},
	{
		name: "servers are not asked", theirs: "^Error in function call$", ours: "^valid$", cases: "functions?/(vault|consul_key|aws_secretsmanager)",
		why: "validate asks nobody: the agent does, when the build is planned",
	},
	{
		name: "environment variable of a whole object", theirs: "^Failed preparing provisioner-block", ours: "^valid$", cases: "build_whole",
		why: "Packer prepares with <unknown> in every place; we know that the value is not known",
	},
}
