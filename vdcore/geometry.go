package vdcore

// Limits of geometries: what an IDE disk can say, and what a BIOS can.
const (
	maxPhysical = 16383
	maxLogical  = 1024
	maxHeads    = 255
	maxSectors  = 63
)

// PhysicalGeometry is the usual one of a disk of so many bytes.
func PhysicalGeometry(capacity int64) Geometry {
	const heads, sectors = 16, 63
	return Geometry{uint32(min(maxPhysical, capacity/sectorSize/(heads*sectors))), heads, sectors}
}

// Resized is a BIOS geometry for another capacity: the same heads and sectors. The
// zero value, which means unset, when there is none or what there is makes no sense.
func (g Geometry) Resized(capacity int64) Geometry {
	if g.Cylinders == 0 || g.Heads == 0 || g.Heads > maxHeads || g.Sectors == 0 || g.Sectors > maxSectors {
		return Geometry{}
	}
	g.Cylinders = uint32(min(maxLogical, capacity/sectorSize/int64(g.Heads*g.Sectors)))
	if g.Cylinders == 0 {
		return Geometry{}
	}
	return g
}
