// Package sandbox runs the instances of localcloud: processes with their own
// root filesystem, process tree, network and SSH login, on plain Linux, made
// of namespaces, overlayfs and cgroups. It needs root and nothing else: no
// container engine, no network.
//
// # Layers
//
// A layer is a read-only tree of files. An instance sees a stack of them and
// writes to a layer of its own on top. Freeze turns what it wrote into a
// layer, by a rename; that is what an AMI is made of. Layers are overlayfs
// directories: files that were deleted are whiteouts in them.
//
// # Processes
//
// Each instance has two processes of ours. The shim is a child of the Host
// that outlives it: it makes the namespaces, mounts the root, waits, boots
// again after a reboot, and gives everything back at the end. PID 1 of the
// instance (package guest) reaps, runs the user data and serves SSH. Both are
// the same executable as the one that calls New, started again; so its main
// function must call Main first.
//
// A Host keeps no state in memory that it could lose: what runs is known by
// the lock that a shim holds on its instance's folder.
package sandbox
