// Package laboratory breaks a farm of real processes on purpose, and decides
// from outside whether anything was lost, done twice, or left behind.
//
// A plan follows from a seed: build after build, each with a template, with
// policies and with the faults that it meets at moments of its own progress
// ("when script 2 has written line 5", "at the first call of CopyImage"). The
// seed reproduces which builds there are, which faults meet them, with which
// victims, and at which point of the build each begins. What it cannot
// reproduce is how builds interleave on the machine, and so what the other
// builds are doing when a fault hits all of them, and where within a
// millisecond a process dies.
//
// Nothing of the product is asked to tell how it fared but what any user sees:
// exit status, log and manifest. Whether scripts ran once is read from a
// journal on the machine's disk, and from the same journal in the image; what
// was made and what is left, from localcloud's own record and census.
package laboratory
