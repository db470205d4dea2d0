// Package raw reads plain disk images: the file is the disk, byte for byte.
//
// A plain disk has no signature, so this backend only takes what no other format
// claims (content first, known trailers included) and whose name promises nothing
// else; --format raw asks for it outright. Any size is allowed, also one that is
// no multiple of a sector.
//
// Holes of the file are reported as Zero extents, so that a sparse disk stays
// sparse for whoever reads it.
//
// Writing changes nothing but the bytes written: a plain disk has no identity to
// renew and no mark that it is open, so a child made of it does not notice. It is
// one fixed unit, in which discarded ranges become holes.
//
// A new disk is one hole (sparse), or has all of its space reserved (fixed).
package raw
