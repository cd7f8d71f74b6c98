package upgrade

// What -with-annotations says.
const (
	aboutFile = `
This file was written by "submit hcl2_upgrade" from a JSON template. Read it
before you throw the JSON away: a comment stands wherever something has to be
finished by hand. Its blocks may be moved to other files of this folder whose
names end in .pkr.hcl; a folder is one template.

Expressions in ${ } are evaluated first, and what is left in {{ }} then, by the
builder, provisioner or post-processor it stands in.`
	aboutPacker = `
The versions that the template wants, of Packer and of its plugins.`
	aboutVariables = `
Variables are given with -var, with -var-file, or by PKR_VAR_ and their name in
the environment. In JSON all of them were strings; give them the types that they
have.`
	aboutLocals = `
Variables whose values are computed have become locals. -var cannot set them.`
	aboutTimestamp = `
Stands for {{timestamp}}. It counts in digits of date and time, where that
counted seconds.`
	aboutSources = `
Each builder has become a source. A build block says what is made of it.`
	aboutBuild = `
Builds run the provisioners on each of their sources, and the post-processors on
what comes of it.`
)
