package sandbox

// ShortName is what stands for an instance in the names of its control groups.
var ShortName = shortName
