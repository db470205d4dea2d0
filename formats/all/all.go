// Package all registers every format with the core.
package all

import (
	_ "vdfs/formats/raw"
	_ "vdfs/formats/vdi"
	_ "vdfs/formats/vmdk"
)
