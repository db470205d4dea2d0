// Package selftest tries the promises of a read-only mount on the machine at hand: that
// nothing can be written through it, and that the image files are afterwards what they
// were, access times included.
//
// It makes images in a folder, or takes one that is there, has vdfs mount them in a
// process of its own (a process never touches its own mount), tries all ways to write
// it knows of, reads everything, and unmounts. Each promise has one [Result]. What it
// made and mounted is gone when Run returns, however it ends, unless the process is
// killed; nothing but the folder's own times is changed in a folder where an image is
// taken.
package selftest
