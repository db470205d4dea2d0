package cli

import (
	"errors"
	"os"
	"path/filepath"

	"vdfs/fs"
)

// syncMount makes everything written to the disks of a mount durable, from outside:
// what the kernel still keeps of it goes to the daemon first. A disk that cannot be
// opened is left to the daemon, which syncs when it closes.
func syncMount(path string) error {
	defer tellLater(func() string { return "writing out what the images lack" })()
	var errs []error
	for _, disk := range disksBelow(path) {
		f, err := os.Open(disk)
		if err != nil {
			log.Debug().Err(err).Msg("sync before unmounting")
			continue
		}
		errs = append(errs, f.Sync(), f.Close())
	}
	return errors.Join(errs...)
}

// disksBelow names the topmost disks of a mount. A mountpoint that is a file is the
// disk itself.
func disksBelow(path string) []string {
	entries, err := os.ReadDir(path)
	if err != nil {
		return []string{path}
	}
	var disks []string
	for _, e := range entries {
		disks = append(disks, filepath.Join(path, e.Name(), fs.DiskName))
	}
	return disks
}
