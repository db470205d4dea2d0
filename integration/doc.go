// Package integration drives the built binary the way a user does: it mounts,
// reads through the kernel, compares with hashes real tools recorded and with the
// tools themselves, makes it fail, and looks for what is left behind.
//
// VDFS_BIN names the binary; without it the tests build one. Tests that need root,
// FUSE or a tool skip with the reason when it is missing, and fail instead when
// VDFS_NO_SKIP is set, as CI does.
package integration
